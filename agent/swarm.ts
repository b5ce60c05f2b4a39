// The agent's loop while its node is in a swarm: wanted → network → acknowledge → reconcile → perform → report.

import type { Hello, Task, TaskStatus, TaskUpdate } from "../proto/gen/types.ts";
import { Bell } from "../proto/kit/bell.ts";
import { asSwarmError } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import { Scope } from "../proto/kit/scope.ts";
import { timestamp, type World } from "../proto/kit/world.ts";
import type { Engine } from "./engine/types.ts";
import type { ClusterView, Network } from "./network/types.ts";
import { Performer, type PerformerOptions } from "./perform.ts";
import { reconcile } from "./reconcile/reconcile.ts";
import type { Observed } from "./reconcile/types.ts";
import type { Session, Wanted } from "./session/types.ts";

/** An ended container waits so long for a manager to be back before it is restarted in place. */
const patienceMs = 3_000;
const networkRetryMs = 1_000;
const eventsRetryMs = 200;
const stopAllMsMax = 30_000;

export interface SwarmOptions {
  readonly engine: Engine;
  readonly network: Network;
  readonly dataPathAddr: string;
  readonly containerOf: PerformerOptions["containerOf"];
  readonly files: PerformerOptions["files"];
  /** Awaited before anything of what is wanted is begun. */
  readonly beforehand?: (wanted: Wanted) => Promise<void>;
  /** Called whenever the kernel agrees with what is wanted. */
  readonly networksMade?: () => void;
  readonly world: World;
  readonly log: Log;
}

/** `open`, then `start` with the session; in between `held` can already be asked. */
export class Swarm {
  readonly #options: SwarmOptions;
  readonly #scope: Scope;
  readonly #performer: Performer;
  readonly #trigger: Trigger;
  readonly #reports: { session: Session | null };
  #wanted: Wanted | null = null;
  #isNetworkReady = false;
  /** Networks of which the kernel knows. */
  #made: ReadonlySet<string> = new Set();
  readonly #networksMade = new Bell();
  #isLeaving = false;
  #disconnectedAt: number;

  private constructor(
    options: SwarmOptions,
    performer: Performer,
    trigger: Trigger,
    reports: { session: Session | null },
  ) {
    this.#reports = reports;
    this.#options = options;
    this.#performer = performer;
    this.#trigger = trigger;
    this.#scope = new Scope("swarm");
    this.#disconnectedAt = options.world.now();
  }

  /** Learns what is there; the loop is not started yet. */
  static async open(options: SwarmOptions): Promise<Swarm> {
    const { engine, network, containerOf, files, world, log } = options;
    const trigger = new Trigger();
    const reports: { session: Session | null } = { session: null };
    const performer = await Performer.open({
      engine,
      network,
      containerOf,
      files,
      report: (taskId: string, status: TaskStatus) => reports.session?.report(taskId, status),
      changed: () => trigger.pull(),
      world,
      log,
    });
    return new Swarm(options, performer, trigger, reports);
  }

  /** Rejects when the loop has broken. */
  get closed(): Promise<void> {
    return this.#scope.closed;
  }

  /** Resolves when this node's kernel has the network. */
  async untilNetwork(networkId: string, signal: AbortSignal): Promise<void> {
    while (!this.#made.has(networkId)) {
      signal.throwIfAborted();
      await this.#networksMade.heard(signal);
    }
  }

  /** Ends the loop; containers go on. */
  async close(): Promise<void> {
    await this.#scope.close();
    await this.#performer.close();
  }

