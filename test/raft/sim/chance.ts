// Chance from a seed: one stream per concern, so that a draw more in one place changes no other.

export type Random = () => number;

/** A stream of 0 ≤ x < 1 (sfc32), the same for the same seed and name. */
export function streamOf(seed: number, name: string): Random {
  let hash = 2166136261 ^ seed;
  for (const letter of name) hash = Math.imul(hash ^ (letter.codePointAt(0) ?? 0), 16777619);
  let a = hash | 0;
  let b = Math.imul(seed | 0, 0x9e3779b1) | 0;
  let c = Math.floor(seed / 4294967296) | 0;
  let counter = 1;
  const next = () => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + sum) | 0;
    return (sum >>> 0) / 4294967296;
  };
  for (let i = 0; i < 12; i++) next();
  return next;
}

export class Dice {
  readonly random: Random;

  constructor(random: Random) {
    this.random = random;
  }

  chance(probability: number): boolean {
    return this.random() < probability;
  }

  /** 0 … n − 1 */
  below(n: number): number {
    return Math.floor(this.random() * n);
  }

  /** Both ends are possible. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  pick<T>(from: readonly T[]): T | undefined {
    return from[this.below(from.length)];
  }

  /** One of the values; the list may hold one several times. */
  oneOf<T>(...values: readonly [T, ...T[]]): T {
    return values[this.below(values.length)] ?? values[0];
  }

  /** Waiting time until something that happens every `mean` on average. */
  exponential(mean: number): number {
    return -Math.log(1 - this.random()) * mean;
  }
}
