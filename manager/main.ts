// The manager process: a private socket for the agent beside it, and, once there is a cluster, a member of it.

import { chmod, mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import grpc from "@grpc/grpc-js";
import type { DaemonConfig } from "../proto/config.ts";
import type {
  InitRequest,
  IssueCertificateResponse,
  LocalJoinRequest,
  LocalStatus,
  RestoreRequest,
} from "../proto/gen/types.ts";
import { type NodeIdentity, readIdentity, writeIdentity } from "../proto/identity.ts";
import { isLocked, Keyring } from "../proto/keyring.ts";
import { messageOf, SwarmError } from "../proto/kit/errors.ts";
import { heapOf, keepTight } from "../proto/kit/heap.ts";
import { newId } from "../proto/kit/ids.ts";
import { KeeperClient } from "../proto/kit/keeper-client.ts";
import { LastLines, type Log, openLog } from "../proto/kit/log.ts";
import { realWorld } from "../proto/kit/world.ts";
import { channelOptions, serviceDefinition } from "../proto/rpc.ts";
import { type Caller, type Handlers, serve } from "../proto/rpc-server.ts";
import { newCluster } from "./identity/bootstrap.ts";
import { admitBeside } from "./identity/door.ts";
import { type HeldKeys, heldBy, type Locks } from "./lock.ts";
import {
  Member,
  type MemberSettings,
  memberFolder,
  raftFolder,
  readMember,
  writeMember,
} from "./member.ts";
import type { MemberView } from "./meter.ts";
import type { ManagerMetrics } from "./metrics.ts";
import { ingressSpec, newNetwork } from "./plan/write.ts";
import { takePrecedence } from "./precedence.ts";
import { type RecoverOptions, refound, restore } from "./recover.ts";
import type { Change } from "./store/types.ts";

const ingressVni = 4096;
const firstWriteMs = 20_000;
const listenDefault = "0.0.0.0:2377";

/** Until the signal aborts. Rejects when this manager can not go on (a damaged log, a failing disk): start it again. */
export async function runManager(config: DaemonConfig, signal: AbortSignal): Promise<void> {
  const lines = new LastLines();
  const log = openLog("manager", config["log-level"], lines);
  await takePrecedence(log);
  const expiryNsMin = config["swarm-cert-expiry-min"] * 1_000_000_000;
  const keeper = new KeeperClient(join(config["exec-root"], "keeper.sock"), log);
  const metrics = config["metrics-addr"] === "" ? null : await openMetrics(() => manager.view());
  const manager = new Manager(
    config["data-root"],
    expiryNsMin,
    heldBy(keeper),
    metrics,
    log,
    lines,
  );
  keepTight(signal, () => manager.knowsMuch);
  const socket = join(config["exec-root"], "manager.sock");
  const server = new grpc.Server(channelOptions);
  serve(server, "Local", manager.localHandlers(), admitBeside);
  serve(server, "Control", manager.controlHandlers(), admitBeside);
  try {
    await manager.resume();
    await listenPrivately(server, socket);
    log.info({ socket, cluster: manager.clusterId }, "manager is ready");
    await Promise.race([manager.failed, aborted(signal)]);
  } finally {
    server.forceShutdown();
    await manager.close();
    keeper.close();
    log.info({}, "manager stopped");
  }
}

/** The library is loaded only where somebody asks for what it counts. */
async function openMetrics(view: () => MemberView | null): Promise<ManagerMetrics> {
  const { ManagerMetrics } = await import("./metrics.ts");
  return new ManagerMetrics(view);
}

async function listenPrivately(server: grpc.Server, path: string): Promise<void> {
  await mkdir(join(path, ".."), { recursive: true });
  await rm(path, { force: true });
  const mask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) =>
      server.bindAsync(`unix:${path}`, grpc.ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      ),
    );
  } finally {
    process.umask(mask);
  }
  await chmod(path, 0o600);
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true }),
  );
}

type Handle = (request: never, caller: Caller) => unknown;

