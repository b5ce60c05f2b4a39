// Agents' sessions with this manager: what changes in the state goes down to those whom it concerns, what they say up to the leader.

import type {
  Beat,
  FromAgent,
  Hello,
  Node,
  NodeCertificate,
  PublishLogsMessage,
  ToAgent,
} from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { isLoopback } from "../../proto/kit/ip.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import type { Encoded } from "../../proto/rpc.ts";
import type { Caller, Handlers } from "../../proto/rpc-server.ts";
import { callingNode, seenCertificate, speakingNode } from "../identity/admit.ts";
import { hostOf } from "../identity/join.ts";
import type { Applied, State, Step, Store } from "../store/types.ts";
import { infoOf, isMeasured, isSameInfo, isSameNodeInfo, keyOf } from "./assign.ts";
import { History } from "./history.ts";
import { Names } from "./names.ts";
import { Outbox } from "./outbox.ts";
import { NodeSession, type Resume, type Surroundings } from "./session.ts";
import { Turns } from "./turns.ts";
import type { Downward, Upward } from "./upward.ts";
import { missedSince } from "./versions.ts";

/** Without a leader to tell, what is served here gets older: agents are to find another manager. */
const aloneMsMax = 4_000;

export interface DispatcherOptions {
  readonly store: Store;
  readonly world: World;
  readonly log: Log;
  /** Goes up when a new cluster is forced: versions of another one say nothing here. */
  readonly epoch: number;
  /** Ends everything: the manager's. */
  readonly signal: AbortSignal;
  /** A node's logs, to whoever has asked for them. */
  readonly publishLogs: (
    nodeId: string,
    messages: AsyncIterable<PublishLogsMessage>,
    signal: AbortSignal,
  ) => Promise<void>;
}

/** Of every manager. Construct it, `run` it, give it the calls of the Dispatch service, and connect it to whoever leads. */
export class Dispatcher implements Downward {
  readonly #options: DispatcherOptions;
  readonly #history = new History();
  readonly #outbox = new Outbox(() => this.#leader);
  readonly #sessions = new Map<string, NodeSession>();
  readonly #names: Names;
  readonly #around: Surroundings;
  #leader: Upward | null = null;
  #aloneSince: number;
  #state: State;

