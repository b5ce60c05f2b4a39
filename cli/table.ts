// Lists as Docker's client prints them: tables, templates, JSON lines.

import { humanDuration } from "../proto/kit/duration.ts";
import { parseTemplate } from "./template.ts";

export type Row = Readonly<Record<string, string>>;

/** What `--format` may name, with the table's headings; `columns` are those of the plain table. */
export interface Listing {
  readonly headings: Readonly<Record<string, string>>;
  /** Templates of the cells, in order. */
  readonly columns: readonly string[];
}

export interface ListOptions {
  readonly format?: string | undefined;
  /** Print this field alone. */
  readonly quiet?: string | undefined;
}

const cellWidthMin = 10;
const cellPadding = 3;

/** The whole output, ending with a newline unless it is empty. */
export function list(rows: readonly Row[], listing: Listing, options: ListOptions): string {
  const format = options.format ?? "table";
  const { quiet } = options;
  if (quiet !== undefined && !format.startsWith("{{"))
    return rows.map((row) => `${row[quiet] ?? ""}\n`).join("");
  if (format === "json") return rows.map((row) => `${JSON.stringify(sorted(row))}\n`).join("");
  if (format === "table") return tabulate(rows, listing, listing.columns.join("\t"));
  if (format.startsWith("table ")) return tabulate(rows, listing, format.slice("table ".length));
  const print = parseTemplate(format);
  return rows.map((row) => `${print(row)}\n`).join("");
}

/** RFC 3339 in UTC, as Docker's client prints a moment: 2026-03-01 10:00:00.5 +0000 UTC. */
export function moment(time: string): string {
  return time.replace(/^(\S+)T(\S+)Z$/, "$1 $2 +0000 UTC");
}

function tabulate(rows: readonly Row[], listing: Listing, template: string): string {
  const print = parseTemplate(template);
  return align([listing.headings, ...rows].map((row) => print(row).split("\t")));
}

/** Every cell but a line's last is at least ten wide and three away from the next. */
export function align(lines: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const line of lines)
    line.slice(0, -1).forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? cellWidthMin, [...cell].length + cellPadding);
    });
  return lines
    .map((line) => {
      const cells = line.map((cell, i) =>
        i < line.length - 1 ? cell.padEnd(widths[i] ?? 0) : cell,
      );
      return `${cells.join("")}\n`;
    })
    .join("");
}

function sorted(row: Row): Row {
  return Object.fromEntries(Object.entries(row).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Objects as `inspect` prints them: indented JSON, or each through a template. */
export function inspected(objects: readonly unknown[], format: string | undefined): string {
  if (format === undefined || format === "") return `${JSON.stringify(objects, null, 4)}\n`;
  if (format === "json") return `${JSON.stringify(objects)}\n`;
  const print = parseTemplate(format);
  return objects.map((object) => `${print(object)}\n`).join("");
}

export function shortId(id: string, whole = false): string {
  const bare = id.replace(/^sha256:/, "");
  return whole ? id : bare.slice(0, 12);
}

export function ago(time: string | undefined, now: number): string {
  const ms = Date.parse(time ?? "");
  return Number.isNaN(ms) ? "" : `${humanDuration(Math.max(0, now - ms))} ago`;
}

/** 1.2MB: decimal units, three digits, as `images` shows sizes. */
export function humanSize(bytes: number, digits = 3): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${Number(value.toPrecision(digits))}${units[unit]}`;
}

/** 7.6GiB: binary units, as `info` shows memory. */
export function humanMemory(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${Number(value.toPrecision(4))}${units[unit]}`;
}

/** As Docker sorts names: numbers in them by their value. */
export function byName(a: string, b: string): number {
  const [left, right] = [a.split(/(\d+)/), b.split(/(\d+)/)];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const [x = "", y = ""] = [left[i], right[i]];
    if (x === y) continue;
    if (i % 2 === 1 && Number(x) !== Number(y)) return Number(x) - Number(y);
    return x < y ? -1 : 1;
  }
  return left.length - right.length;
}
