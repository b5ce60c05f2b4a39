// This machine as a manager of a cluster: its log, its store, its port, and what it does while it leads.

import { join } from "node:path";
import grpc from "@grpc/grpc-js";
import { z } from "zod";
import { type NodeIdentity, readOrNull, writePrivately } from "../proto/identity.ts";
import { messageOf, SwarmError } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import { type Caller, channelOptions, type Handlers, serve } from "../proto/rpc.ts";
import { certifiedNode, ServerTls, toManager } from "../proto/tls.ts";
import type { ControlContext } from "./control/context.ts";
import { controlHandlers } from "./control/handlers.ts";
import type { Dispatcher } from "./dispatch/dispatcher.ts";
import { joinHandlers } from "./identity/join.ts";
import { Leadership } from "./leader.ts";
import { Peers } from "./peers/peers.ts";
import { openRaft } from "./raft/node.ts";
import type { Raft } from "./raft/types.ts";
import { openStore } from "./store/store.ts";
import type { Store } from "./store/types.ts";

const memberFile = z.object({
  clusterId: z.string().min(1),
  nodeId: z.string().min(1),
  /** ip:port, where the cluster port is opened. */
  listenAddr: z.string().min(1),
  /** ip:port, where others reach it. */
  advertiseAddr: z.string().min(1),
});
export type MemberSettings = z.infer<typeof memberFile>;

/** Connections of hosts that vanished are found and closed. */
const keepaliveOptions: grpc.ServerOptions = {
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 5_000,
};

export function memberFolder(dataRoot: string): string {
  return join(dataRoot, "manager");
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
  /** Begin the cluster's log here. */
  readonly bootstrap: boolean;
  readonly world: World;
  readonly log: Log;
}

export class Member {
  readonly settings: MemberSettings;
  readonly store: Store;
  readonly raft: Raft;
  /** Rejects when this manager can not go on: the process must end. */
  readonly failed: Promise<never>;
  readonly #options: MemberOptions;
  readonly #server: grpc.Server;
  readonly #stop: AbortController;
  #leadership: Leadership | null = null;
  #fail: (error: unknown) => void = () => {};

  /** Rejects with `unavailable` when the port is taken, or with what is wrong with the log. */
  static async open(options: MemberOptions): Promise<Member> {
    const stop = new AbortController();
    const { settings, world, log, dataRoot, identity } = options;
    let raft: Raft | null = null;
    const { store, machine } = openStore({
      propose: async (data, signal) => {
        if (raft === null) throw new SwarmError("no_leader", "this manager is starting");
        return raft.propose(data, signal);
      },
      now: () => world.now(),
      signal: stop.signal,
    });
    const server = new grpc.Server({ ...channelOptions, ...keepaliveOptions });
    const peers = new Peers({
      id: settings.nodeId,
      clusterId: settings.clusterId,
      epoch: 1,
      addressOf: (id) => store.state.table("node").get(id)?.ManagerStatus?.Addr ?? null,
      credentials: () => toManager(identity, settings.clusterId),
      isRemoved: () => false,
      onRemoved: (error) => log.error({ error: error.message }, "this manager was removed"),
      world,
      log: log.child({ room: "peers" }),
    });
    serve(server, "Raft", peers.handlers);
    try {
      raft = await openRaft({
        directory: join(memberFolder(dataRoot), "raft"),
        id: settings.nodeId,
        clusterId: settings.clusterId,
        bootstrap: options.bootstrap,
        world,
        log: log.child({ room: "raft" }),
        stateMachine: machine,
        transport: peers,
      });
      const member = new Member(options, { raft, store, server, stop });
      await bind(server, settings.listenAddr, new ServerTls(identity));
      member.#lead();
      return member;
    } catch (error) {
      stop.abort(error);
      server.forceShutdown();
      await raft?.close();
      throw error;
    }
  }

  private constructor(
    options: MemberOptions,
    parts: {
      readonly raft: Raft;
      readonly store: Store;
      readonly server: grpc.Server;
      readonly stop: AbortController;
    },
  ) {
    this.#options = options;
    this.settings = options.settings;
    this.raft = parts.raft;
    this.store = parts.store;
    this.#server = parts.server;
    this.#stop = parts.stop;
    this.failed = new Promise((_resolve, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {});
    parts.raft.failed.catch((error: unknown) => this.#fail(error));
    const { world, log } = options;
    const store = this.store;
    const managers = () => this.#managers();
    serve(parts.server, "Join", joinHandlers({ store, world, log, managers }));
    serve(parts.server, "Dispatch", this.#dispatchHandlers());
    serve(
      parts.server,
      "Control",
      controlHandlers(this.controlContext(), (caller) => this.#admitManager(caller)),
    );
  }

  controlContext(): ControlContext {
    const { world, log } = this.#options;
    return {
      store: this.store,
      world,
      log,
      barrier: (signal) => this.raft.read(signal),
      readLogs: (request, signal) => this.#dispatcher().logs.read(request, signal),
    };
  }

  async close(): Promise<void> {
    this.#stop.abort(new SwarmError("cancelled", "this manager is stopping"));
    this.#server.forceShutdown();
    await this.#leadership?.close();
    await this.raft.close();
  }

  #lead(): void {
    const { settings, world, log } = this.#options;
    const unwatch = this.raft.watchStatus(({ role }) => {
      if (this.#stop.signal.aborted) return unwatch?.();
      const isLeader = role === "leader";
      if (isLeader === (this.#leadership !== null)) return;
      if (!isLeader) {
        void this.#leadership?.close();
        this.#leadership = null;
        return;
      }
      const leadership = new Leadership(
        { raft: this.raft, store: this.store, world, log, ...settings },
        this.#stop.signal,
      );
      this.#leadership = leadership;
      leadership.ended.catch((error: unknown) => {
        log.error({ error: messageOf(error) }, "a part of the leadership failed");
        this.#fail(error);
      });
    });
  }

  #dispatcher(): Dispatcher {
    const dispatcher = this.#leadership?.dispatcher;
    if (dispatcher === null || dispatcher === undefined)
      throw new SwarmError("no_leader", "this manager does not lead (yet): try again");
    return dispatcher;
  }

  #dispatchHandlers(): Handlers<"Dispatch"> {
    return {
      Session: (requests, caller) => this.#dispatcher().handlers.Session(requests, caller),
      PublishLogs: async (messages, caller) =>
        this.#dispatcher().handlers.PublishLogs(messages, caller),
    };
  }

  #admitManager(caller: Caller): void {
    const named = caller.certificate === null ? null : certifiedNode(caller.certificate);
    const node = this.store.state.table("node").get(named?.nodeId ?? "");
    const isManager = named?.role === "manager" && node?.Spec?.Role === "manager";
    if (isManager && named.clusterId === this.settings.clusterId) return;
    throw new SwarmError("denied", "only managers of this cluster may do that");
  }

  #managers(): readonly string[] {
    const addresses = [...this.store.state.table("node").values()].flatMap((node) =>
      node.ManagerStatus === undefined ? [] : [node.ManagerStatus.Addr],
    );
    return addresses.length === 0 ? [this.settings.advertiseAddr] : addresses;
  }
}

async function bind(
  server: grpc.Server,
  address: string,
  credentials: grpc.ServerCredentials,
): Promise<void> {
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(address, credentials, (error) => {
      if (error === null) resolve();
      else
        reject(
          new SwarmError(
            "unavailable",
            `the cluster port ${address} can not be opened: ${error.message}`,
            { cause: error },
          ),
        );
    }),
  );
}
