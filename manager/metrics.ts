// What an operator wants to see of a manager, as Prometheus reads it. The agent beside it asks for it (Local.Metrics).

import { Measures } from "../proto/measures.ts";
import { taskStates } from "../proto/states.ts";
import type { ManagerMeter, MemberView } from "./meter.ts";
import type { RaftStatus } from "./raft/types.ts";

const prefix = "tsswarm_manager_";
const nodeStates = ["unknown", "down", "ready", "disconnected"];
/** From a tenth of a millisecond, which a good disk needs, to ten seconds. */
const secondsBuckets = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10,
];
const bytesBuckets = [256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576];

export class ManagerMetrics implements ManagerMeter {
  readonly #measures = new Measures(prefix);
  readonly #logWrites = this.#measures.histogram(
    "tsswarm_raft_wal_fsync_seconds",
    "Time until a write to the Raft log is durable",
    secondsBuckets,
  );
  readonly #commits = this.#measures.histogram(
    "swarm_raft_transaction_latency_seconds",
    "Time a write takes to be agreed on and applied",
    secondsBuckets,
  );
  readonly #batches = this.#measures.histogram(
    "tsswarm_store_batch_bytes",
    "Size of a batch of transactions",
    bytesBuckets,
  );
  readonly #plans = this.#measures.histogram(
    "tsswarm_planner_run_seconds",
    "Time the planner works on what has changed",
    secondsBuckets,
  );
  readonly #terms = this.#measures.counter(
    "tsswarm_raft_leader_changes_total",
    "Times another leader, or the same one in a later term, was heard of",
  );
  #leader = "";

  /** `view`: null while this machine manages no cluster. */
  constructor(view: () => MemberView | null) {
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
    return this.#measures.text();
  }

  #showRaft(view: () => MemberView | null): void {
    const raft = (name: string, help: string, of: (status: RaftStatus) => number | boolean) =>
      this.#measures.gauge(name, help, () => {
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
    this.#measures.gauges(
      "tsswarm_raft_follower_behind_entries",
      "On the leader: entries that are not durable there yet; -1 for one that does not answer",
      "node_id",
      () => {
        const { followers = [], last = 0 } = view()?.status ?? {};
        return Object.fromEntries(
          followers.map(({ id, match, isActive }) => [id, isActive ? last - match : -1]),
        );
      },
    );
    this.#measures.gauge(
      "tsswarm_manager_sessions",
      "Agents in session with this manager",
      () => view()?.sessions ?? 0,
    );
  }

  #showObjects(view: () => MemberView | null): void {
    for (const kind of ["service", "network", "secret", "config"] as const)
      this.#measures.gauge(
        `swarm_manager_${kind}s_total`,
        `The ${kind}s the cluster has`,
        () => view()?.state.table(kind).size ?? 0,
      );
    const byState = (kind: "node" | "task", states: readonly string[]) => () =>
      countBy(states, view()?.state.table(kind).values() ?? []);
    this.#measures.gauges(
      "swarm_manager_nodes",
      "Nodes of the cluster, by state",
      "state",
      byState("node", nodeStates),
    );
    this.#measures.gauges(
      "swarm_manager_tasks_total",
      "Tasks the cluster knows, by state",
      "state",
      byState("task", taskStates),
    );
  }
}

/** All of the states are told, also those that nothing has: else one that is gone would seem to stay. */
function countBy(
  states: readonly string[],
  objects: Iterable<{ readonly Status?: { readonly State: string } | undefined }>,
): Readonly<Record<string, number>> {
  const counts: Record<string, number> = Object.fromEntries(states.map((state) => [state, 0]));
  for (const { Status } of objects) {
    const state = Status?.State ?? "unknown";
    counts[state] = (counts[state] ?? 0) + 1;
  }
  return counts;
}
