// What a node knows of its part in the swarm.

import type { Wanted } from "./session/types.ts";

/** This node as part of a swarm. */
export interface NodeView {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly isManager: boolean;
  /** Whether a manager answers. */
  readonly isConnected: boolean;
  /** Milliseconds since a manager was last heard. */
  readonly silentMs: number;
  readonly wanted: Wanted | null;
}
