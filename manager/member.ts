// This machine as a manager of a cluster: its log, its store, its port, and what it does while it leads.

import { setMaxListeners } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import grpc from "@grpc/grpc-js";
import { z } from "zod";
import type { PublishLogsMessage } from "../proto/gen/types.ts";
import { type NodeIdentity, readOrNull, writePrivately } from "../proto/identity.ts";
import { messageOf, SwarmError } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import { channelOptions } from "../proto/rpc.ts";
import type { Caller } from "../proto/rpc-server.ts";
import { certifiedNode, leafOf } from "../proto/tls.ts";
import { announce } from "./announce.ts";
import { Events } from "./control/events.ts";
import { Dispatcher } from "./dispatch/dispatcher.ts";
import type { FormerLeader } from "./dispatch/judge.ts";
import type { Lead } from "./dispatch/lead.ts";
import { type Doors, openDoors } from "./doors.ts";
import { Forward } from "./forward.ts";
import { roleOf } from "./identity/admit.ts";
import { certify } from "./identity/issue.ts";
import { clusterOf, hostOf } from "./identity/join.ts";
import { Leadership } from "./leader.ts";
import { linkToLeader } from "./leader-link.ts";
import { followLock, type Locks, readyKeys, settleKeys } from "./lock.ts";
import { type ManagerMeter, type MemberView, measured } from "./meter.ts";
import { OwnIdentity } from "./own-identity.ts";
import { Peers } from "./peers/peers.ts";
import { plan } from "./plan/plan.ts";
import { ClusterPort } from "./port.ts";
import { openRaft } from "./raft/open.ts";
import type { Configuration, Raft } from "./raft/types.ts";
import { openStore } from "./store/store.ts";
import type { Store } from "./store/types.ts";

const memberFile = z.object({
  clusterId: z.string().min(1),
  nodeId: z.string().min(1),
  /** ip:port, where the cluster port is opened. */
  listenAddr: z.string().min(1),
  /** ip:port, where others reach it. */
  advertiseAddr: z.string().min(1),
  /** Goes up when a new cluster is forced from this survivor. */
  epoch: z.int().min(1).default(1),
});
export type MemberSettings = z.infer<typeof memberFile>;

const handOverMsMax = 1_000;
const recertifyMsMax = 15_000;
const nodeAddressesMs = 1_000;
const readRetryMs = 200;
const manyNodes = 500;
/** After longer without a leader nobody has watched the nodes. */
const formerMsMax = 10_000;

/** Connections of hosts that vanished are found and closed; none has more calls at a time than anyone needs. */
const connectionOptions: grpc.ServerOptions = {
  "grpc.max_concurrent_streams": 1_024,
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 20_000,
};

export function memberFolder(dataRoot: string): string {
  return join(dataRoot, "manager");
}

/** Each epoch's log has its own: writing the settings is what goes from one to the next. */
export function raftFolder(dataRoot: string, epoch: number): string {
  return join(memberFolder(dataRoot), epoch === 1 ? "raft" : `raft-${epoch}`);
}

/** Null when this machine manages no cluster. */
export async function readMember(dataRoot: string): Promise<MemberSettings | null> {
  const text = await readOrNull(join(memberFolder(dataRoot), "manager.json"));
  return text === null ? null : memberFile.parse(JSON.parse(text));
}

export async function writeMember(dataRoot: string, settings: MemberSettings): Promise<void> {
  const path = join(memberFolder(dataRoot), "manager.json");
  await writePrivately(path, `${JSON.stringify(settings, null, 2)}\n`);
}

export interface MemberOptions {
  readonly dataRoot: string;
  readonly settings: MemberSettings;
  readonly identity: NodeIdentity;
  readonly certExpiryNsMin: number;
  readonly locks: Locks;
  /** Begin the cluster's log here. */
  readonly bootstrap: boolean;
  /** Is told what happens; absent: nobody is. */
  readonly meter?: ManagerMeter | undefined;
  readonly world: World;
  readonly log: Log;
}

interface Parts {
  readonly raft: Raft;
  readonly store: Store;
  readonly server: grpc.Server;
  readonly stop: AbortController;
  readonly addresses: Addresses;
  readonly identity: OwnIdentity;
  readonly port: ClusterPort;
  readonly peers: Peers;
  readonly events: Events;
  /** Rejects when no events can be noted any more. */
  readonly noting: Promise<void>;
}

export class Member {
  readonly settings: MemberSettings;
  readonly store: Store;
  readonly raft: Raft;
  /** Rejects when this manager can not go on: the process must end. */
  readonly failed: Promise<never>;
  readonly doors: Doors;
  readonly #options: MemberOptions;
  readonly #parts: Parts;
  readonly #forward: Forward;
  readonly #running: Promise<void>;
  readonly #dispatcher: Dispatcher;
  #servesSessions = false;
  #leadership: Leadership | null = null;
  #formerLeader: FormerLeader | null = null;
  #fail: (error: unknown) => void = () => {};

