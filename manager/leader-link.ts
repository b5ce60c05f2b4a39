// While another manager leads: one stream to it, for what the sessions with this manager say.

import { messageOf } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import { Client } from "../proto/rpc-client.ts";
import { toManager } from "../proto/tls.ts";
import type { Dispatcher } from "./dispatch/dispatcher.ts";
import type { FormerLeader } from "./dispatch/judge.ts";
import { Relay } from "./dispatch/relay.ts";
import type { OwnIdentity } from "./own-identity.ts";
import type { Raft } from "./raft/types.ts";

const retryMsMin = 50;
const retryMsMax = 1_000;
const reconnectMsMax = 500;

export interface LeaderLinkOptions {
  readonly raft: Raft;
  readonly dispatcher: Dispatcher;
  readonly nodeId: string;
  readonly identity: OwnIdentity;
  readonly clusterId: string;
  readonly addressOf: (nodeId: string) => string | undefined;
  /** Called whenever a stream to a leader has ended that had stood. */
  readonly lost: (leader: FormerLeader) => void;
  readonly world: World;
  readonly log: Log;
}

/** Until the signal aborts. */
export async function linkToLeader(options: LeaderLinkOptions, signal: AbortSignal): Promise<void> {
  const { raft, nodeId, world, log } = options;
  for (let failures = 0; !signal.aborted; ) {
    const term = new AbortController();
    const { leader } = raft.status();
    const unwatch = raft.watchStatus((status) => {
      if (status.leader !== leader) term.abort(new Error("another manager leads"));
    });
    const ends = AbortSignal.any([signal, term.signal]);
    options.identity.watch(ends, () => term.abort(new Error("the certificate was renewed")));
    try {
      if (leader === null || leader === nodeId) await untilAborted(ends);
      else
        await follow(options, leader, ends, () => {
          failures = 0;
        });
    } catch (error) {
      if (!ends.aborted) log.warn({ leader, error: messageOf(error) }, "the leader is not reached");
    } finally {
      unwatch();
    }
    if (signal.aborted) return;
    failures = ends.aborted ? 0 : failures + 1;
    if (failures === 0) continue;
    const waitMs = Math.min(retryMsMax, retryMsMin * 2 ** Math.min(failures, 6));
    await world.sleep(waitMs * (0.5 + world.random() / 2), ends).catch(() => {});
  }
}

async function follow(
  options: LeaderLinkOptions,
  leader: string,
  signal: AbortSignal,
  opened: () => void,
): Promise<void> {
  const { dispatcher, addressOf, identity, clusterId, world, log } = options;
  const address = addressOf(leader);
  if (address === undefined) throw new Error(`the address of ${leader} is not known yet`);
  const client = new Client("Managers", address, toManager(identity.current, clusterId), {
    "grpc.max_reconnect_backoff_ms": reconnectMsMax,
  });
  const relay = new Relay(world, dispatcher, signal);
  try {
    await relay.run(client, () => {
      opened();
      dispatcher.connect(relay);
      log.info({ leader, address }, "this manager's sessions are told to the leader");
    });
  } finally {
    dispatcher.disconnect(relay);
    if (relay.heardAt !== null) options.lost({ nodeId: leader, heardAt: relay.heardAt });
    client.close();
  }
}

async function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true }),
  );
}
