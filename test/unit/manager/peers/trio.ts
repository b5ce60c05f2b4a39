// Managers' logs over the real transport: real TLS on loopback, real disks, links that can be cut.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import grpc from "@grpc/grpc-js";
import { newKeyAndCsr } from "../../../../agent/session/identity.ts";
import { createRoot, signNode } from "../../../../manager/identity/ca.ts";
import { Peers } from "../../../../manager/peers/peers.ts";
import { ClusterPort, type TakeLane } from "../../../../manager/port.ts";
import { type RaftLimits, startRaft } from "../../../../manager/raft/open.ts";
import { type Log, openStorage } from "../../../../manager/raft/storage.ts";
import type { Raft } from "../../../../manager/raft/types.ts";
import type { SwarmError } from "../../../../proto/kit/errors.ts";
import { silentLog } from "../../../../proto/kit/log.ts";
import type { DataKeys } from "../../../../proto/kit/seal.ts";
import { realWorld } from "../../../../proto/kit/world.ts";
import { serve } from "../../../../proto/rpc-server.ts";
import type { Identity } from "../../../../proto/tls.ts";
import { SerialMachine } from "../raft/machine.ts";
import { Link } from "./links.ts";

export interface Running {
  readonly raft: Raft;
  readonly machine: SerialMachine;
  readonly peers: Peers;
  /** Takes no calls any more, and ends those there are. */
  close(): void;
  readonly disk: MoodyLog;
}

/** A log that can be told to stall, to fail, and how much room its disk has. */
export class MoodyLog implements Log {
  readonly #log: Log;
  room = 1e12;
  failure: Error | null = null;
  /** How often it has said how much room there is. */
  told = 0;
  #stall: Promise<void> = Promise.resolve();
  #release: () => void = () => {};

  constructor(log: Log) {
    this.#log = log;
  }

  stall(): void {
    this.#stall = new Promise((resolve) => {
      this.#release = resolve;
    });
  }

  release(): void {
    this.#release();
  }

  async append(records: Uint8Array): Promise<number> {
    await this.#stall;
    if (this.failure !== null) throw this.failure;
    await this.#log.append(records);
    return this.freeBytes();
  }

  useKeys(keys: DataKeys): Promise<void> {
    return this.#log.useKeys(keys);
  }

  compact(index: number): Promise<void> {
    return this.#log.compact(index);
  }

  async freeBytes(): Promise<number> {
    this.told += 1;
    return this.room;
  }

  close(): Promise<void> {
    this.release();
    return this.#log.close();
  }
}

export const clusterId = "cluster1";
export const { signal } = new AbortController();

export class Trio {
  readonly folder: string;
  readonly limits: Partial<RaftLimits>;
  readonly identities = new Map<string, Identity>();
  readonly running = new Map<string, Running>();
  readonly removed = new Set<string>();
  /** What members heard of their own removal. */
  readonly told: { readonly id: string; readonly error: SwarmError }[] = [];
  readonly #ports = new Map<string, number>();
  /** By `from>to`. */
  readonly #links = new Map<string, Link>();

  private constructor(folder: string, limits: Partial<RaftLimits>) {
    this.folder = folder;
    this.limits = limits;
  }

