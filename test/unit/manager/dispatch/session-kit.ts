// A session of one node over a store, and what it has been sent.

import assert from "node:assert/strict";
import { Journal } from "../../../../manager/dispatch/journal.ts";
import { NodeSession } from "../../../../manager/dispatch/session.ts";
import { Turns } from "../../../../manager/dispatch/turns.ts";
import type { State, Store } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import type { SessionInfo, ToAgent } from "../../../../proto/gen/types.ts";
import { Encoded } from "../../../../proto/rpc.ts";
import { Clock } from "../../clock.ts";

export const forever = new AbortController().signal;
export const info = codec("SessionInfo").parse({ NodeID: "n1" }) as SessionInfo;

export function sessionOf(store: Store, nodeId: string): NodeSession {
  const none = () => assert.fail("no network");
  const peers = new Journal(0, []);
  return new NodeSession(
    nodeId,
    true,
    {
      get state(): State {
        return store.state;
      },
      isHeld: () => false,
      feedOf: none,
      peers: () => peers,
      toldIndex: () => store.state.index,
      epoch: 1,
      turns: new Turns(new Clock()),
    },
    forever,
  );
}

/** What it is sent since the last time. */
export function sent(session: NodeSession): readonly ToAgent[] {
  let composed = session.compose();
  while (composed === null) composed = session.compose();
  return composed.map((message) => {
    assert.ok(!(message instanceof Encoded));
    return message;
  });
}