  /** Rejects with `unavailable` when the port is taken, or with what is wrong with the log. */
  static async open(options: MemberOptions): Promise<Member> {
    const stop = new AbortController();
    // Whatever waits in this manager, waits no longer than it.
    setMaxListeners(0, stop.signal);
    const { settings, world, log } = options;
    const identity = new OwnIdentity(options.identity);
    let raft: Raft | null = null;
    const { store, machine } = openStore({
      propose: async (data, signal) => {
        if (raft === null) throw new SwarmError("no_leader", "this manager is starting");
        const startedAt = world.monotonic();
        const applied = await raft.propose(data, signal);
        options.meter?.committed(data.length, (world.monotonic() - startedAt) / 1_000);
        return applied;
      },
      now: () => world.now(),
      signal: stop.signal,
    });
    // From the start: a restart's log tells what was told before.
    const events = new Events(store, world);
    const noting = events.run(stop.signal);
    noting.catch(() => {});
    const server = new grpc.Server({ ...channelOptions, ...connectionOptions });
    const addresses = new Addresses(store);
    let member: Member | null = null;
    const nodes = new NodeAddresses(store, world);
    const isKnown = (host: string) => nodes.has(host);
    const port = new ClusterPort({ identity: identity.current, isKnown, world, log });
    identity.watch(stop.signal, () => port.renew(identity.current));
    const peers = openPeers({ ...options, identity }, addresses, () => raft, {
      superseded: (error) => member?.supersede(error),
      removed: () => member?.retire(),
    });
    identity.watch(stop.signal, () => peers.renew());
    try {
      const directory = raftFolder(options.dataRoot, settings.epoch);
      const keys = await readyKeys(options.locks, options.identity, existsSync(directory));
      raft = await openRaft({
        directory,
        keys,
        id: settings.nodeId,
        clusterId: settings.clusterId,
        epoch: settings.epoch,
        bootstrap: options.bootstrap,
        world,
        log: log.child({ room: "raft" }),
        stateMachine: machine,
        transport: peers,
        written: (seconds) => options.meter?.logWritten(seconds),
      });
      await settleKeys(options.locks, raft.keysUsed);
      const parts = { raft, store, server, stop, addresses, identity, port, peers, events, noting };
      member = new Member(options, parts);
      await port.listen(server, settings.listenAddr, member.doors.takeLane);
      member.#followRole();
      return member;
    } catch (error) {
      stop.abort(error);
      port.close();
      server.forceShutdown();
      await raft?.close();
      throw error;
    }
  }

