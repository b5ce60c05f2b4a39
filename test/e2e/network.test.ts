import assert from "node:assert/strict";
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { ClusterView, Sandbox } from "../../agent/network/types.ts";
import type { KeeperRequest } from "../../proto/kit/keeper.ts";
import { tcpListenerIn } from "../../proto/kit/netns.ts";

const isReady = process.getuid?.() === 0;
const prefix = "net-e2e-";
const directory = mkdtempSync(join(tmpdir(), prefix));
const driver = fileURLToPath(new URL("network-host.js", import.meta.url));
const servers: Server[] = [];

/** A machine of the test: a namespace with a cable to the switch, and on the members a driver process. */
class Host {
  readonly name: string;
  readonly execRoot: string;
  readonly address: string;
  readonly keeperHeard: KeeperRequest[] = [];
  #process: ChildProcess | null = null;
  #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  #id = 0;

  constructor(name: string, last: number) {
    this.name = name;
    this.address = `10.88.0.${last}`;
    this.execRoot = join(directory, name);
    const cable = `p${name}`;
    ip("netns", "add", prefix + name);
    ip("-n", prefix + name, "link", "set", "lo", "up");
    ip(
      ...["-n", prefix + name, "link", "add", "eth0", "type", "veth"],
      ...["peer", "name", cable, "netns", `${prefix}switch`],
    );
    ip("-n", prefix + name, "address", "add", `${this.address}/24`, "dev", "eth0");
    ip("-n", prefix + name, "link", "set", "eth0", "up");
    ip("-n", `${prefix}switch`, "link", "set", cable, "master", "br0", "up");
  }

  get namespace(): string {
    return `/run/netns/${prefix}${this.name}`;
  }

  start(): void {
    const args = [`--net=${this.namespace}`, process.execPath, driver, this.execRoot];
    const child = spawn("nsenter", args, { stdio: ["pipe", "pipe", "inherit"] });
    this.#process = child;
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
    this.#process = null;
    child.kill(signal);
    await once(child, "exit");
  }

  do<T>(verb: string, argument?: unknown): Promise<T> {
    this.#id += 1;
    const id = this.#id;
    this.#process?.stdin?.write(`${JSON.stringify({ id, verb, argument })}\n`);
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
  }

  async create(sandbox: Sandbox): Promise<string> {
    const { namespace } = await this.do<{ namespace: string }>("createSandbox", sandbox);
    await serve(namespace, sandbox.id);
    return namespace;
  }
}

/** Answers every connection to port 80 in the namespace with its name and the caller's address. */
async function serve(namespace: string, name: string): Promise<void> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.end(`${name} saw ${socket.remoteAddress}\n`);
  });
  server.listen({ fd: tcpListenerIn(namespace, "0.0.0.0", 80) });
  await once(server, "listening");
  servers.push(server);
}

function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
}

