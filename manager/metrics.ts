// What an operator wants to see of a manager, as Prometheus reads it. The agent beside it asks for it (Local.Metrics).

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { taskStates } from "../proto/states.ts";
import type { ManagerMeter, MemberView } from "./meter.ts";
import type { RaftStatus } from "./raft/types.ts";

const prefix = "tsswarm_manager_";
const loopLookMs = 100;
const nodeStates = ["unknown", "down", "ready", "disconnected"];
/** From a tenth of a millisecond, which a good disk needs, to ten seconds. */
const secondsBuckets = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10,
];
const bytesBuckets = [256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576];

export class ManagerMetrics implements ManagerMeter {
  readonly #registry = new Registry();
  readonly #logWrites = this.#histogram(
    "tsswarm_raft_wal_fsync_seconds",
    "Time until a write to the Raft log is durable",
    secondsBuckets,
  );
  readonly #commits = this.#histogram(
    "swarm_raft_transaction_latency_seconds",
    "Time a write takes to be agreed on and applied",
    secondsBuckets,
  );
  readonly #batches = this.#histogram(
    "tsswarm_store_batch_bytes",
    "Size of a batch of transactions",
    bytesBuckets,
  );
  readonly #plans = this.#histogram(
    "tsswarm_planner_run_seconds",
    "Time the planner works on what has changed",
    secondsBuckets,
  );
  readonly #terms = new Counter({
    name: "tsswarm_raft_leader_changes_total",
    help: "Times another leader, or the same one in a later term, was heard of",
    registers: [this.#registry],
  });
  #leader = "";

  /** `view`: null while this machine manages no cluster. */
  constructor(view: () => MemberView | null) {
    collectDefaultMetrics({
      register: this.#registry,
      prefix,
      eventLoopMonitoringPrecision: loopLookMs,
    });
    this.#showRaft(view);
    this.#showObjects(view);
  }

  logWritten(seconds: number): void {
    this.#logWrites.observe(seconds);
  }

  committed(bytes: number, seconds: number): void {
    this.#batches.observe(bytes);
    this.#commits.observe(seconds);
  }

  planned(seconds: number): void {
    this.#plans.observe(seconds);
  }

  raftChanged({ leader, term }: RaftStatus): void {
    const now = `${leader} ${term}`;
    if (leader !== null && this.#leader !== now) this.#terms.inc();
    if (leader !== null) this.#leader = now;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  #histogram(name: string, help: string, buckets: number[]): Histogram {
    return new Histogram({ name, help, buckets, registers: [this.#registry] });
  }

  #gauge(name: string, help: string, value: () => number): void {
    const registers = [this.#registry];
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });
  }

  /** All of `values` are shown, also those that nothing has: else one that is gone would seem to stay. */
  #counts(
    name: string,
    help: string,
    values: readonly string[],
    count: () => Readonly<Record<string, number>>,
  ): void {
    const registers = [this.#registry];
    new Gauge({
      name,
      help,
      registers,
      labelNames: ["state"],
      collect() {
        const counts = count();
        for (const state of values) this.set({ state }, counts[state] ?? 0);
      },
    });
  }

  #showRaft(view: () => MemberView | null): void {
    const raft = (name: string, help: string, of: (status: RaftStatus) => number | boolean) =>
      this.#gauge(name, help, () => {
        const member = view();
        return member === null ? 0 : Number(of(member.status));
      });
    raft("swarm_manager_leader", "Whether this manager leads", ({ role }) => role === "leader");
    raft("tsswarm_raft_has_leader", "Whether a leader is known", ({ leader }) => leader !== null);
    raft("tsswarm_raft_term", "The term of Raft", ({ term }) => term);
    raft("tsswarm_raft_commit_index", "The last entry known to be committed", (now) => now.commit);
    raft("tsswarm_raft_applied_index", "The last entry applied here", ({ applied }) => applied);
    raft("tsswarm_raft_last_index", "The last entry of the log here", ({ last }) => last);
    raft(
      "tsswarm_raft_voters",
      "Managers whose votes count",
      ({ configuration }) => configuration.voters.length,
    );
    new Gauge({
      name: "tsswarm_raft_follower_behind_entries",
      help: "On the leader: entries that are not durable there yet; -1 for one that does not answer",
      labelNames: ["node_id"],
      registers: [this.#registry],
      collect() {
        this.reset();
        const status = view()?.status;
        for (const { id, match, isActive } of status?.followers ?? [])
          this.set({ node_id: id }, isActive ? (status?.last ?? match) - match : -1);
      },
    });
    this.#gauge(
      "tsswarm_manager_sessions",
      "Agents in session with this manager",
      () => view()?.sessions ?? 0,
    );
  }

  #showObjects(view: () => MemberView | null): void {
    for (const kind of ["service", "network", "secret", "config"] as const)
      this.#gauge(
        `swarm_manager_${kind}s_total`,
        `The ${kind}s the cluster has`,
        () => view()?.state.table(kind).size ?? 0,
      );
    this.#counts("swarm_manager_nodes", "Nodes of the cluster, by state", nodeStates, () =>
      countBy(view()?.state.table("node").values() ?? [], ({ Status }) => Status?.State),
    );
    this.#counts("swarm_manager_tasks_total", "Tasks the cluster knows, by state", taskStates, () =>
      countBy(view()?.state.table("task").values() ?? [], ({ Status }) => Status?.State),
    );
  }
}

function countBy<T>(
  objects: Iterable<T>,
  stateOf: (object: T) => string | undefined,
): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const object of objects) {
    const state = stateOf(object) ?? "unknown";
    counts[state] = (counts[state] ?? 0) + 1;
  }
  return counts;
}
