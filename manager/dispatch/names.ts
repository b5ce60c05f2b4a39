// Names and addresses of all networks on their way to the sessions, and the tasks that wait until their own are withdrawn.

import { isDeepStrictEqual } from "node:util";
import type { Assignment, AssignmentKey, Node, Service, Task } from "../../proto/gen/types.ts";
import { Alarm } from "../../proto/kit/alarm.ts";
import { nameTtlSeconds } from "../../proto/kit/keeper.ts";
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
/** So long, and so many tasks at a time, are looked at before others get their turn. */
const sliceMs = 8;
const sliceTasks = 250;
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
  #feeds = new Map<string, Feed>();
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
  #isFlushing = false;
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
    this.#feeds = new Map();
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
    const isTold = this.#isClean && !this.#isFlushing;
    return isTold ? this.#options.state().index : this.#flushedIndex;
  }

  /**
   * Sends what has changed: at once, or 100 ms after the last time; what comes on and on without a withdrawal after 250 ms. Later, and
   * together, where telling all sessions takes long.
   */
  flushSoon(): void {
    this.#holdAlarm.set(this.#holds.expiresAt());
    if (this.#isClean || this.#isFlushing) return;
    const isPatient = this.#isBurst && !this.#holds.hasUnsent();
    const at = this.#flushedAt + (isPatient ? this.#burstMs : this.#pauseMs);
    const now = this.#options.world.monotonic();
    // Who is told now is told the newest; those who were before it would be told twice.
    if (this.#options.turns.isBusy) this.#flushAlarm.set(Math.max(at, now + lookAgainMs));
    else if (at <= now) void this.#flush();
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
    this.#tellWithdrawn(this.#holds.acknowledged(sessionId, version));
  }

  sessionGone(sessionId: string): void {
    this.#tellWithdrawn(this.#holds.gone(sessionId));
  }

  /** No manager's sessions use these tasks any more. Whoever has asked for a name goes on using a task's own address while the answer lives. */
  release(taskIds: readonly string[]): void {
    const held = taskIds.filter((id) => this.#holds.has(id));
    const lingering = new Set(held.filter((id) => this.#isNamedItself(id)));
    const until = this.#options.world.monotonic() + nameTtlSeconds * 1_000;
    for (const id of lingering) this.#holds.linger(id, until);
    this.#holdAlarm.set(this.#holds.expiresAt());
    const free = held.filter((id) => !lingering.has(id));
    for (const id of free) this.#holds.release(id);
    this.#free(free);
  }

  /** Its service's name is the addresses of its tasks. */
  #isNamedItself(taskId: string): boolean {
    const { state } = this.#options;
    const task = state().table("task").get(taskId);
    const service = state()
      .table("service")
      .get(task?.ServiceID ?? "");
    return service?.Spec?.EndpointSpec?.Mode === "dnsrr";
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

  /** What has changed until now; what changes meanwhile is for the next time. */
  async #flush(): Promise<void> {
    const { world, state, signal } = this.#options;
    const { index } = state();
    const feeds = this.#feeds;
    const unsent = this.#holds.unsent();
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    this.#isFlushing = true;
    const changed = new Set<string>();
    let began = world.monotonic();
    for (const [networkId, { tasks, services }] of dirty)
      for (const { someTasks, someServices } of pieces(tasks, services)) {
        if (feeds.get(networkId)?.refresh(state(), someTasks, someServices) === true)
          changed.add(networkId);
        if (world.monotonic() - began < sliceMs) continue;
        await new Promise((resolve) => setImmediate(resolve));
        began = world.monotonic();
      }
    this.#isFlushing = false;
    // All is new: others have begun meanwhile.
    if (feeds !== this.#feeds || signal.aborted) return;
    this.#tell(index, changed);
    this.#waitForAcknowledgements(unsent);
    this.flushSoon();
  }

  /** All through that index is in the feeds. */
  #tell(index: number, changed: ReadonlySet<string>): void {
    const { state, sessions, world } = this.#options;
    this.#flushedIndex = index;
    const concernsAll = this.#refreshPeers(state());
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
  #waitForAcknowledgements(taskIds: readonly string[]): void {
    if (this.#options.world.monotonic() < this.#settledAt) return;
    for (const taskId of taskIds) {
      const task = this.#options.state().table("task").get(taskId);
      const networks = task === undefined ? [] : networksOfTask(task);
      const versions = new Map<string, number>();
      for (const session of this.#options.sessions.values())
        if (networks.some((networkId) => session.hasNetwork(networkId)))
          versions.set(session.id, session.versionWith(networks));
      this.#tellWithdrawn(this.#holds.sent(taskId, versions));
    }
  }

  #expire(): void {
    const { world, log } = this.#options;
    const now = world.monotonic();
    const heardAt = new Map<string, number>();
    for (const session of this.#options.sessions.values()) heardAt.set(session.id, session.heardAt);
    const isSilent = (id: string) => now - (heardAt.get(id) ?? 0) >= silentMsMax;
    const { late, withdrawn, free } = this.#holds.expire(now, isSilent);
    if (late.length > 0) log.warn({ tasks: late.length }, "not every node withdrew them in time");
    this.#tellWithdrawn(withdrawn);
    this.#free([...late, ...free]);
    this.#holdAlarm.set(this.#holds.expiresAt());
  }

  #tellWithdrawn(taskIds: readonly string[]): void {
    if (taskIds.length > 0) this.#options.withdrawn(taskIds);
  }

  #free(taskIds: readonly string[]): void {
    if (taskIds.length === 0) return;
    const tasks = this.#options.state().table("task");
    this.#options.updateNodes(new Set(taskIds.map((id) => tasks.get(id)?.NodeID ?? "")));
  }
}

function* pieces(
  tasks: ReadonlySet<string>,
  services: ReadonlySet<string>,
): Generator<{ readonly someTasks: readonly string[]; readonly someServices: Iterable<string> }> {
  const all = [...tasks];
  yield { someTasks: all.slice(0, sliceTasks), someServices: services };
  for (let at = sliceTasks; at < all.length; at += sliceTasks)
    yield { someTasks: all.slice(at, at + sliceTasks), someServices: [] };
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
