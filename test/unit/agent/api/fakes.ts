// A daemon without containers or managers: small in-memory stand-ins behind the real REST server.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import grpc from "@grpc/grpc-js";
import { openApi } from "../../../../agent/api/server.ts";
import type { ApiContext, LocalNode, Membership } from "../../../../agent/api/types.ts";
import type {
  Container,
  ContainerEvent,
  CreateContainer,
  Engine,
  ExecConfig,
  ExecState,
} from "../../../../agent/engine/types.ts";
import { codec } from "../../../../proto/codec.ts";
import type { Event, Network, Node, Service, Task } from "../../../../proto/gen/types.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import { newId } from "../../../../proto/kit/ids.ts";
import { silentLog } from "../../../../proto/kit/log.ts";
import { Queue } from "../../../../proto/kit/queue.ts";
import { timestamp } from "../../../../proto/kit/world.ts";
import { Client, type Handlers, serve } from "../../../../proto/rpc.ts";

export const dockerPath = ["/usr/local/bin/docker", "/usr/bin/docker"].find((path) =>
  existsSync(path),
);

// ---------------------------------------------------------------- the cluster

/** The manager's objects, with just enough behaviour: tasks of a service run at once on the one node. */
export class FakeCluster {
  readonly nodes = new Map<string, Node>();
  readonly services = new Map<string, Service>();
  readonly tasks = new Map<string, Task>();
  readonly networks = new Map<string, Network>();
  readonly events = new Set<Queue<Event>>();
  cluster = codec("Cluster").parse({});
  index = 10;

  start(nodeId: string): void {
    const now = timestamp(Date.now());
    this.cluster = codec("Cluster").parse({
      ID: newId(),
      Version: { Index: this.index },
      CreatedAt: now,
      UpdatedAt: now,
      Spec: { Name: "default" },
      DefaultAddrPool: ["10.0.0.0/8"],
      SubnetSize: 24,
      JoinTokens: { Worker: "SWMTKN-1-worker", Manager: "SWMTKN-1-manager" },
      RootCA: { Certificate: "root", Key: Buffer.from("secret-key").toString("base64") },
    });
    this.put(this.nodes, "Node", {
      ID: nodeId,
      Spec: { Role: "manager", Availability: "active" },
      Description: {
        Hostname: "h1",
        Platform: { Architecture: "x86_64", OS: "linux" },
        Engine: { EngineVersion: "0.1.0" },
      },
      Status: { State: "ready", Addr: "10.77.0.11" },
      ManagerStatus: { Leader: true, Reachability: "reachable", Addr: "10.77.0.11:2377" },
      Index: 1,
      DataPathAddr: "10.77.0.11",
    });
    this.put(this.networks, "Network", {
      ID: newId(),
      Spec: { Name: "ingress", Driver: "overlay", Ingress: true, Scope: "swarm" },
      IPAM: { Driver: "default", Config: [{ Subnet: "10.0.0.0/16", Gateway: "10.0.0.1" }] },
      VNI: 4096,
    });
  }

  put<T extends { ID: string; CreatedAt: string }>(
    into: Map<string, T>,
    name: "Node" | "Service" | "Task" | "Network",
    object: { ID: string } & Record<string, unknown>,
  ): T {
    this.index++;
    const now = timestamp(Date.now());
    const made = codec(name).parse({
      ...object,
      CreatedAt: into.get(object.ID)?.CreatedAt ?? now,
      UpdatedAt: now,
      Version: { Index: this.index },
    }) as unknown as T;
    into.set(made.ID, made);
    return made;
  }

  /** Makes the service's running tasks as many as its spec says, all of its newest version. */
  reconcile(service: Service): void {
    const [node] = this.nodes.keys();
    const replicas = service.Spec?.Mode?.Replicated?.Replicas ?? 1;
    for (const task of this.tasks.values())
      if (
        task.ServiceID === service.ID &&
        (task.SpecVersion !== service.SpecVersion || (task.Slot ?? 0) > replicas)
      )
        this.tasks.delete(task.ID);
    const slots = new Set(
      [...this.tasks.values()].filter((t) => t.ServiceID === service.ID).map((t) => t.Slot),
    );
    for (let slot = 1; slot <= replicas; slot++)
      if (!slots.has(slot))
        this.put(this.tasks, "Task", {
          ID: newId(),
          ServiceID: service.ID,
          Slot: slot,
          NodeID: node,
          Spec: service.Spec?.TaskTemplate,
          SpecVersion: service.SpecVersion,
          DesiredState: "running",
          Status: {
            State: "running",
            Timestamp: timestamp(Date.now()),
            Message: "started",
            ContainerStatus: { ContainerID: "c".repeat(64), PID: 7 },
          },
        });
  }

