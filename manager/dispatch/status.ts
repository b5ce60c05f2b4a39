// What agents report, into the store: task states only move forward, and a burst becomes few writes.

import { isDeepStrictEqual } from "node:util";
import type {
  Node,
  NodeCertificate,
  NodeDescription,
  Task,
  TaskStatus,
} from "../../proto/gen/types.ts";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import { concernsOthers, isComingUp, rankOf } from "../../proto/states.ts";
import type { Change, State, Store } from "../store/types.ts";

const coalesceMs = 100;
const changesMax = 200;
const retryMs = 500;
/** Statuses wait here while nothing can be written; agents repeat theirs with their next Hello. */
const pendingMax = 100_000;
const writeTimeoutMs = 10_000;
const conflictsMax = 20;
/** The longest a timer can wait. */
const timerMsMax = 2 ** 31 - 1;

/** What a session tells of its node; absent facts stay as they are. */
export interface NodeFacts {
  readonly State?: "ready" | "down" | "unknown";
  readonly Message?: string;
  readonly Addr?: string;
  readonly Description?: NodeDescription;
  readonly DataPathAddr?: string;
  readonly Routes?: readonly string[];
  /** As seen on its session. */
  readonly Certificate?: NodeCertificate;
}

interface Reported {
  readonly nodeId: string;
  readonly status: TaskStatus;
}

export class StatusWriter {
  readonly #store: Store;
  readonly #world: World;
  readonly #log: Log;
  #tasks = new Map<string, Reported>();
  #nodes = new Map<string, NodeFacts>();
  /** Tasks that were about to run when last heard of. */
  readonly #coming = new Set<string>();
  readonly #conflicts = new Map<string, number>();
  /** Of the last write, and of the last with something that others wait for. */
  #writtenAt = Number.NEGATIVE_INFINITY;
  #newsAt = Number.NEGATIVE_INFINITY;
  /** When to write what is pending; infinity when nothing is. */
  #dueAt = Number.POSITIVE_INFINITY;
  #wake = new AbortController();

  constructor(store: Store, world: World, log: Log) {
    this.#store = store;
    this.#world = world;
    this.#log = log;
  }

