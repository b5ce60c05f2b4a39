// How this machine becomes a node of a swarm, stays one over restarts, and leaves.

import { readFileSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import grpc from "@grpc/grpc-js";
import { codec } from "../proto/codec.ts";
import type { DaemonConfig } from "../proto/config.ts";
import type { Network as NetworkObject } from "../proto/gen/types.ts";
import { type NodeIdentity, readIdentity, removeIdentity } from "../proto/identity.ts";
import { asSwarmError, SwarmError } from "../proto/kit/errors.ts";
import type { Keeper } from "../proto/kit/keeper.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import { Client } from "../proto/rpc.ts";
import {
  addressTowards,
  advertiseAddress,
  dataPathAddress,
  hostOf,
  listenAddress,
  ownRoutes,
} from "./addresses.ts";
import type { LocalNode, Membership, SwarmInit, SwarmJoin } from "./api/types.ts";
import { containerFor } from "./container.ts";
import { describeNode } from "./description.ts";
import type { Engine } from "./engine/types.ts";
import { taskLogs } from "./logs.ts";
import type { Network, NetworkCheck } from "./network/types.ts";
import { createKeyAndCsr } from "./session/identity.ts";
import { joinCluster } from "./session/join.ts";
import { type AgentSession, openSession } from "./session/session.ts";
import { type Addresses, readAddresses, writeAddresses } from "./settings.ts";
import { Swarm } from "./swarm.ts";

const managerStartMsMax = 20_000;
const managerRetryMs = 50;
const initMsMax = 30_000;
/** Joining answers once the first assignments are here, or after this long without them. */
const firstWordMsMax = 10_000;

const ownManager = "the manager on this node";
const alreadyMember =
  'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.';
const notMember = "This node is not part of a swarm";
const noSwarm =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';
const onlyWorker =
  "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager.";
const leavingManager =
  "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message.";

export interface MembershipOptions {
  readonly config: DaemonConfig;
  readonly keeper: Keeper;
  readonly engine: Engine;
  readonly network: Network & Pick<NetworkCheck, "checkSoon">;
  readonly world: World;
  readonly log: Log;
}

interface Member {
  readonly identity: NodeIdentity;
  readonly addresses: Addresses;
  readonly session: AgentSession;
  readonly swarm: Swarm;
}

type State =
  | { readonly kind: "out" }
  | { readonly kind: "busy" }
  | { readonly kind: "in"; readonly member: Member };

export class NodeMembership implements Membership {
  readonly #options: MembershipOptions;
  readonly #stop = new AbortController();
  readonly #control: Client<"Control">;
  readonly #manager: Client<"Local">;
  /** Rejects when the loop that runs tasks has broken: the agent has to start anew. */
  readonly broken: Promise<never>;
  #break: (error: unknown) => void = () => {};
  #state: State = { kind: "out" };

  constructor(options: MembershipOptions) {
    this.#options = options;
    this.broken = new Promise((_, reject) => {
      this.#break = reject;
    });
    this.broken.catch(() => {});
    const target = `unix:${join(options.config["exec-root"], "manager.sock")}`;
    const credentials = grpc.credentials.createInsecure();
    this.#control = new Client("Control", target, credentials, {}, ownManager);
    this.#manager = new Client("Local", target, credentials, {}, ownManager);
  }

  /** Takes up the membership of before a restart, if there is one. */
  async resume(): Promise<void> {
    const identity = await readIdentity(this.#folder("identity"));
    if (identity !== null) await this.#enter(identity);
  }

  local(): LocalNode {
    const state = this.#state;
    if (state.kind !== "in")
      return { ...outside, state: state.kind === "busy" ? "pending" : "inactive" };
    const { identity, addresses, session } = state.member;
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
    if (state.member.identity.role !== "manager") throw new SwarmError("not_manager", onlyWorker);
    return this.#control;
  }

  async init(request: SwarmInit): Promise<string> {
    const identity = await this.#become(async () => {
      const addresses = this.#addressesFor(request);
      await this.#removeManager();
      try {
        const made = await this.#makeCluster(request, addresses);
        await this.#saveAddresses(addresses);
        return made;
      } catch (error) {
        await this.#removeManager();
        await removeIdentity(this.#folder("identity"));
        throw error;
      }
    });
    return identity.nodeId;
  }

  async join(request: SwarmJoin): Promise<void> {
    if (request.RemoteAddrs.length === 0)
      throw new SwarmError("invalid", "at least one RemoteAddr is required to join");
    await this.#become(async () => {
      const addresses = await this.#addressesTowards(request);
      const identity = await joinCluster(
        {
          directory: this.#folder("identity"),
          remotes: request.RemoteAddrs,
          token: request.JoinToken,
          description: describeNode(this.#options.config.labels, ""),
          availability: request.Availability,
          advertiseAddr: addresses.advertiseAddr,
          dataPathAddr: addresses.dataPathAddr,
          routes: ownRoutes(networkInterfaces()),
        },
        this.#stop.signal,
      );
      await this.#saveAddresses(addresses);
      if (identity.role === "manager") await this.#runManager(true);
      return identity;
    });
  }

  async leave(force: boolean): Promise<void> {
    const state = this.#state;
    if (state.kind !== "in") throw new SwarmError("precondition", notMember);
    const { identity, session, swarm } = state.member;
    if (identity.role === "manager" && !force) throw new SwarmError("precondition", leavingManager);
    this.#state = { kind: "busy" };
    this.#options.log.info({ node: identity.nodeId, force }, "leaving the swarm");
    // By this word the managers know that it will not be back, and replace its tasks at once.
    await session.close("leave");
    await swarm.stopAll();
    await swarm.close();
    await this.#options.network.clear();
    await removeIdentity(this.#folder("identity"));
    await rm(this.#folder("agent"), { recursive: true, force: true });
    if (identity.role === "manager") await this.#removeManager();
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
    this.#control.close();
    this.#manager.close();
  }

  async #become(work: () => Promise<NodeIdentity>): Promise<NodeIdentity> {
    if (this.#state.kind !== "out") throw new SwarmError("precondition", alreadyMember);
    this.#state = { kind: "busy" };
    try {
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
    const addresses = (await readAddresses(this.#folder("agent"))) ?? (await guess(identity));
    const swarm = await Swarm.open({
      engine,
      network,
      dataPathAddr: addresses.dataPathAddr,
      containerOf: (task, sandbox) => containerFor(task, identity.nodeId, sandbox),
      world,
      log,
    });
    const session = await openSession({
      identity,
      identityDirectory: this.#folder("identity"),
      savedFile: join(this.#folder("agent"), "wanted.pb"),
      bootId: readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
      hello: () => ({
        Description: describeNode(config.labels, identity.rootCA),
        DataPathAddr: addresses.dataPathAddr,
        Routes: ownRoutes(networkInterfaces()),
        Tasks: swarm.held(),
      }),
      unreachablePeers: () => network.unreachablePeers(),
      opened: () => network.checkSoon(),
      world,
      log,
    });
    session.onLogs((subscription, signal) =>
      taskLogs({ engine, nodeId: identity.nodeId, log }, subscription, signal),
    );
    swarm.start(session);
    swarm.closed.catch(this.#break);
    this.#state = { kind: "in", member: { identity, addresses, session, swarm } };
    log.info({ node: identity.nodeId, role: identity.role, ...addresses }, "part of a swarm");
    return session;
  }

  async #makeCluster(request: SwarmInit, addresses: Addresses): Promise<NodeIdentity> {
    const { config } = this.#options;
    const csr = await createKeyAndCsr(this.#folder("identity"));
    await this.#runManager(true);
    await this.#managerAnswers();
    await this.#manager.unary(
      "Init",
      {
        CSR: csr,
        Description: describeNode(config.labels, ""),
        ListenAddr: listenAddress(request.ListenAddr, networkInterfaces()),
        AdvertiseAddr: addresses.advertiseAddr,
        DataPathAddr: addresses.dataPathAddr,
        DataPathPort: dataPathPort(request.DataPathPort),
        DefaultAddrPool: request.DefaultAddrPool,
        SubnetSize: request.SubnetSize,
        Availability: request.Availability,
        Spec: codec("ClusterSpec").parse(request.Spec ?? {}),
        Routes: ownRoutes(networkInterfaces()),
        ForceNewCluster: request.ForceNewCluster,
      },
      { timeoutMs: initMsMax, signal: this.#stop.signal },
    );
    const identity = await readIdentity(this.#folder("identity"));
    if (identity === null)
      throw new SwarmError(
        "internal",
        "the manager has made a cluster but no identity of this node",
      );
    return identity;
  }

  async #managerAnswers(): Promise<void> {
    const { world } = this.#options;
    const deadline = world.monotonic() + managerStartMsMax;
    for (;;) {
      try {
        await this.#manager.unary("Status", {}, { timeoutMs: 1_000, signal: this.#stop.signal });
        return;
      } catch (error) {
        if (world.monotonic() > deadline)
          throw new SwarmError(
            "unavailable",
            "the manager process does not start; its log says why",
            { cause: asSwarmError(error) },
          );
      }
      await world.sleep(managerRetryMs, this.#stop.signal);
    }
  }

  async #runManager(wanted: boolean): Promise<void> {
    await this.#options.keeper.ask({ do: "runManager", wanted });
  }

  async #removeManager(): Promise<void> {
    await this.#runManager(false);
    await rm(this.#folder("manager"), { recursive: true, force: true });
  }

  #addressesFor(request: SwarmInit): Addresses {
    const interfaces = networkInterfaces();
    const asked = request.AdvertiseAddr || this.#options.config["swarm-default-advertise-addr"];
    const listened = hostOf(listenAddress(request.ListenAddr, interfaces));
    const fallback = listened === "0.0.0.0" ? "" : listenAddress(request.ListenAddr, interfaces);
    const advertiseAddr = advertiseAddress(asked || fallback, interfaces);
    return { advertiseAddr, dataPathAddr: dataPath(request.DataPathAddr, advertiseAddr) };
  }

  /** Unless told otherwise, the address from which the managers are reached. */
  async #addressesTowards(request: SwarmJoin): Promise<Addresses> {
    const asked = request.AdvertiseAddr || this.#options.config["swarm-default-advertise-addr"];
    const advertiseAddr = advertiseAddress(
      asked || (await addressTowards(request.RemoteAddrs[0] ?? "")),
      networkInterfaces(),
    );
    return { advertiseAddr, dataPathAddr: dataPath(request.DataPathAddr, advertiseAddr) };
  }

  async #saveAddresses(addresses: Addresses): Promise<void> {
    await mkdir(this.#folder("agent"), { recursive: true, mode: 0o700 });
    await writeAddresses(this.#folder("agent"), addresses);
  }

  #managers({ session, identity }: Member): readonly string[] {
    const told = session.wanted?.info.Managers ?? [];
    return told.length > 0 ? told : identity.managers;
  }

  #folder(name: string): string {
    return join(this.#options.config["data-root"], name);
  }
}

const outside = {
  error: "",
  nodeId: "",
  nodeAddr: "",
  clusterId: "",
  isManager: false,
  managers: [],
} as const;

function dataPath(asked: string, advertiseAddr: string): string {
  return asked === "" ? hostOf(advertiseAddr) : dataPathAddress(asked, networkInterfaces());
}

function dataPathPort(port: number): number {
  if (port === 0) return 4789;
  if (port < 1024 || port > 49_151)
    throw new SwarmError("invalid", `invalid DataPathPort ${port}: must be between 1024 and 49151`);
  return port;
}

/** A node whose settings are lost still has its way to the managers. */
async function guess(identity: NodeIdentity): Promise<Addresses> {
  const address = await addressTowards(identity.managers[0] ?? "");
  return { advertiseAddr: advertiseAddress(address, networkInterfaces()), dataPathAddr: address };
}

async function firstWord(session: AgentSession): Promise<void> {
  for await (const _ of session.watch(AbortSignal.timeout(firstWordMsMax))) return;
}
