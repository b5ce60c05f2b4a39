// How this machine becomes a node of a swarm, stays one over restarts, and leaves.

import { rm } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { codec } from "../proto/codec.ts";
import type { InitRequest, LocalMetrics, Network as NetworkObject } from "../proto/gen/types.ts";
import {
  type NodeIdentity,
  readIdentity,
  removeIdentity,
  writePrivately,
} from "../proto/identity.ts";
import { Keyring, keyringFile } from "../proto/keyring.ts";
import { asSwarmError, messageOf, SwarmError } from "../proto/kit/errors.ts";
import type { Keeper } from "../proto/kit/keeper.ts";
import type { Client } from "../proto/rpc-client.ts";
import { hostOf, ownRoutes } from "./addresses.ts";
import type { LocalNode, Membership, SwarmInit, SwarmJoin } from "./api/types.ts";
import { Certificates } from "./certificates.ts";
import { describeNode } from "./description.ts";
import { stopTasks } from "./locked.ts";
import { ManagerProcess } from "./manager-process.ts";
import { forgetSwarm, type Machine, type Member, managersOf, openMember } from "./member.ts";
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
import type { NodeView } from "./node-view.ts";
import { addressesFor, addressesTowards, saveAddresses } from "./own-addresses.ts";
import { RoleChange } from "./role-change.ts";
import { createKeyAndCsr, type KeyAndCsr, newKeyAndCsr } from "./session/identity.ts";
import { joinCluster } from "./session/join.ts";
import type { AgentSession } from "./session/session.ts";
import { type Addresses, foldersOf } from "./settings.ts";

/** Joining answers once the first assignments are here, or after this long without them. */
const firstWordMsMax = 10_000;

export interface MembershipOptions extends Machine {
  readonly keeper: Keeper;
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
  readonly #role: RoleChange;
  readonly #folders: ReturnType<typeof foldersOf>;
  /** Rejects when the loop that runs tasks has broken: the agent has to start anew. */
  readonly broken: Promise<never>;
  #break: (error: unknown) => void = () => {};
  #state: State = { kind: "out" };
  /** Of a join whose end is not known, so that the next try makes no second node. */
  #joining: { readonly token: string; readonly keyAndCsr: KeyAndCsr } | null = null;

