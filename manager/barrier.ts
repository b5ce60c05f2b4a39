// Reads that see everything acknowledged before; with nobody to confirm that, they are told so soon.

import { SwarmError } from "../proto/kit/errors.ts";
import type { World } from "../proto/kit/world.ts";
import type { Raft } from "./raft/types.ts";

/** An election is waited for; after this long without a leader nobody waits any more. */
const leaderlessMsMax = 3_000;

/** As Raft's `read`, but rejects with `no_leader` at once when there has been none for 3 s. */
export function readBarrier(
  raft: Raft,
  world: World,
  signal: AbortSignal,
): (signal: AbortSignal) => Promise<void> {
  let lostAt: number | null = world.monotonic();
  const unwatch = raft.watchStatus(({ leader }) => {
    lostAt = leader === null ? (lostAt ?? world.monotonic()) : null;
  });
  signal.addEventListener("abort", unwatch, { once: true });
  return async (caller) => {
    if (lostAt !== null && world.monotonic() - lostAt >= leaderlessMsMax)
      throw new SwarmError("no_leader", "no manager leads");
    await raft.read(caller);
  };
}