  announce(event: Partial<Event>): void {
    for (const queue of this.events)
      queue.push(codec("Event").parse({ Time: timestamp(Date.now()), ...event }));
  }
}

function find<T extends { ID: string }>(
  kind: string,
  all: ReadonlyMap<string, T>,
  wanted: string,
  nameOf: (item: T) => string,
): T {
  const exact = all.get(wanted) ?? [...all.values()].find((item) => nameOf(item) === wanted);
  const found = exact ?? [...all.values()].find((item) => item.ID.startsWith(wanted));
  if (found === undefined) throw new SwarmError("not_found", `${kind} ${wanted} not found`);
  return found;
}

const nameOf = (item: { Spec?: { Name: string } }) => item.Spec?.Name ?? "";
const hostnameOf = (node: Node) => node.Description?.Hostname ?? "";

function handlersOf(fake: FakeCluster): Handlers<"Control"> {
  const stale = () => new SwarmError("conflict", "update out of sequence");
  const chosen = <T extends { ID: string }>(
    all: ReadonlyMap<string, T>,
    filters: Readonly<Record<string, { readonly Values: readonly string[] }>>,
    name: (item: T) => string,
  ): T[] => {
    const known = ["id", "name", "service", "node", "desired-state", "label"];
    for (const filter of Object.keys(filters))
      if (!known.includes(filter)) throw new SwarmError("invalid", `Invalid filter ${filter}`);
    return [...all.values()].filter(
      (item) =>
        (filters["id"]?.Values.some((value) => item.ID.startsWith(value)) ?? true) &&
        (filters["name"]?.Values.some((value) => name(item).startsWith(value)) ?? true) &&
        (filters["service"]?.Values.some(
          (value) => "ServiceID" in item && item.ServiceID === value,
        ) ??
          true) &&
        (filters["node"]?.Values.some((value) => "NodeID" in item && item.NodeID === value) ??
          true),
    );
  };
  return {
    GetCluster: async () => fake.cluster,
    UpdateCluster: async (request) => {
      if (request.Version !== fake.cluster.Version?.Index) throw stale();
      fake.index++;
      fake.cluster = codec("Cluster").parse({
        ...fake.cluster,
        Version: { Index: fake.index },
        Spec: request.Spec ?? fake.cluster.Spec,
        JoinTokens: {
          Worker: `SWMTKN-1-worker${request.RotateWorkerToken ? "-rotated" : ""}`,
          Manager: `SWMTKN-1-manager${request.RotateManagerToken ? "-rotated" : ""}`,
        },
      });
      return {};
    },
    CreateService: async ({ Spec }) => {
      if ([...fake.services.values()].some((item) => item.Spec?.Name === Spec?.Name))
        throw new SwarmError(
          "conflict",
          `name conflicts with an existing object: service ${Spec?.Name} already exists`,
        );
      const service = fake.put(fake.services, "Service", {
        ID: newId(),
        Spec,
        SpecVersion: 1,
        Endpoint: { Spec: Spec?.EndpointSpec, Ports: Spec?.EndpointSpec?.Ports ?? [] },
      });
      fake.reconcile(service);
      fake.announce({ Type: "service", Action: "create", ID: service.ID, Name: nameOf(service) });
      return { ID: service.ID, Warnings: [] };
    },
    UpdateService: async (request) => {
      const before = find("service", fake.services, request.ID, nameOf);
      if (request.Version !== before.Version?.Index) throw stale();
      const back = request.Rollback === "previous";
      const changed = fake.put(fake.services, "Service", {
        ...before,
        Spec: back ? before.PreviousSpec : request.Spec,
        PreviousSpec: before.Spec,
        SpecVersion: before.SpecVersion + 1,
      });
      fake.reconcile(changed);
      return { Warnings: [] };
    },
    GetService: async ({ ID }) => find("service", fake.services, ID, nameOf),
    ListServices: async ({ Filters, Status }) => ({
      Items: chosen(fake.services, Filters, nameOf).map((service) => {
        if (!Status) return service;
        const count = [...fake.tasks.values()].filter((t) => t.ServiceID === service.ID).length;
        const ServiceStatus = { RunningTasks: count, DesiredTasks: count, CompletedTasks: 0 };
        return { ...service, ServiceStatus };
      }),
    }),
    RemoveService: async ({ ID }) => {
      const service = find("service", fake.services, ID, nameOf);
      fake.services.delete(service.ID);
      for (const task of fake.tasks.values())
        if (task.ServiceID === service.ID) fake.tasks.delete(task.ID);
      return {};
    },
    ServiceLogs: async function* (request, caller) {
      const tasks = [...fake.tasks.values()].filter(
        (task) => task.ServiceID === request.ServiceID || task.ID === request.TaskID,
      );
      for (const task of tasks)
        yield {
          Lines: ["stdout", "stderr"].map((Stream) => ({
            TaskID: task.ID,
            NodeID: task.NodeID,
            ServiceID: task.ServiceID,
            Time: "2026-01-02T03:04:05.000000006Z",
            Stream,
            Data: Buffer.from(`${Stream} of ${task.Slot}\n`),
          })),
          Err: "",
        };
      if (request.Follow && !caller.signal.aborted)
        await new Promise((resolve) => caller.signal.addEventListener("abort", resolve));
    },
    GetTask: async ({ ID }) => find("task", fake.tasks, ID, () => ""),
    ListTasks: async ({ Filters }) => ({ Items: chosen(fake.tasks, Filters, () => "") }),
    GetNode: async ({ ID }) => find("node", fake.nodes, ID, hostnameOf),
    ListNodes: async ({ Filters }) => ({ Items: chosen(fake.nodes, Filters, hostnameOf) }),
    UpdateNode: async (request) => {
      const before = find("node", fake.nodes, request.ID, hostnameOf);
      if (request.Version !== before.Version?.Index) throw stale();
      fake.put(fake.nodes, "Node", { ...before, Spec: request.Spec });
      return {};
    },
    RemoveNode: async ({ ID, Force }) => {
      const node = find("node", fake.nodes, ID, hostnameOf);
      if (!Force)
        throw new SwarmError("precondition", `node ${node.ID} is not down and can't be removed`);
      fake.nodes.delete(node.ID);
      return {};
    },
    CreateNetwork: async ({ Spec }) => {
      if ([...fake.networks.values()].some((item) => item.Spec?.Name === Spec?.Name))
        throw new SwarmError("conflict", `network with name ${Spec?.Name} already exists`);
      const network = fake.put(fake.networks, "Network", {
        ID: newId(),
        Spec,
        IPAM: { Driver: "default", Config: [{ Subnet: "10.0.1.0/24", Gateway: "10.0.1.1" }] },
        VNI: 4097,
      });
      return { ID: network.ID, Warning: "" };
    },
    GetNetwork: async ({ ID }) => find("network", fake.networks, ID, nameOf),
    ListNetworks: async ({ Filters }) => ({ Items: chosen(fake.networks, Filters, nameOf) }),
    RemoveNetwork: async ({ ID }) => {
      const network = find("network", fake.networks, ID, nameOf);
      const used = [...fake.services.values()].some((service) =>
        service.Spec?.TaskTemplate?.Networks.some(
          ({ Target }) => Target === network.ID || Target === network.Spec?.Name,
        ),
      );
      if (used)
        throw new SwarmError("precondition", `network ${network.ID} is in use by a service`);
      fake.networks.delete(network.ID);
      return {};
    },
    Events: (_request, caller) => {
      const queue = new Queue<Event>(100, caller.signal);
      fake.events.add(queue);
      return queue;
    },
  };
}

