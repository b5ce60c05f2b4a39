// The table at the end: one line a figure, each side's median and range, and their ratio. Pure.

import type { Sample, SideName } from "./record.ts";
import { ratio, type Summary, summarise } from "./statistics.ts";

const none = "–";

/** Figures in the order in which they were first seen. The ratio is ours to the peer's: of times and sizes, less is better. */
export function renderTable(
  samples: readonly Sample[],
  sides: readonly SideName[],
): readonly string[] {
  const withPeer = sides.length > 1;
  const head = ["", "unit", ...sides.map((side) => `${side}: median [min–max]`)];
  const rows = [withPeer ? [...head, sides.slice(0, 2).join("/")] : head];
  const keys = new Map(samples.map((sample) => [keyOf(sample), sample]));
  for (const [key, { name, unit }] of keys) {
    const summaries = sides.map((side) =>
      summarise(samples.filter((s) => s.side === side && keyOf(s) === key).map((s) => s.value)),
    );
    const row = [name, unit, ...summaries.map(showSummary)];
    const compared = ratio(summaries[0] ?? null, summaries[1] ?? null);
    rows.push(withPeer ? [...row, compared === null ? none : compared.toFixed(2)] : row);
  }
  return align(rows);
}

function keyOf(sample: Sample): string {
  return `${sample.measurement}\n${sample.name}\n${sample.unit}`;
}

function showSummary(summary: Summary | null): string {
  if (summary === null) return none;
  const middle = showNumber(summary.median);
  return summary.count === 1
    ? middle
    : `${middle} [${showNumber(summary.min)}–${showNumber(summary.max)}]`;
}

/** Three digits that matter, and no exponent. */
export function showNumber(value: number): string {
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return value.toFixed(size >= 1 ? 2 : 3);
}

/** The first two columns are words, the others stand at the right. */
function align(rows: readonly (readonly string[])[]): readonly string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, i) => (i < 2 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
}
