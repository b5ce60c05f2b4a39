// Services on one small network that are deployed again and again, so that addresses go from hand to hand.

import { setTimeout as delay } from "node:timers/promises";
import { api } from "./harness.ts";

const callMsMax = 10_000;
const image = "registry.lab:5000/whoami";
const pauseMsMin = 200;
const pauseMsMax = 1_200;

interface Deployed {
  readonly ID: string;
  readonly Version: { readonly Index: number };
  readonly Spec: {
    readonly TaskTemplate: { readonly ForceUpdate?: number };
    readonly Mode: { readonly Replicated?: { readonly Replicas: number } };
  };
}

/** web: published and scaled; every: on each host; brief: made anew each time. */
export const names = ["cuts-web", "cuts-every", "cuts-brief"] as const;
type Name = (typeof names)[number];

export class Redeployer {
  readonly #manager: string;
  readonly #network: string;
  readonly #random: () => number;
  #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();
  /** Changes that the manager has acknowledged. */
  done = 0;

  constructor(manager: string, network: string, random: () => number) {
    this.#manager = manager;
    this.#network = network;
    this.#random = random;
  }

  async createAll(): Promise<void> {
    for (const name of names) await this.#create(name);
  }

  async removeAll(): Promise<void> {
    await this.complete();
    for (const name of names) await api(this.#manager).delete(`/services/${name}`);
  }

  start(): void {
    this.#stop = new AbortController();
    this.#running = this.#run(this.#stop.signal);
  }

  /** Nothing is changed any more once this resolves. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** All services are there, also the one that a failed call may have taken away. */
  async complete(): Promise<void> {
    const there = await api(this.#manager).get<readonly { Spec: { Name: string } }[]>("/services");
    for (const name of names)
      if (!there.some(({ Spec }) => Spec.Name === name)) await this.#create(name);
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      // The manager may be off or on its way back: the next one will do.
      await this.#change().then(
        () => {
          this.done += 1;
        },
        () => {},
      );
      const pauseMs = pauseMsMin + this.#random() * (pauseMsMax - pauseMsMin);
      await delay(pauseMs, undefined, { signal }).catch(() => {});
    }
  }

  #change(): Promise<unknown> {
    const kind = this.#random();
    if (kind < 0.25) return this.#update("cuts-web", { scale: true });
    if (kind < 0.5) return this.#update("cuts-web", {});
    if (kind < 0.75) return this.#update("cuts-every", {});
    return this.#again("cuts-brief");
  }

  async #again(name: Name): Promise<void> {
    const signal = AbortSignal.timeout(callMsMax);
    await api(this.#manager)
      .delete(`/services/${name}`, { signal })
      .catch(() => {});
    await this.#create(name);
  }

  async #update(name: Name, { scale = false }): Promise<void> {
    const signal = AbortSignal.timeout(callMsMax);
    const service = await api(this.#manager).get<Deployed>(`/services/${name}`, { signal });
    const { TaskTemplate, Mode } = service.Spec;
    const ForceUpdate = (TaskTemplate.ForceUpdate ?? 0) + 1;
    const body = scale
      ? { ...service.Spec, Mode: { Replicated: { Replicas: 2 + Math.floor(this.#random() * 4) } } }
      : { ...service.Spec, Mode, TaskTemplate: { ...TaskTemplate, ForceUpdate } };
    const query = { version: service.Version.Index };
    await api(this.#manager).post(`/services/${service.ID}/update`, { query, body, signal });
  }

  async #create(name: Name): Promise<void> {
    const order = name === "cuts-web" ? "start-first" : "stop-first";
    const body = {
      Name: name,
      TaskTemplate: {
        ContainerSpec: { Image: image, StopGracePeriod: 2e9 },
        Networks: [{ Target: this.#network }],
        RestartPolicy: { Condition: "any", Delay: 5e8 },
      },
      Mode: name === "cuts-every" ? { Global: {} } : { Replicated: { Replicas: 3 } },
      UpdateConfig: { Parallelism: 2, Order: order, FailureAction: "continue" },
      ...(name === "cuts-web"
        ? { EndpointSpec: { Ports: [{ Protocol: "tcp", TargetPort: 80, PublishedPort: 8092 }] } }
        : {}),
    };
    const signal = AbortSignal.timeout(callMsMax);
    await api(this.#manager).post("/services/create", { body, signal });
  }
}
