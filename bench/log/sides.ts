// The two sides of the log's measurement: managers of ours, and etcd's members, each a process with a folder of its own.

import { mkdirSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { newKeyAndCsr } from "../../agent/session/identity.ts";
import { newCluster } from "../../manager/identity/bootstrap.ts";
import { signNode } from "../../manager/identity/ca.ts";
import { vniMin } from "../../manager/plan/subnets.ts";
import { ingressSpec, newNetwork } from "../../manager/plan/write.ts";
import { Facts } from "../../manager/store/state.ts";
import type { InitRequest } from "../../proto/gen/types.ts";
import { tightMalloc } from "../../proto/kit/heap.ts";
import { newId } from "../../proto/kit/ids.ts";
import type { SimulatedAgent } from "../agents/setting.ts";
import { BenchError, pause, waitFor } from "../wait.ts";
import { peerIdentity } from "./certificates.ts";
import { Child } from "./child.ts";
import type { ClientSetting, MemberSetting } from "./setting.ts";

const startMsMax = 60_000;

/** What a client has to know; and the way to end it all. */
export interface LogCluster {
  readonly client: Pick<ClientSetting, "kind" | "addresses" | "clusterId" | "identity">;
  stop(): Promise<void>;
}

/** Ours, member by member, counted from 0. */
export interface OurCluster extends LogCluster {
  /** Nodes that the store knows, with no session yet: their certificates are for the key of `client.identity`. */
  readonly agents: readonly SimulatedAgent[];
  /** Null while nobody says that it leads. */
  leader(): number | null;
  /** Ends it at once (SIGKILL), or as a manager that is told to stop. */
  end(member: number, how: "killed" | "stopped"): Promise<void>;
  /** Resolves when its port is open again. */
  start(member: number): Promise<void>;
  tell(member: number, line: string): void;
  /** The rest of the last line that began so; null when there is none. */
  latest(member: number, beginning: string): string | null;
}

/** `folder`: empty, for all members' data. `agentCount`: workers that the store knows from its beginning. */
export async function ourMembers(
  folder: string,
  count: number,
  signal: AbortSignal,
  agentCount = 0,
): Promise<OurCluster> {
  const { settings, agents } = await ourSettings(folder, count, agentCount);
  const children: Child[] = [];
  const spawnMember = (member: number) => {
    const program = fileURLToPath(new URL("./member.js", import.meta.url));
    const words = [program, `${settings[member]?.folder}.json`];
    return new Child(process.execPath, words, tightMalloc);
  };
  const stop = async () => {
    await Promise.all(children.map((child) => child.end()));
  };
  try {
    for (const [member, setting] of settings.entries()) {
      mkdirSync(setting.folder, { recursive: true });
      writeFileSync(`${setting.folder}.json`, JSON.stringify(setting), { mode: 0o600 });
      children.push(spawnMember(member));
    }
    for (const child of children) await child.says("ready", signal);
    if (children.length > 1) {
      // Whoever leads says so: on a busy machine that need not be the first.
      const ids = settings.map(({ id }) => id).join(",");
      for (const child of children) child.tell(`form ${ids}`);
      const isFormed = async () => children.some((child) => child.latest("formed") !== null);
      const why = () => "the managers did not become voters";
      await waitFor(why, startMsMax, async () => (await isFormed()) || undefined, signal);
    }
  } catch (error) {
    await stop();
    throw error;
  }
  const [first] = settings;
  if (first === undefined) throw new BenchError("a cluster has a member");
  const addresses = settings.map(({ address }) => address);
  const { clusterId, identity } = first;
  return {
    client: { kind: "tsswarm", addresses, clusterId, identity },
    agents,
    stop,
    tell: (member, line) => children[member]?.tell(line),
    latest: (member, beginning) => children[member]?.latest(beginning) ?? null,
    leader: () => {
      const leads = children.map((child) => child.latest("role ") === "leader");
      return leads.filter(Boolean).length === 1 ? leads.indexOf(true) : null;
    },
    end: async (member, how) => {
      await (how === "killed" ? children[member]?.end() : children[member]?.stop());
    },
    start: async (member) => {
      const child = spawnMember(member);
      children[member] = child;
      await child.says("ready", signal);
    },
  };
}

async function ourSettings(
  folder: string,
  count: number,
  agentCount: number,
): Promise<{ settings: readonly MemberSetting[]; agents: readonly SimulatedAgent[] }> {
  const addresses = await freeAddresses(count);
  const { key, csr } = await newKeyAndCsr();
  const request = {
    CSR: csr,
    ListenAddr: addresses[0],
    AdvertiseAddr: addresses[0],
    DefaultAddrPool: [],
    Routes: [],
  } as unknown as InitRequest;
  const { cluster: made, node, identity } = await newCluster(request, Date.now());
  const cluster = { ...made, NextVNI: vniMin + 1 };
  const { clusterId, rootCA } = identity;
  const first = { id: identity.nodeId, identity: { ...identity, key } };
  const root = { certificate: cluster.RootCA?.Certificate ?? "", key: cluster.RootCA?.Key ?? "" };
  const others = await Promise.all(
    addresses.slice(1).map(async () => {
      const made = await newKeyAndCsr();
      const id = newId();
      const named = { nodeId: id, role: "manager", clusterId } as const;
      const certificate = await signNode(root as never, made.csr, named, Date.now());
      return { id, identity: { certificate, key: made.key, rootCA } };
    }),
  );
  const all = [first, ...others].map((one, i) => ({
    ...one,
    clusterId,
    folder: join(folder, `member${i + 1}`),
    address: addresses[i] ?? "",
  }));
  const nodes = all.map(({ id, address }, i) => ({
    ...node,
    ID: id,
    Index: i + 1,
    DataPathAddr: `127.0.0.${i + 1}`,
    ManagerStatus: { Leader: i === 0, Reachability: "reachable", Addr: address },
  }));
  const agents: SimulatedAgent[] = [];
  for (let i = 0; i < agentCount; i++) {
    const id = newId();
    const named = { nodeId: id, role: "worker", clusterId } as const;
    agents.push({ id, certificate: await signNode(root as never, csr, named, Date.now()) });
  }
  const { ManagerStatus: _, ...worker } = node;
  const workers = agents.map(({ id }, i) => ({
    ...worker,
    ID: id,
    Index: count + i + 1,
    DataPathAddr: "",
    Spec: { ...node.Spec, Role: "worker" },
    // Its host, which answers also while the process that simulates it stands still: this machine.
    Status: { State: "unknown", Message: "", Addr: "127.0.0.1" },
  }));
  const ingress = newNetwork(Facts.empty(), cluster, ingressSpec, { id: newId(), vni: vniMin });
  // The other managers last: once they are known they are needed for a quorum.
  const seed = { cluster, ingress, nodes: [...nodes.slice(0, 1), ...workers, ...nodes.slice(1)] };
  return { settings: all.map((one, i) => (i === 0 ? { ...one, seed } : one)), agents };
}

/** Debian's etcd, with its own defaults but for addresses and certificates. */
export async function etcdMembers(
  folder: string,
  count: number,
  signal: AbortSignal,
  program = "etcd",
): Promise<LogCluster> {
  const identity = await peerIdentity();
  const files = {
    ca: join(folder, "root.pem"),
    cert: join(folder, "certificate.pem"),
    key: join(folder, "key.pem"),
  };
  mkdirSync(folder, { recursive: true });
  writeFileSync(files.ca, identity.rootCA);
  writeFileSync(files.cert, identity.certificate);
  writeFileSync(files.key, identity.key, { mode: 0o600 });
  const clients = await freeAddresses(count);
  const peers = await freeAddresses(count);
  const cluster = peers.map((peer, i) => `m${i}=https://${peer}`).join(",");
  const children: Child[] = [];
  const stop = async () => {
    await Promise.all(children.map((child) => child.end()));
  };
  try {
    for (const [i, client] of clients.entries())
      children.push(
        new Child(program, [
          ...["--name", `m${i}`, "--data-dir", join(folder, `etcd${i + 1}`)],
          ...["--listen-client-urls", `https://${client}`],
          ...["--advertise-client-urls", `https://${client}`],
          ...["--listen-peer-urls", `https://${peers[i]}`],
          ...["--initial-advertise-peer-urls", `https://${peers[i]}`],
          ...["--initial-cluster", cluster, "--initial-cluster-state", "new"],
          ...["--cert-file", files.cert, "--key-file", files.key],
          ...["--trusted-ca-file", files.ca, "--client-cert-auth"],
          ...["--peer-cert-file", files.cert, "--peer-key-file", files.key],
          ...["--peer-trusted-ca-file", files.ca, "--peer-client-cert-auth"],
          ...["--logger", "zap", "--log-level", "error"],
        ]),
      );
    for (const client of clients) await listens(client, signal);
    // Ports are open before there is a leader.
    await pause(3_000, signal);
  } catch (error) {
    await stop();
    throw error;
  }
  return { client: { kind: "etcd", addresses: clients, clusterId: "", identity }, stop };
}

async function freeAddresses(count: number): Promise<readonly string[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const addresses = await Promise.all(
    servers.map(async (server) => {
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const address = server.address();
      return typeof address === "object" && address !== null ? `127.0.0.1:${address.port}` : "";
    }),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return addresses;
}

async function listens(address: string, signal: AbortSignal): Promise<void> {
  const [host = "", port = ""] = address.split(":");
  const ask = () =>
    new Promise<true | undefined>((resolve) => {
      const socket = connect(Number(port), host);
      socket.once("connect", () => resolve(true)).once("error", () => resolve(undefined));
      socket.once("connect", () => socket.destroy());
    });
  await waitFor(() => `nothing listens on ${address}`, startMsMax, ask, signal);
}