  constructor(options: MembershipOptions) {
    this.#options = options;
    this.broken = new Promise((_, reject) => {
      this.#break = reject;
    });
    this.broken.catch(() => {});
    const { config, keeper, world, log } = options;
    const { signal } = this.#stop;
    this.#folders = foldersOf(config);
    const directory = this.#folders.identity;
    this.#keyring = new Keyring(
      directory,
      async () => (await keeper.ask({ do: "heldKeys" })).keys ?? [],
    );
    this.#manager = new ManagerProcess({ config, keeper, world, signal });
    this.#certificates = new Certificates({
      directory,
      written: (identity) => this.#certified(identity),
      peers: () => this.#member?.session.wanted?.peers.size ?? 0,
      world,
      log,
    });
    this.#role = new RoleChange({
      manager: this.#manager,
      certificates: this.#certificates,
      directory,
      member: () => this.#member,
      world,
      log,
      signal,
    });
  }

  /** Takes up the membership of before a restart, if there is one. */
  async resume(): Promise<void> {
    if (await this.#keyring.isLocked()) {
      this.#state = { kind: "locked" };
      this.#options.log.warn("this manager is locked: containers go on; `tsswarm swarm unlock`");
      return;
    }
    const identity = await readIdentity(this.#folders.identity, this.#keyring);
    if (identity === null) return;
    await this.#enter(await this.#certificates.revived(identity, this.#manager));
    if (identity.role === "manager") this.#role.want("manager");
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
      managers: managersOf(state.member).map((address) => ({
        NodeID: address === own ? identity.nodeId : "",
        Addr: address,
      })),
    };
  }

  networks(): readonly NetworkObject[] {
    return [...(this.#member?.session.wanted?.networks.values() ?? [])];
  }

  /** Throws `not_manager` with Docker's sentence on a machine without a manager. */
  control(): Client<"Control"> {
    const state = this.#state;
    if (state.kind !== "in") throw new SwarmError("not_manager", noSwarm);
    const { role } = state.member.session.identity;
    if (role !== "manager") throw new SwarmError("not_manager", onlyWorker);
    return this.#manager.control;
  }

  /** null in no swarm. */
  view(): NodeView | null {
    const member = this.#member;
    if (member === null) return null;
    const { session } = member;
    const { nodeId, clusterId, role } = session.identity;
    return {
      ...{ nodeId, clusterId },
      isManager: role === "manager",
      isConnected: session.connected(),
      silentMs: Math.max(0, this.#options.world.now() - session.heardAt),
      wanted: session.wanted,
    };
  }

  /** What the manager process beside us measures; null where there is none. Throws `unavailable`. */
  async managerMetrics(): Promise<LocalMetrics | null> {
    const { kind } = this.#state;
    const isManager = kind === "locked" || this.view()?.isManager === true;
    return isManager ? this.#manager.metrics() : null;
  }

  tunnel(nodeId: string): Duplex {
    return this.#manager.tunnel(nodeId);
  }

  /** What other nodes ask of this one's API goes there. */
  serveTunnels(serve: (stream: Duplex) => void): void {
    this.#serveTunnel = serve;
  }
  #serveTunnel: (stream: Duplex) => void = (stream) => stream.destroy();

  async init(request: SwarmInit): Promise<string> {
    if (request.ForceNewCluster && this.#state.kind === "in")
      return this.#forceNewCluster(this.#state.member, request);
    return this.#found(request, (init) => this.#manager.init(init));
  }

  async restore(request: SwarmInit, backup: Uint8Array, key: string): Promise<string> {
    const path = join(this.#folders.agent, "restore.backup");
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
        await saveAddresses(this.#folders.agent, addresses);
        return made;
      } catch (error) {
        await this.#manager.remove();
        await removeIdentity(this.#folders.identity);
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
      const identity = await this.#becomeNode(request, addresses);
      try {
        await saveAddresses(this.#folders.agent, addresses);
        if (identity.role === "manager") {
          await this.#manager.start();
          await this.#manager.join(addresses.listenAddr, addresses.advertiseAddr);
        }
      } catch (error) {
        // Else the next start would take it for a node.
        await this.#manager.remove();
        await removeIdentity(this.#folders.identity);
        throw error;
      }
      return { ...identity, keyring: this.#keyring };
    });
  }

  async #becomeNode(request: SwarmJoin, addresses: Addresses): Promise<NodeIdentity> {
    const earlier = this.#joining?.token === request.JoinToken ? this.#joining : null;
    const { keyAndCsr } = earlier ?? { keyAndCsr: await newKeyAndCsr() };
    this.#joining = { token: request.JoinToken, keyAndCsr };
    try {
      const identity = await joinCluster(
        {
          directory: this.#folders.identity,
          remotes: request.RemoteAddrs,
          token: request.JoinToken,
          description: describeNode(this.#options.config, null),
          availability: request.Availability,
          advertiseAddr: addresses.advertiseAddr,
          dataPathAddr: addresses.dataPathAddr,
          routes: ownRoutes(networkInterfaces()),
          keyAndCsr,
        },
        this.#stop.signal,
      );
      this.#joining = null;
      return identity;
    } catch (error) {
      // What became of the earlier try stands in the way: its node was removed, or is to be something else.
      if (earlier === null || asSwarmError(error).code !== "precondition") throw error;
      this.#joining = null;
      return await this.#becomeNode(request, addresses);
    }
  }

  async unlock(key: string): Promise<void> {
    const { kind } = this.#state;
    if (kind === "in") throw new SwarmError("conflict", "swarm is not locked");
    if (kind !== "locked") throw new SwarmError("precondition", notMember);
    this.#state = { kind: "busy" };
    try {
      if (!(await this.#keyring.fits(key)))
        throw new SwarmError(
          "unauthenticated",
          "swarm could not be unlocked: invalid key provided",
        );
      await this.#options.keeper.ask({ do: "holdKeys", keys: [key] });
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
    this.#options.log.warn("leaving the swarm, locked as it is");
    await forgetSwarm(this.#options, await stopTasks(this.#options));
    await this.#manager.remove();
  }

  async leave(force: boolean): Promise<void> {
    const state = this.#state;
    if (state.kind === "locked" && !force) throw new SwarmError("precondition", leavingLocked);
    if (state.kind === "locked") return this.#going(() => this.#leaveLocked());
    if (state.kind !== "in") throw new SwarmError("precondition", notMember);
    const { member } = state;
    const isManager = member.session.identity.role === "manager";
    const others = managersOf(member).length - 1;
    if (isManager && !force) throw new SwarmError("precondition", leavingManager(others));
    this.#options.log.info({ node: member.session.identity.nodeId, force }, "leaving the swarm");
    return this.#going(() => this.#leave(member, isManager, others));
  }

  /** What breaks off half way is taken up by the agent's next run, with what is left of the membership. */
  async #going(leave: () => Promise<void>): Promise<void> {
    this.#state = { kind: "busy" };
    try {
      await leave();
      this.#state = { kind: "out" };
    } catch (error) {
      this.#break(error);
      throw error;
    }
  }

  async #leave(
    { session, swarm, vault }: Member,
    isManager: boolean,
    others: number,
  ): Promise<void> {
    await this.#role.settled;
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
    await forgetSwarm(this.#options, vault);
    if (isManager) await this.#manager.remove();
  }

  /** The agent stops and will be back. */
  async close(): Promise<void> {
    this.#stop.abort(new SwarmError("cancelled", "the agent is stopping"));
    if (this.#state.kind === "in") {
      const { session, swarm } = this.#state.member;
      await swarm.close();
      await session.close("the agent is stopping");
    }
    await this.#role.settled;
    this.#manager.close();
  }

  /** The manager beside us goes on with the new certificate; one that is just starting finds it. */
  async #certified({ role }: NodeIdentity): Promise<void> {
    if (role !== "manager" || this.#role.isUnderWay) return;
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
      await rm(join(this.#folders.identity, keyringFile), { force: true });
      const identity = await work();
      await firstWord(await this.#enter(identity));
      return identity;
    } catch (error) {
      this.#state = { kind: "out" };
      throw error;
    }
  }

  async #enter(identity: NodeIdentity): Promise<AgentSession> {
    const member = await openMember(this.#options, identity, {
      certificates: this.#certificates,
      roleChanged: (role) => this.#role.want(role),
      broken: this.#break,
      tunnel: (stream) => this.#serveTunnel(stream),
      signal: this.#stop.signal,
    });
    this.#state = { kind: "in", member };
    return member.session;
  }

  async #makeCluster(
    request: SwarmInit,
    addresses: Addresses,
    make: (init: InitRequest) => Promise<void>,
  ): Promise<NodeIdentity> {
    const { config } = this.#options;
    const csr = await createKeyAndCsr(this.#folders.identity);
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
    const identity = await readIdentity(this.#folders.identity, this.#keyring);
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

  get #member(): Member | null {
    return this.#state.kind === "in" ? this.#state.member : null;
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
