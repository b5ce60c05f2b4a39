// The two sides of the log's measurement: managers of ours, and etcd's members, each a process with a folder of its own.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { newKeyAndCsr } from "../../agent/session/identity.ts";
import { newCluster } from "../../manager/identity/bootstrap.ts";
import { signNode } from "../../manager/identity/ca.ts";
import type { InitRequest } from "../../proto/gen/types.ts";
import { newId } from "../../proto/kit/ids.ts";
import { BenchError, pause, waitFor } from "../wait.ts";
import { peerIdentity } from "./certificates.ts";
import type { ClientSetting, MemberSetting } from "./setting.ts";

const startMsMax = 60_000;

/** What a client has to know; and the way to end it all. */
export interface LogCluster {
  readonly client: Pick<ClientSetting, "kind" | "addresses" | "clusterId" | "identity">;
  stop(): Promise<void>;
}

/** Ours, member by member, counted from 0. */
export interface OurCluster extends LogCluster {
  /** Null while nobody says that it leads. */
  leader(): number | null;
  /** Ends it at once (SIGKILL), or as a manager that is told to stop. */
  end(member: number, how: "killed" | "stopped"): Promise<void>;
  /** Resolves when its port is open again. */
  start(member: number): Promise<void>;
}

/** `folder`: empty, for all members' data. */
export async function ourMembers(
  folder: string,
  count: number,
  signal: AbortSignal,
): Promise<OurCluster> {
  const settings = await ourSettings(folder, count);
  const children: Child[] = [];
  const spawnMember = (member: number) => {
    const program = fileURLToPath(new URL("./member.js", import.meta.url));
    return new Child(process.execPath, [program, `${settings[member]?.folder}.json`]);
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
    const others = settings.slice(1).map(({ id }) => id);
    if (others.length > 0) {
      children[0]?.tell(`form ${others.join(",")}`);
      await children[0]?.says("formed", signal);
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
    stop,
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

async function ourSettings(folder: string, count: number): Promise<readonly MemberSetting[]> {
  const addresses = await freeAddresses(count);
  const { key, csr } = await newKeyAndCsr();
  const request = {
    CSR: csr,
    ListenAddr: addresses[0],
    AdvertiseAddr: addresses[0],
    DefaultAddrPool: [],
    Routes: [],
  } as unknown as InitRequest;
  const { cluster, node, identity } = await newCluster(request, Date.now());
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
  return all.map((one, i) => (i === 0 ? { ...one, seed: { cluster, nodes } } : one));
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

class Child {
  readonly #process: ChildProcess;
  readonly #lines: string[] = [];
  #said = "";

  constructor(program: string, args: readonly string[]) {
    this.#process = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
    this.#process.on("error", (error) => {
      this.#said += error.message;
    });
    this.#process.stderr?.on("data", (bytes: Buffer) => {
      this.#said = (this.#said + bytes.toString()).slice(-4096);
    });
    if (this.#process.stdout !== null)
      createInterface({ input: this.#process.stdout }).on("line", (line) => this.#lines.push(line));
  }

  tell(line: string): void {
    this.#process.stdin?.write(`${line}\n`);
  }

  async says(line: string, signal: AbortSignal): Promise<void> {
    const why = () => `${this.#process.spawnfile} did not say "${line}": ${this.#said.trim()}`;
    const ask = async () => {
      if (this.#process.exitCode !== null) throw new BenchError(why());
      return this.#lines.includes(line) ? true : undefined;
    };
    await waitFor(why, startMsMax, ask, signal);
  }

  /** The rest of the last line that began so; null when it has ended or said none. */
  latest(beginning: string): string | null {
    if (this.#hasEnded()) return null;
    const line = this.#lines.findLast((one) => one.startsWith(beginning));
    return line === undefined ? null : line.slice(beginning.length);
  }

  async end(): Promise<void> {
    if (this.#hasEnded()) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await ended;
  }

  /** Lets it end by itself. */
  async stop(): Promise<void> {
    if (this.#hasEnded()) return;
    const ended = once(this.#process, "exit");
    this.#process.stdin?.end();
    await ended;
  }

  #hasEnded(): boolean {
    const { pid, exitCode, signalCode } = this.#process;
    return pid === undefined || exitCode !== null || signalCode !== null;
  }
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