  constructor(options: DispatcherOptions) {
    const { store, world, log, signal } = options;
    this.#options = options;
    this.#state = store.state;
    this.#aloneSince = world.monotonic();
    const turns = new Turns(world);
    this.#names = new Names({
      world,
      log,
      signal,
      state: () => this.#state,
      sessions: this.#sessions,
      turns,
      updateNodes: (nodeIds) => this.#update(nodeIds),
      withdrawn: (taskIds) => this.#leader?.withdrawn(taskIds),
    });
    const current = () => this.#state;
    const names = this.#names;
    this.#around = {
      get state() {
        return current();
      },
      isHeld: (taskId) => names.isHeld(taskId),
      feedOf: (networkId) => names.feedOf(networkId),
      peers: () => names.peers,
      toldIndex: () => names.toldIndex,
      epoch: options.epoch,
      turns,
    };
  }

  /** From here on this is who hears what the sessions say: first all there is to say, then what comes. */
  connect(leader: Upward): void {
    this.#leader = leader;
    for (const nodeId of this.#sessions.keys()) leader.opened(nodeId);
    this.#outbox.repeat(leader);
    leader.withdrawn(this.#names.withdrawn);
  }

  /** No effect when another leads already. */
  disconnect(leader: Upward): void {
    if (this.#leader !== leader) return;
    this.#leader = null;
    this.#aloneSince = this.#options.world.monotonic();
  }

  /** This manager is none any more: agents need not wait to find that out. */
  retire(): void {
    if (this.#leader !== null) return;
    this.#aloneSince = Number.NEGATIVE_INFINITY;
    this.#sendAway();
  }

  release(taskIds: readonly string[]): void {
    this.#names.release(taskIds);
  }

  send(nodeId: string, message: Partial<ToAgent>): void {
    this.#sessions.get(nodeId)?.send(message);
  }

  end(nodeId: string): void {
    this.#sessions.get(nodeId)?.outgoing.end();
  }

  get handlers(): Pick<Handlers<"Dispatch">, "Session" | "PublishLogs"> {
    return {
      Session: (requests, caller) => this.#serve(requests, caller),
      PublishLogs: async (messages, caller) => {
        const node = speakingNode(this.#state, caller);
        await this.#options.publishLogs(node.ID, messages, caller.signal);
        return {};
      },
    };
  }

  /** How many agents are in session with this manager. */
  get sessions(): number {
    return this.#sessions.size;
  }

  /** Until the signal aborts, or the store fails. */
  async run(): Promise<void> {
    const { signal } = this.#options;
    await Promise.all([this.#follow(signal), this.#watchLoneliness(signal)]);
  }

  async #watchLoneliness(signal: AbortSignal): Promise<void> {
    const { world } = this.#options;
    while (!signal.aborted) {
      await world.sleep(aloneMsMax / 4, signal).catch(() => {});
      if (this.#isAlone()) this.#sendAway();
    }
  }

  #sendAway(): void {
    const sessions = this.#sessions.size;
    if (sessions === 0) return;
    this.#options.log.warn({ sessions }, "nobody leads: agents look for another manager");
    for (const session of this.#sessions.values()) session.outgoing.fail(alone());
  }

  #isAlone(): boolean {
    const { world } = this.#options;
    return this.#leader === null && world.monotonic() - this.#aloneSince >= aloneMsMax;
  }

  // ---------------------------------------------------------------- from the store

  async #follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        for await (const step of this.#options.store.watch(signal)) this.#take(step);
      } catch (error) {
        if (!(error instanceof SwarmError) || error.code !== "exhausted") throw error;
        this.#options.log.warn({}, "fell behind the store; all sessions start over");
      }
    }
  }

  #take(step: Step): void {
    this.#state = step.state;
    this.#outbox.applied(step);
    this.#history.note(step.state.index, step.changes);
    if (step.changes.length === 0) this.#begin(step.state);
    const nodes = new Set<string>();
    for (const change of step.changes) this.#route(change, nodes);
    this.#update(nodes);
    this.#names.flushSoon();
  }

  /** What lies before this state is not known: those who have a session come back for all of it. */
  #begin(state: State): void {
    for (const session of this.#sessions.values()) session.outgoing.end();
    this.#history.begin(state.index);
    this.#names.begin();
    this.#outbox.begin(state);
  }

  #route(change: Applied, nodes: Set<string>): void {
    switch (change.kind) {
      case "task":
        for (const task of [change.before, change.after])
          if (task !== undefined && task.NodeID !== "") nodes.add(task.NodeID);
        this.#names.taskChanged(change.before, change.after);
        return;
      case "service":
        this.#names.serviceChanged(change.before, change.after);
        if (isMeasured(change.before) !== isMeasured(change.after)) this.#sendInfo();
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
        if (!isSameInfo(change.before, change.after)) this.#sendInfo();
        return;
      default:
        return;
    }
  }

  #routeNode(id: string, before: Node | undefined, after: Node | undefined): void {
    if (before === undefined || after === undefined || !isSamePeer(before, after))
      this.#names.peerChanged(id);
    if (after === undefined) {
      this.#sessions
        .get(id)
        ?.outgoing.fail(new SwarmError("denied", `node ${id} was removed from the swarm`));
      this.#sessions.delete(id);
      return;
    }
    if (before?.ManagerStatus?.Addr !== after.ManagerStatus?.Addr) this.#sendInfo();
    else if (before === undefined || !isSameNodeInfo(before, after))
      this.send(id, { Info: infoOf(this.#state, after) });
  }

  #sendInfo(): void {
    for (const session of this.#sessions.values()) {
      const node = this.#state.table("node").get(session.nodeId);
      if (node !== undefined) session.send({ Info: infoOf(this.#state, node) });
    }
  }

  /** These nodes' agents hear what has changed in their tasks and networks. */
  #update(nodeIds: Iterable<string>): void {
    for (const nodeId of nodeIds) this.#sessions.get(nodeId)?.update();
  }

  // ---------------------------------------------------------------- sessions

  async *#serve(
    requests: AsyncIterable<FromAgent>,
    caller: Caller,
  ): AsyncGenerator<ToAgent | Encoded, void, void> {
    if (this.#isAlone()) throw alone();
    const messages = requests[Symbol.asyncIterator]();
    const first = await messages.next();
    if (first.done === true) return;
    if (first.value.Hello === undefined)
      throw new SwarmError("invalid", "a session begins with Hello");
    // As it is by now: it may have been removed since it called.
    const node = callingNode(this.#state, caller);
    const ends = AbortSignal.any([caller.signal, this.#options.signal]);
    const hello = first.value.Hello;
    const resumed = this.#resumed(hello);
    const session = new NodeSession(node.ID, hello.Unpacks, this.#around, ends);
    const certificate = seenCertificate(this.#state, caller);
    this.#open(session, node, { hello, certificate }, resumed, caller.address);
    void this.#read(messages, session);
    try {
      yield* session.outgoing;
    } finally {
      this.#close(session);
    }
  }

  #open(
    session: NodeSession,
    node: Node,
    { hello, certificate }: { readonly hello: Hello; readonly certificate: NodeCertificate | null },
    resumed: Resume | null,
    peer: string,
  ): void {
    const { log } = this.#options;
    const address = hostOf(peer);
    this.#sessions.get(node.ID)?.outgoing.end();
    this.#sessions.set(node.ID, session);
    session.heardAt = this.#options.world.monotonic();
    this.#leader?.opened(node.ID);
    this.#outbox.facts(this.#state, node.ID, {
      ...(isLoopback(address) ? {} : { Addr: address }),
      ...(hello.Description === undefined ? {} : { Description: hello.Description }),
      DataPathAddr: hello.DataPathAddr,
      Routes: hello.Routes,
      ...(certificate === null ? {} : { Certificate: certificate }),
    });
    const info = () => infoOf(this.#state, this.#state.table("node").get(node.ID) ?? node);
    session.begin(info, resumed, hello.Files);
    this.#report(session, hello.Tasks);
    log.info(
      { node: node.ID, address, held: hello.Tasks.length, resumed: resumed !== null },
      "a node's session begins",
    );
  }

  #resumed({ Have, Networks }: Hello): Resume | null {
    const changed = () => {
      const missed = missedSince(Have, this.#options.epoch, this.#state.index, this.#history);
      return missed === null || missed.after < this.#names.peers.from ? null : missed;
    };
    return changed() === null ? null : { networks: new Set(Networks), changed };
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
    session.heardAt = this.#options.world.monotonic();
    this.#leader?.heard(session.nodeId);
    if (message.Beat !== undefined) {
      session.answerBeat();
      this.#hearOfTroubles(session, message.Beat);
      this.#hearOfUsage(session.nodeId, message.Beat);
    }
    this.#report(session, message.Tasks);
    if (message.Acknowledged !== undefined) {
      const version = session.parseVersion(message.Acknowledged.Version);
      if (version !== null) this.#names.acknowledged(session.id, version);
    }
    if (message.Leaving !== undefined) {
      const reason = message.Leaving.Reason;
      this.#options.log.info({ node: session.nodeId, reason }, "an agent says goodbye");
      this.#leader?.leaving(session.nodeId, reason);
    }
  }

  /** Shown with the node: its data path to others is broken though its session stands, or a port is not its to publish. */
  #hearOfTroubles(session: NodeSession, { UnreachablePeers, UnheldPorts }: Beat): void {
    const silent = [...UnreachablePeers].sort();
    const troubles = [...silent, ...UnheldPorts];
    // A session's first word counts even when all is well: an earlier session may have said otherwise.
    if (troubles.join() === session.troubles?.join()) return;
    session.troubles = troubles;
    const nodes = this.#state.table("node");
    const names = silent.map((id) => nodes.get(id)?.Description?.Hostname || id);
    const port = this.#state.cluster?.DataPathPort ?? 0;
    const noAnswer =
      names.length === 0 ? [] : [`no answer over UDP port ${port} from ${names.join(", ")}`];
    const Message = [...noAnswer, ...UnheldPorts].join("; ");
    this.#outbox.facts(this.#state, session.nodeId, { Message });
  }

  /** A node speaks for its own tasks. */
  #hearOfUsage(nodeId: string, { Usage }: Beat): void {
    const tasks = this.#state.table("task");
    const own = Usage.filter(({ ID }) => tasks.get(ID)?.NodeID === nodeId);
    if (own.length > 0) this.#leader?.usage(own);
  }

  #report(session: NodeSession, tasks: FromAgent["Tasks"]): void {
    const unknown = [];
    for (const { ID, Status } of tasks) {
      if (this.#state.table("task").get(ID) === undefined) unknown.push(keyOf("task", ID));
      else if (Status !== undefined) this.#outbox.task(this.#state, session.nodeId, ID, Status);
    }
    session.forget(unknown);
  }

  #close(session: NodeSession): void {
    if (this.#sessions.get(session.nodeId) === session) {
      this.#sessions.delete(session.nodeId);
      this.#leader?.closed(session.nodeId);
      this.#options.log.info({ node: session.nodeId }, "a node's session has ended");
    }
    this.#names.sessionGone(session.id);
  }
}

function alone(): SwarmError {
  return new SwarmError("no_leader", "this manager has no leader: try another one");
}

function isSamePeer(a: Node, b: Node): boolean {
  return (
    a.Index === b.Index &&
    a.DataPathAddr === b.DataPathAddr &&
    a.Description?.Hostname === b.Description?.Hostname
  );
}
