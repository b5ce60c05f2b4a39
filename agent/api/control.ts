// The way to the cluster's objects, and Docker's sentences for when there is none.

import type { ListRequest } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Client } from "../../proto/rpc-client.ts";
import type { Filters } from "./request.ts";
import type { ApiContext } from "./types.ts";

const notInSwarm =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';
const isWorker =
  "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager.";
const isLocked =
  'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.';

/** Throws `not_manager` with Docker's sentence when no manager runs on this node. */
export function controlOf(context: ApiContext): Client<"Control"> {
  const local = context.membership.local();
  if (local.state === "locked") throw new SwarmError("not_manager", isLocked);
  if (local.state !== "active") throw new SwarmError("not_manager", notInSwarm);
  if (!local.isManager) throw new SwarmError("not_manager", isWorker);
  return context.control();
}

export function listRequest(filters: Filters, status = false): ListRequest {
  const wrapped: Record<string, { Values: readonly string[] }> = {};
  for (const [name, values] of Object.entries(filters)) wrapped[name] = { Values: values };
  return { Filters: wrapped, Status: status };
}
