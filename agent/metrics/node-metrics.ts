// What an operator wants to see of a node, as Prometheus reads it. Names are Docker's where Docker has the same.

import { arch, cpus, release, totalmem } from "node:os";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Keeper } from "../../proto/kit/keeper.ts";
import { version } from "../../proto/kit/version.ts";
import { heard } from "../engine/heard.ts";
import type { ContainerEvent, Engine } from "../engine/types.ts";
import type { Network } from "../network/types.ts";
import type { Wanted } from "../session/types.ts";
import { conntrackFill } from "./conntrack.ts";
import { type ContainerAction, containerActions, type EngineMeter } from "./measured.ts";

const loopLookMs = 100;
const actionBuckets = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const pullBuckets = [0.1, 0.5, 1, 5, 10, 30, 60, 300, 1_800];

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

export interface NodeMetricsParts {
  readonly engine: Pick<Engine, "info">;
  readonly network: Pick<Network, "unreachablePeers" | "unheldPorts" | "sandboxes">;
  /** null: in no swarm. */
  readonly node: () => NodeView | null;
  readonly keeper: Pick<Keeper, "ask">;
  /** Where the namespaces are. */
  readonly namespaces: string;
}

export class NodeMetrics implements EngineMeter {
  readonly #registry = new Registry();
  readonly #actions = new Histogram({
    name: "engine_daemon_container_actions_seconds",
    help: "How long what is done to containers takes",
    labelNames: ["action"],
    buckets: actionBuckets,
    registers: [this.#registry],
  });
  readonly #pulls = new Histogram({
    name: "tsswarm_engine_pull_seconds",
    help: "How long pulls take, those that find the image here too",
    buckets: pullBuckets,
    registers: [this.#registry],
  });
  readonly #failedPulls = this.#counter("tsswarm_engine_pulls_failed_total", "Failed pulls");
  readonly #events = this.#counter("engine_daemon_events_total", "Events of containers");
  readonly #outOfMemory = this.#counter(
    "tsswarm_engine_container_ooms_total",
    "Times the kernel killed a container's process for want of memory",
  );

  constructor(parts: NodeMetricsParts) {
    collectDefaultMetrics({
      register: this.#registry,
      eventLoopMonitoringPrecision: loopLookMs,
    });
    for (const action of containerActions) this.#actions.zero({ action });
    this.#showEngine(parts);
    this.#showNetwork(parts);
    this.#showSession(parts);
    this.#showKeeper(parts);
  }

  done(action: ContainerAction, seconds: number): void {
    this.#actions.observe({ action }, seconds);
  }

  pulled(seconds: number, failed: boolean): void {
    if (failed) this.#failedPulls.inc();
    else this.#pulls.observe(seconds);
  }

  /** Counts the engine's events until the signal aborts. */
  follow(
    engine: Pick<Engine, "events">,
    by: Parameters<typeof heard>[2],
    signal: AbortSignal,
  ): Promise<void> {
    const count = ({ action }: ContainerEvent) => {
      this.#events.inc();
      if (action === "oom") this.#outOfMemory.inc();
    };
    return heard(() => engine.events(signal), count, by, signal);
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  #counter(name: string, help: string): Counter {
    return new Counter({ name, help, registers: [this.#registry] });
  }

  #gauge(name: string, help: string, value: () => number | Promise<number>): void {
    const registers = [this.#registry];
    new Gauge({
      name,
      help,
      registers,
      async collect() {
        this.set(await value());
      },
    });
  }

  #labelled(
    name: string,
    help: string,
    label: string,
    values: () => Readonly<Record<string, number>> | Promise<Readonly<Record<string, number>>>,
  ): void {
    const registers = [this.#registry];
    new Gauge({
      name,
      help,
      registers,
      labelNames: [label],
      async collect() {
        this.reset();
        for (const [of, value] of Object.entries(await values())) this.set({ [label]: of }, value);
      },
    });
  }

  #showEngine({ engine }: NodeMetricsParts): void {
    this.#labelled(
      "engine_daemon_container_states_containers",
      "Containers on this node, by state",
      "state",
      () => {
        const { running, paused, stopped } = engine.info();
        return { running, paused, stopped };
      },
    );
    this.#gauge("tsswarm_engine_images", "Images on this node", () => engine.info().images);
    this.#gauge("engine_daemon_engine_cpus_cpus", "Cores of this host", () => cpus().length);
    this.#gauge("engine_daemon_engine_memory_bytes", "Memory of this host", totalmem);
    const labels = { architecture: arch(), kernel: release(), os_type: "linux", version };
    new Gauge({
      name: "engine_daemon_engine_info",
      help: "What this node is; always 1",
      labelNames: Object.keys(labels),
      registers: [this.#registry],
    }).set(labels, 1);
  }

  #showNetwork({ network, node, namespaces }: NodeMetricsParts): void {
    const wanted = (name: "endpoints" | "networks" | "services" | "peers") => () =>
      node()?.wanted?.[name].size ?? 0;
    this.#gauge(
      "tsswarm_network_endpoints",
      "Containers known on the overlay networks of this node",
      wanted("endpoints"),
    );
    this.#gauge("tsswarm_network_networks", "Overlay networks of this node", wanted("networks"));
    this.#gauge(
      "tsswarm_network_services",
      "Services with an address or port known here",
      wanted("services"),
    );
    this.#gauge("tsswarm_network_peers", "Other nodes known here", wanted("peers"));
    this.#gauge(
      "tsswarm_network_sandboxes",
      "Containers wired on this node",
      async () => (await network.sandboxes()).length,
    );
    this.#gauge(
      "tsswarm_network_silent_peers",
      "Other nodes that did not answer the last probe over the overlay",
      () => network.unreachablePeers().length,
    );
    this.#gauge(
      "tsswarm_network_unheld_ports",
      "Published ports that a program of this host has",
      () => network.unheldPorts().length,
    );
    this.#labelled(
      "tsswarm_conntrack_entries",
      "Connections the kernel keeps track of",
      "where",
      () => {
        const { host, routers } = conntrackFill(namespaces);
        return { host, routers };
      },
    );
    this.#gauge(
      "tsswarm_conntrack_fill_ratio",
      "How full the fullest of these tables is, 0 to 1",
      () => conntrackFill(namespaces).ratio,
    );
  }

  #showSession({ node }: NodeMetricsParts): void {
    this.#gauge("swarm_node_manager", "Whether this node is a manager", () =>
      Number(node()?.isManager === true),
    );
    new Gauge({
      name: "swarm_node_info",
      help: "Which swarm this node is in; always 1",
      labelNames: ["swarm_id", "node_id"],
      registers: [this.#registry],
      collect() {
        this.reset();
        const view = node();
        if (view !== null) this.set({ swarm_id: view.clusterId, node_id: view.nodeId }, 1);
      },
    });
    this.#gauge("tsswarm_session_connected", "Whether a manager answers this node", () =>
      Number(node()?.isConnected === true),
    );
    this.#gauge(
      "tsswarm_session_silent_seconds",
      "Time since a manager was last heard; 0 in no swarm",
      () => (node()?.silentMs ?? 0) / 1_000,
    );
    this.#gauge(
      "tsswarm_session_tasks",
      "Tasks that the managers want on this node",
      () => node()?.wanted?.tasks.size ?? 0,
    );
  }

  #showKeeper({ keeper }: NodeMetricsParts): void {
    const status = async () => (await keeper.ask({ do: "status" }).catch(() => null))?.status;
    this.#gauge("tsswarm_keeper_up", "Whether the keeper answers the agent", async () =>
      Number((await status()) !== undefined),
    );
    this.#labelled(
      "tsswarm_keeper_restarts",
      "Times the keeper has started a process of this node again since its own start",
      "process",
      async () => {
        const children = Object.entries((await status())?.children ?? {});
        return Object.fromEntries(children.map(([name, { restarts }]) => [name, restarts]));
      },
    );
  }
}
