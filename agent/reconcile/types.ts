// What there is on this node, and what can be done about a task.

import type { Task } from "../../proto/gen/types.ts";

/** A task's container as the engine sees it. */
export interface ObservedContainer {
  readonly id: string;
  readonly taskId: string;
  readonly phase: "created" | "running" | "paused" | "exited" | "dead" | "removing";
  readonly pid: number;
  readonly exitCode: number;
  readonly isOutOfMemory: boolean;
  /** Why it could not be started, "" when it could. */
  readonly error: string;
  /** "": there is no health check. */
  readonly health: "" | "starting" | "healthy" | "unhealthy";
  /** Milliseconds since 1970; 0 when it has not ended. */
  readonly finishedAt: number;
}

/** What this run of the agent knows about a task beyond its container. */
export interface TaskMemory {
  /** The last state reported, "" when none was. */
  readonly reported: string;
  readonly reportedPid: number;
  /** What the network was last told of its sandbox; open: its own ports lead to it. */
  readonly wired: "" | "closed" | "open";
  /** Its container was seen running, so that its end is not a leftover of an earlier boot. */
  readonly hasRun: boolean;
  /** Restarts in place, while no manager could be reached. */
  readonly restarts: number;
}

export interface Observed {
  /** By task id. */
  readonly containers: ReadonlyMap<string, ObservedContainer>;
  /** Ids of the sandboxes of tasks. */
  readonly sandboxes: ReadonlySet<string>;
  /** Secrets and configs that have come, by `kind/id`. */
  readonly files: ReadonlySet<string>;
  /** Ids of the tasks whose files are in place. */
  readonly provided: ReadonlySet<string>;
  /** By task id; absent: nothing is known. */
  readonly memory: ReadonlyMap<string, TaskMemory>;
}

export interface Circumstances {
  /** Milliseconds since 1970. */
  readonly now: number;
  /** A manager can be reached: what is to become of an ended task is its decision. */
  readonly isManaged: boolean;
  /** While none can: restart nothing in place before this time, for one may be back in a moment. */
  readonly restartNotBefore: number;
  /** The kernel holds the networks of the newest view, so that sandboxes can be made. */
  readonly isNetworkReady: boolean;
}

/** As agent/network wants it. Addresses without mask. */
export interface SandboxSpec {
  readonly id: string;
  readonly attachments: readonly {
    readonly networkId: string;
    /** The IPv4 one first. */
    readonly addresses: readonly string[];
    /** The default route leads through the network with the highest; absent: 0. */
    readonly gatewayPriority?: number;
  }[];
  /** No network but the loopback device. */
  readonly isolated?: boolean;
  readonly ports: readonly {
    readonly protocol: string;
    readonly targetPort: number;
    readonly publishedPort: number;
    /** Absent: every address of the node. */
    readonly hostIP?: string;
  }[];
  /** The ports lead nowhere yet. */
  readonly isClosed?: boolean;
  /** ip:port; empty: the host's own. */
  readonly upstreamNameServers: readonly string[];
  readonly searchDomains: readonly string[];
}

/** A state to tell the managers; the performer adds the time. */
export interface Report {
  readonly state: string;
  readonly message: string;
  readonly error: string;
  readonly container: {
    readonly id: string;
    readonly pid: number;
    readonly exitCode: number;
  } | null;
}

export type Step =
  | { readonly do: "report"; readonly report: Report }
  | { readonly do: "pull"; readonly image: string }
  | { readonly do: "createSandbox"; readonly sandbox: SandboxSpec }
  /** Puts the secrets and configs it names in place, in memory. */
  | { readonly do: "provideFiles"; readonly task: Task }
  | { readonly do: "create"; readonly task: Task }
  | { readonly do: "start" }
  /** Starts the same container again; counts as a restart in place. */
  | { readonly do: "restart"; readonly containerId: string }
  /** Its own ports lead to it no more; then connections may end. */
  | { readonly do: "drain"; readonly msMax: number }
  | { readonly do: "stop"; readonly containerId: string; readonly graceMs: number }
  | { readonly do: "removeSandbox" }
  | { readonly do: "removeFiles" }
  | { readonly do: "remove"; readonly containerId: string };

/** What to do about one task, strictly in order. */
export interface Plan {
  readonly taskId: string;
  /** Whether the steps bring it up or down: a plan of the other kind replaces one under way. */
  readonly aim: "up" | "down";
  readonly steps: readonly Step[];
  /** Look again then, though nothing may have happened. Milliseconds since 1970. */
  readonly wakeAt: number | null;
}
