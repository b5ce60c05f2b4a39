// What a name means to one container: from its name tables, pure.

import { familyOf, ipText } from "../../proto/kit/ip.ts";
import type { NameChange, NameTable } from "../../proto/kit/keeper.ts";

export type Answer =
  /** A known name: its addresses of the asked family, possibly none. */
  | { readonly kind: "addresses"; readonly addresses: readonly string[] }
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "unknown" };

/**
 * `tables`: what this container sees, in order; the first that knows the name wins. `aliases`: names that stand for others in them. Case
 * does not matter.
 */
export function lookUp(
  tables: readonly NameTable[],
  type: string,
  name: string,
  aliases: Readonly<Record<string, string>> = {},
): Answer {
  const asked = normalised(name);
  const wanted = own(aliases, asked) ?? asked;
  if (type === "PTR") return reverse(tables, wanted);
  for (const table of tables) {
    const addresses = own(table.names, wanted);
    if (addresses !== undefined)
      return { kind: "addresses", addresses: addresses.filter((each) => isOfType(type, each)) };
  }
  return { kind: "unknown" };
}

function isOfType(type: string, address: string): boolean {
  return type === (familyOf(address) === 4 ? "A" : "AAAA");
}

function reverse(tables: readonly NameTable[], name: string): Answer {
  const key = reversedAddress(name);
  if (key === null) return { kind: "unknown" };
  for (const table of tables) {
    const found = own(table.addresses, key);
    if (found !== undefined) return { kind: "name", name: found };
  }
  return { kind: "unknown" };
}

/** The address that a name in in-addr.arpa or ip6.arpa (RFC 3596) asks about, as it is commonly written. */
function reversedAddress(name: string): string | null {
  const four = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\.in-addr\.arpa$/.exec(name);
  if (four !== null) return four.slice(1).reverse().join(".");
  const six = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name);
  if (six?.[1] === undefined) return null;
  return ipText(Buffer.from(six[1].replaceAll(".", "").split("").reverse().join(""), "hex"));
}

function normalised(name: string): string {
  const lower = name.toLowerCase();
  return lower.endsWith(".") ? lower.slice(0, -1) : lower;
}

/** The table with the change made. */
export function changed(table: NameTable, change: NameChange): NameTable {
  return {
    names: merged(table.names, change.names),
    addresses: merged(table.addresses, change.addresses),
  };
}

function merged<T>(
  before: Readonly<Record<string, T>>,
  change: Readonly<Record<string, T | null>>,
): Readonly<Record<string, T>> {
  const entries = new Map(Object.entries(before));
  for (const [key, value] of Object.entries(change))
    if (value === null) entries.delete(key);
    else entries.set(key, value);
  return Object.fromEntries(entries);
}

/** Names come from the network: one called "constructor" must not find Object's. */
function own<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

/** A new array in random order (Fisher–Yates). `random`: 0 ≤ x < 1. */
export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const result = [...items];
  for (let at = result.length - 1; at > 0; at--) {
    const other = Math.floor(random() * (at + 1));
    const item = result[at] as T;
    result[at] = result[other] as T;
    result[other] = item;
  }
  return result;
}
