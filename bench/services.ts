// Services of the benchmark through the REST API: create, wait, change, remove, and run something in their containers.

import { DaemonError } from "../cli/client.ts";
import { type Host, hosts, manager, type Side } from "./side.ts";
import { BenchError, waitFor } from "./wait.ts";

const msMax = 120_000;
/** Of very many. */
const msMaxEach = 2_000;
const networkName = "bench";
/** What client.pl does with "idle", but without loading the modules that only its other modes need. */
export const idleCommand = [
  "perl",
  "-e",
  "$SIG{TERM} = $SIG{INT} = sub { exit 0 }; sleep 3600 while 1",
];

export interface Wanted {
  readonly name: string;
  /** "global": one on every host. */
  readonly replicas: number | "global";
  readonly overlay: boolean;
  readonly command?: readonly string[];
  /** The one host it may run on. */
  readonly on?: Host;
  readonly publish?: { readonly target: number; readonly published: number };
}

export interface Task {
  readonly ID: string;
  readonly NodeID?: string;
  readonly DesiredState: string;
  readonly Spec: { readonly ForceUpdate?: number };
  readonly Status: {
    readonly State: string;
    readonly ContainerStatus?: { readonly ContainerID?: string };
  };
  readonly NetworksAttachments?: readonly {
    readonly Network: { readonly Spec: { readonly Name?: string } };
    readonly Addresses?: readonly string[];
  }[];
}

interface ServiceSpec {
  readonly TaskTemplate: { readonly ForceUpdate?: number };
}

/** The cluster of a side as the measurements use it. */
export class Cluster {
  readonly side: Side;
  readonly #signal: AbortSignal;

  constructor(side: Side, signal: AbortSignal) {
    this.side = side;
    this.#signal = signal;
  }

  get signal(): AbortSignal {
    return this.#signal;
  }

  async makeNetwork(): Promise<void> {
    const body = { Name: networkName, Driver: "overlay", Attachable: true, CheckDuplicate: true };
    await this.#manager.post("/networks/create", { body, signal: this.#signal });
  }

  async create(wanted: Wanted): Promise<void> {
    const network = wanted.overlay ? [{ Target: networkName }] : [];
    const mode = this.side.hasVip || wanted.publish !== undefined ? "vip" : "dnsrr";
    const body = {
      Name: wanted.name,
      TaskTemplate: {
        ContainerSpec: {
          Image: this.side.image,
          Command: wanted.command ?? idleCommand,
        },
        Networks: network,
        Placement: {
          Constraints: wanted.on === undefined ? [] : [`node.hostname==${wanted.on}`],
        },
      },
      Mode:
        wanted.replicas === "global"
          ? { Global: {} }
          : { Replicated: { Replicas: wanted.replicas } },
      UpdateConfig: { Parallelism: 1, Order: "stop-first" },
      EndpointSpec: {
        Mode: mode,
        Ports:
          wanted.publish === undefined
            ? []
            : [
                {
                  Protocol: "tcp",
                  TargetPort: wanted.publish.target,
                  PublishedPort: wanted.publish.published,
                  PublishMode: "ingress",
                },
              ],
      },
    };
    await this.#manager.post("/services/create", { body, signal: this.#signal });
  }

