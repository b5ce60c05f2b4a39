// Names and addresses of all networks on their way to the sessions, and the tasks that wait until their own are withdrawn.

import type { Service, Task } from "../../proto/gen/types.ts";
import { Alarm } from "../../proto/kit/alarm.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import { hasEnded, isAssigned, isRunning, isWanted } from "../plan/tasks.ts";
import type { State } from "../store/types.ts";
import { Feed, type FeedPart } from "./feed.ts";
import { networksOfService, networksOfTask } from "./history.ts";
import { Holds, silentMsMax } from "./holds.ts";
import type { NodeSession } from "./session.ts";

/** Changes of names and addresses are sent at most so often. */
const coalesceMs = 100;
/** And in a burst, in which one time is this soon after the other, while nobody waits for a withdrawal. */
const coalesceBurstMs = 250;
/** Each message costs about a tenth: with many sessions half of this manager's time is for these, a fifth in a burst. */
const perSessionMs = 0.2;
const perSessionBurstMs = 0.5;

export interface NamesOptions {
  readonly world: World;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly state: () => State;
  readonly sessions: ReadonlyMap<string, NodeSession>;
  /** These nodes have tasks that are no longer held. */
  readonly updateNodes: (nodeIds: Iterable<string>) => void;
  /** No session of this manager uses these tasks any more: they are held until `release`. */
  readonly withdrawn: (taskIds: readonly string[]) => void;
}

interface Dirty {
  readonly tasks: Set<string>;
  readonly services: Set<string>;
}

export class Names {
  readonly #options: NamesOptions;
  readonly #holds = new Holds();
  readonly #feeds = new Map<string, Feed>();
  /** Network → what to look at again. */
  readonly #dirty = new Map<string, Dirty>();
  readonly #flushAlarm: Alarm;
  readonly #holdAlarm: Alarm;
  #flushedAt = Number.NEGATIVE_INFINITY;
  #isBurst = false;
  #flushedIndex = 0;
  /** A manager that just started has no sessions to ask: what should stop then simply waits until it would have them. */
  #settledAt = Number.POSITIVE_INFINITY;

  constructor(options: NamesOptions) {
    const { world, signal } = options;
    this.#options = options;
    this.#flushAlarm = new Alarm(world, signal, () => this.#flush());
    this.#holdAlarm = new Alarm(world, signal, () => this.#expire());
  }

  /** Everything anew, from a state of which no changes are known. */
  begin(): void {
    const { world, state } = this.#options;
    this.#feeds.clear();
    this.#dirty.clear();
    this.#flushedIndex = state().index;
    this.#settledAt = world.monotonic() + silentMsMax;
    for (const task of state().table("task").values()) if (isInUse(task)) this.#hold(task);
  }

  taskChanged(before: Task | undefined, after: Task | undefined): void {
    for (const task of [before, after]) if (task !== undefined) this.#mark(task);
    if (after !== undefined && isInUse(after)) {
      if (before === undefined || !isInUse(before)) this.#hold(after);
    } else if (before !== undefined) this.#holds.release(before.ID);
  }

  serviceChanged(before: Service | undefined, after: Service | undefined): void {
    for (const service of [before, after])
      for (const networkId of networksOfService(service))
        if (service !== undefined) this.#dirtyOf(networkId).services.add(service.ID);
  }

  /** The index of the state through which all sessions have been told of all names and addresses. */
  get toldIndex(): number {
    return this.#dirty.size === 0 ? this.#options.state().index : this.#flushedIndex;
  }