// ---------------------------------------------------------------- the engine

export class FakeEngine implements Engine {
  readonly containers = new Map<string, Container>();
  readonly execs = new Map<string, ExecState>();
  readonly watchers = new Set<Queue<ContainerEvent>>();
  readonly resized: string[] = [];

  add(name: string, changes: Partial<CreateContainer["config"]> = {}): Container {
    const container: Container = {
      id: Buffer.from(name.padEnd(32, "\0")).toString("hex"),
      name,
      created: timestamp(Date.now() - 120_000),
      imageId: `sha256:${"a".repeat(64)}`,
      config: {
        Image: "registry.lab:5000/whoami:latest",
        Cmd: ["whoami", "-v"],
        Labels: { "com.docker.swarm.task.id": "t1", tier: "front" },
        ...changes,
      },
      host: {},
      networks: {
        web: {
          NetworkID: "n1",
          IPAddress: "10.0.1.5",
          IPPrefixLen: 24,
          Gateway: "10.0.1.1",
          Aliases: ["web"],
        },
      },
      networkNamespace: "/run/tsswarm/netns/x",
      state: {
        Status: "running",
        Pid: 42,
        ExitCode: 0,
        OOMKilled: false,
        Error: "",
        StartedAt: timestamp(Date.now() - 100_000),
        FinishedAt: "",
      },
    };
    this.containers.set(container.id, container);
    return container;
  }