  /** Stops and removes all tasks' containers and sandboxes; resolves when none is left or after 30 s. */
  async stopAll(): Promise<void> {
    const { world } = this.#options;
    this.#isLeaving = true;
    const deadline = world.now() + stopAllMsMax;
    const isLeft = () => {
      const { containers, sandboxes } = this.#performer.observe();
      return containers.size + sandboxes.size > 0;
    };
    while (isLeft() && world.now() < deadline) {
      this.#trigger.pull();
      await world.sleep(50, this.#scope.signal);
    }
  }

  /** What this node still holds, for the session's greeting. */
  held(): readonly TaskUpdate[] {
    return heldTasks(this.#performer.observe(), this.#options.world.now());
  }

  /** Something else that lasts as long as the loop. */
  run(name: string, work: (signal: AbortSignal) => Promise<void>): void {
    this.#scope.spawn(name, work);
  }

  /** Starts the loop. */
  start(session: Session): void {
    this.#reports.session = session;
    this.#scope.spawn("wanted", (signal) => this.#followWanted(session, signal));
    this.#scope.spawn("events", (signal) => this.#followEvents(signal));
    this.#scope.spawn("reconcile", (signal) => this.#reconcile(session, signal));
  }

  /** The kernel first, then the managers hear that it agrees, then tasks are looked at. */
  async #followWanted(session: Session, signal: AbortSignal): Promise<void> {
    for await (const wanted of session.watch(signal)) {
      await this.#options.beforehand?.(wanted);
      await this.#updateNetwork(session, wanted);
      if (this.#isNetworkReady) this.#noteNetworks(wanted);
      this.#wanted = wanted;
      this.#trigger.pull();
    }
  }

  async #updateNetwork(session: Session, wanted: Wanted): Promise<void> {
    const { network, log, world, dataPathAddr } = this.#options;
    try {
      await network.update(viewOf(wanted, dataPathAddr));
      this.#isNetworkReady = true;
      session.acknowledge(wanted.version);
    } catch (error) {
      // A port that a program of this host has: all the rest is as wanted, and the program may give it up.
      this.#isNetworkReady = asSwarmError(error).code === "conflict";
      if (this.#isNetworkReady) session.acknowledge(wanted.version);
      log.error({ error, version: wanted.version }, "the network cannot be made as wanted");
      this.#scope.spawn("network retry", async (signal) => {
        await world.sleep(networkRetryMs, signal);
        if (this.#wanted !== wanted) return;
        await this.#updateNetwork(session, wanted);
        if (this.#isNetworkReady) this.#noteNetworks(wanted);
        this.#trigger.pull();
      });
    }
  }

  #noteNetworks(wanted: Wanted): void {
    this.#made = new Set(wanted.networks.keys());
    this.#networksMade.ring();
    this.#options.networksMade?.();
  }

  async #followEvents(signal: AbortSignal): Promise<void> {
    const { engine, log, world } = this.#options;
    while (!signal.aborted) {
      try {
        for await (const event of engine.events(signal)) {
          log.trace({ action: event.action, container: event.container.id }, "engine event");
          this.#trigger.pull();
        }
      } catch (error) {
        log.warn({ error }, "the engine's events were lost");
      }
      // What happened in between is seen by looking.
      this.#trigger.pull();
      if (!signal.aborted) await world.sleep(eventsRetryMs, signal);
    }
  }

  async #reconcile(session: Session, signal: AbortSignal): Promise<void> {
    let wakeAt: number | null = null;
    while (!signal.aborted) {
      await this.#trigger.wait(wakeAt, this.#options.world, signal);
      if (signal.aborted) return;
      wakeAt = this.#lookOnce(session);
    }
  }

  #lookOnce(session: Session): number | null {
    const { world } = this.#options;
    const isManaged = session.connected();
    if (isManaged) this.#disconnectedAt = world.now();
    const wanted = this.#isLeaving ? nothing : this.#wanted;
    if (wanted === null) return null;
    const plans = reconcile(wanted, this.#performer.observe(), {
      now: world.now(),
      isManaged,
      restartNotBefore: this.#disconnectedAt + patienceMs,
      isNetworkReady: this.#isNetworkReady,
    });
    return this.#performer.perform(plans, wanted.tasks);
  }
}

const nothing = { tasks: new Map<string, Task>(), confirmed: true };

function viewOf(wanted: Wanted, dataPathAddr: string): ClusterView {
  return {
    self: {
      nodeId: wanted.info.NodeID,
      index: wanted.info.Index,
      dataPathAddr,
      dataPathPort: wanted.info.DataPathPort,
    },
    networks: [...wanted.networks.values()],
    peers: [...wanted.peers.values()],
    services: [...wanted.services.values()],
    endpoints: [...wanted.endpoints.values()],
  };
}

/** Each task of which there is a container or a sandbox, with the least that can be said of its state. */
function heldTasks(observed: Observed, now: number): Hello["Tasks"] {
  const ids = new Set([...observed.containers.keys(), ...observed.sandboxes]);
  return [...ids].map((ID) => {
    const container = observed.containers.get(ID);
    const isRunning = container?.phase === "running";
    return {
      ID,
      Status: {
        Timestamp: timestamp(now),
        State: isRunning ? "starting" : "preparing",
        Message: "held by the node",
        Err: "",
        ...(container === undefined
          ? {}
          : { ContainerStatus: { ContainerID: container.id, PID: container.pid, ExitCode: 0 } }),
      },
    };
  });
}

/** Many pulls before the next look are one. */
class Trigger {
  #isPulled = false;
  #wake: (() => void) | null = null;

  pull(): void {
    this.#isPulled = true;
    this.#wake?.();
  }

  /** Resolves at the next pull (at once when there was one since the last wait), at the time, or when aborted. */
  async wait(at: number | null, world: World, signal: AbortSignal): Promise<void> {
    if (!this.#isPulled && !signal.aborted) {
      const done = new AbortController();
      const pulled = new Promise<void>((resolve) => {
        this.#wake = resolve;
        signal.addEventListener("abort", () => resolve(), { once: true, signal: done.signal });
      });
      const due =
        at === null
          ? []
          : [world.sleep(Math.max(0, at - world.now()), done.signal).catch(() => {})];
      await Promise.race([pulled, ...due]);
      done.abort();
      this.#wake = null;
    }
    this.#isPulled = false;
  }
}
