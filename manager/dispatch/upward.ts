// What the sessions of one manager tell whoever leads, and what the leader tells them.

import type { TaskStatus, TaskUsage, ToAgent } from "../../proto/gen/types.ts";
import type { NodeFacts } from "./status.ts";

/** The leader, as a manager's sessions see it: this process, or another behind a relay. Nothing here waits. */
export interface Upward {
  opened(nodeId: string): void;
  closed(nodeId: string): void;
  /** Any word of the node's agent. */
  heard(nodeId: string): void;
  leaving(nodeId: string, reason: string): void;
  facts(nodeId: string, facts: NodeFacts): void;
  task(nodeId: string, taskId: string, status: TaskStatus): void;
  withdrawn(taskIds: readonly string[]): void;
  /** What tasks use. Never written: a leader that is new learns it with the next reports. */
  usage(usage: readonly TaskUsage[]): void;
}

/** A manager's sessions, as the leader sees them. */
export interface Downward {
  /** These tasks are withdrawn everywhere. */
  release(taskIds: readonly string[]): void;
  send(nodeId: string, message: Partial<ToAgent>): void;
  /** The session is over: the node was declared lost, or has one with another manager. */
  end(nodeId: string): void;
}
