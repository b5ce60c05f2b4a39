// A manager that starts says where it is, until the leader has heard it.

import { asSwarmError, messageOf, SwarmError } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import { Client } from "../proto/rpc-client.ts";
import { toManager } from "../proto/tls.ts";
import { type Entering, enter, managerAddresses } from "./identity/managers.ts";
import type { OwnIdentity } from "./own-identity.ts";
import type { Raft } from "./raft/types.ts";
import type { Store } from "./store/types.ts";
import { featureLevel } from "./store/wire.ts";

const callMsMax = 5_000;
const retryMs = 200;
const retryMsMax = 5_000;

export interface AnnounceOptions {
  readonly raft: Raft;
  readonly store: Store;
  readonly world: World;
  readonly log: Log;
  readonly nodeId: string;
  readonly clusterId: string;
  readonly advertiseAddr: string;
  readonly identity: OwnIdentity;
  /** ip:port of managers to ask as long as the store names none. */
  readonly managers: readonly string[];
  /** Where the managers are, as the answer says: by node id. */
  readonly learned: (addresses: ReadonlyMap<string, string>) => void;
}

/**
 * Resolves when the cluster knows. Tries until the signal aborts, except after a refusal for good: `denied` (no manager of this
 * cluster any more), `unsupported` (it writes what this build does not know).
 */
export async function announce(options: AnnounceOptions, signal: AbortSignal): Promise<void> {
  const { world, log } = options;
  for (let failures = 0; ; failures++) {
    signal.throwIfAborted();
    try {
      await tell(options, failures, signal);
      return;
    } catch (error) {
      const { code } = asSwarmError(error);
      if (signal.aborted || code === "denied" || code === "unsupported") throw error;
      const level = failures === 0 ? "info" : "warn";
      log[level](
        { error: messageOf(error) },
        "the cluster does not know this manager's address yet",
      );
    }
    await world.sleep(Math.min(retryMsMax, retryMs * (failures + 1)), signal);
  }
}

async function tell(
  options: AnnounceOptions,
  failures: number,
  signal: AbortSignal,
): Promise<void> {
  const { raft, store, nodeId, clusterId, advertiseAddr, identity, learned } = options;
  const entering: Entering = { Addr: advertiseAddr, FeatureLevel: featureLevel };
  if (raft.status().leader === nodeId) {
    await raft.read(signal);
    return enter(store, nodeId, entering, signal);
  }
  const address = candidate(options, failures);
  const client = new Client("Managers", address, toManager(identity.current, clusterId));
  try {
    const { Managers } = await client.unary("Enter", entering, { signal, timeoutMs: callMsMax });
    learned(new Map(Managers.map(({ NodeID, Addr }) => [NodeID, Addr])));
  } finally {
    client.close();
  }
}

/** Another one each time. */
function candidate(options: AnnounceOptions, failures: number): string {
  const { store, nodeId, advertiseAddr, managers } = options;
  const known = managerAddresses(store.state).filter(({ NodeID }) => NodeID !== nodeId);
  const all = [...new Set([...known.map(({ Addr }) => Addr), ...managers])];
  const others = all.filter((address) => address !== advertiseAddr);
  const address = others[failures % Math.max(1, others.length)];
  if (address === undefined)
    throw new SwarmError(
      "unavailable",
      "no other manager is known, and this one does not lead yet",
    );
  return address;
}