  private constructor(options: MemberOptions, parts: Parts) {
    const { raft, store, server, stop, addresses, identity, port, peers, events, noting } = parts;
    this.#options = options;
    this.#parts = parts;
    this.settings = options.settings;
    this.raft = raft;
    this.store = store;
    this.failed = new Promise((_resolve, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {});
    raft.failed.catch((error: unknown) => this.#fail(error));
    const { world, log, certExpiryNsMin } = options;
    const { nodeId, clusterId, advertiseAddr, epoch } = options.settings;
    this.#forward = new Forward({
      raft,
      nodeId,
      identity,
      clusterId,
      addressOf: (id) => addresses.of(id),
      world,
      signal: stop.signal,
    });
    this.#dispatcher = new Dispatcher({
      store,
      world,
      log,
      epoch,
      signal: stop.signal,
      publishLogs: (node, messages, ends) => this.#publishLogs(node, messages, ends),
    });
    this.doors = openDoors(server, {
      raft,
      store,
      world,
      log,
      forward: this.#forward,
      events,
      peers,
      connections: port,
      own: () => identity.current,
      certExpiryNsMin,
      advertiseAddr,
      epoch,
      signal: stop.signal,
      dispatcher: () => this.#theDispatcher(),
      lead: () => this.#theLead(),
    });
    const work = [
      this.#serveSessions(stop.signal),
      this.doors.door.run(stop.signal),
      noting,
      this.#followLock(stop.signal),
    ];
    this.#running = Promise.all(work).then(
      () => {},
      (error: unknown) => {
        if (!stop.signal.aborted) this.#fail(error);
      },
    );
  }

  view(): MemberView {
    const { sessions } = this.#dispatcher;
    return { status: this.raft.status(), state: this.store.state, sessions };
  }

  /** Resolves when the cluster knows this manager and its address; rejects when it refuses it for good. */
  announce(): Promise<void> {
    const { world, log } = this.#options;
    const { raft, store, addresses, stop, identity } = this.#parts;
    const learned = (told: ReadonlyMap<string, string>) => addresses.learn(told);
    const { managers } = identity.current;
    return announce(
      { raft, store, world, log, ...this.settings, identity, managers, learned },
      stop.signal,
    );
  }

  /** What is decided here counts no more: agents find the new cluster's manager sooner when this one does not answer. */
  supersede(error: SwarmError): void {
    this.#fail(error);
  }

  /** Agents look for another manager, from whom the one beside us hears what becomes of this one. */
  retire(): void {
    this.#dispatcher.retire();
  }

  /** So many nodes, with what runs on them, are hundreds of megabytes. */
  get knowsMuch(): boolean {
    return this.store.state.table("node").size >= manyNodes;
  }

  /** New connections show this certificate, and those to other managers are made anew by and by. */
  renewed(identity: NodeIdentity): void {
    this.#parts.identity.renew(identity);
  }

  /**
   * This node's next certificate, from the CA key in this manager's own store. Only when the one it has is over: else any manager
   * gives it one.
   */
  async recertify(csr: string): Promise<string> {
    const { world } = this.#options;
    const { identity, store } = this.#parts;
    const certificate = certifiedNode(leafOf(identity.current.certificate));
    const node = store.state.table("node").get(this.settings.nodeId);
    const isOver = certificate !== null && certificate.ends <= world.now();
    if (!isOver || node === undefined || roleOf(node) !== "manager")
      throw new SwarmError("precondition", "only a manager whose certificate is over does that");
    const subject = { nodeId: node.ID, role: "manager" } as const;
    const options = { world, own: () => identity.current };
    const ends = AbortSignal.timeout(recertifyMsMax);
    return certify(options, clusterOf(store.state), csr, subject, ends);
  }

  /** Resolves when the other managers go on without this one. */
  async withdraw(caller: Caller): Promise<void> {
    // Only another one can take this one out of Raft.
    if (this.raft.status().role === "leader")
      await this.raft.transfer(null, AbortSignal.timeout(handOverMsMax));
    await this.doors.withdraw({}, caller);
  }

  /** Others take over first where this manager leads. */
  async close(): Promise<void> {
    const { raft, stop, server, port } = this.#parts;
    const { role, configuration } = raft.status();
    if (role === "leader" && configuration.voters.length > 1)
      await raft.transfer(null, AbortSignal.timeout(handOverMsMax)).catch(() => {});
    stop.abort(new SwarmError("cancelled", "this manager is stopping"));
    port.close();
    server.forceShutdown();
    await this.#leadership?.close();
    await this.#running;
    await raft.close();
  }

  /** Not by what the log says of earlier times: a key that was rotated away since would lock out whoever has the new one. */
  async #followLock(signal: AbortSignal): Promise<void> {
    const { locks, log } = this.#options;
    const { store, raft } = this.#parts;
    if (await this.#untilRead(signal)) await followLock({ store, raft, locks, log }, signal);
  }

  /** Resolves when all that was committed before is known here; with false when the signal aborts before. */
  async #untilRead(signal: AbortSignal): Promise<boolean> {
    while (!(await hasRead(this.#parts.raft, signal))) {
      if (signal.aborted) return false;
      await this.#options.world.sleep(readRetryMs, signal).catch(() => {});
    }
    return true;
  }

  /** Agents are served once all that was committed before is known here: what they are told never goes back. */
  async #serveSessions(signal: AbortSignal): Promise<void> {
    const { world, log } = this.#options;
    const { raft, addresses, identity } = this.#parts;
    const { nodeId, clusterId } = this.settings;
    if (!(await this.#untilRead(signal))) return;
    this.#servesSessions = true;
    const dispatcher = this.#dispatcher;
    const addressOf = (id: string) => addresses.of(id);
    const lost = (leader: FormerLeader) => {
      this.#formerLeader = leader;
    };
    const link = { raft, dispatcher, nodeId, identity, clusterId, addressOf, lost, world, log };
    await Promise.all([dispatcher.run(), linkToLeader(link, signal)]);
  }

  async #publishLogs(
    nodeId: string,
    messages: AsyncIterable<PublishLogsMessage>,
    signal: AbortSignal,
  ): Promise<void> {
    const lead = this.#leadership?.lead ?? null;
    if (lead !== null) await lead.logs.publish(nodeId, messages);
    else await this.#forward.publishLogs(nodeId, messages, signal);
  }

  #followRole(): void {
    const { raft, stop } = this.#parts;
    const unwatch = raft.watchStatus(({ role }) => {
      if (stop.signal.aborted) return unwatch?.();
      const isLeader = role === "leader";
      if (isLeader === (this.#leadership !== null)) return;
      if (isLeader) this.#lead();
      else {
        void this.#leadership?.close();
        this.#leadership = null;
      }
    });
  }

  #lead(): void {
    const { meter, world, log } = this.#options;
    const { raft, store, stop } = this.#parts;
    const leadership = new Leadership(
      {
        ...{ raft, store, world, log },
        plan: meter === undefined ? plan : measured(plan, meter),
        nodeId: this.settings.nodeId,
        dispatcher: this.#dispatcher,
        formerLeader: () => this.#lastLeader(),
      },
      stop.signal,
    );
    this.#leadership = leadership;
    leadership.ended.catch((error: unknown) => {
      log.error({ error: messageOf(error) }, "a part of the leadership failed");
      this.#fail(error);
    });
  }

  #lastLeader(): FormerLeader | null {
    const former = this.#formerLeader;
    const isFresh =
      former !== null && this.#options.world.monotonic() - former.heardAt < formerMsMax;
    return isFresh ? former : null;
  }

  #theDispatcher(): Dispatcher {
    if (!this.#servesSessions)
      throw new SwarmError("no_leader", "this manager has just started: try again");
    return this.#dispatcher;
  }

  #theLead(): { readonly lead: Lead; readonly signal: AbortSignal } {
    const lead = this.#leadership?.lead ?? null;
    if (this.#leadership === null || lead === null)
      throw new SwarmError("no_leader", "this manager does not lead (yet): try again");
    return { lead, signal: this.#leadership.signal };
  }
}

