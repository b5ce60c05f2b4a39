// How this machine becomes a node of a swarm, stays one over restarts, and leaves.

import { readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { codec } from "../proto/codec.ts";
import type { DaemonConfig } from "../proto/config.ts";
import type { InitRequest, Network as NetworkObject } from "../proto/gen/types.ts";
import {
  type NodeIdentity,
  readIdentity,
  removeIdentity,
  removeKeyring,
  writePrivately,
} from "../proto/identity.ts";
import { Keyring, keyringFile } from "../proto/keyring.ts";
import { messageOf, SwarmError } from "../proto/kit/errors.ts";
import type { Keeper } from "../proto/kit/keeper.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import type { Client } from "../proto/rpc-client.ts";
import type { Role } from "../proto/tls.ts";
import { hostOf, ownRoutes } from "./addresses.ts";
import type { LocalNode, Membership, SwarmInit, SwarmJoin } from "./api/types.ts";
import { Certificates } from "./certificates.ts";
import { containerFor, thisNode } from "./container.ts";
import { describeNode } from "./description.ts";
import type { OpenEngine } from "./engine/engine.ts";
import { openLibc } from "./engine/libc.ts";
import { Vault } from "./engine/vault.ts";
import { noSession } from "./locked.ts";
import { taskLogs } from "./logs.ts";
import { ManagerProcess } from "./manager-process.ts";
import {
  alreadyMember,
  leavingLocked,
  leavingManager,
  noInit,
  noSwarm,
  notMember,
  onlyWorker,
  outside,
  stateOutside,
} from "./membership-words.ts";
import { watchAddresses } from "./moved.ts";
import type { Network, NetworkCheck } from "./network/types.ts";
import { NodeOverlayDoor } from "./overlay-door.ts";
import {
  addressesFor,
  addressesTowards,
  ownAddresses,
  saveAddresses,
  towardsOthers,
} from "./own-addresses.ts";
import type { PerformerOptions } from "./perform.ts";
import { createKeyAndCsr } from "./session/identity.ts";
import { joinCluster } from "./session/join.ts";
import { type AgentSession, openSession } from "./session/session.ts";
import { type Addresses, readAddresses } from "./settings.ts";
import { Swarm } from "./swarm.ts";

const roleRetryMs = 1_000;
/** Joining answers once the first assignments are here, or after this long without them. */
const firstWordMsMax = 10_000;

export interface MembershipOptions {
  readonly config: DaemonConfig;
  readonly keeper: Keeper;
  readonly engine: OpenEngine;
  readonly network: Network & Pick<NetworkCheck, "checkSoon">;
  readonly world: World;
  readonly log: Log;
}

interface Member {
  readonly addresses: Addresses;
  readonly session: AgentSession;
  readonly swarm: Swarm;
  readonly vault: Vault;
}

type State =
  | { readonly kind: "out" }
  /** In a swarm, as a manager whose data nobody has unlocked yet. */
  | { readonly kind: "locked" }
  | { readonly kind: "busy" }
  | { readonly kind: "in"; readonly member: Member };

export class NodeMembership implements Membership {
  readonly #options: MembershipOptions;
  readonly #stop = new AbortController();
  readonly #manager: ManagerProcess;
  readonly #certificates: Certificates;
  readonly #keyring: Keyring;
  /** Rejects when the loop that runs tasks has broken: the agent has to start anew. */
  readonly broken: Promise<never>;
  #break: (error: unknown) => void = () => {};
  #state: State = { kind: "out" };
  #wantedRole: Role = "worker";
  #isChanging = false;
  #changing: Promise<void> = Promise.resolve();

  constructor(options: MembershipOptions) {
    this.#options = options;
    this.broken = new Promise((_, reject) => {
      this.#break = reject;
    });
    this.broken.catch(() => {});
    const { config, keeper, world } = options;
    this.#keyring = new Keyring(
      this.#folder("identity"),
      async () => (await keeper.ask({ do: "heldKeys" })).keys ?? [],
    );
    this.#manager = new ManagerProcess({ config, keeper, world, signal: this.#stop.signal });
    this.#certificates = new Certificates({
      directory: this.#folder("identity"),
      written: (identity) => this.#certified(identity),
      peers: () =>
        this.#state.kind === "in" ? (this.#state.member.session.wanted?.peers.size ?? 0) : 0,
      world,
      log: options.log,
    });
  }

  /** Takes up the membership of before a restart, if there is one. */
  async resume(): Promise<void> {
    if (await this.#keyring.isLocked()) {
      this.#state = { kind: "locked" };
      this.#options.log.warn("this manager is locked: containers go on; `tsswarm swarm unlock`");
      return;
    }
    const identity = await readIdentity(this.#folder("identity"), this.#keyring);
    if (identity === null) return;
    await this.#enter(await this.#certificates.revived(identity, this.#manager));
    if (identity.role === "manager") this.#wantRole("manager");
  }

  local(): LocalNode {
    const state = this.#state;
    if (state.kind !== "in") return { ...outside, state: stateOutside[state.kind] };
    const { addresses, session } = state.member;
    const { identity } = session;
    const error = session.refused();
    const own = addresses.advertiseAddr;
    return {
      state: error === "" ? "active" : "error",
      error,
      nodeId: identity.nodeId,
      nodeAddr: hostOf(own),
      clusterId: identity.clusterId,
      isManager: identity.role === "manager",
      managers: this.#managers(state.member).map((address) => ({
        NodeID: address === own ? identity.nodeId : "",
        Addr: address,
      })),
    };
  }

  networks(): readonly NetworkObject[] {
    if (this.#state.kind !== "in") return [];
    return [...(this.#state.member.session.wanted?.networks.values() ?? [])];
  }

  /** Throws `not_manager` with Docker's sentence on a machine without a manager. */
  control(): Client<"Control"> {
    const state = this.#state;
    if (state.kind !== "in") throw new SwarmError("not_manager", noSwarm);
    const { role } = state.member.session.identity;
    if (role !== "manager") throw new SwarmError("not_manager", onlyWorker);
    return this.#manager.control;
  }

  async init(request: SwarmInit): Promise<string> {
    if (request.ForceNewCluster && this.#state.kind === "in")
      return this.#forceNewCluster(this.#state.member, request);
    return this.#found(request, (init) => this.#manager.init(init));
  }

  async restore(request: SwarmInit, backup: Uint8Array, key: string): Promise<string> {
    const path = join(this.#folder("agent"), "restore.backup");
    return this.#found(request, async (init) => {
      await writePrivately(path, backup, false);
      try {
        await this.#manager.restore(path, key, init);
      } finally {
        await rm(path, { force: true });
      }
    });
  }

  /** A cluster of which this node is the first: nothing of it is left where that fails. */
  async #found(request: SwarmInit, make: (init: InitRequest) => Promise<void>): Promise<string> {
    const identity = await this.#getIn(async () => {
      const addresses = addressesFor(request, this.#advertiseByDefault);
      await this.#manager.remove();
      try {
        const made = await this.#makeCluster(request, addresses, make);
        await saveAddresses(this.#folder("agent"), addresses);
        return made;
      } catch (error) {
        await this.#manager.remove();
        await removeIdentity(this.#folder("identity"));
        throw error;
      }
    });
    return identity.nodeId;
  }

  async #forceNewCluster({ session }: Member, request: SwarmInit): Promise<string> {
    const { identity } = session;
    if (identity.role !== "manager") throw new SwarmError("precondition", onlyWorker);
    await this.#manager.init({
      ...noInit,
      AdvertiseAddr:
        request.AdvertiseAddr === ""
          ? ""
          : addressesFor(request, this.#advertiseByDefault).advertiseAddr,
      ForceNewCluster: true,
    });
    return identity.nodeId;
  }

  async join(request: SwarmJoin): Promise<void> {
    if (request.RemoteAddrs.length === 0)
      throw new SwarmError("invalid", "at least one RemoteAddr is required to join");
    await this.#getIn(async () => {
      const addresses = await addressesTowards(request, this.#advertiseByDefault);
      const identity = await joinCluster(
        {
          directory: this.#folder("identity"),
          remotes: request.RemoteAddrs,
          token: request.JoinToken,
          description: describeNode(this.#options.config, null),
          availability: request.Availability,
          advertiseAddr: addresses.advertiseAddr,
          dataPathAddr: addresses.dataPathAddr,
          routes: ownRoutes(networkInterfaces()),
        },
        this.#stop.signal,
      );
      await saveAddresses(this.#folder("agent"), addresses);
      if (identity.role === "manager") {
        await this.#manager.start();
        await this.#manager.join(addresses.listenAddr, addresses.advertiseAddr);
      }
      return { ...identity, keyring: this.#keyring };
    });
  }

  async unlock(key: string): Promise<void> {
    const { kind } = this.#state;
    if (kind === "in") throw new SwarmError("conflict", "swarm is not locked");
    if (kind !== "locked") throw new SwarmError("precondition", notMember);
    if (!(await this.#keyring.fits(key)))
      throw new SwarmError("unauthenticated", "swarm could not be unlocked: invalid key provided");
    await this.#options.keeper.ask({ do: "holdKeys", keys: [key] });
    this.#state = { kind: "busy" };
    try {
      await this.#manager.start();
      await this.#manager.unlock();
      await this.resume();
    } catch (error) {
      this.#state = { kind: "locked" };
      throw error;
    }
  }

  /** What the swarm ran here stops, and what is locked is forgotten. */
  async #leaveLocked(): Promise<void> {
    const { engine, network, world, log } = this.#options;
    this.#state = { kind: "busy" };
    log.warn("leaving the swarm, locked as it is");
    const addresses = await readAddresses(this.#folder("agent"));
    const vault = await this.#openVault("");
    const swarm = await Swarm.open({
      engine,
      network,
      dataPathAddr: addresses?.dataPathAddr ?? "",
      containerOf: containerIn(vault, ""),
      files: vault,
      world,
      log,
    });
    swarm.start(noSession);
    await swarm.stopAll();
    await swarm.close();
    await this.#forget(vault);
    await this.#manager.remove();
    this.#state = { kind: "out" };
  }

  #openVault(nodeId: string): Promise<Vault> {
    const { config, log } = this.#options;
    const directory = join(config["exec-root"], "files");
    return Vault.open({ directory, libc: openLibc(), node: thisNode(nodeId), log });
  }

  async #forget(vault: Vault): Promise<void> {
    await vault.clear();
    await this.#options.network.clear();
    await removeIdentity(this.#folder("identity"));
    await rm(this.#folder("agent"), { recursive: true, force: true });
  }

  async leave(force: boolean): Promise<void> {
    const state = this.#state;
    if (state.kind === "locked" && !force) throw new SwarmError("precondition", leavingLocked);
    if (state.kind === "locked") return this.#leaveLocked();
    if (state.kind !== "in") throw new SwarmError("precondition", notMember);
    const { session, swarm, vault } = state.member;
    const { identity } = session;
    const isManager = identity.role === "manager";
    const others = this.#managers(state.member).length - 1;
    if (isManager && !force) throw new SwarmError("precondition", leavingManager(others));
    this.#state = { kind: "busy" };
    this.#options.log.info({ node: identity.nodeId, force }, "leaving the swarm");
    await this.#changing;
    if (isManager && others > 0)
      // Docker's word: forced. Where the others cannot go on without it, they hear that it is gone.
      await this.#manager.withdraw().catch((error: unknown) => {
        this.#options.log.warn({ error: messageOf(error) }, "left without the other managers");
      });
    // By this word the managers know that it will not be back, and replace its tasks at once.
    await session.close("leave");
    this.#options.engine.attachThrough(null);
    await swarm.stopAll();
    await swarm.close();
    await this.#forget(vault);
    if (isManager) await this.#manager.remove();
    this.#state = { kind: "out" };
  }

  /** The agent stops and will be back. */
  async close(): Promise<void> {
    this.#stop.abort(new SwarmError("cancelled", "the agent is stopping"));
    if (this.#state.kind === "in") {
      const { session, swarm } = this.#state.member;
      await swarm.close();
      await session.close("the agent is stopping");
    }
    await this.#changing;
    this.#manager.close();
  }

  /** One change after the other, each tried until it is done, the node leaves, or the managers think again. */
  #wantRole(role: Role): void {
    this.#wantedRole = role;
    if (this.#isChanging) return;
    this.#isChanging = true;
    this.#changing = this.#changeRole().finally(() => {
      this.#isChanging = false;
    });
  }

  async #changeRole(): Promise<void> {
    const { world, log } = this.#options;
    const { signal } = this.#stop;
    for (let failures = 0; !signal.aborted && this.#state.kind === "in"; ) {
      const { session } = this.#state.member;
      const role = this.#wantedRole;
      try {
        await this.#become(role, this.#state.member);
        log.info({ role: session.identity.role }, "this node has its role");
        if (role === this.#wantedRole) return;
      } catch (error) {
        failures += 1;
        log.warn({ role, failures, error: messageOf(error) }, "the role cannot be changed yet");
        await world.sleep(roleRetryMs, signal).catch(() => {});
      }
    }
  }

  /** The certificate first: a manager without one would be refused, and one that stops needs none. */
  async #become(role: Role, { session, addresses }: Member): Promise<void> {
    if (session.identity.role !== role) await this.#certificates.renew(session, this.#stop.signal);
    if (session.identity.role === "manager") {
      await this.#manager.start();
      await this.#manager.join(addresses.listenAddr, addresses.advertiseAddr);
    } else {
      await this.#manager.remove();
      await removeKeyring(this.#folder("identity"), session.identity);
    }
  }

  /** The manager beside us goes on with the new certificate; one that is just starting finds it. */
  async #certified({ role }: NodeIdentity): Promise<void> {
    if (role !== "manager" || this.#isChanging) return;
    await this.#manager.renewed().catch((error: unknown) => {
      this.#options.log.warn(
        { error: messageOf(error) },
        "the manager has not heard of the new certificate",
      );
    });
  }

  async #getIn(work: () => Promise<NodeIdentity>): Promise<NodeIdentity> {
    if (this.#state.kind !== "out") throw new SwarmError("precondition", alreadyMember);
    this.#state = { kind: "busy" };
    try {
      await rm(join(this.#folder("identity"), keyringFile), { force: true });
      const identity = await work();
      await firstWord(await this.#enter(identity));
      return identity;
    } catch (error) {
      this.#state = { kind: "out" };
      throw error;
    }
  }

  /** From here on the machine does what its managers want. */
  async #enter(identity: NodeIdentity): Promise<AgentSession> {
    const { engine, network, config, world, log } = this.#options;
    const addresses = await ownAddresses(this.#folder("agent"), identity, log);
    const vault = await this.#openVault(identity.nodeId);
    const swarm = await Swarm.open({
      engine,
      network,
      dataPathAddr: addresses.dataPathAddr,
      containerOf: containerIn(vault, identity.nodeId),
      files: vault,
      networksMade: () => void door?.sweep(),
      world,
      log,
    });
    let door: NodeOverlayDoor | null = null;
    const session = await openSession({
      identity,
      identityDirectory: this.#folder("identity"),
      savedFile: join(this.#folder("agent"), "wanted.pb"),
      bootId: readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
      hello: (now) => ({
        Description: describeNode(config, now),
        DataPathAddr: addresses.dataPathAddr,
        Routes: ownRoutes(networkInterfaces()),
        Tasks: swarm.held(),
      }),
      unreachablePeers: () => network.unreachablePeers(),
      unheldPorts: () => network.unheldPorts(),
      opened: () => network.checkSoon(),
      told: (info) => this.#certificates.told(info),
      files: vault,
      roleChanged: (role) => this.#wantRole(role),
      world,
      log,
    });
    session.onLogs((subscription, signal) =>
      taskLogs({ engine, nodeId: identity.nodeId, log }, subscription, signal),
    );
    door = new NodeOverlayDoor({
      attach: (request, signal) => session.attach(request, signal),
      detach: (taskIds, signal) => session.detach(taskIds, signal),
      wanted: () => session.wanted,
      untilNetwork: (networkId, signal) => swarm.untilNetwork(networkId, signal),
      containers: () => engine.list(),
      world,
      log,
      signal: this.#stop.signal,
    });
    engine.attachThrough(door);
    swarm.start(session);
    swarm.closed.catch(this.#break);
    swarm.run("certificates", (signal) => this.#certificates.run(session, signal));
    swarm.run("addresses", (signal) => this.#watchAddresses(addresses, session, signal));
    this.#state = { kind: "in", member: { addresses, session, swarm, vault } };
    log.info({ node: identity.nodeId, role: identity.role, ...addresses }, "part of a swarm");
    return session;
  }

  #watchAddresses(own: Addresses, session: AgentSession, signal: AbortSignal): Promise<void> {
    const { world, log } = this.#options;
    const managers = () => session.wanted?.info.Managers ?? session.identity.managers;
    return watchAddresses(
      {
        own,
        interfaces: networkInterfaces,
        towards: () => towardsOthers(managers(), own.advertiseAddr),
        save: (addresses) => saveAddresses(this.#folder("agent"), addresses),
        world,
        log,
      },
      signal,
    );
  }

  async #makeCluster(
    request: SwarmInit,
    addresses: Addresses,
    make: (init: InitRequest) => Promise<void>,
  ): Promise<NodeIdentity> {
    const { config } = this.#options;
    const csr = await createKeyAndCsr(this.#folder("identity"));
    await this.#manager.start();
    await make({
      CSR: csr,
      Description: describeNode(config, null),
      ListenAddr: addresses.listenAddr,
      AdvertiseAddr: addresses.advertiseAddr,
      DataPathAddr: addresses.dataPathAddr,
      DataPathPort: dataPathPort(request.DataPathPort),
      DefaultAddrPool: request.DefaultAddrPool,
      SubnetSize: request.SubnetSize,
      Availability: request.Availability,
      Spec: codec("ClusterSpec").parse(request.Spec ?? {}),
      Routes: ownRoutes(networkInterfaces()),
      ForceNewCluster: false,
    });
    const identity = await readIdentity(this.#folder("identity"), this.#keyring);
    if (identity === null)
      throw new SwarmError(
        "internal",
        "the manager has made a cluster but no identity of this node",
      );
    return identity;
  }

  get #advertiseByDefault(): string {
    return this.#options.config["swarm-default-advertise-addr"];
  }

  #managers({ session }: Member): readonly string[] {
    const told = session.wanted?.info.Managers ?? [];
    return told.length > 0 ? told : session.identity.managers;
  }

  #folder(name: string): string {
    return join(this.#options.config["data-root"], name);
  }
}

function dataPathPort(port: number): number {
  if (port === 0) return 4789;
  if (port < 1024 || port > 49_151)
    throw new SwarmError("invalid", `invalid DataPathPort ${port}: must be between 1024 and 49151`);
  return port;
}

async function firstWord(session: AgentSession): Promise<void> {
  for await (const _ of session.watch(AbortSignal.timeout(firstWordMsMax))) return;
}

function containerIn(vault: Vault, nodeId: string): PerformerOptions["containerOf"] {
  return (task, sandbox) =>
    containerFor(task, nodeId, sandbox, (id, index) => vault.path(id, index));
}
