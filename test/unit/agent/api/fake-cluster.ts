// The managers' side in memory, behind the real Control service: just enough behaviour for the REST door's tests.

import { fileHandlers } from "../../../../manager/control/files.ts";
import { codec } from "../../../../proto/codec.ts";
import type { Event, Network, Node, Service, Task } from "../../../../proto/gen/types.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import { newId } from "../../../../proto/kit/ids.ts";
import { Queue } from "../../../../proto/kit/queue.ts";
import { timestamp } from "../../../../proto/kit/world.ts";
import { staleKey } from "../../../../proto/rpc.ts";
import type { Handlers } from "../../../../proto/rpc-server.ts";
import { contextOf } from "../../manager/control/door.ts";
import { memoryStore } from "../../manager/memory-store.ts";

/** The manager's objects, with just enough behaviour: tasks of a service run at once on the one node. */
export class FakeCluster {
  readonly nodes = new Map<string, Node>();
  readonly services = new Map<string, Service>();
  readonly tasks = new Map<string, Task>();
  readonly networks = new Map<string, Network>();
  readonly events = new Set<Queue<Event>>();
  /** Resolves when somebody listens to events. */
  readonly watched: Promise<void>;
  #nowWatched: () => void = () => {};
  cluster = codec("Cluster").parse({});
  /** What is said of each task's logs beside its lines. */
  logsMissing = "";
  /** What the list of tasks has behind it when nobody leads. */
  stale = "";
  index = 10;

  constructor() {
    this.watched = new Promise((resolve) => {
      this.#nowWatched = resolve;
    });
  }

  watch(signal: AbortSignal): Queue<Event> {
    const queue = new Queue<Event>(100, signal);
    this.events.add(queue);
    this.#nowWatched();
    return queue;
  }

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

function isUpToDate(fake: FakeCluster, item: object): boolean {
  if (!("ServiceID" in item) || !("SpecVersion" in item)) return true;
  return fake.services.get(String(item.ServiceID))?.SpecVersion === item.SpecVersion;
}

/** Older clients ask by the service's name. */
function isOfService(fake: FakeCluster, item: object, wanted: string): boolean {
  if (!("ServiceID" in item)) return false;
  const id = String(item.ServiceID);
  return id === wanted || fake.services.get(id)?.Spec?.Name === wanted;
}

/** Secrets and configs are the real ones, in a store of their own. */
export async function handlersOf(fake: FakeCluster): Promise<Handlers<"Control">> {
  const cluster = codec("Cluster").parse({ ID: newId(), FeatureLevel: 3 });
  const store = await memoryStore([{ op: "put", kind: "cluster", object: cluster }]);
  const files = fileHandlers(contextOf(store));
  const stale = () => new SwarmError("conflict", "update out of sequence");
  const chosen = <T extends { ID: string }>(
    all: ReadonlyMap<string, T>,
    filters: Readonly<Record<string, { readonly Values: readonly string[] }>>,
    name: (item: T) => string,
  ): T[] => {
    const known = ["id", "name", "service", "node", "desired-state", "up-to-date", "label"];
    for (const filter of Object.keys(filters))
      if (!known.includes(filter)) throw new SwarmError("invalid", `Invalid filter ${filter}`);
    return [...all.values()].filter(
      (item) =>
        (filters["id"]?.Values.some((value) => item.ID.startsWith(value)) ?? true) &&
        (filters["name"]?.Values.some((value) => name(item).startsWith(value)) ?? true) &&
        (filters["up-to-date"]?.Values.some(
          (value) => isUpToDate(fake, item) === (value === "true"),
        ) ??
          true) &&
        (filters["service"]?.Values.some((value) => isOfService(fake, item, value)) ?? true) &&
        (filters["node"]?.Values.some((value) => "NodeID" in item && item.NodeID === value) ??
          true),
    );
  };
  return {
    ...files,
    GetTaskOfContainer: async ({ ID }) => {
      for (const task of fake.tasks.values())
        if (task.Status?.ContainerStatus?.ContainerID === ID) return task;
      throw new SwarmError("not_found", `No such container: ${ID}`);
    },
    Backup: async function* () {
      for (const text of ["all ", "of it"]) yield { Data: Buffer.from(text) };
    },
    GetCluster: async () => fake.cluster,
    GetUnlockKey: async () => ({
      UnlockKey: fake.cluster.Spec?.EncryptionConfig?.AutoLockManagers === true ? "SWMKEY-1-x" : "",
    }),
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
    GetExplanation: async () => ({ Pending: [], Nodes: [], Scaling: "" }),
    GetRehearsal: async () => ({ Steps: [], Cut: "" }),
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
          Err: fake.logsMissing,
          NodeID: task.NodeID,
          TaskID: task.ID,
        };
      if (request.Follow && !caller.signal.aborted)
        await new Promise((resolve) => caller.signal.addEventListener("abort", resolve));
    },
    GetTask: async ({ ID }) => find("task", fake.tasks, ID, () => ""),
    ListTasks: async ({ Filters }, caller) => {
      if (fake.stale !== "") caller.trailer?.set(staleKey, fake.stale);
      return { Items: chosen(fake.tasks, Filters, () => "") };
    },
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
    Events: async function* (_request, caller) {
      const queue = fake.watch(caller.signal);
      yield codec("Event").parse({ Index: 1 });
      yield* queue;
    },
  };
}