async function hasRead(raft: Raft, signal: AbortSignal): Promise<boolean> {
  try {
    await raft.read(signal);
    return true;
  } catch {
    return false;
  }
}

/** Where managers are. One that has just joined has an empty store: it goes by what it was told. */
class Addresses {
  readonly #store: Store;
  #learned: ReadonlyMap<string, string> = new Map();

  constructor(store: Store) {
    this.#store = store;
  }

  learn(addresses: ReadonlyMap<string, string>): void {
    this.#learned = addresses;
  }

  of(nodeId: string): string | undefined {
    const address = this.#store.state.table("node").get(nodeId)?.ManagerStatus?.Addr ?? "";
    return address === "" ? this.#learned.get(nodeId) : address;
  }

  /** Whether it was a manager and is none any more: neither by its node object nor by what Raft has in its log. */
  isRemoved(nodeId: string, configuration: Configuration | undefined): boolean {
    const { state } = this.#store;
    if (state.cluster === undefined || configuration === undefined) return false;
    const { voters, learners, outgoing } = configuration;
    if ([...voters, ...learners, ...outgoing].includes(nodeId)) return false;
    const node = state.table("node").get(nodeId);
    // One that is not known (yet) may be a manager that came while this one was away; the door knows who was removed.
    return node !== undefined && roleOf(node) === "worker";
  }
}

/** Where the cluster's nodes are, as of some moments ago. */
class NodeAddresses {
  readonly #store: Store;
  readonly #world: World;
  #hosts: ReadonlySet<string> = new Set();
  #readAt = Number.NEGATIVE_INFINITY;

  constructor(store: Store, world: World) {
    this.#store = store;
    this.#world = world;
  }

  /** As long as nothing is known, everyone is. */
  has(host: string): boolean {
    if (this.#store.state.cluster === undefined) return true;
    const now = this.#world.monotonic();
    if (now - this.#readAt >= nodeAddressesMs) {
      this.#readAt = now;
      const nodes = [...this.#store.state.table("node").values()];
      this.#hosts = new Set(
        nodes.flatMap(({ Status, DataPathAddr, ManagerStatus }) => [
          Status?.Addr ?? "",
          DataPathAddr,
          hostOf(ManagerStatus?.Addr ?? ""),
        ]),
      );
    }
    return this.#hosts.has(host);
  }
}

function openPeers(
  options: Omit<MemberOptions, "identity"> & { readonly identity: OwnIdentity },
  addresses: Addresses,
  raft: () => Raft | null,
  told: { readonly superseded: (error: SwarmError) => void; readonly removed: () => void },
): Peers {
  const { settings, identity, world, log } = options;
  const { nodeId, clusterId, epoch } = settings;
  return new Peers({
    id: nodeId,
    clusterId,
    epoch,
    address: settings.advertiseAddr,
    addressOf: (id) => addresses.of(id) ?? null,
    identity: () => identity.current,
    isRemoved: (id) => addresses.isRemoved(id, raft()?.status().configuration),
    onRemoved: (error) => {
      log.warn({ error: error.message }, "other managers do not know this one");
      told.removed();
    },
    onSuperseded: told.superseded,
    world,
    log: log.child({ room: "peers" }),
  });
}
