// What a leading manager does, in the order of simulated time: judges nodes, writes what they report, plans, takes orders.

import { Liveness } from "../../../../manager/dispatch/liveness.ts";
import {
  isNews,
  type NodeFacts,
  withFacts,
  withStatus,
} from "../../../../manager/dispatch/status.ts";
import { Agenda } from "../../../../manager/plan/agenda.ts";
import { plan } from "../../../../manager/plan/plan.ts";
import type { Change, State } from "../../../../manager/store/types.ts";
import { encodeBatch, encodeTransaction } from "../../../../manager/store/wire.ts";
import type { TaskStatus } from "../../../../proto/gen/types.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import { timestamp } from "../../../../proto/kit/world.ts";
import type { History, Operation } from "../history.ts";
import { encodeBatchCommand } from "../machine.ts";
import type { Member } from "../member.ts";
import type { Schedule } from "../schedule.ts";
import type { Outcomes, StoreReplica } from "./replica.ts";

/** Simulated time 0. */
export const epochMs = 1_700_000_000_000;

/** Something an operator wants: computed from the state when it is written. */
export interface Order {
  readonly compute: (state: State, now: number) => readonly Change[];
  /** unknown: it may have happened. */
  readonly settled: (how: "done" | "refused" | "unknown") => void;
}

type Part =
  | { readonly kind: "plan"; readonly changes: readonly Change[] }
  | { readonly kind: "reports"; readonly changes: readonly Change[] }
  | { readonly kind: "order"; readonly changes: readonly Change[]; readonly order: Order };

interface Parts {
  readonly operation: Operation;
  readonly parts: readonly Part[];
}

export interface LeadGround {
  readonly schedule: Schedule;
  readonly history: History;
  readonly outcomes: Outcomes;
  readonly replica: (id: string) => StoreReplica;
  readonly answersProbe: (nodeId: string) => boolean;
  readonly firstChanges: () => readonly Change[];
}

export class Lead {
  readonly member: Member;
  readonly term: number;
  readonly #ground: LeadGround;
  readonly #replica: StoreReplica;
  readonly #agenda = new Agenda();
  readonly #liveness: Liveness;
  readonly #facts = new Map<string, NodeFacts>();
  readonly #statuses = new Map<string, { readonly nodeId: string; readonly status: TaskStatus }>();
  readonly orders: Order[] = [];
  #barrier: Operation | null = null;
  #batch: Parts | null = null;
  #ids = 0;

