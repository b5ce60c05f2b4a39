// The transport of a member that is alone.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { Receiver, Transport } from "./types.ts";

export function nobody(): Transport {
  let receiver: Receiver | null = null;
  return {
    start: (raft) => {
      receiver = raft;
    },
    members: () => {},
    send: (to) => receiver?.undelivered(to),
    sendSnapshot: async ({ to }) => {
      throw new SwarmError("unavailable", `there is no way to ${to}`);
    },
    close: async () => {},
  };
}
