// Hosts, containers and clients for the tests of the networks: namespaces joined by a switch without an uplink.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { changed } from "../../agent/keeper/names.ts";
import type { ClusterView, Sandbox } from "../../agent/network/types.ts";
import type { KeeperRequest, NameTable } from "../../proto/kit/keeper.ts";
import { tcpListenerIn, udpSocketIn } from "../../proto/kit/netns.ts";

/** Of the namespaces, by the file under test: network-e2e-; several who test at once have labs by different names. */
export const prefix = `${process.env["TSSWARM_LAB"] ?? ""}${basename(process.argv[1] ?? "", ".test.js")}-e2e-`;
const directory = mkdtempSync(join(tmpdir(), prefix));
const client = fileURLToPath(new URL("network-client.js", import.meta.url));
const driver = fileURLToPath(new URL("network-host.js", import.meta.url));
const anywhere = ["0.0.0.0", "::"];
const servers: { close(): unknown }[] = [];

/** The switch and the machines on it: the members, and one that is none. */
export function makeHosts(): { readonly hosts: readonly Host[]; readonly outside: Host } {
  removeHosts(); // of a run that was killed
  ip("netns", "add", `${prefix}switch`);
  ip("-n", `${prefix}switch`, "link", "add", "br0", "type", "bridge");
  ip("-n", `${prefix}switch`, "link", "set", "br0", "up");
  const hosts = [new Host("a", 11), new Host("b", 12)];
  for (const host of hosts) host.start();
  return { hosts, outside: new Host("c", 13) };
}

function removeHosts(): void {
  for (const name of ["a", "b", "c", "switch"]) {
    try {
      ip("netns", "delete", prefix + name);
    } catch {}
  }
}

/** Ends what `makeHosts` and the tests began. */
export async function endHosts(hosts: readonly Host[]): Promise<void> {
  for (const server of servers) server.close();
  for (const host of hosts) {
    await host.do("clear").catch(() => {});
    await host.kill("SIGTERM");
  }
  removeHosts();
  rmSync(directory, { recursive: true, force: true });
}

/** A machine of the test: a namespace with a cable to the switch, and on the members a driver process. */
export class Host {
  readonly name: string;
  readonly execRoot: string;
  readonly address: string;
  readonly address6: string;
  readonly keeperHeard: KeeperRequest[] = [];
  #process: ChildProcess | null = null;
  #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  #id = 0;

  constructor(name: string, last: number) {
    this.name = name;
    this.address = `10.88.0.${last}`;
    this.address6 = `fd4c:88::${last}`;
    this.execRoot = join(directory, name);
    ip("netns", "add", prefix + name);
    ip("-n", prefix + name, "link", "set", "lo", "up");
    this.plug();
  }

  /** Puts the cable to the switch in. */
  plug(): void {
    const here = prefix + this.name;
    const there = `${prefix}switch`;
    const cable = `p${this.name}`;
    const end = ["peer", "name", cable, "netns", there];
    ip("-n", here, "link", "add", "eth0", "type", "veth", ...end);
    ip("-n", here, "address", "add", `${this.address}/24`, "dev", "eth0");
    ip("-n", here, "address", "add", `${this.address6}/64`, "dev", "eth0", "nodad");
    ip("-n", here, "link", "set", "eth0", "up");
    ip("-n", there, "link", "set", cable, "master", "br0", "up");
  }

  get namespace(): string {
    return `/run/netns/${prefix}${this.name}`;
  }