  task(nodeId: string, taskId: string, status: TaskStatus): void {
    const newer = this.#tasks.get(taskId);
    if (newer !== undefined && !isNews(status, newer.status)) return;
    if (this.#tasks.size >= pendingMax) return;
    this.#tasks.set(taskId, { nodeId, status });
    if (isComingUp(status.State)) this.#coming.add(taskId);
    else this.#coming.delete(taskId);
    if (status.State === "running" && !this.#isAnyComing()) this.#dueBy(this.#world.monotonic());
    else this.#dueBy((concernsOthers(status.State) ? this.#newsAt : this.#writtenAt) + coalesceMs);
  }

  node(nodeId: string, facts: NodeFacts): void {
    this.#nodes.set(nodeId, { ...this.#nodes.get(nodeId), ...facts });
    this.#dueBy(this.#newsAt + coalesceMs);
  }

  /**
   * Writes until the signal aborts: the first report at once, what follows within 100 ms together, but at once again when
   * nothing more is about to run. That a task is on its way
   * makes nobody wait who has to know that another one runs or is over.
   */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.#wake.abort(), { once: true });
    while (!signal.aborted) {
      const waitMs = this.#dueAt - this.#world.monotonic();
      if (waitMs > 0) {
        this.#wake = new AbortController();
        await this.#world.sleep(Math.min(waitMs, timerMsMax), this.#wake.signal).catch(() => {});
        continue;
      }
      this.#dueAt = Number.POSITIVE_INFINITY;
      this.#writtenAt = this.#world.monotonic();
      if (this.#hasNews()) this.#newsAt = this.#writtenAt;
      if (!(await this.#flush())) await this.#world.sleep(retryMs, signal).catch(() => {});
      if (this.#tasks.size + this.#nodes.size > 0) this.#dueBy(this.#writtenAt + coalesceMs);
    }
  }

  #dueBy(at: number): void {
    if (at >= this.#dueAt) return;
    this.#dueAt = at;
    this.#wake.abort();
  }

  #isAnyComing(): boolean {
    const tasks = this.#store.state.table("task");
    for (const id of this.#coming) {
      const task = tasks.get(id);
      if (task?.DesiredState === "running" && !concernsOthers(task.Status?.State ?? ""))
        return true;
      // Its node is lost, or it is not wanted any more.
      this.#coming.delete(id);
    }
    return false;
  }

  #hasNews(): boolean {
    if (this.#nodes.size > 0) return true;
    return [...this.#tasks.values()].some(({ status }) => concernsOthers(status.State));
  }

  /** False when it has to be tried again later; what was not written is pending again. */
  async #flush(): Promise<boolean> {
    const nodes = this.#nodes;
    const tasks = this.#tasks;
    this.#nodes = new Map();
    this.#tasks = new Map();
    const entries: Entry[] = [
      ...[...nodes].map(([id, facts]) => ({ kind: "node", id, facts }) as const),
      ...[...tasks].map(([id, reported]) => ({ kind: "task", id, reported }) as const),
    ];
    for (let at = 0; at < entries.length; at += changesMax) {
      const part = entries.slice(at, at + changesMax);
      try {
        await this.#write(part);
      } catch (error) {
        this.#log.warn({ error: messageOf(error) }, "reports could not be written; trying again");
        this.#putBack(entries.slice(at));
        return false;
      }
    }
    return true;
  }

  async #write(part: readonly Entry[]): Promise<void> {
    const attempt = async (entries: readonly Entry[]) => {
      const changes = entries.flatMap((entry) => changeFor(this.#store.state, entry) ?? []);
      if (changes.length > 0) await this.#store.write(changes, AbortSignal.timeout(writeTimeoutMs));
    };
    try {
      await attempt(part);
    } catch (error) {
      if (!isConflict(error)) throw error;
      // Another writer was faster with one of them: each for itself, so that it does not hold up the others.
      const results = await Promise.allSettled(part.map((entry) => attempt([entry])));
      results.forEach((result, at) => {
        const entry = part[at];
        if (entry === undefined) return;
        const key = `${entry.kind} ${entry.id}`;
        if (result.status === "fulfilled") this.#conflicts.delete(key);
        else this.#tryAgain(key, entry, result.reason);
      });
    }
  }

  /** A conflict is a matter of a moment; one that stays is a bug, which must not turn into endless writing. */
  #tryAgain(key: string, entry: Entry, reason: unknown): void {
    const conflicts = (this.#conflicts.get(key) ?? 0) + 1;
    this.#conflicts.set(key, conflicts);
    if (conflicts < conflictsMax) {
      this.#putBack([entry]);
      return;
    }
    this.#conflicts.delete(key);
    this.#log.error({ entry: key, error: messageOf(reason) }, "a report was given up");
  }

  #putBack(entries: readonly Entry[]): void {
    for (const entry of entries) {
      if (entry.kind === "node")
        this.#nodes.set(entry.id, { ...entry.facts, ...this.#nodes.get(entry.id) });
      else if (!this.#tasks.has(entry.id)) this.#tasks.set(entry.id, entry.reported);
    }
  }
}

type Entry =
  | { readonly kind: "node"; readonly id: string; readonly facts: NodeFacts }
  | { readonly kind: "task"; readonly id: string; readonly reported: Reported };

function isConflict(error: unknown): boolean {
  return error instanceof SwarmError && error.code === "conflict";
}

function changeFor(state: State, entry: Entry): Change | null {
  if (entry.kind === "node") {
    const node = state.table("node").get(entry.id);
    const next = node === undefined ? null : withFacts(node, entry.facts);
    return next === null ? null : { op: "put", kind: "node", object: next };
  }
  const task = state.table("task").get(entry.id);
  const next = task === undefined ? null : withStatus(task, entry.reported);
  return next === null ? null : { op: "put", kind: "task", object: next };
}

/** The node with what its session says; null when nothing of it is new. */
export function withFacts(node: Node, facts: NodeFacts): Node | null {
  const before = node.Status ?? { State: "unknown", Message: "", Addr: "" };
  const next: Node = {
    ...node,
    Status: {
      State: facts.State ?? before.State,
      Message: facts.Message ?? before.Message,
      Addr: facts.Addr ?? before.Addr,
    },
    ...(facts.Description === undefined ? {} : { Description: facts.Description }),
    DataPathAddr: facts.DataPathAddr || node.DataPathAddr,
    Routes: facts.Routes ?? node.Routes,
    ...(facts.Certificate === undefined
      ? {}
      : { Certificate: withCertificate(node.Certificate, facts.Certificate) }),
  };
  return isDeepStrictEqual(next, node) ? null : next;
}

/** What was good once may still be shown by somebody: the latest end counts, and that one was a manager's. */
function withCertificate(
  before: NodeCertificate | undefined,
  { Issuer, Ends, WasManager }: NodeCertificate,
): NodeCertificate {
  if (before === undefined) return { Issuer, Ends, WasManager };
  return {
    Issuer,
    Ends: Date.parse(before.Ends) > Date.parse(Ends) ? before.Ends : Ends,
    WasManager: WasManager || before.WasManager,
  };
}

/** The task with the status its node reports; null when it is another node's task or the status is no news. */
export function withStatus(task: Task, reported: Reported): Task | null {
  if (task.NodeID !== reported.nodeId) return null;
  if (task.Status !== undefined && !isNews(reported.status, task.Status)) return null;
  return { ...task, Status: reported.status };
}

/** A state never goes back; within a state, what the agent says last counts. */
export function isNews(next: TaskStatus, before: TaskStatus): boolean {
  const step = rankOf(next.State) - rankOf(before.State);
  if (step !== 0) return step > 0;
  const { Timestamp: _next, ...said } = next;
  const { Timestamp: _before, ...known } = before;
  return !isDeepStrictEqual(said, known);
}
