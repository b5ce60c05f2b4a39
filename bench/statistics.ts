// What many runs say together: median, least and most, and how two sides compare. Pure.

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly count: number;
}

/** The middle value, or the mean of the two in the middle. Throws RangeError when there is none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle];
  if (upper === undefined) throw new RangeError("no values, no median");
  const lower = sorted.length % 2 === 1 ? upper : (sorted[middle - 1] ?? upper);
  return (lower + upper) / 2;
}

/** null when there is nothing to summarise. */
export function summarise(values: readonly number[]): Summary | null {
  if (values.length === 0) return null;
  return {
    median: median(values),
    min: Math.min(...values),
    max: Math.max(...values),
    count: values.length,
  };
}

/** How many of theirs one of ours is, by the medians; null when either is missing or theirs is 0. */
export function ratio(ours: Summary | null, theirs: Summary | null): number | null {
  return ours === null || theirs === null || theirs.median === 0
    ? null
    : ours.median / theirs.median;
}
