// Versions of what an agent knows, and from where one that comes with a version goes on: pure.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { Changed, History } from "./history.ts";

/** Says how far an agent has been told when it has this message: everything through `index` of that epoch's log. */
export function versionText(session: string, number: number, epoch: number, index: number): string {
  return `${session}-${number}-${epoch}-${index}`;
}

/** The index that a version text speaks of; null for another epoch's and for none of ours. */
export function indexOfVersion(text: string, epoch: number): number | null {
  const [, , ofEpoch, index] = text.split("-");
  if (index === undefined || !/^\d+$/.test(index) || ofEpoch !== `${epoch}`) return null;
  return Number(index);
}

/**
 * What an agent has missed that knows `have`, at a manager whose state is at `index`; null: it gets everything. Throws `no_leader`
 * when it knows more than this manager: what it is told never goes back.
 */
export function missedSince(
  have: string,
  epoch: number,
  index: number,
  history: Pick<History, "since">,
): Changed | null {
  const known = indexOfVersion(have, epoch);
  if (known === null) return null;
  if (known > index)
    throw new SwarmError("no_leader", "this manager is behind what this node knows: try again");
  return history.since(known);
}
