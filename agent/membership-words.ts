// Docker's sentences about a node's place in a swarm, and what is said of a machine that has none.

import type { InitRequest } from "../proto/gen/types.ts";

export const alreadyMember =
  'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.';
export const notMember = "This node is not part of a swarm";
export const leavingLocked =
  "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.";
export const noSwarm =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';
export const onlyWorker =
  "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager.";

export function leavingManager(others: number): string {
  const attempt =
    "You are attempting to leave the swarm on a node that is participating as a manager.";
  if (others <= 0)
    return `${attempt} Removing the last manager erases all current state of the swarm. Use \`--force\` to ignore this message.`;
  return `${attempt} ${others} of ${others + 1} managers would be left, and more than half have to run. Run \`node demote\` for it on a manager first, or use \`--force\` to suppress this message.`;
}

export const noInit: InitRequest = {
  CSR: "",
  ListenAddr: "",
  AdvertiseAddr: "",
  DataPathAddr: "",
  DataPathPort: 0,
  DefaultAddrPool: [],
  SubnetSize: 0,
  Availability: "",
  Routes: [],
  ForceNewCluster: false,
};

export const stateOutside = { out: "inactive", busy: "pending", locked: "locked" } as const;

export const outside = {
  error: "",
  nodeId: "",
  nodeAddr: "",
  clusterId: "",
  isManager: false,
  managers: [],
} as const;
