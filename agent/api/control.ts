// The way to the cluster's objects, and Docker's sentences for when there is none.

import type { FastifyReply } from "fastify";
import type { ListRequest } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { staleKey } from "../../proto/rpc.ts";
import type { Client } from "../../proto/rpc-client.ts";
import type { Filters } from "./request.ts";
import type { ApiContext } from "./types.ts";

const notInSwarm =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';
const isWorker =
  "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager.";
const isLocked =
  'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.';

export type Reader = Pick<Client<"Control">, "unary">;

/** Throws `not_manager` with Docker's sentence when no manager runs on this node. */
export function controlOf(context: ApiContext): Client<"Control"> {
  const local = context.membership.local();
  if (local.state === "locked") throw new SwarmError("not_manager", isLocked);
  if (local.state !== "active") throw new SwarmError("not_manager", notInSwarm);
  if (!local.isManager) throw new SwarmError("not_manager", isWorker);
  return context.control();
}

/** To read: what a manager answers without a leader carries a warning to who has asked. */
export function readerOf(context: ApiContext, reply: FastifyReply): Reader {
  const control = controlOf(context);
  const heard = ({ [staleKey]: sentence }: Readonly<Record<string, string>>) => {
    if (sentence !== undefined && !reply.raw.headersSent)
      reply.raw.setHeader("Warning", `110 tsswarm "${sentence}"`);
  };
  return {
    unary: (method, request, options) => control.unary(method, request, { ...options, heard }),
  };
}

export function listRequest(filters: Filters, status = false): ListRequest {
  const wrapped: Record<string, { Values: readonly string[] }> = {};
  for (const [name, values] of Object.entries(filters)) wrapped[name] = { Values: values };
  return { Filters: wrapped, Status: status };
}