  /** Sends what has changed: at once, or 100 ms after the last time; what comes on and on without a withdrawal after 250 ms; with many sessions later. */
  flushSoon(): void {
    this.#holdAlarm.set(this.#holds.expiresAt());
    if (this.#dirty.size === 0) return;
    const isPatient = this.#isBurst && !this.#holds.hasUnsent();
    const at = this.#flushedAt + (isPatient ? this.#burstMs : this.#pauseMs);
    if (at <= this.#options.world.monotonic()) this.#flush();
    else this.#flushAlarm.set(at);
  }

  get #pauseMs(): number {
    return Math.max(coalesceMs, this.#options.sessions.size * perSessionMs);
  }

  get #burstMs(): number {
    return Math.max(coalesceBurstMs, this.#options.sessions.size * perSessionBurstMs);
  }

  feedOf(networkId: string): Feed {
    let feed = this.#feeds.get(networkId);
    if (feed === undefined) {
      feed = new Feed(networkId, this.#options.state());
      this.#feeds.set(networkId, feed);
    }
    return feed;
  }

  isHeld(taskId: string): boolean {
    return this.#holds.has(taskId);
  }

  acknowledged(sessionId: string, version: number): void {
    this.#tell(this.#holds.acknowledged(sessionId, version));
  }

  sessionGone(sessionId: string): void {
    this.#tell(this.#holds.gone(sessionId));
  }

  /** No manager's sessions use these tasks any more. */
  release(taskIds: readonly string[]): void {
    const held = taskIds.filter((id) => this.#holds.has(id));
    for (const id of held) this.#holds.release(id);
    this.#free(held);
  }

  /** For a leader that has not heard it yet. */
  get withdrawn(): readonly string[] {
    return this.#holds.withdrawn();
  }

  #hold(task: Task): void {
    this.#holds.hold(task.ID, this.#options.world.monotonic());
    this.#mark(task);
  }

  #mark(task: Task): void {
    for (const networkId of networksOfTask(task)) this.#dirtyOf(networkId).tasks.add(task.ID);
  }

  #dirtyOf(networkId: string): Dirty {
    let dirty = this.#dirty.get(networkId);
    if (dirty === undefined) {
      dirty = { tasks: new Set(), services: new Set() };
      this.#dirty.set(networkId, dirty);
    }
    return dirty;
  }

  #flush(): void {
    const state = this.#options.state();
    this.#flushedIndex = state.index;
    const deltas = new Map<string, FeedPart>();
    for (const [networkId, { tasks, services }] of this.#dirty) {
      const delta = this.#feeds.get(networkId)?.refresh(state, tasks, services);
      if (delta !== undefined && !delta.isEmpty) deltas.set(networkId, delta);
    }
    this.#dirty.clear();
    // What tells nobody anything does not make the next wait.
    if (deltas.size > 0) {
      const now = this.#options.world.monotonic();
      this.#isBurst = now - this.#flushedAt < 2 * this.#burstMs;
      this.#flushedAt = now;
    }
    const used = new Set<string>();
    for (const session of this.#options.sessions.values()) {
      for (const networkId of session.networks()) used.add(networkId);
      const mine = [...deltas].filter(([networkId]) => session.hasNetwork(networkId));
      session.sendParts(mine.map(([, delta]) => delta));
    }
    for (const networkId of this.#feeds.keys())
      if (!used.has(networkId)) this.#feeds.delete(networkId);
    this.#waitForAcknowledgements(state);
  }

  /** What is draining went out with every session's current version, at the latest. */
  #waitForAcknowledgements(state: State): void {
    if (this.#options.world.monotonic() < this.#settledAt) return;
    for (const taskId of this.#holds.unsent()) {
      const task = state.table("task").get(taskId);
      const networks = task === undefined ? [] : networksOfTask(task);
      const versions = new Map<string, number>();
      for (const session of this.#options.sessions.values())
        if (networks.some((networkId) => session.hasNetwork(networkId)))
          versions.set(session.id, session.version);
      this.#tell(this.#holds.sent(taskId, versions));
    }
  }

  #expire(): void {
    const { world, log } = this.#options;
    const now = world.monotonic();
    const heardAt = new Map<string, number>();
    for (const session of this.#options.sessions.values()) heardAt.set(session.id, session.heardAt);
    const isSilent = (id: string) => now - (heardAt.get(id) ?? 0) >= silentMsMax;
    const { late, withdrawn } = this.#holds.expire(now, isSilent);
    if (late.length > 0) log.warn({ tasks: late.length }, "not every node withdrew them in time");
    this.#tell(withdrawn);
    this.#free(late);
    this.#holdAlarm.set(this.#holds.expiresAt());
  }

  #tell(taskIds: readonly string[]): void {
    if (taskIds.length > 0) this.#options.withdrawn(taskIds);
  }

  #free(taskIds: readonly string[]): void {
    if (taskIds.length === 0) return;
    const tasks = this.#options.state().table("task");
    this.#options.updateNodes(new Set(taskIds.map((id) => tasks.get(id)?.NodeID ?? "")));
  }
}

/** Serving, but it should stop: its endpoint has to be withdrawn first. */
function isInUse(task: Task): boolean {
  return (
    isAssigned(task) &&
    isRunning(task) &&
    !hasEnded(task) &&
    !isWanted(task) &&
    task.NetworksAttachments.length > 0
  );
}