  /** `hasty`: it checks and repairs its network every few seconds by itself, else only when asked to. */
  start(pace: "hasty" | "" = ""): void {
    const args = [`--net=${this.namespace}`, process.execPath, driver, this.execRoot, pace];
    const child = spawn("nsenter", args, { stdio: ["pipe", "pipe", "inherit"] });
    this.#process = child;
    child.stdin.on("error", () => {});
    // What it was asked and will not answer any more must not be waited for.
    child.once("exit", (code, signal) => {
      const lost = new Error(`the driver of host ${this.name} has ended (${signal ?? code})`);
      if (this.#process === child) this.#process = null;
      for (const { reject } of this.#waiting.values()) reject(lost);
      this.#waiting.clear();
    });
    createInterface({ input: child.stdout }).on("line", (line) => {
      const message = JSON.parse(line);
      if ("keeper" in message) {
        this.keeperHeard.push(message.keeper);
        return;
      }
      const waiting = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      if ("error" in message) waiting?.reject(new Error(message.error));
      else waiting?.resolve(message.result as never);
    });
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    if (child === null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }

  do<T>(verb: string, argument?: unknown): Promise<T> {
    this.#id += 1;
    const id = this.#id;
    if (this.#process === null)
      return Promise.reject(new Error(`host ${this.name} has no driver to do ${verb}`));
    this.#process.stdin?.write(`${JSON.stringify({ id, verb, argument })}\n`);
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
  }

  /** A network's names as the keeper has been told them, by and by. */
  namesHeard(networkId: string): NameTable["names"] {
    let table: NameTable = { names: {}, addresses: {} };
    for (const request of this.keeperHeard) {
      if (request.do === "setNames") table = request.tables[networkId] ?? table;
      const change = request.do === "changeNames" ? request.tables[networkId] : undefined;
      if (change !== undefined) table = changed(table, change);
    }
    return table.names;
  }

  async create(sandbox: Sandbox): Promise<string> {
    const { namespace } = await this.do<{ namespace: string }>("createSandbox", sandbox);
    await serve(namespace, sandbox.id);
    return namespace;
  }
}

/** A UDP service in the namespace that answers with its name and the caller's address, over both families. */
export function serveUdp(namespace: string, name: string, port: number, at = anywhere): void {
  for (const address of at) {
    const socket = createSocket(address.includes(":") ? "udp6" : "udp4", (_message, from) =>
      socket.send(`${name} saw ${from.address}\n`, from.port, from.address),
    );
    socket.bind({ fd: udpSocketIn(namespace, address, port) });
    servers.push(socket);
  }
}

/** Connects without pause until `stop`, which tells how often and what failed. */
export class Requests {
  readonly #child: ChildProcess;
  #output = "";

  constructor(namespace: string, address: string, port: number) {
    const args = [`--net=${namespace}`, process.execPath, client, address, String(port)];
    this.#child = spawn("nsenter", args, { stdio: ["pipe", "pipe", "inherit"] });
    this.#child.stdout?.on("data", (chunk) => {
      this.#output += String(chunk);
    });
  }

  async stop(): Promise<{ readonly answered: number; readonly failures: readonly string[] }> {
    this.#child.stdin?.end();
    await once(this.#child, "close");
    return JSON.parse(this.#output);
  }
}

/** Answers every connection to the port with its name and the caller's address; "hold" never closes one. */
export async function serve(
  namespace: string,
  name: string,
  port = 80,
  manner: "answer" | "hold" = "answer",
): Promise<void> {
  for (const address of anywhere) {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      const answer = `${name} saw ${socket.remoteAddress}\n`;
      if (manner === "hold") socket.write(answer);
      else socket.end(answer);
    });
    server.listen({ fd: tcpListenerIn(namespace, address, port) });
    await once(server, "listening");
    servers.push(server);
  }
}

export function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
}

/** What `times` connections from the namespace to address:port heard, each answer with its count. */
export async function ask(
  namespace: string,
  target: string,
  times = 6,
): Promise<Readonly<Record<string, number>>> {
  const heard: Record<string, number> = {};
  for (let i = 0; i < times; i++) {
    const answer = await askOnce(namespace, target);
    heard[answer] = (heard[answer] ?? 0) + 1;
  }
  return heard;
}

/** What one connection or datagram was answered; `seconds` is how long an answer is waited for. */
export async function askOnce(namespace: string, target: string, seconds = 20): Promise<string> {
  const args = [
    `--net=${namespace}`,
    "timeout",
    `${seconds + 1}`,
    "socat",
    `-T${seconds}`,
    "-t0.05",
    "-,ignoreeof",
    socatAddress(target),
  ];
  const child = spawn("nsenter", args);
  let heard = "";
  let complaints = "";
  child.stderr.on("data", (chunk) => {
    complaints += String(chunk);
  });
  child.stdout.on("data", (chunk) => {
    heard += String(chunk);
    // Datagrams have no end: one answer is all there is.
    if (target.startsWith("UDP:")) child.kill();
  });
  child.stdin.on("error", () => {});
  // A datagram is only sent when there is something to say.
  if (target.startsWith("UDP:")) child.stdin.write("?");
  const [code] = await once(child, "close");
  if (heard !== "" || code === 0) return heard.trim();
  if (/Connection refused/.test(complaints)) return "refused";
  return /No route|unreachable/.test(complaints)
    ? "no route"
    : `failed: ${complaints.slice(0, 200)}`;
}

/** "10.0.0.1:80", "UDP:[fd00::1]:80,…" in socat's words. */
function socatAddress(target: string): string {
  const version = target.includes("[") ? 6 : 4;
  return target.startsWith("UDP:")
    ? target.replace("UDP:", `UDP${version}:`)
    : `TCP${version}:${target}`;
}

const overlay = network({
  ...{ id: "net1", name: "web-net", vni: 4097 },
  ...{ base: "10.0.1", base6: "fd00:1" },
});
export const ingress = network({
  ...{ id: "ing", name: "ingress", vni: 4096 },
  ...{ base: "10.0.0", base6: "fd00:9" },
});

/** Of both families, if the network has both. */
export function addressesOn(on: ClusterView["networks"][number], last: number): readonly string[] {
  return (on.IPAM?.Config ?? []).map(({ Gateway }) => Gateway.replace(/1$/, String(last)));
}

/** The first three bytes of a network's subnet are its base, the first 64 bits of its IPv6 one `base6`. */
export function network(facts: {
  readonly id: string;
  readonly name: string;
  readonly base: string;
  readonly base6?: string;
  readonly vni: number;
  readonly isInternal?: boolean;
}): ClusterView["networks"][number] {
  const { id, name, base, base6, vni } = facts;
  const Ingress = name === "ingress";
  const rest = { IPRange: "", AuxiliaryAddresses: {} };
  const four = { Subnet: `${base}.0/${Ingress ? 16 : 24}`, Gateway: `${base}.1`, ...rest };
  const six = { Subnet: `${base6}::/64`, Gateway: `${base6}::1`, ...rest };
  const spec = { Name: name, Labels: {}, Driver: "overlay", Options: {}, Scope: "swarm" };
  const kind = { Internal: facts.isInternal === true, Attachable: !Ingress, Ingress };
  return {
    ...{ ID: id, CreatedAt: "", UpdatedAt: "", VNI: vni },
    Spec: { ...spec, ...kind, EnableIPv6: base6 !== undefined },
    IPAM: {
      Driver: "default",
      Options: {},
      Config: base6 === undefined ? [four] : [four, six],
    },
  };
}

export interface Task {
  readonly id: string;
  readonly host: number;
  readonly last: number;
  readonly state?: string;
}

/** A node and its peers as the managers tell it. */
export function membersView(
  self: number,
  hosts: readonly Host[],
): Pick<ClusterView, "self" | "peers"> {
  return {
    self: {
      ...{ nodeId: `node${self}`, index: self, dataPathPort: 4789 },
      dataPathAddr: hosts[self - 1]?.address ?? "",
    },
    peers: hosts.map((host, i) => ({
      ...{ NodeID: `node${i + 1}`, Hostname: host.name, Index: i + 1 },
      DataPathAddr: host.address,
    })),
  };
}

export function view(self: number, hosts: readonly Host[], tasks: readonly Task[]): ClusterView {
  const endpoint = (on: ClusterView["networks"][number], task: Task) => ({
    ...{ NetworkID: on.ID, ServiceID: "web", TaskID: task.id, NodeID: `node${task.host}` },
    ...{
      NodeIndex: task.host,
      Addresses: addressesOn(on, task.last),
      State: task.state ?? "serving",
    },
    ...{ Names: [`web.${task.last}`, `web.${task.last}.${task.id}`], Aliases: [] },
  });
  const service = { ServiceID: "web", Name: "web", Aliases: ["site"] };
  const port = { Name: "", Protocol: "tcp", TargetPort: 80, PublishedPort: 8080 };
  const idle = { NetworkID: "net1", ServiceID: "idle", Name: "idle", Aliases: [], Ports: [] };
  return {
    ...membersView(self, hosts),
    networks: [ingress, overlay],
    services: [
      { ...service, NetworkID: "net1", VirtualIPs: addressesOn(overlay, 2), Ports: [] },
      {
        ...{ ...service, NetworkID: "ing", VirtualIPs: addressesOn(ingress, 2), Aliases: [] },
        Ports: [
          { ...port, PublishMode: "ingress" },
          {
            ...{ Name: "", Protocol: "udp", TargetPort: 5353 },
            ...{ PublishedPort: 8053, PublishMode: "ingress" },
          },
        ],
      },
      { ...idle, VirtualIPs: addressesOn(overlay, 3) },
    ],
    endpoints: tasks.flatMap((task) => [endpoint(overlay, task), endpoint(ingress, task)]),
  };
}

export function sandbox(task: Task, more: Partial<Sandbox> = {}): Sandbox {
  return {
    id: task.id,
    attachments: [
      { networkId: "ing", addresses: addressesOn(ingress, task.last) },
      { networkId: "net1", addresses: addressesOn(overlay, task.last) },
    ],
    ports: [],
    upstreamNameServers: ["192.0.2.53:53"],
    searchDomains: [],
    ...more,
  };
}

export const tasks: readonly Task[] = [
  { id: "a1", host: 1, last: 5 },
  { id: "b1", host: 2, last: 6 },
  { id: "b2", host: 2, last: 7 },
];
