// Which object a caller means by an id, a unique prefix of one, or a name.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { Kind, Objects, State } from "../store/types.ts";

const nouns: Readonly<Record<string, string>> = {
  service: "service",
  task: "task",
  node: "node",
  network: "network",
  secret: "secret",
  config: "config",
};

/** By full id, then name, then unique prefix, as Docker does. Throws `not_found`; `invalid` when several match. */
export function find<K extends Kind>(state: State, kind: K, wanted: string): Objects[K] {
  const table = state.table(kind);
  const exact = table.get(wanted) ?? table.named(wanted);
  if (exact !== undefined) return exact;
  const noun = nouns[kind] ?? kind;
  const matches: Objects[K][] = [];
  if (wanted !== "")
    for (const object of table.values()) {
      if (kind === "node" && hostnameOf(object as Objects["node"]) === wanted) matches.push(object);
      else if (object.ID.startsWith(wanted)) matches.push(object);
    }
  const [only, another] = matches;
  if (only === undefined) throw new SwarmError("not_found", `${noun} ${wanted} not found`);
  if (another !== undefined)
    throw new SwarmError(
      "invalid",
      `${noun} ${wanted} is ambiguous (${matches.length} matches found)`,
    );
  return only;
}

/** Docker lets one name a node by its host's name. */
export function hostnameOf(node: Objects["node"]): string {
  return node.Description?.Hostname ?? "";
}

/** Throws `invalid` when the object has been written since the caller read it. */
export function checkVersion(
  object: { readonly Version?: { readonly Index: number } },
  version: number,
): void {
  if (object.Version?.Index !== version) throw new SwarmError("invalid", "update out of sequence");
}
