// Agents' sessions: what changes in the state goes down to those whom it concerns, what they report goes into the store.

import type { FromAgent, Hello, Node, Task, ToAgent } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import type { Caller, Handlers } from "../../proto/rpc.ts";
import { certifiedNode } from "../../proto/tls.ts";
import { hostOf } from "../identity/join.ts";
import { hasEnded, isAssigned, isRunning, isWanted } from "../plan/tasks.ts";
import type { Applied, State, Step, Store } from "../store/types.ts";
import { Alarm } from "./alarm.ts";
import { infoOf, keyOf, peerOf } from "./assign.ts";
import { Feed } from "./feed.ts";
import { Holds, holdMsMax } from "./holds.ts";
import { Judge } from "./judge.ts";
import { LogBroker } from "./logs.ts";
import { answers } from "./probe.ts";
import { NodeSession, type Surroundings } from "./session.ts";
import { StatusWriter } from "./status.ts";

/** Names and addresses of a network are sent at most so often. */
const coalesceMs = 100;
/** A manager that just started has no sessions to ask: what should stop then simply waits this long. */
const settleMs = holdMsMax;

export interface DispatcherOptions {
  readonly store: Store;
  readonly world: World;
  readonly log: Log;
  /** Ends everything: the leadership's. */
  readonly signal: AbortSignal;
  /** For tests: whether a host answers. */
  readonly probe?: (address: string, signal: AbortSignal) => Promise<boolean>;
}

/** Of the leader. Construct it, `run` it, and give it the calls of the Dispatch service. */
export class Dispatcher {
  readonly logs: LogBroker;
  readonly #options: DispatcherOptions;
  readonly #status: StatusWriter;
  readonly #judge: Judge;
  readonly #settledAt: number;
  readonly #holds = new Holds();
  readonly #sessions = new Map<string, NodeSession>();
  readonly #feeds = new Map<string, Feed>();
  /** Network → tasks and services to look at again. */
  readonly #dirty = new Map<
    string,
    { readonly tasks: Set<string>; readonly services: Set<string> }
  >();
  readonly #flushAlarm: Alarm;
  readonly #holdAlarm: Alarm;
  #state: State;
  #flushedAt = Number.NEGATIVE_INFINITY;

