// Raft's messages between managers over mutual TLS: the Transport that openRaft is given, who is let in, and the Raft service.

import type { TLSSocket } from "node:tls";
import { codec } from "../../proto/codec.ts";
import type { RaftHello, RaftSnapshotPart } from "../../proto/gen/types.ts";
import { asSwarmError, messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { Client } from "../../proto/rpc-client.ts";
import type { Caller, Handlers } from "../../proto/rpc-server.ts";
import { certifiedNode, toManager } from "../../proto/tls.ts";
import type { InstallSnapshot, Message, Receiver, Transport } from "../raft/types.ts";
import { Lane, type LaneEvents } from "./lane.ts";
import { Line } from "./line.ts";
import { type PeerLimits, type PeersOptions, peerChannel, peerLimits } from "./options.ts";
import { partsOf, piecesOf } from "./snapshot.ts";
import { fromWire, toWire } from "./wire.ts";

interface Peer {
  /** What must not wait: heartbeats, votes, replies. */
  readonly urgent: Lane;
  /** Entries. */
  readonly bulk: Lane;
}

export class Peers implements Transport {
  readonly #options: PeersOptions;
  readonly #limits: PeerLimits;
  readonly #peers = new Map<string, Peer>();
  /** What managers that called said of their addresses. */
  readonly #called = new Map<string, string>();
  #members: ReadonlySet<string> = new Set();
  #receiver: Receiver | null = null;
  #snapshots = 0;
  #isClosed = false;

  constructor(options: PeersOptions) {
    this.#options = options;
    this.#limits = { ...peerLimits, ...options.limits };
  }

  // ── as Raft sees it ──────────────────────────────────────────────────────────────────────────────────────────────

  start(receiver: Receiver): void {
    this.#receiver = receiver;
  }

  members(ids: readonly string[]): void {
    const now = new Set(ids);
    for (const id of this.#members) if (!now.has(id)) void this.#forget(id);
    this.#members = now;
    for (const id of now) this.#peer(id);
  }

  send(to: string, messages: readonly Message[]): void {
    const peer = this.#peer(to);
    if (peer === null) {
      this.#receiver?.undelivered(to);
      return;
    }
    const isBulk = (message: Message) => message.kind === "AppendEntries";
    const bulk = messages.filter(isBulk);
    const urgent = bulk.length === 0 ? messages : messages.filter((message) => !isBulk(message));
    if (urgent.length > 0) peer.urgent.send(urgent);
    if (bulk.length > 0) peer.bulk.send(bulk);
  }

  async sendSnapshot(
    message: InstallSnapshot,
    pieces: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<void> {
    const { to } = message;
    const address = this.#addressOf(to);
    if (address === null)
      throw new SwarmError("unavailable", `the address of manager ${to} is not known`);
    if (this.#snapshots >= this.#limits.snapshotsMax)
      throw new SwarmError("exhausted", "other snapshots are being sent");
    this.#snapshots += 1;
    const { identity, clusterId } = this.#options;
    const client = new Client("Raft", address, toManager(identity(), clusterId), peerChannel);
    const stalled = new AbortController();
    const watchdog = this.#watchdog(stalled);
    try {
      const start = { Hello: this.#hello(to), Install: toWire(message) };
      const parts = partsOf(start, pieces, watchdog.moved);
      await client.upload("Snapshot", parts, {
        signal: AbortSignal.any([signal, stalled.signal]),
      });
    } finally {
      watchdog.stop();
      this.#snapshots -= 1;
      client.close();
    }
  }

  /** There are other credentials: the connections are made anew. */
  renew(): void {
    for (const { urgent, bulk } of this.#peers.values()) {
      urgent.renew();
      bulk.renew();
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#peers.keys()].map((id) => this.#forget(id)));
  }

  // ── as the network sees it ───────────────────────────────────────────────────────────────────────────────────────

  /** To be served on the cluster port. */
  get handlers(): Handlers<"Raft"> {
    return {
      Snapshot: async (parts, caller) => {
        const iterator = parts[Symbol.asyncIterator]();
        const first = await iterator.next();
        const start: RaftSnapshotPart = first.done === true ? {} : first.value;
        const hello = this.#admit(start.Hello, caller);
        const message = start.Install === undefined ? null : this.#message(start.Install, hello);
        if (message?.kind !== "InstallSnapshot")
          throw new SwarmError("invalid", "a snapshot begins with InstallSnapshot");
        await this.#open().receiveSnapshot(message, piecesOf(iterator), caller.signal);
        return {};
      },
    };
  }

  /** Takes the messages of a connection, when `admitted` says that whoever calls may send any. */
  async takeLane(
    socket: TLSSocket,
    caller: Caller,
    admitted: () => Promise<void> | undefined,
  ): Promise<void> {
    const refused = await Promise.resolve()
      .then(admitted)
      .then(
        () => null,
        (error: unknown) => error,
      );
    let hello: RaftHello | null = null;
    const line = new Line(socket, this.#limits.frameBytesMax, {
      frame: (bytes) => {
        if (refused !== null) throw refused;
        if (bytes.length === 0) line.giveSign();
        else hello = this.#read(bytes, hello, caller);
      },
      broken: (error) => {
        const { code: Code, message: Message } = asSwarmError(error);
        line.send(codec("RaftRefusal").encode({ Code, Message }));
        line.finish();
      },
    });
    line.expectWithin(this.#limits.silenceMsMax);
  }

  /** Steps what has come in; says who it is from. */
  #read(bytes: Buffer, known: RaftHello | null, caller: Caller): RaftHello {
    const { Hello, Messages } = codec("RaftMessages").decode(bytes);
    const hello = known ?? this.#admit(Hello, caller);
    this.#refuseRemoved(hello.From);
    const receiver = this.#open();
    for (const wire of Messages) receiver.step(this.#message(wire, hello));
    return hello;
  }

  #message(wire: Parameters<typeof fromWire>[0], hello: RaftHello): Message {
    return fromWire(wire, hello.From, this.#options.id);
  }

  #open(): Receiver {
    if (this.#receiver === null || this.#isClosed)
      throw new SwarmError("unavailable", "this manager is starting or stopping");
    return this.#receiver;
  }

  /** Checks once per stream who it is from and whom it is for. */
  #admit(hello: RaftHello | undefined, caller: Caller): RaftHello {
    if (hello === undefined)
      throw new SwarmError("invalid", "a stream of Raft messages begins with a Hello");
    const { id, clusterId, epoch } = this.#options;
    const named = caller.certificate === null ? null : certifiedNode(caller.certificate);
    if (named?.role !== "manager" || named.clusterId !== clusterId)
      throw new SwarmError("denied", "only managers of this cluster may do that");
    if (named.nodeId !== hello.From)
      throw new SwarmError("denied", `node ${named.nodeId} can not speak for ${hello.From}`);
    if (hello.ClusterID === clusterId && hello.Epoch < epoch)
      throw new SwarmError(
        "conflict",
        `a new cluster was forced from another manager (epoch ${epoch}, not ${hello.Epoch}): this one is no part of it`,
      );
    if (hello.ClusterID !== clusterId || hello.Epoch !== epoch)
      throw new SwarmError(
        "precondition",
        `this is cluster ${clusterId}, epoch ${epoch}, not ${hello.ClusterID}, epoch ${hello.Epoch}: remove that manager's state and join it again`,
      );
    if (hello.To !== id)
      throw new SwarmError("precondition", `this is manager ${id}, not ${hello.To}`);
    this.#refuseRemoved(hello.From);
    if (this.#called.size < this.#limits.peersMax && hello.Address !== "")
      this.#called.set(hello.From, hello.Address);
    const peer = this.#peers.get(hello.From);
    peer?.urgent.poke();
    peer?.bulk.poke();
    return hello;
  }

  #refuseRemoved(from: string): void {
    if (this.#options.isRemoved(from))
      throw new SwarmError("not_manager", `node ${from} was removed from the managers`);
  }

  #hello(to: string): RaftHello {
    const { id, clusterId, epoch, address } = this.#options;
    return { ClusterID: clusterId, Epoch: epoch, From: id, To: to, Address: address };
  }

  #addressOf(id: string): string | null {
    return this.#options.addressOf(id) ?? this.#called.get(id) ?? null;
  }

  // ── peers ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Null when there can be no more, or after the end. Also those who are no members (yet) are answered. */
  #peer(id: string): Peer | null {
    const known = this.#peers.get(id);
    if (known !== undefined) return known;
    if (this.#isClosed || id === this.#options.id || this.#peers.size >= this.#limits.peersMax)
      return null;
    const options = { ...this.#options, addressOf: (to: string) => this.#addressOf(to) };
    const hello = this.#hello(id);
    const peer: Peer = {
      urgent: new Lane(options, this.#limits, hello, this.#events(id, "urgent")),
      bulk: new Lane(options, this.#limits, hello, this.#events(id, "bulk")),
    };
    this.#peers.set(id, peer);
    return peer;
  }

  #events(id: string, lane: string): LaneEvents {
    const { log } = this.#options;
    return {
      undelivered: () => this.#receiver?.undelivered(id),
      disconnected: () => {
        if (this.#isClosed) return;
        log.info({ peer: id, lane }, "the connection to a manager broke");
        this.#receiver?.disconnected(id);
      },
      refused: (error) => {
        log.warn({ peer: id, lane, error: messageOf(error) }, "a manager refused our messages");
        this.#receiver?.undelivered(id);
        if (error.code === "not_manager") this.#options.onRemoved(error);
        if (error.code === "conflict") this.#options.onSuperseded(error);
      },
    };
  }

  async #forget(id: string): Promise<void> {
    const peer = this.#peers.get(id);
    this.#peers.delete(id);
    await Promise.all([peer?.urgent.close(), peer?.bulk.close()]);
  }

  /** Aborts when `moved` was not called for too long. */
  #watchdog(stalled: AbortController): { readonly moved: () => void; readonly stop: () => void } {
    const { world } = this.#options;
    const { snapshotStallMs } = this.#limits;
    let last = world.monotonic();
    const watch = async (): Promise<void> => {
      while (world.monotonic() - last <= snapshotStallMs)
        await world.sleep(snapshotStallMs / 4, stalled.signal);
      stalled.abort(new SwarmError("unavailable", "the snapshot is not taken"));
    };
    void watch().catch(() => {});
    return {
      moved: () => {
        last = world.monotonic();
      },
      stop: () => stalled.abort(),
    };
  }
}