  constructor(member: Member, term: number, ground: LeadGround) {
    this.member = member;
    this.term = term;
    this.#ground = ground;
    this.#replica = ground.replica(member.id);
    this.#liveness = new Liveness(ground.schedule.now);
    this.#replica.listener = (changes) => {
      if (changes === null) this.#agenda.all();
      else this.#agenda.note(changes);
    };
  }

  /** All that was committed before is known here. */
  get isReady(): boolean {
    return this.#barrier?.outcome === "done";
  }

  get isIdle(): boolean {
    const wakeAt = this.#agenda.wakeAt;
    return this.#batch === null && this.orders.length === 0 && wakeAt !== 0;
  }

  /** Its time is over: what is under way may happen or not. */
  end(): void {
    this.#replica.listener = null;
    for (const part of this.#batch?.parts ?? [])
      if (part.kind === "order") part.order.settled("unknown");
    for (const order of this.orders) order.settled("refused");
    this.#batch = null;
    this.orders.length = 0;
  }

  beat(nodeId: string): void {
    const transition = this.#liveness.heard(nodeId, this.#ground.schedule.now);
    if (transition !== null) this.#facts.set(nodeId, { State: "ready", Message: "" });
  }

  report(nodeId: string, taskId: string, status: TaskStatus): void {
    const known = this.#statuses.get(taskId);
    if (known !== undefined && !isNews(status, known.status)) return;
    this.#statuses.set(taskId, { nodeId, status });
  }

  tick(): void {
    if (!this.#isPrepared()) return;
    this.#judgeNodes();
    this.#settle();
    if (this.#batch === null) this.#write();
  }

  #isPrepared(): boolean {
    if (this.isReady) return true;
    if (this.#barrier?.outcome === "pending") return false;
    const { history, schedule } = this.#ground;
    const barrier = history.begin({ kind: "read", key: 0, expected: 0 }, schedule.now);
    this.#barrier = barrier;
    const id = `barrier ${barrier.serial}`;
    this.member.waiting.read(id, barrier);
    const answer = this.member.ask((core) => core.read(id));
    if (answer?.ok !== true) this.member.waiting.readFailed(id);
    return false;
  }

  #judgeNodes(): void {
    const { schedule, answersProbe } = this.#ground;
    const { now } = schedule;
    for (const node of this.#replica.state.table("node").values())
      this.#liveness.expect(node.ID, now + 3_000, null);
    const { transitions, probes } = this.#liveness.tick(now);
    for (const nodeId of probes)
      if (answersProbe(nodeId)) this.#liveness.probeAnswered(nodeId, now);
    for (const { nodeId, verdict, message } of transitions)
      this.#facts.set(nodeId, { State: verdict, Message: message });
  }

  /** What became of the batch under way. */
  #settle(): void {
    const batch = this.#batch;
    if (batch === null || batch.operation.outcome === "pending") return;
    this.#batch = null;
    const isDone = batch.operation.outcome === "done";
    const outcomes = this.#ground.outcomes.of(batch.operation.serial);
    for (const [i, part] of batch.parts.entries()) {
      const isApplied = isDone && outcomes[i]?.kind === "applied";
      if (part.kind === "plan" && !isApplied) this.#agenda.refused(part.changes);
      if (part.kind !== "order") continue;
      const isUnknown = batch.operation.outcome === "unknown";
      part.order.settled(isApplied ? "done" : isUnknown ? "unknown" : "refused");
    }
  }

  #write(): void {
    const { schedule, history } = this.#ground;
    const parts = this.#nextParts();
    if (parts.length === 0) return;
    const at = timestamp(epochMs + Math.floor(schedule.now));
    const batch = encodeBatch(parts.map(({ changes }) => encodeTransaction(changes, at)));
    const operation = history.begin({ kind: "batch", key: 0, expected: 0 }, schedule.now);
    this.#batch = { operation, parts };
    const data = encodeBatchCommand(operation.serial, batch);
    const answer = this.member.ask((core) => {
      const proposed = core.propose(data);
      if (!proposed.ok) return proposed;
      history.proposed(operation, proposed.index, proposed.term);
      this.member.waiting.write(proposed.index, proposed.term, operation);
      return proposed;
    });
    if (answer?.ok !== true) operation.outcome = "failed";
  }

  #nextParts(): readonly Part[] {
    const { state } = this.#replica;
    const now = epochMs + this.#ground.schedule.now;
    if (state.cluster === undefined)
      return [{ kind: "reports", changes: this.#ground.firstChanges() }];
    const parts: Part[] = [];
    const reports = this.#reports(state);
    if (reports.length > 0) parts.push({ kind: "reports", changes: reports });
    for (const order of this.orders.splice(0)) {
      const changes = computed(order, state, now);
      if (changes.length === 0) order.settled("refused");
      else parts.push({ kind: "order", changes, order });
    }
    for (const changes of this.#plans(state, now)) parts.push({ kind: "plan", changes });
    return parts;
  }

  #reports(state: State): readonly Change[] {
    const changes: Change[] = [];
    for (const [nodeId, facts] of this.#facts) {
      const node = state.table("node").get(nodeId);
      const object = node === undefined ? null : withFacts(node, facts);
      if (object === null) this.#facts.delete(nodeId);
      else changes.push({ op: "put", kind: "node", object });
    }
    for (const [taskId, reported] of this.#statuses) {
      const task = state.table("task").get(taskId);
      const object = task === undefined ? null : withStatus(task, reported);
      if (object === null) this.#statuses.delete(taskId);
      else changes.push({ op: "put", kind: "task", object });
    }
    return changes;
  }

  #plans(state: State, now: number): readonly (readonly Change[])[] {
    const dirty = this.#agenda.take(now);
    if (dirty === undefined) return [];
    const newId = () => {
      this.#ids += 1;
      return `t${this.term}n${String(this.#ids).padStart(5, "0")}`;
    };
    const run = plan({ state, now, dirty, newId });
    const transactions: (readonly Change[])[] = [];
    let step = run.next();
    for (; step.done !== true; step = run.next())
      if (step.value.length > 0) transactions.push(step.value);
    this.#agenda.done(step.value);
    return transactions;
  }
}

/** Nothing where what is wanted cannot be. */
function computed(order: Order, state: State, now: number): readonly Change[] {
  try {
    return order.compute(state, now);
  } catch (error) {
    if (error instanceof SwarmError) return [];
    throw error;
  }
}
