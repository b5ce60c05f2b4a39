// A session of one node over a store, and what it has been sent.

import assert from "node:assert/strict";
import { NodeSession } from "../../../../manager/dispatch/session.ts";
import type { State, Store } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import type { SessionInfo, ToAgent } from "../../../../proto/gen/types.ts";
import { Encoded } from "../../../../proto/rpc.ts";

export const forever = new AbortController().signal;
export const info = codec("SessionInfo").parse({ NodeID: "n1" }) as SessionInfo;

export function sessionOf(store: Store, nodeId: string): NodeSession {
  const none = () => assert.fail("no network");
  return new NodeSession(
    nodeId,
    true,
    {
      get state(): State {
        return store.state;
      },
      isHeld: () => false,
      feedOf: () => ({ all: none, keys: none, missed: none }),
      toldIndex: () => store.state.index,
      epoch: 1,
    },
    forever,
  );
}

/** What it has been sent since the last time. */
export async function sent(session: NodeSession): Promise<readonly ToAgent[]> {
  session.send({ Beat: true });
  const reader = readers.get(session) ?? session.outgoing[Symbol.asyncIterator]();
  readers.set(session, reader);
  const messages: ToAgent[] = [];
  for (;;) {
    const { value: message } = await reader.next();
    assert.ok(message !== undefined && !(message instanceof Encoded));
    if (message.Beat) return messages;
    messages.push(message);
  }
}
const readers = new WeakMap<NodeSession, AsyncIterator<ToAgent | Encoded>>();
