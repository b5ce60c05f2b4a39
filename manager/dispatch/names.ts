// Names and addresses of all networks on their way to the sessions, and the tasks that wait until their own are withdrawn.

import { isDeepStrictEqual } from "node:util";
import type { Assignment, AssignmentKey, Node, Service, Task } from "../../proto/gen/types.ts";
import { Alarm } from "../../proto/kit/alarm.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import { hasEnded, isAssigned, isRunning, isWanted } from "../plan/tasks.ts";
import type { State } from "../store/types.ts";
import { keyOf, peerOf } from "./assign.ts";
import { Feed } from "./feed.ts";
import { networksOfService, networksOfTask } from "./history.ts";
import { Holds, silentMsMax } from "./holds.ts";
import { Journal } from "./journal.ts";
import type { NodeSession } from "./session.ts";
import type { Turns } from "./turns.ts";

/** Changes of names and addresses are sent at most so often. */
const coalesceMs = 100;
/** And in a burst, in which one time is this soon after the other, while nobody waits for a withdrawal. */
const coalesceBurstMs = 250;
/** To tell all sessions may take half of this manager's time, a fifth in a burst: measured, so that it holds on any machine. */
const shareMax = 1 / 2;
const shareBurstMax = 1 / 5;
const pauseMsMax = 2_000;
/** While sessions still are told of the last changes, the next wait. */
const lookAgainMs = 20;
/** What is known of a network outlives its last session by so much: agents that have lost this manager come back. */
const unusedMsMax = 60_000;

export interface NamesOptions {
  readonly world: World;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly state: () => State;
  readonly sessions: ReadonlyMap<
    string,
    Pick<NodeSession, "hasNetwork" | "heardAt" | "id" | "networks" | "update" | "versionWith">
  >;
  /** In which the sessions are told. */
  readonly turns: Pick<Turns, "busyMs" | "isBusy">;
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
  /** Network → when a session was last told of it. */
  readonly #usedAt = new Map<string, number>();
  /** Network → what to look at again. */
  readonly #dirty = new Map<string, Dirty>();
  /** Nodes to look at again. */
  readonly #dirtyNodes = new Set<string>();
  #peers: Journal;
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
    this.#peers = peersOf(options.state());
    this.#flushAlarm = new Alarm(world, signal, () => this.flushSoon());
    this.#holdAlarm = new Alarm(world, signal, () => this.#expire());
  }

  /** Everything anew, from a state of which no changes are known. */
  begin(): void {
    const { world, state } = this.#options;
    this.#feeds.clear();
    this.#usedAt.clear();
    this.#dirty.clear();
    this.#dirtyNodes.clear();
    this.#peers = peersOf(state());
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

  peerChanged(nodeId: string): void {
    this.#dirtyNodes.add(nodeId);
  }

  /** The index of the state through which all sessions have been told of all names and addresses. */
  get toldIndex(): number {
    return this.#isClean ? this.#options.state().index : this.#flushedIndex;
  }

  /**
   * Sends what has changed: at once, or 100 ms after the last time; what comes on and on without a withdrawal after 250 ms. Later, and
   * together, where telling all sessions takes long.
   */
  flushSoon(): void {
    this.#holdAlarm.set(this.#holds.expiresAt());
    if (this.#isClean) return;
    const isPatient = this.#isBurst && !this.#holds.hasUnsent();
    const at = this.#flushedAt + (isPatient ? this.#burstMs : this.#pauseMs);
    const now = this.#options.world.monotonic();
    // Who is told now is told the newest; those who were before it would be told twice.
    if (this.#options.turns.isBusy) this.#flushAlarm.set(Math.max(at, now + lookAgainMs));
    else if (at <= now) this.#flush();
    else this.#flushAlarm.set(at);
  }

  get #isClean(): boolean {
    return this.#dirty.size === 0 && this.#dirtyNodes.size === 0;
  }

  get #pauseMs(): number {
    return this.#pause(coalesceMs, shareMax);
  }

  get #burstMs(): number {
    return this.#pause(coalesceBurstMs, shareBurstMax);
  }

  #pause(ms: number, share: number): number {
    return Math.min(pauseMsMax, Math.max(ms, this.#options.turns.busyMs / share));
  }

  get peers(): Journal {
    return this.#peers;
  }

  feedOf(networkId: string): Feed {
    let feed = this.#feeds.get(networkId);
    if (feed === undefined) {
      feed = new Feed(networkId, this.#options.state());
      this.#feeds.set(networkId, feed);
      this.#usedAt.set(networkId, this.#options.world.monotonic());
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
    const { state: current, sessions, world } = this.#options;
    const state = current();
    this.#flushedIndex = state.index;
    const changed = new Set<string>();
    for (const [networkId, { tasks, services }] of this.#dirty)
      if (this.#feeds.get(networkId)?.refresh(state, tasks, services) === true)
        changed.add(networkId);
    this.#dirty.clear();
    const concernsAll = this.#refreshPeers(state);
    // What tells nobody anything does not make the next wait.
    const now = world.monotonic();
    if (changed.size > 0 || concernsAll) {
      this.#isBurst = now - this.#flushedAt < 2 * this.#burstMs;
      this.#flushedAt = now;
    }
    for (const session of sessions.values()) {
      let concerned = concernsAll;
      for (const networkId of session.networks()) {
        this.#usedAt.set(networkId, now);
        concerned ||= changed.has(networkId);
      }
      if (concerned) session.update();
    }
    for (const networkId of this.#feeds.keys())
      if (now - (this.#usedAt.get(networkId) ?? now) >= unusedMsMax) {
        this.#feeds.delete(networkId);
        this.#usedAt.delete(networkId);
      }
    this.#waitForAcknowledgements(state);
  }

  /** Whether any has become different. */
  #refreshPeers(state: State): boolean {
    const set: Assignment[] = [];
    const remove: AssignmentKey[] = [];
    for (const id of this.#dirtyNodes) {
      const node = state.table("node").get(id);
      const was = this.#peers.get(keyOf("peer", id));
      if (node === undefined) {
        if (was !== undefined) remove.push(keyOf("peer", id));
      } else if (!isDeepStrictEqual(was?.Peer, peerOf(node))) set.push(peerAssignment(node));
    }
    this.#dirtyNodes.clear();
    this.#peers.append(state.index, set, remove);
    return set.length + remove.length > 0;
  }

  /** What is draining goes out with the next version of every session that has not been told yet. */
  #waitForAcknowledgements(state: State): void {
    if (this.#options.world.monotonic() < this.#settledAt) return;
    for (const taskId of this.#holds.unsent()) {
      const task = state.table("task").get(taskId);
      const networks = task === undefined ? [] : networksOfTask(task);
      const versions = new Map<string, number>();
      for (const session of this.#options.sessions.values())
        if (networks.some((networkId) => session.hasNetwork(networkId)))
          versions.set(session.id, session.versionWith(networks));
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

function peersOf(state: State): Journal {
  return new Journal(state.index, [...state.table("node").values()].map(peerAssignment));
}

function peerAssignment(node: Node): Assignment {
  return { Key: keyOf("peer", node.ID), Peer: peerOf(node) };
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