  /** Those that run and should, once `count` fit and no other does. */
  untilRunning(
    service: string,
    count: number,
    fits: (task: Task) => boolean = () => true,
  ): Promise<readonly Task[]> {
    let seen = 0;
    const query = {
      filters: JSON.stringify({ service: [service], "desired-state": ["running"] }),
    };
    return waitFor(
      () => `${this.side.name}: only ${seen} of ${count} tasks of ${service} run`,
      Math.max(msMax, count * msMaxEach),
      async () => {
        const tasks = await this.#manager.get<readonly Task[]>("/tasks", {
          query,
          signal: this.#signal,
        });
        const running = tasks.filter((task) => task.Status.State === "running" && fits(task));
        seen = running.length;
        return seen >= count ? running : undefined;
      },
      this.#signal,
    );
  }

  /** The container of a service's task on a host. */
  async containerOn(host: Host, service: string): Promise<string> {
    const found = await this.#containers(host, service);
    if (found[0] === undefined) throw new BenchError(`no container of ${service} on ${host}`);
    return found[0];
  }

  async #containers(host: Host, service: string): Promise<readonly string[]> {
    const filters = JSON.stringify({ label: [`com.docker.swarm.service.name=${service}`] });
    const options = { query: { all: true, filters }, signal: this.#signal };
    const found = await this.side
      .client(host)
      .get<readonly { readonly Id: string }[]>("/containers/json", options);
    return found.map((container) => container.Id);
  }

  /** Changes a service's description and sends it. */
  async update(service: string, change: (spec: ServiceSpec) => object): Promise<void> {
    const path = `/services/${service}`;
    const now = await this.#manager.get<{ Version: { Index: number }; Spec: ServiceSpec }>(path, {
      signal: this.#signal,
    });
    await this.#manager.post(`${path}/update`, {
      query: { version: now.Version.Index },
      body: change(now.Spec),
      signal: this.#signal,
    });
  }

  scale(service: string, replicas: number): Promise<void> {
    return this.update(service, (spec) => ({
      ...spec,
      Mode: { Replicated: { Replicas: replicas } },
    }));
  }

  /** Removes the service if it is there. */
  async forget(service: string): Promise<void> {
    try {
      await this.#manager.delete(`/services/${service}`, { signal: this.#signal });
    } catch (error) {
      if (!(error instanceof DaemonError && error.status === 404)) throw error;
    }
  }

  /** Removes the service if it is there, and waits until no host has a container of it. */
  async remove(service: string): Promise<void> {
    await this.forget(service);
    let left = 0;
    await waitFor(
      () => `${this.side.name}: ${left} containers of ${service} are still there`,
      msMax,
      async () => {
        const found = await Promise.all(hosts.map((host) => this.#containers(host, service)));
        left = found.flat().length;
        return left === 0 ? true : undefined;
      },
      this.#signal,
    );
  }

  /** Waits until so many hosts are ready. */
  async untilReady(count: number): Promise<void> {
    await waitFor(
      () => `${this.side.name}: not ${count} nodes became ready`,
      msMax,
      async () => {
        const nodes = await this.#nodes();
        return nodes.filter((node) => node.Status.State === "ready").length === count
          ? true
          : undefined;
      },
      this.#signal,
    );
  }

  async nodeId(host: Host): Promise<string> {
    const found = (await this.#nodes()).find((node) => node.Description.Hostname === host);
    if (found === undefined) throw new BenchError(`${this.side.name}: no node ${host}`);
    return found.ID;
  }

  #nodes() {
    return this.#manager.get<
      readonly {
        readonly ID: string;
        readonly Description: { readonly Hostname: string };
        readonly Status: { readonly State: string };
      }[]
    >("/nodes", { signal: this.#signal });
  }

  /** Runs a command in a container; what it printed. `onText` sees all so far whenever something comes. */
  async exec(
    host: Host,
    container: string,
    command: readonly string[],
    onText: (text: string) => void = () => {},
  ): Promise<string> {
    const client = this.side.client(host);
    const streams = { AttachStdout: true, AttachStderr: true, Tty: true };
    const { Id } = await client.post<{ Id: string }>(`/containers/${container}/exec`, {
      body: { Cmd: command, ...streams },
      signal: this.#signal,
    });
    const { socket, head } = await client.hijack(`/exec/${Id}/start`, { Detach: false, Tty: true });
    const stop = () => socket.destroy();
    this.#signal.addEventListener("abort", stop);
    let text = head.toString();
    onText(text);
    try {
      for await (const part of socket) {
        text += String(part);
        onText(text);
      }
    } finally {
      this.#signal.removeEventListener("abort", stop);
    }
    this.#signal.throwIfAborted();
    const ExitCode = await waitFor(
      () => `${command.join(" ")}: its output has ended, but not the command`,
      msMax,
      async () => {
        const path = `/exec/${Id}/json`;
        const now = await client.get<{ ExitCode: number | null; Running: boolean }>(path);
        return now.Running ? undefined : now.ExitCode;
      },
      this.#signal,
    );
    if (ExitCode !== 0)
      throw new BenchError(`${command.join(" ")}: exit ${ExitCode}: ${text.trim()}`);
    return text;
  }

  get #manager() {
    return this.side.client(manager);
  }
}

/** A task's address on the benchmark's network. */
export function addressOf(task: Task): string {
  const attached = task.NetworksAttachments?.find((n) => n.Network.Spec.Name === networkName);
  const address = attached?.Addresses?.[0]?.split("/")[0];
  if (address === undefined) throw new BenchError(`task ${task.ID} has no address on the overlay`);
  return address;
}
