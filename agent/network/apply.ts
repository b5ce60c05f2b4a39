// Brings one namespace's kernel tables to a wanted state with as few messages as it takes.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { errnoOf, SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import { inNamespace } from "../../proto/kit/netns.ts";
import { readGeneration } from "./generation.ts";
import { getLink, type Link, parseLink } from "./links.ts";
import {
  describe,
  dumps,
  identity,
  type KernelObject,
  parseObject,
  put,
  remove,
} from "./netlink.ts";
import { runNft } from "./nft.ts";
import { renderChange, renderNewTable, type Table } from "./ruleset.ts";
import { type NetlinkSocket, refused } from "./socket.ts";

const kindOrder: readonly KernelObject["kind"][] = [
  "address",
  "neighbour",
  "forward",
  "route",
  "rule",
  "sourceRule",
];

/** More are looked for in the list of all. */
const linksAskedMax = 8;

/** What of a list has to be put and what removed, given what is there. What is equal is not touched. */
export function difference(
  wanted: readonly KernelObject[],
  actual: readonly KernelObject[],
): { readonly puts: readonly KernelObject[]; readonly removals: readonly KernelObject[] } {
  const there = new Set(actual.map(describe));
  const puts = wanted.filter((object) => !there.has(describe(object)));
  // Mostly nothing differs, and there are many of them.
  if (puts.length === 0 && wanted.length === actual.length) return { puts, removals: [] };
  const kept = new Set(wanted.map(identity));
  return {
    puts: puts.toSorted((a, b) => kindOrder.indexOf(a.kind) - kindOrder.indexOf(b.kind)),
    removals: actual.filter((object) => !kept.has(identity(object))),
  };
}

export function listLinks(socket: NetlinkSocket): readonly Link[] {
  return dumps.links.flatMap((table) => socket.dump(table)).map(({ body }) => parseLink(body));
}

export function findLink(socket: NetlinkSocket, name: string): Link | undefined {
  try {
    return parseLink(socket.ask(getLink(name)));
  } catch (error) {
    if (errnoOf(error instanceof Error ? error.cause : error) === "ENODEV") return undefined;
    throw error;
  }
}

/** Of these names, those there are. */
function findLinks(socket: NetlinkSocket, names: ReadonlySet<string | null>): readonly Link[] {
  if (names.size > linksAskedMax) return listLinks(socket);
  return [...names].flatMap((name) => (name === null ? [] : (findLink(socket, name) ?? [])));
}

function linkOf(object: KernelObject): string | null {
  return "link" in object && object.link !== undefined ? object.link : null;
}

export function listObjects(
  socket: NetlinkSocket,
  links: readonly Link[],
): readonly KernelObject[] {
  const names = new Map(links.map(({ index, name }) => [index, name]));
  const nameOf = (index: number) => names.get(index) ?? "";
  const { addresses, routes, neighbours, forwards, rules } = dumps;
  const tables = [...addresses, ...routes, ...neighbours, ...forwards, ...rules];
  return tables.flatMap((table) =>
    socket
      .dump(table)
      .map(({ type, body }) => parseObject(type, body, nameOf))
      .filter((object) => object !== null),
  );
}

/**
 * One namespace as we last left it. `forget` makes the next change look at the kernel first. In one that was made just now
 * there is nothing of ours, which need not be looked for.
 */
export class NamespaceState {
  /** Path, or null for the host's. */
  readonly path: string | null;
  readonly #log: Log;
  #objects: readonly KernelObject[] | null = null;
  readonly #tables = new Map<string, Table>();
  /** Of the rules, as long as nobody but us has changed them since they were known to be `#tables`. */
  #generation: number | null = null;
  #isNew: boolean;

  constructor(path: string | null, log: Log, { isNew }: { readonly isNew: boolean }) {
    this.path = path;
    this.#log = log;
    this.#isNew = isNew;
    if (isNew) this.#objects = [];
  }

  forget(): void {
    this.#objects = null;
  }

  /** The link is a new one: nothing of ours is on it. */
  forgetLink(link: string): void {
    this.#objects = this.#objects?.filter((object) => linkOf(object) !== link) ?? null;
  }

  forgetTables(): void {
    this.#tables.clear();
    this.#generation = null;
  }

  /** Whether the rules of this generation are those tables, without looking at them. */
  hasTables(wanted: readonly Table[], generation: number): boolean {
    return generation === this.#generation && this.#change(wanted) === "";
  }

