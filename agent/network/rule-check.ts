// Whether the rules in the kernel are those wanted: nft's own words for both are compared. The wanted ones are loaded
// into a scratch namespace for that; where nothing was touched since the last look, the generation number says so.

import { closeSync, openSync } from "node:fs";
import { messageOf } from "../../proto/kit/errors.ts";
import { createNamespace, removeNamespace } from "../../proto/kit/netns.ts";
import type { NamespaceState } from "./apply.ts";
import { tableDifferences } from "./differences.ts";
import { readGeneration } from "./generation.ts";
import { newLink } from "./links.ts";
import { runNft } from "./nft.ts";
import { renderTable, type Table } from "./ruleset.ts";
import { withSocket } from "./socket.ts";
import type { Difference } from "./types.ts";

const listingsMax = 64;

interface Seen {
  readonly generation: number;
  readonly text: string;
}

export class RuleCheck {
  readonly #scratch: string;
  /** Where the rules were right, by namespace: as long as the generation is this one they still are. */
  readonly #right = new Map<string | null, Seen>();
  /** What nft says of wanted tables, by their text; the oldest go. */
  readonly #listings = new Map<string, string>();

  /** `scratch`: path for a namespace that is there during a check only. */
  constructor(scratch: string) {
    this.#scratch = scratch;
  }

  /**
   * Synchronous: 0.1 ms where nobody else has touched the rules since `state` has set them or since they were last
   * found right; else one listing or two, for thousands of rules some hundred milliseconds.
   */
  compare(
    path: string | null,
    where: string,
    tables: readonly Table[],
    state: NamespaceState | null,
  ): readonly Difference[] {
    const generation = readGeneration(path);
    if (state?.hasTables(tables, generation) === true) return [];
    const text = tables.map(renderTable).join("");
    const right = this.#right.get(path);
    if (right?.generation === generation && right.text === text) return [];
    const differences = tables.flatMap((table) => {
      const name = `${table.family} ${table.name}`;
      return tableDifferences(where, name, this.#listingOf(table), listTable(path, name));
    });
    if (differences.length > 0) this.#right.delete(path);
    else {
      this.#right.set(path, { generation, text });
      state?.confirmTables(tables, generation);
    }
    return differences;
  }

  /** Only these namespaces are still there. */
  keepOnly(paths: ReadonlySet<string | null>): void {
    for (const path of this.#right.keys()) if (!paths.has(path)) this.#right.delete(path);
  }

  #listingOf(table: Table): string {
    const text = renderTable(table);
    const known = this.#listings.get(text);
    if (known !== undefined) return known;
    const listing = this.#listInScratch(table, text);
    this.#listings.set(text, listing);
    for (const oldest of this.#listings.keys()) {
      if (this.#listings.size <= listingsMax) break;
      this.#listings.delete(oldest);
    }
    return listing;
  }

  #listInScratch(table: Table, text: string): string {
    removeNamespace(this.#scratch); // of an agent that was killed
    createNamespace(this.#scratch);
    try {
      // A chain of this family hangs on a device, whatever its kind.
      if (table.family === "netdev") makeDevice(this.#scratch, "vx0");
      // Not in one call: what it lists would be its own idea of what it is about to do.
      runNft(this.#scratch, text);
      return runNft(this.#scratch, `list table ${table.family} ${table.name}\n`);
    } finally {
      removeNamespace(this.#scratch);
    }
  }
}

function makeDevice(path: string, name: string): void {
  const namespace = openSync(path, "r");
  try {
    const peer = { name: `${name}p`, namespace };
    withSocket(path, (socket) => socket.must(newLink({ kind: "veth", name, mtu: 1500, peer })));
  } finally {
    closeSync(namespace);
  }
}

/** null: there is no such table. */
function listTable(path: string | null, name: string): string | null {
  try {
    return runNft(path, `list table ${name}\n`);
  } catch (error) {
    if (/No such file/.test(messageOf(error))) return null;
    throw error;
  }
}
