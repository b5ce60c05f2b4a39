// Agents' sessions: what changes in the state goes down to those whom it concerns, what they report goes into the store.

import type { FromAgent, Hello, Node, ToAgent } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import type { Caller, Encoded, Handlers } from "../../proto/rpc.ts";
import { certifiedNode } from "../../proto/tls.ts";
import { hostOf } from "../identity/join.ts";
import type { Applied, State, Step, Store } from "../store/types.ts";
import { infoOf, keyOf, peerOf } from "./assign.ts";
import { Judge } from "./judge.ts";
import { LogBroker } from "./logs.ts";
import { Names } from "./names.ts";
import { answers } from "./probe.ts";
import { NodeSession, type Surroundings } from "./session.ts";
import { StatusWriter } from "./status.ts";

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
  readonly #sessions = new Map<string, NodeSession>();
  readonly #names: Names;
  #state: State;

  constructor(options: DispatcherOptions) {
    const { store, world, log, signal } = options;
    this.#options = options;
    this.#state = store.state;
    this.#status = new StatusWriter(store, world, log);
    this.#judge = new Judge({
      world,
      log,
      status: this.#status,
      addressOf: (nodeId) => this.#state.table("node").get(nodeId)?.Status?.Addr ?? "",
      probe: options.probe ?? answers,
      // Its connection is a dead one; should it still be there, it comes back with a new one.
      lost: (nodeId) => this.#sessions.get(nodeId)?.outgoing.end(),
    });
    this.#names = new Names({
      world,
      log,
      signal,
      state: () => this.#state,
      sessions: () => this.#sessions.values(),
      updateNodes: (nodeIds) => this.#update(nodeIds),
    });
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
      }
    }
  }

  #take(step: Step): void {
    this.#state = step.state;
    if (step.changes.length === 0) this.#begin(step.state);
    const nodes = new Set<string>();
    for (const change of step.changes) this.#route(change, nodes);
    this.#update(nodes);
    this.#names.flushSoon();
  }

  /** What lies before this state is not known: those who have a session come back for all of it. */
  #begin(state: State): void {
    for (const session of this.#sessions.values()) session.outgoing.end();
    this.#names.begin();
    this.#judge.begin(state);
  }

  #route(change: Applied, nodes: Set<string>): void {
    switch (change.kind) {
      case "task":
        for (const task of [change.before, change.after])
          if (task !== undefined && task.NodeID !== "") nodes.add(task.NodeID);
        this.#names.taskChanged(change.before, change.after);
        if (change.after !== undefined) this.logs.taskChanged(change.after);
        return;
      case "service":
        this.#names.serviceChanged(change.before, change.after);
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

  /** These nodes' agents hear what has changed in their tasks and networks. */
  #update(nodeIds: Iterable<string>): void {
    for (const nodeId of nodeIds) this.#sessions.get(nodeId)?.update(this.#surroundings());
  }

  #surroundings(): Surroundings {
    return {
      state: this.#state,
      isHeld: (taskId) => this.#names.isHeld(taskId),
      feedOf: (networkId) => this.#names.feedOf(networkId),
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
  ): AsyncGenerator<ToAgent | Encoded, void, void> {
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
      session.answerBeat();
      this.#hearOfPeers(session, message.Beat.UnreachablePeers);
    }
    this.#report(session, message.Tasks);
    if (message.Acknowledged !== undefined) {
      const version = session.parseVersion(message.Acknowledged.Version);
      if (version !== null) this.#names.acknowledged(session.id, version);
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
    // A session's first word counts even when all answer: an earlier session may have said otherwise.
    if (silent.join() === session.unreachablePeers?.join()) return;
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
    this.#names.sessionGone(session.id);
  }

  #sendTo(nodeId: string, message: Partial<ToAgent>): boolean {
    const session = this.#sessions.get(nodeId);
    session?.send(message);
    return session !== undefined;
  }
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
