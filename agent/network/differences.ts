// What differs between what should be and what is, each difference as a sentence. Pure.

import type { Link } from "./links.ts";
import { describe, identity, type KernelObject } from "./netlink.ts";
import type { Difference } from "./types.ts";

type What = Difference["what"];

export interface WantedLink {
  readonly name: string;
  /** 0: any */
  readonly mtu: number;
  readonly mac?: string;
  readonly vxlan?: { readonly id: number; readonly local: string; readonly port: number };
}

export function missing(where: string, what: What, wanted: string): Difference {
  const sentence = `${where} lacks the ${what} ${wanted}`;
  return { what, where, sentence, how: "missing", wanted };
}

export function changed(where: string, what: What, wanted: string, actual: string): Difference {
  const sentence = `in ${where}, the ${what} "${actual}" should be "${wanted}"`;
  return { what, where, sentence, how: "changed", wanted, actual };
}

export function stray(where: string, what: What, actual: string): Difference {
  const sentence = `${where} has the ${what} ${actual}, which nobody asked for`;
  return { what, where, sentence, how: "stray", actual };
}

/** Links that are not there, down, of another size or another kind. Others than those wanted are nobody's concern. */
export function linkDifferences(
  where: string,
  wanted: readonly WantedLink[],
  actual: readonly Link[],
): readonly Difference[] {
  const byName = new Map(actual.map((link) => [link.name, link]));
  return wanted.flatMap((link) => {
    const found = byName.get(link.name);
    if (found === undefined) return [missing(where, "link", link.name)];
    const seen: WantedLink = {
      name: found.name,
      mtu: link.mtu === 0 ? 0 : found.mtu,
      ...(link.mac === undefined ? {} : { mac: found.mac }),
      ...(link.vxlan === undefined || found.vxlan === null ? {} : { vxlan: found.vxlan }),
    };
    const should = linkText(link, true);
    const is = linkText(seen, found.isUp);
    return is === should ? [] : [changed(where, "link", should, is)];
  });
}

function linkText({ name, mtu, mac, vxlan }: WantedLink, isUp: boolean): string {
  const words = [name, isUp ? "up" : "down"];
  if (mtu !== 0) words.push(`mtu ${mtu}`);
  if (mac !== undefined) words.push(`mac ${mac}`);
  if (vxlan !== undefined) words.push(`vxlan ${vxlan.id} from ${vxlan.local} port ${vxlan.port}`);
  return words.join(" ");
}

/**
 * `strays`: whether what nobody asked for counts. Objects on links that are not there do not: the link is said to be
 * missing.
 */
export function objectDifferences(
  where: string,
  wanted: readonly KernelObject[],
  actual: readonly KernelObject[],
  { links, strays }: { readonly links: ReadonlySet<string>; readonly strays: boolean },
): readonly Difference[] {
  const there = new Map<string, string[]>();
  for (const object of actual) {
    const known = there.get(identity(object));
    if (known === undefined) there.set(identity(object), [describe(object)]);
    else known.push(describe(object));
  }
  const differences: Difference[] = [];
  for (const object of wanted) {
    if ("link" in object && object.link !== undefined && !links.has(object.link)) continue;
    const found = there.get(identity(object)) ?? [];
    const should = describe(object);
    if (found.includes(should)) continue;
    const [first] = found;
    differences.push(
      first === undefined
        ? missing(where, kindOf(object), text(kindOf(object), should))
        : changed(where, kindOf(object), text(kindOf(object), should), text(kindOf(object), first)),
    );
  }
  if (!strays) return differences;
  const asked = new Set(wanted.map(identity));
  const extra = actual.filter((object) => !asked.has(identity(object)));
  return [
    ...differences,
    ...extra.map((object) => stray(where, kindOf(object), text(kindOf(object), describe(object)))),
  ];
}

/** Both kinds of rules are rules to people. */
function kindOf({ kind }: KernelObject): Exclude<KernelObject["kind"], "sourceRule"> {
  return kind === "sourceRule" ? "rule" : kind;
}

/** The description without its first word, which is the kind. */
function text(kind: string, description: string): string {
  return description.slice(kind.length + 1);
}

/** Kernel settings under net., by their keys with slashes. */
export function settingDifferences(
  where: string,
  wanted: Readonly<Record<string, string>>,
  actual: Readonly<Record<string, string>>,
): readonly Difference[] {
  return Object.entries(wanted).flatMap(([key, value]) => {
    const found = actual[key];
    // Not there: a kernel without it, or a link that is missing and said to be.
    if (found === undefined || found === value) return [];
    const name = `net.${key.replaceAll("/", ".")}`;
    return [changed(where, "setting", `${name}=${value}`, `${name}=${found}`)];
  });
}

/** The parts of a table as nft lists it (`list table`): its sets, maps and chains by name, each with its lines. */
export function tableParts(listing: string): ReadonlyMap<string, string> {
  const parts = new Map<string, string>();
  let name: string | null = null;
  let lines: string[] = [];
  for (const line of listing.split("\n")) {
    if (name === null) {
      const head = /^\t(chain|set|map) (\S+) \{/.exec(line);
      if (head === null) continue;
      name = `${head[1]} ${head[2]}`;
      lines = [];
    } else if (line === "\t}") {
      parts.set(name, lines.join("\n"));
      name = null;
    } else lines.push(line.trim());
  }
  return parts;
}

/** Two listings of one table (`table`: "ip tsswarm"), null: there is none. */
export function tableDifferences(
  where: string,
  table: string,
  wanted: string,
  actual: string | null,
): readonly Difference[] {
  if (actual === null) return [missing(where, "table", table)];
  const should = tableParts(wanted);
  const is = tableParts(actual);
  const differences: Difference[] = [];
  for (const [part, lines] of should) {
    const found = is.get(part);
    const [what, name] = split(part);
    if (found === undefined) differences.push(missing(where, what, `${name} of ${table}`));
    else if (found !== lines) {
      const [own, other] = firstUnlike(lines, found);
      differences.push(changed(where, what, `${name}: ${own}`, `${name}: ${other}`));
    }
  }
  for (const part of is.keys()) {
    const [what, name] = split(part);
    if (!should.has(part)) differences.push(stray(where, what, `${name} in ${table}`));
  }
  return differences;
}

function split(part: string): readonly ["chain" | "set" | "map", string] {
  const [what = "", name = ""] = part.split(" ");
  return [what === "set" ? "set" : what === "map" ? "map" : "chain", name];
}

/** The first line in which two texts differ; "nothing" where one has none. */
function firstUnlike(a: string, b: string): readonly [string, string] {
  const linesOf = (text: string) => (text === "" ? [] : text.split("\n"));
  const [left, right] = [linesOf(a), linesOf(b)];
  const at = left.findIndex((line, i) => line !== right[i]);
  const i = at < 0 ? left.length : at;
  return [left[i] || "nothing", right[i] || "nothing"];
}

/** Name tables and sandboxes as the keeper has them, by their digests. What it has besides is forgotten by itself. */
export function nameDifferences(
  wanted: ReadonlyMap<string, string>,
  actual: Readonly<Record<string, string>>,
): readonly Difference[] {
  const where = "the keeper";
  return [...wanted].flatMap(([name, digest]) => {
    const found = Object.hasOwn(actual, name) ? actual[name] : undefined;
    if (found === undefined) return [missing(where, "names", name)];
    if (found === digest) return [];
    return [changed(where, "names", `${name} (${digest})`, `${name} (${found})`)];
  });
}