  #change(id: string, state: Partial<Container["state"]>): void {
    const before = this.inspect(id);
    this.containers.set(before.id, { ...before, state: { ...before.state, ...state } });
  }

  announce(action: ContainerEvent["action"], container: Container): void {
    for (const queue of this.watchers)
      queue.push({ action, container, time: timestamp(Date.now()) });
  }

  pull: Engine["pull"] = async (reference, _auth, progress) => {
    if (reference.includes("missing"))
      throw new SwarmError("not_found", `manifest for ${reference} not found: manifest unknown`);
    progress({ status: "Pulling fs layer", id: "aaaaaaaaaaaa" });
    progress({
      status: "Downloading",
      id: "aaaaaaaaaaaa",
      progressDetail: { current: 5, total: 10 },
    });
    progress({ status: "Pull complete", id: "aaaaaaaaaaaa" });
    if (reference.includes("broken")) throw new SwarmError("unavailable", "connection reset");
    return { id: `sha256:${"a".repeat(64)}`, digest: `sha256:${"d".repeat(64)}` };
  };
  images: Engine["images"] = async () => [
    {
      id: `sha256:${"a".repeat(64)}`,
      repoTags: ["registry.lab:5000/whoami:latest"],
      repoDigests: [`registry.lab:5000/whoami@sha256:${"d".repeat(64)}`],
      created: timestamp(Date.now() - 3_600_000 * 50),
      size: 12_345_678,
      labels: { tier: "front" },
    },
  ];
  inspectImage: Engine["inspectImage"] = async (reference) => {
    if (!reference.startsWith("registry.lab:5000/whoami"))
      throw new SwarmError("not_found", `No such image: ${reference}`);
    return { Id: `sha256:${"a".repeat(64)}`, RepoTags: ["registry.lab:5000/whoami:latest"] };
  };
  removeImage: Engine["removeImage"] = async (reference, force) => {
    if (!force)
      throw new SwarmError("conflict", `unable to remove ${reference}: a container uses it`);
    return [{ Untagged: reference }, { Deleted: `sha256:${"a".repeat(64)}` }];
  };
  distribution: Engine["distribution"] = async (reference) => {
    if (!reference.startsWith("registry.lab:5000/"))
      throw new SwarmError("unavailable", `cannot reach the registry of ${reference}`);
    return {
      Descriptor: {
        mediaType: "application/vnd.oci.image.index.v1+json",
        digest: `sha256:${"d".repeat(64)}`,
        size: 428,
      },
      Platforms: [{ architecture: "amd64", os: "linux" }],
    };
  };
  create: Engine["create"] = async () => {
    throw new SwarmError("unsupported", "the fake creates nothing");
  };
  start: Engine["start"] = async (id) => this.#change(id, { Status: "running" });
  stop: Engine["stop"] = async (id) =>
    this.#change(id, { Status: "exited", FinishedAt: timestamp(Date.now()) });
  kill: Engine["kill"] = async (id) =>
    this.#change(id, { Status: "exited", ExitCode: 137, FinishedAt: timestamp(Date.now()) });
  remove: Engine["remove"] = async (id, { force }) => {
    const container = this.inspect(id);
    if (!force && container.state.Status === "running")
      throw new SwarmError(
        "precondition",
        "cannot remove a running container: stop it or use force",
      );
    this.containers.delete(container.id);
  };
  list: Engine["list"] = () => [...this.containers.values()];
  inspect(id: string): Container {
    const all = this.list();
    const found =
      this.containers.get(id) ??
      all.find((item) => item.name === id) ??
      all.find((item) => id.length > 3 && item.id.startsWith(id));
    if (found === undefined) throw new SwarmError("not_found", `No such container: ${id}`);
    return found;
  }
  wait: Engine["wait"] = async (id) => ({ exitCode: this.inspect(id).state.ExitCode });
  async *logs(id: string, query: Parameters<Engine["logs"]>[1], signal: AbortSignal) {
    this.inspect(id);
    for (const stream of ["stdout", "stderr"] as const)
      if (query[stream])
        yield {
          stream,
          time: "2026-01-02T03:04:05.000000006Z",
          data: Buffer.from(`${stream} line\n`),
        };
    if (query.follow && !signal.aborted)
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
  }
  createExec: Engine["createExec"] = async (id, config) => {
    const container = this.inspect(id);
    const state: ExecState = {
      id: `e${this.execs.size}`.padEnd(64, "0"),
      containerId: container.id,
      config,
      running: false,
      exitCode: null,
      pid: 0,
    };
    this.execs.set(state.id, state);
    return state.id;
  };
  /** Runs the command here: a shell is a shell. */
  startExec: Engine["startExec"] = async (execId) => {
    const state = this.inspectExec(execId);
    const [program = "true", ...args] = state.config.cmd;
    if (program.startsWith("no-such")) {
      this.execs.set(execId, { ...state, exitCode: 127 });
      throw new SwarmError("invalid", `exec: "${program}": executable file not found in $PATH`);
    }
    const wanted: ExecConfig = state.config;
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
    this.execs.set(execId, { ...state, running: true, pid: child.pid ?? 0 });
    if (!wanted.attachStdin) child.stdin.end();
    const stdout = new PassThrough();
    child.stdout.pipe(stdout, { end: !wanted.tty });
    if (wanted.tty) child.stderr.pipe(stdout, { end: false });
    const exited = new Promise<number>((resolve) =>
      child.once("close", (code) => {
        this.execs.set(execId, { ...state, running: false, exitCode: code ?? 137 });
        if (wanted.tty) stdout.end();
        resolve(code ?? 137);
      }),
    );
    return {
      stdin: wanted.attachStdin ? child.stdin : null,
      stdout,
      stderr: wanted.tty ? null : child.stderr,
      exited,
    };
  };
  resizeExec: Engine["resizeExec"] = async (execId, rows, columns) => {
    this.inspectExec(execId);
    this.resized.push(`${rows}x${columns}`);
  };
  inspectExec(execId: string): ExecState {
    const state = this.execs.get(execId);
    if (state === undefined) throw new SwarmError("not_found", `No such exec instance: ${execId}`);
    return state;
  }
  events: Engine["events"] = (signal) => {
    const queue = new Queue<ContainerEvent>(100, signal);
    this.watchers.add(queue);
    return queue;
  };
  info: Engine["info"] = () => ({
    containers: this.containers.size,
    running: this.containers.size,
    paused: 0,
    stopped: 0,
    images: 1,
    containerdVersion: "1.6.20",
    runcVersion: "1.1.5",
  });
}

