// What an operator wants to see of a node, as Prometheus reads it. Names are Docker's where Docker has the same.

import { arch, cpus, release, totalmem } from "node:os";
import type { Keeper, KeeperStatus } from "../../proto/kit/keeper.ts";
import { version } from "../../proto/kit/version.ts";
import { Measures } from "../../proto/measures.ts";
import { heard } from "../engine/heard.ts";
import type { ContainerEvent, Engine } from "../engine/types.ts";
import type { Network } from "../network/types.ts";
import type { NodeView } from "../node-view.ts";
import { type ConntrackFill, conntrackFill } from "./conntrack.ts";
import { type ContainerAction, containerActions, type EngineMeter } from "./measured.ts";

const actionBuckets = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const pullBuckets = [0.1, 0.5, 1, 5, 10, 30, 60, 300, 1_800];

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
  readonly #parts: NodeMetricsParts;
  readonly #measures = new Measures();
  readonly #actions = this.#measures.histogram(
    "engine_daemon_container_actions_seconds",
    "How long what is done to containers takes",
    actionBuckets,
    ["action"],
  );
  readonly #pulls = this.#measures.histogram(
    "tsswarm_engine_pull_seconds",
    "How long pulls take, those that find the image here too",
    pullBuckets,
  );
  readonly #failedPulls = this.#measures.counter(
    "tsswarm_engine_pulls_failed_total",
    "Failed pulls",
  );
  readonly #events = this.#measures.counter("engine_daemon_events_total", "Events of containers");
  readonly #outOfMemory = this.#measures.counter(
    "tsswarm_engine_container_ooms_total",
    "Times the kernel killed a container's process for want of memory",
  );
  /** What takes a look of some cost: one for each reading. */
  #fill: ConntrackFill = { host: 0, routers: 0, ratio: 0 };
  #keeper: KeeperStatus | undefined;

  constructor(parts: NodeMetricsParts) {
    this.#parts = parts;
    for (const action of containerActions) this.#actions.zero({ action });
    this.#showEngine(parts);
    this.#showNetwork(parts);
    this.#showSession(parts);
    this.#showKeeper();
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

  async text(): Promise<string> {
    const { keeper, namespaces } = this.#parts;
    this.#fill = conntrackFill(namespaces);
    this.#keeper = (await keeper.ask({ do: "status" }).catch(() => null))?.status;
    return this.#measures.text();
  }

  #showEngine({ engine }: NodeMetricsParts): void {
    this.#measures.gauges(
      "engine_daemon_container_states_containers",
      "Containers on this node, by state",
      "state",
      () => {
        const { running, paused, stopped } = engine.info();
        return { running, paused, stopped };
      },
    );
    this.#measures.gauge(
      "tsswarm_engine_images",
      "Images on this node",
      () => engine.info().images,
    );
    this.#measures.gauge(
      "engine_daemon_engine_cpus_cpus",
      "Cores of this host",
      () => cpus().length,
    );
    this.#measures.gauge("engine_daemon_engine_memory_bytes", "Memory of this host", totalmem);
    const labels = { architecture: arch(), kernel: release(), os_type: "linux", version };
    this.#measures.info(
      "engine_daemon_engine_info",
      "What this node is",
      Object.keys(labels),
      () => labels,
    );
  }

  #showNetwork({ network, node }: NodeMetricsParts): void {
    const wanted = (name: "endpoints" | "networks" | "services" | "peers") => () =>
      node()?.wanted?.[name].size ?? 0;
    this.#measures.gauge(
      "tsswarm_network_endpoints",
      "Containers known on the overlay networks of this node",
      wanted("endpoints"),
    );
    this.#measures.gauge(
      "tsswarm_network_networks",
      "Overlay networks of this node",
      wanted("networks"),
    );
    this.#measures.gauge(
      "tsswarm_network_services",
      "Services with an address or port known here",
      wanted("services"),
    );
    this.#measures.gauge("tsswarm_network_peers", "Other nodes known here", wanted("peers"));
    this.#measures.gauge(
      "tsswarm_network_sandboxes",
      "Containers wired on this node",
      async () => (await network.sandboxes()).length,
    );
    this.#measures.gauge(
      "tsswarm_network_silent_peers",
      "Other nodes that did not answer the last probe over the overlay",
      () => network.unreachablePeers().length,
    );
    this.#measures.gauge(
      "tsswarm_network_unheld_ports",
      "Published ports that a program of this host has",
      () => network.unheldPorts().length,
    );
    this.#measures.gauges(
      "tsswarm_conntrack_entries",
      "Connections the kernel keeps track of",
      "where",
      () => ({ host: this.#fill.host, routers: this.#fill.routers }),
    );
    this.#measures.gauge(
      "tsswarm_conntrack_fill_ratio",
      "How full the fullest of these tables is, 0 to 1",
      () => this.#fill.ratio,
    );
  }

  #showSession({ node }: NodeMetricsParts): void {
    this.#measures.gauge("swarm_node_manager", "Whether this node is a manager", () =>
      Number(node()?.isManager === true),
    );
    const names = ["swarm_id", "node_id"];
    this.#measures.info("swarm_node_info", "Which swarm this node is in", names, () => {
      const view = node();
      return view === null ? null : { swarm_id: view.clusterId, node_id: view.nodeId };
    });
    this.#measures.gauge("tsswarm_session_connected", "Whether a manager answers this node", () =>
      Number(node()?.isConnected === true),
    );
    this.#measures.gauge(
      "tsswarm_session_silent_seconds",
      "Time since a manager was last heard; 0 in no swarm",
      () => (node()?.silentMs ?? 0) / 1_000,
    );
    this.#measures.gauge(
      "tsswarm_session_tasks",
      "Tasks that the managers want on this node",
      () => node()?.wanted?.tasks.size ?? 0,
    );
  }

  #showKeeper(): void {
    this.#measures.gauge("tsswarm_keeper_up", "Whether the keeper answers the agent", () =>
      Number(this.#keeper !== undefined),
    );
    this.#measures.gauges(
      "tsswarm_keeper_restarts",
      "Times the keeper has started a process of this node again since its own start",
      "process",
      () => {
        const children = Object.entries(this.#keeper?.children ?? {});
        return Object.fromEntries(children.map(([name, { restarts }]) => [name, restarts]));
      },
    );
  }
}
