// The number the kernel gives each state of a namespace's rules: another one after every change, whoever made it.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { Request } from "./netlink.ts";
import { netlinkProtocol, withSocket } from "./socket.ts";

/** nf_tables' subsystem number, and its message that asks for the generation. */
const getGeneration = (10 << 8) | 16;
const generationAttribute = 1;

/** Of the namespace at the path, null: the thread's own. */
export function readGeneration(path: string | null): number {
  const request: Request = {
    type: getGeneration,
    flags: 0,
    body: Buffer.alloc(4),
    about: "ask for the generation of the rules",
    fine: [],
  };
  const reply = withSocket(path, (socket) => socket.ask(request), netlinkProtocol.netfilter);
  // After struct nfgenmsg: length 8, type 1, the number in network order.
  const isKnown = reply.length >= 12 && reply.readUInt16LE(6) === generationAttribute;
  if (!isKnown) throw new SwarmError("internal", "the kernel does not say its rules' generation");
  return reply.readUInt32BE(8);
}
