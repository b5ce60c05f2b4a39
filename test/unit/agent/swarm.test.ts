import assert from "node:assert/strict";
import { test } from "node:test";
import type { Container } from "../../../agent/engine/container-types.ts";
import type { Engine } from "../../../agent/engine/types.ts";
import type { ClusterView, Network } from "../../../agent/network/types.ts";
import type { Session, Wanted } from "../../../agent/session/types.ts";
import { Swarm } from "../../../agent/swarm.ts";
import { codec } from "../../../proto/codec.ts";
import { SwarmError } from "../../../proto/kit/errors.ts";
import { silentLog } from "../../../proto/kit/log.ts";
import { Queue } from "../../../proto/kit/queue.ts";
import { realWorld } from "../../../proto/kit/world.ts";

const task = codec("Task").parse({
  ID: "t".repeat(25),
  DesiredState: "running",
  Spec: { ContainerSpec: { Image: "web" } },
});

function wanted(version: string, hasTask: boolean): Wanted {
  return {
    version,
    info: codec("SessionInfo").parse({ NodeID: "n1", Index: 3, DataPathPort: 4789 }),
    tasks: new Map(hasTask ? [[task.ID, task]] : []),
    networks: new Map(),
    peers: new Map(),
    services: new Map(),
    endpoints: new Map(),
    confirmed: true,
  };
}

function until<T>(queue: Queue<T>, signal: AbortSignal): Queue<T> {
  signal.addEventListener("abort", () => queue.end(), { once: true });
  return queue;
}

/** Session, network and engine in memory; `done` is what was asked of all three, in order. */
class Fake {
  readonly done: string[] = [];
  readonly wishes = new Queue<Wanted>(16);
  readonly events = new Queue<never>(16);
  networkFails: SwarmError | null = null;
  view: ClusterView | null = null;
  #container: Container | null = null;
  #changed: () => void = () => {};

  async open(): Promise<Swarm> {
    const network: Partial<Network> = {
      update: async (view) => {
        this.#did("update");
        this.view = view;
        if (this.networkFails !== null) throw this.networkFails;
      },
      createSandbox: async () => {
        this.#did("createSandbox");
        return { namespace: "/netns/t" };
      },
      removeSandbox: async () => this.#did("removeSandbox"),
      sandboxes: async () => [],
    };
    const engine: Partial<Engine> = {
      pull: async () => ({ id: "", digest: "" }),
      inspectImage: async () => ({}),
      create: async () => {
        this.#put("created");
        return "c1";
      },
      start: async () => {
        this.#did("start");
        this.#put("running");
      },
      stop: async () => {
        this.#did("stop");
        this.#put("exited");
      },
      remove: async () => {
        this.#did("remove");
        this.#container = null;
      },
      list: () => (this.#container === null ? [] : [this.#container]),
      events: (signal) => until(this.events, signal),
    };
    const session: Partial<Session> = {
      watch: (signal) => until(this.wishes, signal),
      acknowledge: (version) => this.#did(`acknowledge ${version}`),
      report: (_id, status) => this.#did(`report ${status.State}`),
      connected: () => true,
    };
    const swarm = await Swarm.open({
      engine: engine as Engine,
      network: network as Network,
      dataPathAddr: "192.0.2.1",
      containerOf: () => ({
        name: "c1",
        config: { Image: "web" },
        host: {},
        networkNamespace: "",
        networks: {},
      }),
      files: {
        keys: () => [],
        provided: new Set(),
        registryAuth: () => null,
        provide: async () => {},
        withdraw: async () => {},
      },
      world: realWorld,
      log: silentLog,
    });
    swarm.start(session as Session);
    return swarm;
  }

  async until(what: string): Promise<void> {
    while (!this.done.includes(what))
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
  }

  #did(what: string): void {
    this.done.push(what);
    this.#changed();
  }

  #put(status: "created" | "running" | "exited"): void {
    this.#container = {
      id: "c1",
      name: "c1",
      created: "",
      imageId: "",
      config: { Image: "web", Labels: { "com.docker.swarm.task.id": task.ID } },
      host: {},
      networks: {},
      networkNamespace: "",
      state: {
        Status: status,
        Pid: 7,
        ExitCode: 0,
        OOMKilled: false,
        Error: "",
        StartedAt: "",
        FinishedAt: "",
      },
    };
  }
}

test("the kernel agrees first, then the managers hear of it, then tasks are started", async () => {
  const fake = new Fake();
  const swarm = await fake.open();
  fake.wishes.push(wanted("v1", true));
  await fake.until("report running");
  assert.deepEqual(fake.done, [
    "update",
    "acknowledge v1",
    "report accepted",
    "report preparing",
    "createSandbox",
    "report starting",
    "start",
    "report running",
  ]);
  assert.deepEqual(fake.view?.self, {
    nodeId: "n1",
    index: 3,
    dataPathAddr: "192.0.2.1",
    dataPathPort: 4789,
  });
  assert.deepEqual(
    swarm.held().map((update) => [update.ID, update.Status?.State]),
    [[task.ID, "starting"]],
  );
  await swarm.close();
});

test("while the network cannot be made nothing starts and nothing is acknowledged; it is tried again", async () => {
  const fake = new Fake();
  fake.networkFails = new SwarmError("internal", "no VXLAN today");
  const swarm = await fake.open();
  fake.wishes.push(wanted("v1", true));
  await fake.until("report accepted");
  assert.deepEqual(fake.done, ["update", "report accepted"]);
  fake.networkFails = null;
  await fake.until("report running");
  assert.deepEqual(fake.done.slice(2, 4), ["update", "acknowledge v1"]);
  await swarm.close();
});

test("a port that a program of this host has does not hold up the rest", async () => {
  const fake = new Fake();
  fake.networkFails = new SwarmError("conflict", "port 80/tcp cannot be published");
  const swarm = await fake.open();
  fake.wishes.push(wanted("v1", true));
  await fake.until("report running");
  assert.ok(fake.done.includes("acknowledge v1"));
  await swarm.close();
});

test("leaving stops and removes everything", async () => {
  const fake = new Fake();
  const swarm = await fake.open();
  fake.wishes.push(wanted("v1", true));
  await fake.until("report running");
  await swarm.stopAll();
  assert.deepEqual(fake.done.slice(-3), ["stop", "removeSandbox", "remove"]);
  assert.deepEqual(swarm.held(), []);
  await swarm.close();
});
