// The pages of this node's report, and where each comes from.

import { readFile } from "node:fs/promises";
import { release, uptime } from "node:os";
import { join } from "node:path";
import type { DaemonConfig } from "../../proto/config.ts";
import type { Event, ListRequest, LocalMetrics } from "../../proto/gen/types.ts";
import { heapOf } from "../../proto/kit/heap.ts";
import type { Keeper } from "../../proto/kit/keeper.ts";
import type { LastLines } from "../../proto/kit/log.ts";
import { version } from "../../proto/kit/version.ts";
import { timestamp } from "../../proto/kit/world.ts";
import type { Client } from "../../proto/rpc-client.ts";
import type { Engine } from "../engine/types.ts";
import type { NodeView } from "../node-view.ts";
import { kernelSettings, networkState } from "./machine.ts";
import {
  containerPage,
  eventPage,
  nodePage,
  servicePage,
  sessionPage,
  settingsPage,
  taskPage,
} from "./pages.ts";
import type { Recent } from "./recent.ts";
import type { Page } from "./report.ts";

const listMsMax = 5_000;
const eventsMax = 500;
const everything: ListRequest = { Filters: {}, Status: false };

export interface NodeReportParts {
  readonly config: DaemonConfig;
  readonly engine: Pick<Engine, "info" | "list">;
  readonly keeper: Pick<Keeper, "ask">;
  readonly recent: Recent;
  readonly lines: LastLines;
  readonly examine: (signal: AbortSignal) => Promise<unknown>;
  readonly node: () => NodeView | null;
  /** null: none runs here. */
  readonly manager: () => Promise<LocalMetrics | null>;
  /** Throws where no manager runs here. */
  readonly control: () => Client<"Control">;
}

export function nodePages(parts: NodeReportParts): readonly Page[] {
  const { config, engine, keeper, recent, lines, examine, node, manager, control } = parts;
  const ofManager = async (part: "Text" | "Heap" | "Raft" | "Log") =>
    (await manager())?.[part] ?? "no manager runs on this node\n";
  const listed =
    <K extends "ListNodes" | "ListServices" | "ListTasks", T>(
      method: K,
      page: (object: T) => unknown,
    ) =>
    async (signal: AbortSignal) => {
      const { Items } = await control().unary(method, everything, { timeoutMs: listMsMax, signal });
      return (Items as unknown as readonly T[]).map(page);
    };
  return [
    {
      name: "versions.json",
      what: "versions of tsswarm and what it stands on",
      make: () => versions(engine),
    },
    { name: "settings.json", what: "the daemon's settings", make: () => settingsPage(config) },
    {
      name: "session.json",
      what: "this node in its swarm, and its session",
      make: () => sessionPage(node()),
    },
    { name: "doctor.json", what: "what `tsswarm doctor` finds", make: examine },
    { name: "events.json", what: "the engine's last events", make: () => recent.events },
    {
      name: "swarm-events.json",
      what: "the swarm's last events, asked of a manager",
      make: (signal) => swarmEvents(control(), signal),
    },
    { name: "agent.log", what: "the agent's last lines", make: () => lines.text },
    {
      name: "keeper.log",
      what: "the keeper's last lines",
      make: async () => (await keeper.ask({ do: "ownLog" })).lines ?? "",
    },
    { name: "manager.log", what: "the manager's last lines", make: () => ofManager("Log") },
    {
      name: "containers.json",
      what: "containers of this node",
      make: () => engine.list().map(containerPage),
    },
    { name: "nodes.json", what: "the cluster's nodes", make: listed("ListNodes", nodePage) },
    { name: "services.json", what: "its services", make: listed("ListServices", servicePage) },
    { name: "tasks.json", what: "its tasks", make: listed("ListTasks", taskPage) },
    { name: "raft.json", what: "the status of Raft here", make: () => ofManager("Raft") },
    {
      name: "manager-metrics.txt",
      what: "what the manager counts, with --metrics-addr",
      make: () => ofManager("Text"),
    },
    { name: "manager-heap.json", what: "the manager's memory", make: () => ofManager("Heap") },
    { name: "agent-heap.json", what: "the agent's memory", make: heapOf },
    {
      name: "keeper.json",
      what: "what the keeper holds and has started",
      make: async () => (await keeper.ask({ do: "status" })).status,
    },
    {
      name: "kernel.json",
      what: "the kernel's settings, memory and pressure",
      make: kernelSettings,
    },
    {
      name: "network.txt",
      what: "addresses, routes and our rules, of the host and its first routers",
      make: (signal) => networkState(join(config["exec-root"], "netns"), signal),
    },
  ];
}

/** Those a manager remembers, of which the newest are kept. */
async function swarmEvents(
  control: Client<"Control">,
  signal: AbortSignal,
): Promise<readonly unknown[]> {
  const events: Event[] = [];
  const beginning = { After: 0, Ordinal: 0, Since: timestamp(0) };
  for await (const event of control.download("Events", beginning, { signal })) {
    if (event.Type === "") break;
    events.push(event);
    if (events.length > eventsMax) events.shift();
  }
  return events.map(eventPage);
}

async function versions(engine: Pick<Engine, "info">) {
  return {
    ...{ tsswarm: version, node: process.versions, kernel: release(), hostUptimeSeconds: uptime() },
    agentUptimeSeconds: process.uptime(),
    engine: engine.info(),
    system: await readFile("/etc/os-release", "utf8").catch(() => ""),
  };
}