  /** Somebody has looked: at this generation the rules are those tables. */
  confirmTables(wanted: readonly Table[], generation: number): void {
    if (this.#change(wanted) === "") this.#generation = generation;
  }

  /**
   * Makes the namespace's objects those wanted. Objects on links that are not there are left out, until they are.
   * Throws the kernel's first refusal after having done all the rest.
   */
  setObjects(socket: NetlinkSocket, wanted: readonly KernelObject[]): void {
    const known = this.#objects;
    const change = known === null ? null : difference(wanted, known);
    if (change !== null && isNothing(change)) return;
    const named = change === null ? null : [...change.puts, ...change.removals].map(linkOf);
    const links = named === null ? listLinks(socket) : findLinks(socket, new Set(named));
    const indexes = new Map(links.map(({ name, index }) => [name, index]));
    const isThere = (object: KernelObject) => {
      const link = linkOf(object);
      return link === null || indexes.has(link);
    };
    const { puts, removals } = change ?? difference(wanted, listObjects(socket, links));
    const indexOf = (link: string) => indexes.get(link) ?? -1;
    const come = puts.filter(isThere);
    const absent = new Set(puts.filter((object) => !isThere(object)));
    // The kernel takes a veth away with a container's namespace, and with it what was on it.
    const gone = removals.filter(isThere);
    this.#objects = null;
    const refusals = socket.batch([
      ...come.map((object) => put(object, indexOf)),
      ...gone.map((object) => remove(object, indexOf)),
    ]);
    if (come.length + gone.length > 0) {
      const changed = { namespace: this.path, put: come.length, removed: gone.length };
      this.#log.debug(changed, "kernel tables changed");
    }
    if (refusals[0] !== undefined) throw refused(refusals[0]);
    this.#objects = wanted.filter((object) => !absent.has(object));
  }

  /** One transaction for all the tables: the packets see either the old rules or the new. */
  setTables(wanted: readonly Table[]): void {
    if (this.#isNew) {
      this.#isNew = false;
      runNft(this.path, wanted.map(renderNewTable).join(""));
      for (const table of wanted) this.#tables.set(tableKey(table), table);
      return;
    }
    const text = this.#change(wanted);
    if (text === "") return;
    const before = readGeneration(this.path);
    const isWhole = wanted.every((table) => !this.#tables.has(tableKey(table)));
    try {
      runNft(this.path, text);
    } catch (error) {
      this.forgetTables();
      throw error;
    }
    for (const table of wanted) this.#tables.set(tableKey(table), table);
    // Ours was the only change, on what was known or in place of all that was there.
    const isKnown = isWhole || before === this.#generation;
    const after = readGeneration(this.path);
    this.#generation = isKnown && after === before + 1 ? after : null;
    this.#log.debug({ namespace: this.path, bytes: text.length }, "rules changed");
  }

  #change(wanted: readonly Table[]): string {
    return wanted
      .map((table) => renderChange(this.#tables.get(tableKey(table)) ?? null, table))
      .join("");
  }
}

function tableKey(table: Table): string {
  return `${table.family} ${table.name}`;
}

function isNothing(change: ReturnType<typeof difference>): boolean {
  return change.puts.length === 0 && change.removals.length === 0;
}

/** Deletes a table if it is there. */
export function deleteTable(namespace: string | null, family: string, name: string): void {
  runNft(namespace, `add table ${family} ${name}\ndelete table ${family} ${name}\n`);
}

/** Writes settings under /proc/sys/net, of the namespace (null: the thread's own). Throws naming the key. */
export function setSysctls(
  namespace: string | null,
  settings: Readonly<Record<string, string>>,
): void {
  const write = () => {
    for (const [key, value] of Object.entries(settings)) {
      try {
        writeFileSync(`/proc/sys/net/${key}`, value);
      } catch (cause) {
        // Not there: a kernel without IPv6, say. There is then nothing to set.
        if (errnoOf(cause) === "ENOENT") continue;
        const where = namespace ?? "the host";
        const message = `cannot set net.${key.replaceAll("/", ".")} in ${where}: ${errnoOf(cause)}`;
        throw new SwarmError("internal", message, { cause });
      }
    }
  };
  if (namespace === null) write();
  else inNamespace(namespace, write);
}

/** Of the thread's own namespace; "" where there is no such setting. */
export function readSysctl(key: string): string {
  try {
    return readFileSync(`/proc/sys/net/${key}`, "utf8").trim();
  } catch {
    return "";
  }
}

/** Names in a folder, none when there is no folder. */
export function listFolder(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}