class Manager {
  readonly failed: Promise<never>;
  readonly #dataRoot: string;
  readonly #identityFolder: string;
  readonly #expiryNsMin: number;
  readonly #metrics: ManagerMetrics | null;
  readonly #log: Log;
  readonly #lines: LastLines;
  #member: Member | null = null;
  #isBecoming = false;
  #isLocked = false;
  #following: Promise<void> = Promise.resolve();
  readonly #locks: Locks;
  #fail: (error: unknown) => void = () => {};

  constructor(
    dataRoot: string,
    expiryNsMin: number,
    held: HeldKeys,
    metrics: ManagerMetrics | null,
    log: Log,
    lines: LastLines,
  ) {
    this.#dataRoot = dataRoot;
    this.#lines = lines;
    this.#metrics = metrics;
    this.#expiryNsMin = expiryNsMin;
    this.#identityFolder = join(dataRoot, "identity");
    const keyring = new Keyring(this.#identityFolder, () => held.read());
    this.#locks = { keyring, identityFolder: this.#identityFolder, held };
    this.#log = log;
    this.failed = new Promise((_resolve, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {});
  }

  get clusterId(): string {
    return this.#member?.settings.clusterId ?? "";
  }

  get knowsMuch(): boolean {
    return this.#member?.knowsMuch === true;
  }

  /** Takes up the cluster there is on disk, if there is one. */
  async resume(): Promise<void> {
    this.#isLocked = await this.#locks.keyring.isLocked();
    if (this.#isLocked) {
      this.#log.warn({}, "locked: waiting for `tsswarm swarm unlock`");
      return;
    }
    const settings = await readMember(this.#dataRoot);
    const identity = await this.#identity();
    if (settings === null || identity === null) return;
    if (identity.role !== "manager" || identity.clusterId !== settings.clusterId) {
      this.#log.warn({ cluster: settings.clusterId }, "the manager's data belong to another node");
      return;
    }
    const member = await this.#open(settings, identity, false);
    await this.#adopt(member);
    member
      .announce()
      .catch((error: unknown) =>
        this.#log.warn({ error: messageOf(error) }, "the cluster does not want this manager"),
      );
  }

  #open(settings: MemberSettings, identity: NodeIdentity, bootstrap: boolean): Promise<Member> {
    return Member.open({
      dataRoot: this.#dataRoot,
      settings,
      identity,
      bootstrap,
      certExpiryNsMin: this.#expiryNsMin,
      meter: this.#metrics ?? undefined,
      locks: this.#locks,
      world: realWorld,
      log: this.#log,
    });
  }

  #identity(): Promise<NodeIdentity | null> {
    return readIdentity(this.#identityFolder, this.#locks.keyring);
  }

  async close(): Promise<void> {
    await this.#member?.close();
  }

  localHandlers(): Handlers<"Local"> {
    return {
      Init: (request) =>
        this.#becoming(() =>
          request.ForceNewCluster && this.#member !== null
            ? this.#force(this.#member, request)
            : this.#init(request),
        ),
      Restore: (request) => this.#becoming(() => this.#restore(request)),
      Join: (request) => this.#becoming(() => this.#join(request)),
      Withdraw: async (_request, caller) => {
        await this.#theMember().withdraw(caller);
        return {};
      },
      Renewed: async () => {
        if (this.#member !== null) await this.#followIdentity(this.#member);
        return {};
      },
      Recertify: async ({ CSR }) => {
        const Certificate = await this.#theMember().recertify(CSR);
        const identity = await this.#identity();
        if (identity === null) throw new SwarmError("internal", "this manager has no identity");
        return { ...answerOf(identity), Certificate };
      },
      Status: async () => this.#status(),
      Tunnel: (messages, caller) => this.#theMember().doors.tunnel(messages, caller),
      Unlock: () => this.#unlock(),
      Metrics: async () => ({
        Text: (await this.#metrics?.text()) ?? "",
        Heap: JSON.stringify(heapOf()),
        Log: this.#lines.text,
        Raft: this.#member === null ? "" : JSON.stringify(this.#member.raft.status()),
      }),
    };
  }

  /** For the agent beside us: the socket's mode is what keeps others out. */
  controlHandlers(): Handlers<"Control"> {
    const methods = Object.keys(serviceDefinition("Control"));
    const handlers = methods.map((method) => [
      method,
      (request: never, caller: Caller) =>
        (this.#theMember().doors.control as Record<string, Handle>)[method]?.(request, caller),
    ]);
    return Object.fromEntries(handlers) as Handlers<"Control">;
  }

  async #unlock(): Promise<LocalStatus> {
    if (this.#isLocked) await this.resume();
    if (this.#isLocked) throw new SwarmError("not_manager", isLocked);
    return this.#status();
  }

  #theMember(): Member {
    if (this.#isLocked) throw new SwarmError("not_manager", isLocked);
    if (this.#member === null)
      throw new SwarmError("not_manager", "this node is not a swarm manager");
    return this.#member;
  }

  view(): MemberView | null {
    return this.#member?.view() ?? null;
  }

  async #adopt(member: Member): Promise<void> {
    this.#member = member;
    const metrics = this.#metrics;
    if (metrics !== null) member.raft.watchStatus((status) => metrics.raftChanged(status));
    member.failed.catch((error: unknown) => {
      if (this.#member === member) this.#fail(error);
    });
    // Who renewed the certificate while the member was opened found nobody to tell.
    await this.#followIdentity(member);
  }

  /** One after the other: what was read last is what holds. */
  #followIdentity(member: Member): Promise<void> {
    const followed = this.#following.then(async () => {
      const identity = await this.#identity();
      if (identity !== null) member.renewed(identity);
    });
    this.#following = followed.catch(() => {});
    return followed;
  }

  #status(): LocalStatus {
    const raft = this.#member?.raft.status();
    return {
      State: this.#isLocked ? "locked" : this.#member === null ? "inactive" : "active",
      Err: "",
      NodeID: this.#member?.settings.nodeId ?? "",
      ClusterID: this.clusterId,
      RaftRole: raft?.role ?? "",
      HasLeader: raft !== undefined && raft.leader !== null,
    };
  }

  async #becoming<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isBecoming)
      throw new SwarmError("precondition", "this manager is getting into a cluster already");
    this.#isBecoming = true;
    try {
      // What a locked manager has must not be cleared away.
      if (await this.#locks.keyring.isLocked()) throw new SwarmError("not_manager", isLocked);
      return await work();
    } finally {
      this.#isBecoming = false;
    }
  }

  /** The settings are written before anyone hears of this manager: it must be back after a crash. */
  async #join({ ListenAddr, AdvertiseAddr }: LocalJoinRequest): Promise<LocalStatus> {
    const identity = await this.#identity();
    if (identity?.role !== "manager")
      throw new SwarmError("precondition", "this node's certificate is not one of a manager");
    const { clusterId, nodeId } = identity;
    const before = this.#member;
    const saved = before?.settings ?? (await readMember(this.#dataRoot));
    // What is there of this very member stays: it may have failed to open under another address, and has voted.
    const own = saved?.clusterId === clusterId && saved.nodeId === nodeId ? saved : null;
    const settings = {
      clusterId,
      nodeId,
      epoch: own?.epoch ?? 1,
      listenAddr: ListenAddr || own?.listenAddr || listenDefault,
      advertiseAddr: AdvertiseAddr,
    };
    if (before !== null && own !== null && isSameSettings(own, settings)) return this.#status();
    if (own === null) await rm(memberFolder(this.#dataRoot), { recursive: true, force: true });
    this.#member = null;
    await before?.close();
    await writeMember(this.#dataRoot, settings);
    const member = await this.#open(settings, identity, false);
    await this.#adopt(member);
    await member.announce();
    this.#log.info(
      { cluster: clusterId, node: nodeId, address: AdvertiseAddr },
      "a manager of the cluster",
    );
    return this.#status();
  }

  /** The log and its first entry come first, the identity last: half a cluster counts as none, and is cleared away. */
  async #init(request: InitRequest): Promise<IssueCertificateResponse> {
    if (this.#member !== null)
      throw new SwarmError("precondition", "this manager is in a cluster already");
    const { keyring } = this.#locks;
    const key = await keyring.unseal(await readFile(join(this.#identityFolder, "key.pem"), "utf8"));
    const made = await newCluster(request, realWorld.now(), this.#expiryNsMin);
    const identity: NodeIdentity = { ...made.identity, key, keyring };
    const settings = {
      clusterId: identity.clusterId,
      nodeId: identity.nodeId,
      epoch: 1,
      listenAddr: request.ListenAddr || listenDefault,
      advertiseAddr: request.AdvertiseAddr,
    };
    await rm(memberFolder(this.#dataRoot), { recursive: true, force: true });
    const member = await this.#open(settings, identity, true);
    try {
      const cluster = { ...made.cluster, NextVNI: ingressVni + 1 };
      const state = member.store.state;
      const ingress = newNetwork(state, cluster, ingressSpec, { id: newId(), vni: ingressVni });
      const changes: Change[] = [
        { op: "put", kind: "cluster", object: cluster },
        { op: "put", kind: "node", object: made.node },
        { op: "put", kind: "network", object: ingress },
      ];
      await member.store.write(changes, AbortSignal.timeout(firstWriteMs));
      await writeMember(this.#dataRoot, settings);
      await writeIdentity(this.#identityFolder, identity);
    } catch (error) {
      this.#log.error({ error: messageOf(error) }, "the cluster could not be made");
      await member.close();
      await rm(memberFolder(this.#dataRoot), { recursive: true, force: true });
      throw error;
    }
    await this.#adopt(member);
    this.#log.info({ cluster: settings.clusterId, node: settings.nodeId }, "a cluster was made");
    return answerOf(identity);
  }

  /** Goes on alone with what this manager's log holds. Until the settings are written, nothing has happened. */
  async #force(member: Member, request: InitRequest): Promise<IssueCertificateResponse> {
    const identity = await this.#identity();
    if (identity === null) throw new SwarmError("internal", "this manager has no identity");
    const before = member.settings;
    this.#member = null;
    await member.close();
    const asked = { ...before, advertiseAddr: request.AdvertiseAddr || before.advertiseAddr };
    const settings = await refound(await this.#recovery(), asked).catch(async (error: unknown) => {
      await this.#adopt(await this.#open(before, identity, false));
      throw error;
    });
    await writeMember(this.#dataRoot, settings);
    await this.#adopt(await this.#open(settings, identity, false));
    await rm(raftFolder(this.#dataRoot, before.epoch), { recursive: true, force: true });
    return answerOf(identity);
  }

  async #restore({ Path, Init, Key }: RestoreRequest): Promise<IssueCertificateResponse> {
    if (this.#member !== null)
      throw new SwarmError("precondition", "this manager is in a cluster already");
    if (Init === undefined) throw new SwarmError("invalid", "where to restore to is not said");
    await rm(memberFolder(this.#dataRoot), { recursive: true, force: true });
    const { keyring } = this.#locks;
    const key = await keyring.unseal(await readFile(join(this.#identityFolder, "key.pem"), "utf8"));
    try {
      const listenAddr = Init.ListenAddr || listenDefault;
      const made = await restore(await this.#recovery(), Path, Key, Init, key, listenAddr);
      await writeMember(this.#dataRoot, made.settings);
      await writeIdentity(this.#identityFolder, { ...made.identity, keyring });
      await this.#adopt(await this.#open(made.settings, made.identity, false));
      return answerOf(made.identity);
    } catch (error) {
      await rm(memberFolder(this.#dataRoot), { recursive: true, force: true });
      throw error;
    }
  }

  async #recovery(): Promise<RecoverOptions> {
    const keys = await this.#locks.keyring.dataKeys(false);
    return { dataRoot: this.#dataRoot, keys, log: this.#log, now: realWorld.now() };
  }
}

function isSameSettings(a: MemberSettings, b: MemberSettings): boolean {
  return a.listenAddr === b.listenAddr && a.advertiseAddr === b.advertiseAddr;
}

function answerOf(identity: NodeIdentity): IssueCertificateResponse {
  return {
    NodeID: identity.nodeId,
    ClusterID: identity.clusterId,
    Role: identity.role,
    Certificate: identity.certificate,
    RootCA: identity.rootCA,
    Managers: [...identity.managers],
    Index: identity.index,
  };
}
