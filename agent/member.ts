// A node while it is part of a swarm: its session with the managers, the loop that does what they want, and the files it holds for
// tasks.

import { readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import type { DaemonConfig } from "../proto/config.ts";
import type { SessionInfo } from "../proto/gen/types.ts";
import { type NodeIdentity, removeIdentity } from "../proto/identity.ts";
import { messageOf } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import type { Role } from "../proto/tls.ts";
import { ownRoutes } from "./addresses.ts";
import type { Certificates } from "./certificates.ts";
import type { ImageCollector } from "./collector.ts";
import { containerFor, thisNode } from "./container.ts";
import { describeNode } from "./description.ts";
import type { OpenEngine } from "./engine/engine.ts";
import { openLibc } from "./engine/libc.ts";
import { logDefaults } from "./engine/log-limits.ts";
import { memoryFolder } from "./engine/memory.ts";
import { Vault } from "./engine/vault.ts";
import { taskLogs } from "./logs.ts";
import { watchAddresses } from "./moved.ts";
import type { Network, NetworkCheck } from "./network/types.ts";
import { NodeOverlayDoor } from "./overlay-door.ts";
import { ownAddresses, saveAddresses, towardsOthers } from "./own-addresses.ts";
import { type AgentSession, openSession } from "./session/session.ts";
import { type Addresses, foldersOf } from "./settings.ts";
import { Swarm, type SwarmOptions } from "./swarm.ts";
import { UsageMeter } from "./usage.ts";

/** What of this machine a swarm makes use of. */
export interface Machine {
  readonly config: DaemonConfig;
  readonly engine: OpenEngine;
  readonly network: Network & Pick<NetworkCheck, "checkSoon">;
  readonly collector: Pick<ImageCollector, "pull">;
  readonly world: World;
  readonly log: Log;
}

export interface Member {
  readonly addresses: Addresses;
  readonly session: AgentSession;
  readonly swarm: Swarm;
  readonly vault: Vault;
}

export interface MemberHooks {
  readonly certificates: Certificates;
  /** What the managers want this node to be. */
  readonly roleChanged: (role: Role) => void;
  /** What another node asks of this one's API comes over it. */
  readonly tunnel: (stream: Duplex) => void;
  /** The loop that runs tasks has broken. */
  readonly broken: (error: unknown) => void;
  /** Aborts when the agent stops. */
  readonly signal: AbortSignal;
}

/** From here on the machine does what its managers want. */
export async function openMember(
  machine: Machine,
  identity: NodeIdentity,
  hooks: MemberHooks,
): Promise<Member> {
  const { engine, network, config, world, log } = machine;
  const { certificates } = hooks;
  const folders = foldersOf(config);
  const addresses = await ownAddresses(folders.agent, identity, log);
  const vault = await openVault(machine, identity.nodeId);
  const swarm = await Swarm.open({
    ...swarmParts(machine, vault, identity.nodeId),
    dataPathAddr: addresses.dataPathAddr,
    beforehand: ({ info }) => keepTasks(machine, info),
    networksMade: () => void door?.sweep(),
  });
  let door: NodeOverlayDoor | null = null;
  const meter = new UsageMeter({ engine, wanted: () => session.wanted, world, log });
  const session = await openSession({
    identity,
    identityDirectory: folders.identity,
    savedFile: savedFile(config),
    bootId: readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
    hello: (now) => ({
      Description: describeNode(config, now),
      DataPathAddr: addresses.dataPathAddr,
      Routes: ownRoutes(networkInterfaces()),
      Tasks: swarm.held(),
    }),
    unreachablePeers: () => network.unreachablePeers(),
    unheldPorts: () => network.unheldPorts(),
    usage: () => meter.take(),
    opened: () => network.checkSoon(),
    told: (info) => certificates.told(info),
    files: vault,
    roleChanged: hooks.roleChanged,
    world,
    log,
  });
  session.onLogs((subscription, signal) =>
    taskLogs({ engine, nodeId: identity.nodeId, log }, subscription, signal),
  );
  session.onTunnel(hooks.tunnel);
  door = new NodeOverlayDoor({
    attach: (request, signal) => session.attach(request, signal),
    detach: (taskIds, signal) => session.detach(taskIds, signal),
    wanted: () => session.wanted,
    untilNetwork: (networkId, signal) => swarm.untilNetwork(networkId, signal),
    containers: () => engine.list(),
    world,
    log,
    signal: hooks.signal,
  });
  engine.attachThrough(door);
  swarm.start(session);
  swarm.closed.catch(hooks.broken);
  swarm.run("certificates", (signal) => certificates.run(session, signal));
  const member = { addresses, session, swarm, vault };
  swarm.run("usage", (signal) => meter.run(signal));
  swarm.run("addresses", (signal) => followAddresses(machine, member, signal));
  log.info({ node: identity.nodeId, role: identity.role, ...addresses }, "part of a swarm");
  return member;
}

/** What is wanted, for the agent's next run of this boot. */
function savedFile(config: DaemonConfig): string {
  return join(memoryFolder(config["exec-root"]), "wanted.pb");
}

/** A manager's disk tells nothing of the cluster where the cluster is autolocked. */
async function keepTasks({ engine, log }: Machine, { Role, Autolock }: SessionInfo): Promise<void> {
  const place = Role === "manager" && Autolock === true ? "memory" : "disk";
  await engine.keepTasks(place).catch((error: unknown) => {
    log.error({ place, error: messageOf(error) }, "records of tasks do not move");
  });
}

/** What the loop needs, whoever says what is wanted. */
export function swarmParts(
  { engine, network, collector, config, world, log }: Machine,
  vault: Vault,
  nodeId: string,
): Omit<SwarmOptions, "dataPathAddr"> {
  const pathOf = (taskId: string, index: number) => vault.path(taskId, index);
  const logs = logDefaults(config);
  return {
    engine: { ...engine, pull: collector.pull },
    network,
    containerOf: (task, sandbox) => containerFor(task, nodeId, sandbox, pathOf, logs),
    files: vault,
    world,
    log,
  };
}

export function openVault({ config, log }: Machine, nodeId: string): Promise<Vault> {
  const directory = memoryFolder(config["exec-root"]);
  return Vault.open({ directory, libc: openLibc(), node: thisNode(nodeId), log });
}

/** `ip:port` of the managers, as they were last told. */
export function managersOf({ session }: Member): readonly string[] {
  const told = session.wanted?.info.Managers ?? [];
  return told.length > 0 ? told : session.identity.managers;
}

/** Of the swarm nothing is left here: no secret, no network, no identity. */
export async function forgetSwarm({ config, network }: Machine, vault: Vault): Promise<void> {
  const { identity, agent } = foldersOf(config);
  await vault.clear();
  await network.clear();
  await removeIdentity(identity);
  await rm(savedFile(config), { force: true });
  await rm(agent, { recursive: true, force: true });
}

function followAddresses(
  { config, world, log }: Machine,
  { addresses: own, session }: Member,
  signal: AbortSignal,
): Promise<void> {
  const managers = () => session.wanted?.info.Managers ?? session.identity.managers;
  return watchAddresses(
    {
      own,
      interfaces: networkInterfaces,
      towards: () => towardsOthers(managers(), own.advertiseAddr),
      save: (addresses) => saveAddresses(foldersOf(config).agent, addresses),
      world,
      log,
    },
    signal,
  );
}
