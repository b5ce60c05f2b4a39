// Chance that can be had again.

/** mulberry32: 0 … 1 */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** 0 … sides − 1 */
export function dice(seed: number): (sides: number) => number {
  const random = generator(seed);
  return (sides) => Math.floor(random() * sides);
}