  /** Makes certificates and links for these; the first to be opened with `bootstrap` begins the cluster. */
  static async make(
    t: TestContext,
    ids: readonly string[],
    limits: Partial<RaftLimits> = {},
  ): Promise<Trio> {
    const folder = await mkdtemp(join(tmpdir(), "tsswarm-peers-"));
    const trio = new Trio(folder, {
      // Long enough that a busy machine makes no election of its own.
      tickMs: 250,
      ...limits,
    });
    t.after(async () => {
      await Promise.all([...trio.running.keys()].map((id) => trio.close(id)));
      for (const link of trio.#links.values()) link.close();
      await rm(folder, { recursive: true, force: true });
    });
    const root = await createRoot(Date.now());
    for (const id of ids) {
      const { key, csr } = await newKeyAndCsr();
      const node = { nodeId: id, role: "manager", clusterId } as const;
      const certificate = await signNode(root, csr, node, Date.now());
      trio.identities.set(id, { certificate, key, rootCA: root.certificate });
      for (const to of ids) {
        const link = new Link(() => trio.#ports.get(to) ?? 1);
        await link.listen();
        trio.#links.set(`${id}>${to}`, link);
      }
    }
    return trio;
  }

  async open(id: string, bootstrap = false, epoch = 1): Promise<Running> {
    const identity = this.identity(id);
    const peers = new Peers({
      id,
      clusterId,
      epoch,
      address: "",
      addressOf: (to) => this.#links.get(`${id}>${to}`)?.address ?? null,
      identity: () => identity,
      isRemoved: (from) => this.removed.has(from),
      onSuperseded: () => {},
      onRemoved: (error) => this.told.push({ id, error }),
      world: realWorld,
      log: silentLog,
    });
    const machine = new SerialMachine();
    const directory = join(this.folder, id);
    const log = silentLog;
    const segmentBytes = 256 * 1024;
    const identified = { clusterId, nodeId: id, epoch };
    const storage = await openStorage({
      directory,
      ...identified,
      bootstrap,
      segmentBytes,
      keys: null,
      log,
    });
    const disk = new MoodyLog(storage.wal);
    const raft = await startRaft(
      {
        directory,
        id,
        clusterId,
        epoch,
        bootstrap,
        world: realWorld,
        log,
        stateMachine: machine,
        transport: peers,
        limits: this.limits,
      },
      { ...storage, wal: disk },
    );
    const server = new grpc.Server();
    serve(server, "Raft", peers.handlers, () => undefined);
    const port = new ClusterPort({ identity, isKnown: () => true, world: realWorld, log });
    const takeLane: TakeLane = (socket, caller) =>
      void peers.takeLane(socket, caller, () => undefined);
    this.#ports.set(id, await port.listen(server, "127.0.0.1:0", takeLane));
    const close = () => {
      port.close();
      server.forceShutdown();
    };
    const opened = { raft, machine, peers, close, disk };
    this.running.set(id, opened);
    return opened;
  }

  identity(id: string): Identity {
    const identity = this.identities.get(id);
    if (identity === undefined) throw new Error(`no identity was made for ${id}`);
    return identity;
  }

  /** As if its process had ended: connections to it break. */
  async close(id: string): Promise<void> {
    const running = this.running.get(id);
    this.running.delete(id);
    running?.close();
    await running?.raft.close();
  }

  at(id: string): Running {
    const running = this.running.get(id);
    if (running === undefined) throw new Error(`${id} is not running`);
    return running;
  }

  port(id: string): number {
    return this.#ports.get(id) ?? 0;
  }

  /** From everyone, or from that one only. */
  cut(id: string, from?: string): void {
    for (const [name, link] of this.#links) {
      const ends = name.split(">");
      if (ends.includes(id) && (from === undefined || ends.includes(from))) link.cut();
    }
  }

  heal(id: string): void {
    for (const [name, link] of this.#links) if (name.split(">").includes(id)) link.heal();
  }

  /** The one that a majority of those that run follow. */
  async leader(): Promise<string> {
    let leader = "";
    await until("a leader that the others follow", () => {
      const statuses = [...this.running.entries()].map(
        ([id, { raft }]) => [id, raft.status()] as const,
      );
      const term = Math.max(...statuses.map(([, status]) => status.term));
      leader = statuses.find(([, s]) => s.role === "leader" && s.term === term)?.[0] ?? "";
      const following = statuses.filter(([, s]) => s.leader === leader && s.term === term);
      return (
        leader !== "" &&
        following.length * 2 > this.at(leader).raft.status().configuration.voters.length
      );
    });
    return leader;
  }

  /** A cluster of all `ids`, the first of them having begun it. */
  async form(ids: readonly string[]): Promise<void> {
    const [first = "", ...others] = ids;
    const { raft } = await this.open(first, true);
    for (const id of others) {
      await this.open(id);
      await raft.changeMembers({ learners: [id] }, signal);
      await until(`${id} has caught up`, () => {
        const { followers, last } = raft.status();
        return followers.some((follower) => follower.id === id && follower.match === last);
      });
      await raft.changeMembers({ voters: [id] }, signal);
    }
  }
}

/** Resolves when the fact holds; fails after a minute. */
export async function until(what: string, fact: () => boolean): Promise<void> {
  const giveUp = Date.now() + 60_000;
  while (!fact()) {
    if (Date.now() > giveUp) throw new Error(`did not happen within a minute: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