  constructor(options: DispatcherOptions) {
    const { store, world, log, signal } = options;
    this.#options = options;
    this.#state = store.state;
    this.#status = new StatusWriter(store, world, log);
    this.#settledAt = world.monotonic() + settleMs;
    this.#judge = new Judge({
      world,
      log,
      status: this.#status,
      addressOf: (nodeId) => this.#state.table("node").get(nodeId)?.Status?.Addr ?? "",
      probe: options.probe ?? answers,
      // Its connection is a dead one; should it still be there, it comes back with a new one.
      lost: (nodeId) => this.#sessions.get(nodeId)?.outgoing.end(),
    });
    this.#flushAlarm = new Alarm(world, signal, () => this.#flushNetworks());
    this.#holdAlarm = new Alarm(world, signal, () => this.#expireHolds());
    this.logs = new LogBroker({
      state: () => this.#state,
      send: (nodeId, message) => this.#sendTo(nodeId, message),
    });
  }

  get handlers(): Handlers<"Dispatch"> {
    return {
      Session: (requests, caller) => this.#serve(requests, caller),
      PublishLogs: async (messages, caller) => {
        await this.logs.publish(this.#admit(caller).ID, messages);
        return {};
      },
    };
  }

  /** Until the signal aborts, or the store fails. */
  async run(): Promise<void> {
    const { signal } = this.#options;
    await Promise.all([this.#follow(signal), this.#status.run(signal), this.#judge.run(signal)]);
  }

  // ---------------------------------------------------------------- from the store

  async #follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        for await (const step of this.#options.store.watch(signal)) this.#take(step);
      } catch (error) {
        if (!(error instanceof SwarmError) || error.code !== "exhausted") throw error;
        this.#options.log.warn({}, "fell behind the store; all sessions start over");
        for (const session of this.#sessions.values()) session.outgoing.end();
        this.#feeds.clear();
        this.#dirty.clear();
      }
    }
  }

  #take(step: Step): void {
    this.#state = step.state;
    if (step.changes.length === 0) this.#begin(step.state);
    const nodes = new Set<string>();
    for (const change of step.changes) this.#route(change, nodes);
    for (const nodeId of nodes) this.#sessions.get(nodeId)?.update(this.#surroundings());
    if (this.#dirty.size > 0) this.#flushSoon();
    this.#holdAlarm.set(this.#holds.expiresAt());
  }

  #begin(state: State): void {
    const now = this.#options.world.monotonic();
    this.#judge.begin(state);
    for (const task of state.table("task").values()) if (isInUse(task)) this.#hold(task, now);
  }

  #route(change: Applied, nodes: Set<string>): void {
    switch (change.kind) {
      case "task":
        this.#routeTask(change.before, change.after, nodes);
        return;
      case "service":
        for (const service of [change.before, change.after])
          for (const networkId of [
            ...(service?.Endpoint?.VirtualIPs ?? []).map((vip) => vip.NetworkID),
            ...(service?.Spec?.TaskTemplate?.Networks ?? []).map((network) => network.Target),
          ])
            this.#dirtyOf(networkId).services.add(change.id);
        return;
      case "network":
        for (const session of this.#sessions.values())
          if (session.hasNetwork(change.id) || change.after?.Spec?.Ingress === true)
            nodes.add(session.nodeId);
        return;
      case "node":
        this.#routeNode(change.id, change.before, change.after);
        return;
      case "cluster":
        this.#judge.begin(this.#state);
        if (change.before?.Spec !== change.after?.Spec) this.#sendInfo();
        return;
      default:
        return;
    }
  }

  #routeTask(before: Task | undefined, after: Task | undefined, nodes: Set<string>): void {
    for (const task of [before, after]) {
      if (task === undefined) continue;
      if (task.NodeID !== "") nodes.add(task.NodeID);
      for (const attachment of task.NetworksAttachments)
        this.#dirtyOf(attachment.Network?.ID ?? "").tasks.add(task.ID);
    }
    if (after === undefined) {
      if (before !== undefined) this.#holds.release(before.ID);
      return;
    }
    if (!isInUse(after)) this.#holds.release(after.ID);
    else if (before === undefined || !isInUse(before))
      this.#hold(after, this.#options.world.monotonic());
    this.logs.taskChanged(after);
  }

  #hold(task: Task, now: number): void {
    this.#holds.hold(task.ID, now);
    for (const attachment of task.NetworksAttachments)
      this.#dirtyOf(attachment.Network?.ID ?? "").tasks.add(task.ID);
  }

  #routeNode(id: string, before: Node | undefined, after: Node | undefined): void {
    if (after === undefined) {
      this.#judge.forget(id);
      this.#sessions
        .get(id)
        ?.outgoing.fail(new SwarmError("not_found", `node ${id} was removed from the swarm`));
      this.#sessions.delete(id);
      for (const session of this.#sessions.values()) session.sendDelta([], [keyOf("peer", id)]);
      return;
    }
    if (before === undefined) this.#judge.expect(after);
    if (before === undefined || !isSamePeer(before, after))
      for (const session of this.#sessions.values())
        if (session.nodeId !== id)
          session.sendDelta([{ Key: keyOf("peer", id), Peer: peerOf(after) }], []);
    if (before?.ManagerStatus?.Addr !== after.ManagerStatus?.Addr) this.#sendInfo();
    else if (before?.Spec !== after.Spec) this.#sendTo(id, { Info: infoOf(this.#state, after) });
  }

  #sendInfo(): void {
    for (const session of this.#sessions.values()) {
      const node = this.#state.table("node").get(session.nodeId);
      if (node !== undefined) session.send({ Info: infoOf(this.#state, node) });
    }
  }

  // ---------------------------------------------------------------- names and addresses

  #dirtyOf(networkId: string): { readonly tasks: Set<string>; readonly services: Set<string> } {
    let dirty = this.#dirty.get(networkId);
    if (dirty === undefined) {
      dirty = { tasks: new Set(), services: new Set() };
      this.#dirty.set(networkId, dirty);
    }
    return dirty;
  }

  #flushSoon(): void {
    const at = this.#flushedAt + coalesceMs;
    if (at <= this.#options.world.monotonic()) this.#flushNetworks();
    else this.#flushAlarm.set(at);
  }

  #flushNetworks(): void {
    this.#flushedAt = this.#options.world.monotonic();
    const deltas = new Map<string, ReturnType<Feed["refresh"]>>();
    for (const [networkId, { tasks, services }] of this.#dirty) {
      const delta = this.#feeds.get(networkId)?.refresh(this.#state, tasks, services);
      if (delta !== undefined) deltas.set(networkId, delta);
    }
    this.#dirty.clear();
    for (const session of this.#sessions.values()) {
      const mine = [...deltas].filter(([networkId]) => session.hasNetwork(networkId));
      session.sendDelta(
        mine.flatMap(([, delta]) => delta.set),
        mine.flatMap(([, delta]) => delta.remove),
      );
    }
    this.#afterWithdrawal();
    this.#dropUnusedFeeds();
  }

  /** What was draining is out with every session's current version. */
  #afterWithdrawal(): void {
    if (this.#options.world.monotonic() < this.#settledAt) return;
    for (const taskId of this.#holds.unsent()) {
      const networks = (this.#state.table("task").get(taskId)?.NetworksAttachments ?? []).map(
        (attachment) => attachment.Network?.ID ?? "",
      );
      const versions = new Map<string, number>();
      for (const session of this.#sessions.values())
        if (networks.some((networkId) => session.hasNetwork(networkId)))
          versions.set(session.id, session.version);
      this.#free(this.#holds.sent(taskId, versions));
    }
  }

  #expireHolds(): void {
    const late = this.#holds.expire(this.#options.world.monotonic());
    if (late.length > 0)
      this.#options.log.warn({ tasks: late }, "not every node withdrew the task in time");
    this.#free(late);
    this.#holdAlarm.set(this.#holds.expiresAt());
  }

  #free(taskIds: readonly string[]): void {
    const nodes = new Set(taskIds.map((id) => this.#state.table("task").get(id)?.NodeID ?? ""));
    for (const nodeId of nodes) this.#sessions.get(nodeId)?.update(this.#surroundings());
  }

  #feedOf(networkId: string): Feed {
    let feed = this.#feeds.get(networkId);
    if (feed === undefined) {
      feed = new Feed(networkId, this.#state);
      this.#feeds.set(networkId, feed);
    }
    return feed;
  }

  #dropUnusedFeeds(): void {
    const used = new Set(
      [...this.#sessions.values()].flatMap((session) => [...session.networks()]),
    );
    for (const networkId of this.#feeds.keys())
      if (!used.has(networkId)) this.#feeds.delete(networkId);
  }

  #surroundings(): Surroundings {
    return {
      state: this.#state,
      isHeld: (taskId) => this.#holds.has(taskId),
      feedOf: (networkId) => this.#feedOf(networkId),
    };
  }

  // ---------------------------------------------------------------- sessions

  #admit(caller: Caller): Node {
    const certified = caller.certificate === null ? null : certifiedNode(caller.certificate);
    if (certified === null)
      throw new SwarmError("unauthenticated", "a node's certificate is needed here");
    const node = this.#state.table("node").get(certified.nodeId);
    if (node === undefined || certified.clusterId !== this.#state.cluster?.ID)
      throw new SwarmError(
        "not_found",
        `node ${certified.nodeId} is not part of this swarm (any more)`,
      );
    return node;
  }

  async *#serve(
    requests: AsyncIterable<FromAgent>,
    caller: Caller,
  ): AsyncGenerator<ToAgent, void, void> {
    const node = this.#admit(caller);
    const messages = requests[Symbol.asyncIterator]();
    const first = await messages.next();
    if (first.done === true) return;
    if (first.value.Hello === undefined)
      throw new SwarmError("invalid", "a session begins with Hello");
    const ends = AbortSignal.any([caller.signal, this.#options.signal]);
    const session = new NodeSession(node.ID, ends);
    this.#open(session, node, first.value.Hello, hostOf(caller.address));
    void this.#read(messages, session);
    try {
      yield* session.outgoing;
    } finally {
      this.#close(session);
    }
  }

  #open(session: NodeSession, node: Node, hello: Hello, address: string): void {
    const { log } = this.#options;
    this.#sessions.get(node.ID)?.outgoing.end();
    this.#sessions.set(node.ID, session);
    this.#judge.heard(node.ID);
    this.#status.node(node.ID, {
      State: "ready",
      ...(isLoopback(address) ? {} : { Addr: address }),
      ...(hello.Description === undefined ? {} : { Description: hello.Description }),
      DataPathAddr: hello.DataPathAddr,
      Routes: hello.Routes,
    });
    session.begin(this.#surroundings(), infoOf(this.#state, node));
    this.#report(session, hello.Tasks);
    this.logs.nodeConnected(node.ID);
    log.info({ node: node.ID, address, held: hello.Tasks.length }, "a node's session begins");
  }

  async #read(messages: AsyncIterator<FromAgent>, session: NodeSession): Promise<void> {
    try {
      for (;;) {
        const next = await messages.next();
        if (next.done === true) break;
        this.#handle(next.value, session);
      }
    } catch {
      // The stream broke; its other half ends with it.
    }
    session.outgoing.end();
  }

  #handle(message: FromAgent, session: NodeSession): void {
    if (this.#sessions.get(session.nodeId) !== session) return;
    this.#judge.heard(session.nodeId);
    if (message.Beat !== undefined) {
      session.send({ Beat: true });
      this.#hearOfPeers(session, message.Beat.UnreachablePeers);
    }
    this.#report(session, message.Tasks);
    if (message.Acknowledged !== undefined) {
      const version = session.parseVersion(message.Acknowledged.Version);
      if (version !== null) this.#free(this.#holds.acknowledged(session.id, version));
    }
    if (message.Leaving !== undefined) {
      const reason = message.Leaving.Reason;
      this.#options.log.info({ node: session.nodeId, reason }, "an agent says goodbye");
      this.#judge.leaving(session.nodeId, reason);
    }
  }

  /** Shown with the node: its data path to others is broken though its session stands. */
  #hearOfPeers(session: NodeSession, unreachable: readonly string[]): void {
    const silent = [...unreachable].sort();
    if (silent.join() === session.unreachablePeers.join()) return;
    session.unreachablePeers = silent;
    const nodes = this.#state.table("node");
    const names = silent.map((id) => nodes.get(id)?.Description?.Hostname || id);
    const port = this.#state.cluster?.DataPathPort ?? 0;
    const Message =
      names.length === 0 ? "" : `no answer over UDP port ${port} from ${names.join(", ")}`;
    this.#status.node(session.nodeId, { Message });
  }

  #report(session: NodeSession, tasks: FromAgent["Tasks"]): void {
    const unknown = [];
    for (const { ID, Status } of tasks) {
      if (this.#state.table("task").get(ID) === undefined) unknown.push(keyOf("task", ID));
      else if (Status !== undefined) this.#status.task(session.nodeId, ID, Status);
    }
    session.sendDelta([], unknown);
  }

  #close(session: NodeSession): void {
    if (this.#sessions.get(session.nodeId) === session) {
      this.#sessions.delete(session.nodeId);
      this.logs.nodeGone(session.nodeId);
      this.#options.log.info({ node: session.nodeId }, "a node's session has ended");
    }
    this.#free(this.#holds.gone(session.id));
  }

  #sendTo(nodeId: string, message: Partial<ToAgent>): boolean {
    const session = this.#sessions.get(nodeId);
    session?.send(message);
    return session !== undefined;
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

function isSamePeer(a: Node, b: Node): boolean {
  return (
    a.Index === b.Index &&
    a.DataPathAddr === b.DataPathAddr &&
    a.Description?.Hostname === b.Description?.Hostname
  );
}

function isLoopback(address: string): boolean {
  return address === "::1" || address.startsWith("127.");
}