/** What `times` connections from the namespace to address:port heard, each answer with its count. */
async function ask(
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

async function askOnce(namespace: string, target: string): Promise<string> {
  const args = [
    `--net=${namespace}`,
    "timeout",
    "3",
    "socat",
    "-T2",
    "-t0.05",
    "-,ignoreeof",
    `TCP:${target}`,
  ];
  try {
    return (await promisify(execFile)("nsenter", args)).stdout.trim();
  } catch (error) {
    const text = String((error as { stderr?: string }).stderr);
    if (/Connection refused/.test(text)) return "refused";
    return /No route|unreachable/.test(text) ? "no route" : `failed: ${text.slice(0, 200)}`;
  }
}

const overlay = network("net1", "web-net", "10.0.1.0/24", "10.0.1.1", 4097, false);
const ingress = network("ing", "ingress", "10.0.0.0/16", "10.0.0.1", 4096, true);

function network(
  ID: string,
  Name: string,
  Subnet: string,
  Gateway: string,
  VNI: number,
  Ingress: boolean,
): ClusterView["networks"][number] {
  const spec = { Name, Labels: {}, Driver: "overlay", Options: {}, Internal: false };
  return {
    ...{ ID, CreatedAt: "", UpdatedAt: "", VNI },
    Spec: { ...spec, Attachable: true, Ingress, EnableIPv6: false, Scope: "swarm" },
    IPAM: {
      Driver: "default",
      Options: {},
      Config: [{ Subnet, Gateway, IPRange: "", AuxiliaryAddresses: {} }],
    },
  };
}

interface Task {
  readonly id: string;
  readonly host: number;
  readonly last: number;
  readonly state?: string;
}

function view(self: number, hosts: readonly Host[], tasks: readonly Task[]): ClusterView {
  const endpoint = (NetworkID: string, base: string, task: Task) => ({
    ...{ NetworkID, ServiceID: "web", TaskID: task.id, NodeID: `node${task.host}` },
    ...{ NodeIndex: task.host, Address: `${base}${task.last}`, State: task.state ?? "serving" },
    ...{ Names: [`web.${task.last}`, `web.${task.last}.${task.id}`], Aliases: [] },
  });
  const service = { ServiceID: "web", Name: "web", Aliases: ["site"] };
  const port = { Name: "", Protocol: "tcp", TargetPort: 80, PublishedPort: 8080 };
  const idle = { NetworkID: "net1", ServiceID: "idle", Name: "idle", Aliases: [], Ports: [] };
  return {
    self: {
      ...{ nodeId: `node${self}`, index: self, dataPathPort: 4789 },
      dataPathAddr: hosts[self - 1]?.address ?? "",
    },
    networks: [ingress, overlay],
    peers: hosts.map((host, i) => ({
      ...{ NodeID: `node${i + 1}`, Hostname: host.name, Index: i + 1 },
      DataPathAddr: host.address,
    })),
    services: [
      { ...service, NetworkID: "net1", VirtualIP: "10.0.1.2", Ports: [] },
      {
        ...{ ...service, NetworkID: "ing", VirtualIP: "10.0.0.2", Aliases: [] },
        Ports: [{ ...port, PublishMode: "ingress" }],
      },
      { ...idle, VirtualIP: "10.0.1.3" },
    ],
    endpoints: tasks.flatMap((task) => [
      endpoint("net1", "10.0.1.", task),
      endpoint("ing", "10.0.0.", task),
    ]),
  };
}

function sandbox(task: Task, more: Partial<Sandbox> = {}): Sandbox {
  return {
    id: task.id,
    attachments: [
      { networkId: "ing", address: `10.0.0.${task.last}` },
      { networkId: "net1", address: `10.0.1.${task.last}` },
    ],
    ports: [],
    upstreamNameServers: ["192.0.2.53:53"],
    searchDomains: [],
    ...more,
  };
}

const tasks: readonly Task[] = [
  { id: "a1", host: 1, last: 5 },
  { id: "b1", host: 2, last: 6 },
  { id: "b2", host: 2, last: 7 },
];
let hosts: Host[] = [];
let outside: Host;
const namespaces = new Map<string, string>();

before(async () => {
  if (!isReady) return;
  ip("netns", "add", `${prefix}switch`);
  ip("-n", `${prefix}switch`, "link", "add", "br0", "type", "bridge");
  ip("-n", `${prefix}switch`, "link", "set", "br0", "up");
  hosts = [new Host("a", 11), new Host("b", 12)];
  outside = new Host("c", 13);
  for (const host of hosts) host.start();
  await updateAll(tasks);
  for (const task of tasks) {
    const host = hosts[task.host - 1];
    assert.ok(host !== undefined);
    namespaces.set(task.id, await host.create(sandbox(task)));
  }
});

after(async () => {
  for (const server of servers) server.close();
  for (const host of hosts) {
    await host.do("clear").catch(() => {});
    await host.kill("SIGTERM");
  }
  for (const name of ["a", "b", "c", "switch"]) {
    try {
      ip("netns", "delete", prefix + name);
    } catch {}
  }
  rmSync(directory, { recursive: true, force: true });
});

async function updateAll(wanted: readonly Task[]): Promise<void> {
  await Promise.all(hosts.map((host, i) => host.do("update", view(i + 1, hosts, wanted))));
}

const at = (name: string) => namespaces.get(name) ?? "";
const skip = isReady ? false : "needs root";

test("the virtual address spreads over all tasks, and they see the caller's own address", {
  skip,
}, async () => {
  assert.deepEqual(await ask(at("b1"), "10.0.1.2:80"), {
    "a1 saw 10.0.1.6": 2,
    "b1 saw 10.0.1.1": 2,
    "b2 saw 10.0.1.6": 2,
  });
  assert.deepEqual(await ask(at("a1"), "10.0.1.6:80", 1), { "b1 saw 10.0.1.5": 1 });
});

test("a client from outside reaches the port on every host, and its address is seen", {
  skip,
}, async () => {
  for (const host of hosts) {
    assert.deepEqual(await ask(outside.namespace, `${host.address}:8080`), {
      "a1 saw 10.88.0.13": 2,
      "b1 saw 10.88.0.13": 2,
      "b2 saw 10.88.0.13": 2,
    });
  }
});

test("one client port through two hosts is two connections", { skip }, async () => {
  for (const last of [11, 12, 11, 12]) {
    const answer = await askOnce(
      outside.namespace,
      `10.88.0.${last}:8080,sourceport=4040,reuseaddr`,
    );
    assert.match(answer, /saw 10\.88\.0\.13$/);
  }
});

test("a host reaches the port at 127.0.0.1 and at its own address", { skip }, async () => {
  const [a] = hosts;
  assert.ok(a !== undefined);
  const names = (heard: Readonly<Record<string, number>>) =>
    Object.keys(heard).map((answer) => answer.replace(/ saw .*/, ""));
  assert.deepEqual(names(await ask(a.namespace, "127.0.0.1:8080", 3)).sort(), ["a1", "b1", "b2"]);
  assert.deepEqual(names(await ask(a.namespace, "10.88.0.11:8080", 3)).sort(), ["a1", "b1", "b2"]);
  assert.deepEqual(names(await ask(at("b1"), "10.88.0.12:8080", 3)).sort(), ["a1", "b1", "b2"]);
});

test("a virtual address without tasks refuses at once; an address nobody has is unreachable", {
  skip,
}, async () => {
  assert.equal(await askOnce(at("a1"), "10.0.1.3:80"), "refused");
  assert.equal(await askOnce(at("a1"), "10.0.1.77:80"), "no route");
});

test("neither the host nor a stranger has a way into the overlay", { skip }, async () => {
  const [a] = hosts;
  assert.ok(a !== undefined);
  const routes = execFileSync("ip", ["-n", prefix + a.name, "route"]).toString();
  assert.doesNotMatch(routes, /10\.0\./);
  ip("-n", prefix + outside.name, "route", "add", "169.254.0.0/16", "via", "10.88.0.11");
  assert.match(await askOnce(outside.namespace, "169.254.1.1:8080,connect-timeout=1"), /failed/);
});