// ---------------------------------------------------------------- the whole

export interface FakeDaemon extends AsyncDisposable {
  readonly socket: string;
  readonly engine: FakeEngine;
  readonly cluster: FakeCluster;
  readonly membership: { node: LocalNode };
  readonly context: ApiContext;
  ask(method: string, path: string, body?: unknown, headers?: http.OutgoingHttpHeaders): Answer;
  docker(...args: string[]): Promise<Ran>;
}
export type Answer = Promise<{
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly bytes: Buffer;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers as a client would
  readonly json: any;
}>;
export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const outside: LocalNode = {
  state: "inactive",
  error: "",
  nodeId: "",
  nodeAddr: "",
  clusterId: "",
  isManager: false,
  managers: [],
};

/** `inSwarm`: as the manager of a swarm of one. */
export async function startFakeDaemon(inSwarm: boolean): Promise<FakeDaemon> {
  const folder = await mkdtemp(join(tmpdir(), "tsswarm-api-"));
  const cluster = new FakeCluster();
  const engine = new FakeEngine();
  const server = new grpc.Server();
  serve(server, "Control", handlersOf(cluster));
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${folder}/manager.sock`, grpc.ServerCredentials.createInsecure(), (e) =>
      e === null ? resolve() : reject(e),
    ),
  );
  const control = new Client(
    "Control",
    `unix:${folder}/manager.sock`,
    grpc.credentials.createInsecure(),
  );
  const state = { node: outside };
  const enter = (isManager: boolean): string => {
    if (state.node.state !== "inactive")
      throw new SwarmError(
        "precondition",
        'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.',
      );
    const nodeId = newId();
    if (isManager) cluster.start(nodeId);
    state.node = {
      ...outside,
      state: "active",
      nodeId,
      nodeAddr: "10.77.0.11",
      isManager,
      managers: [{ NodeID: nodeId, Addr: "10.77.0.11:2377" }],
    };
    return nodeId;
  };
  const membership: Membership = {
    local: () => state.node,
    init: async () => enter(true),
    join: async ({ JoinToken }) => {
      if (!JoinToken.startsWith("SWMTKN-"))
        throw new SwarmError("denied", "A valid join token is necessary to join this cluster");
      enter(false);
    },
    leave: async (force) => {
      if (state.node.state !== "active")
        throw new SwarmError("precondition", "This node is not part of a swarm");
      if (state.node.isManager && !force)
        throw new SwarmError(
          "precondition",
          "You are attempting to leave the swarm on a node that is participating as a manager. Use `--force` to suppress this message.",
        );
      state.node = outside;
    },
  };
  if (inSwarm) enter(true);
  const context: ApiContext = {
    engine,
    membership,
    control: () => control,
    log: silentLog,
    version: "0.1.0",
    dataRoot: "/var/lib/tsswarm",
    labels: ["rack=a"],
    insecureRegistries: ["registry.lab:5000"],
  };
  const socket = `${folder}/docker.sock`;
  const api = await openApi(context, [`unix://${socket}`], new AbortController().signal);
  return {
    socket,
    engine,
    cluster,
    membership: state,
    context,
    ask: (method, path, body, headers) => ask(socket, method, path, body, headers),
    docker: (...args) => docker(socket, folder, args),
    [Symbol.asyncDispose]: async () => {
      await api.close();
      control.close();
      server.forceShutdown();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export async function ask(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
  headers: http.OutgoingHttpHeaders = {},
): Answer {
  const isJson = body !== undefined && typeof body !== "string" && !Buffer.isBuffer(body);
  return new Promise((resolve, reject) => {
    const request = http.request(
      {
        socketPath,
        method,
        path,
        headers: {
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const bytes = Buffer.concat(chunks);
          const text = bytes.toString();
          const typed = /json/.test(response.headers["content-type"] ?? "");
          const json = typed && text !== "" && !/\n./.test(text) ? JSON.parse(text) : undefined;
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            bytes,
            text,
            json,
          });
        });
      },
    );
    request.on("error", reject);
    request.end(isJson ? JSON.stringify(body) : body);
  });
}

async function docker(socket: string, home: string, args: readonly string[]): Promise<Ran> {
  return run(dockerPath ?? "docker", args, { DOCKER_HOST: `unix://${socket}`, HOME: home });
}

export async function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<Ran> {
  const child = spawn(program, args, {
    env: { PATH: process.env["PATH"], ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status) => resolve(status ?? 128));
  });
  return { code, stdout, stderr };
}
