// `node --expose-gc dist/test/e2e/churn.js [SECONDS]`: one manager, with three agents that only say they run things, while services are
// made, changed, scaled and removed without end, for an hour unless told otherwise. Prints the manager's memory after forced garbage
// collections twice a minute; exits with 1 when the last third needs more than the second.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { codec } from "../../proto/codec.ts";
import type { Assignment, FromAgent, ServiceSpec, Task } from "../../proto/gen/types.ts";
import type { NodeIdentity } from "../../proto/identity.ts";
import { Queue } from "../../proto/kit/queue.ts";
import { realWorld, timestamp } from "../../proto/kit/world.ts";
import { Client } from "../../proto/rpc-client.ts";
import { toManager } from "../../proto/tls.ts";
import { joined } from "../unit/manager/nodes.ts";
import { configIn, init, RunningManager } from "../unit/manager/running.ts";

const agents = 3;
const names = 20;
const replicasMax = 6;
const pauseMs = 5;
const sampleMs = 30_000;
const growthMax = 1.1;

/** Runs nothing, and says what it is asked to say. */
async function agent(address: string, identity: NodeIdentity, signal: AbortSignal): Promise<void> {
  const client = new Client("Dispatch", address, toManager(identity, identity.clusterId));
  const outgoing = new Queue<FromAgent>(10_000, signal);
  const description = { Hostname: identity.nodeId, Resources: { NanoCPUs: 64e9 } };
  const Hello = codec("Hello").parse({
    Description: description,
    DataPathAddr: "127.0.0.1",
    BootID: "boot",
  });
  outgoing.push({ Hello, Tasks: [] });
  const beats = setInterval(() => {
    outgoing.push({ Beat: { UnreachablePeers: [], UnheldPorts: [], Usage: [] }, Tasks: [] });
  }, 500);
  try {
    for await (const message of client.duplex("Session", outgoing, { signal })) {
      const Tasks = message.Set.flatMap((each) => reportOf(each));
      if (Tasks.length > 0) outgoing.push({ Tasks });
      if (message.Version !== "")
        outgoing.push({ Acknowledged: { Version: message.Version }, Tasks: [] });
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    clearInterval(beats);
    client.close();
  }
}

function reportOf({ Task }: Assignment): FromAgent["Tasks"] {
  if (Task === undefined) return [];
  const State = stateAfter(Task);
  if (State === Task.Status?.State) return [];
  const Status = { Timestamp: timestamp(realWorld.now()), State, Message: "", Err: "" };
  return [{ ID: Task.ID, Status }];
}

function stateAfter({ DesiredState, Status }: Task): string {
  if (DesiredState === "running" || DesiredState === "ready") return DesiredState;
  return Status?.State === "failed" ? "failed" : "shutdown";
}

/** One after the other, on one of the names: made where it is not there, else changed, scaled or removed. */
class Churn {
  count = 0;
  refused = 0;
  readonly #control: Client<"Control">;
  readonly #ids = new Map<string, string>();

  constructor(control: Client<"Control">) {
    this.#control = control;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.count += 1;
      // The planner may have been faster with the service; the next one comes at once.
      await this.#step(`s${this.count % names}`).catch(() => {
        this.refused += 1;
      });
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  async #step(name: string): Promise<void> {
    const ID = this.#ids.get(name);
    const round = Math.floor(this.count / names);
    if (ID === undefined) {
      const request = { Spec: this.#spec(name, 3), RegistryAuth: "" };
      this.#ids.set(name, (await this.#control.unary("CreateService", request)).ID);
    } else if (round % 8 === 7) {
      this.#ids.delete(name);
      await this.#control.unary("RemoveService", { ID, InsertDefaults: false });
    } else {
      const { Version } = await this.#control.unary("GetService", { ID, InsertDefaults: false });
      await this.#control.unary("UpdateService", {
        ID,
        Version: Version?.Index ?? 0,
        Spec: this.#spec(name, 1 + (this.count % replicasMax)),
        RegistryAuth: "",
        RegistryAuthFrom: "",
        Rollback: "",
      });
    }
  }

  #spec(Name: string, Replicas: number): ServiceSpec {
    const round = Math.floor(this.count / names / 2);
    return codec("ServiceSpec").parse({
      Name,
      Labels: { round: `${round}` },
      TaskTemplate: { ContainerSpec: { Image: `image:${round % 2}`, Env: [`ROUND=${round}`] } },
      Mode: { Replicated: { Replicas } },
      UpdateConfig: { Parallelism: 0 },
    });
  }
}

interface Sample {
  readonly heap: number;
  readonly rss: number;
}

function sample(): Sample {
  for (let i = 0; i < 2; i++) globalThis.gc?.();
  const { heapUsed, external, rss } = process.memoryUsage();
  return { heap: (heapUsed + external) / 2 ** 20, rss: rss / 2 ** 20 };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function verdict(samples: readonly Sample[]): boolean {
  const third = Math.floor(samples.length / 3);
  const second = samples.slice(third, 2 * third);
  const last = samples.slice(2 * third);
  let isFlat = true;
  for (const kind of ["heap", "rss"] as const) {
    const before = median(second.map((each) => each[kind]));
    const after = median(last.map((each) => each[kind]));
    console.log(`${kind}: second third ${before.toFixed(1)} MiB, last ${after.toFixed(1)} MiB`);
    isFlat &&= after <= growthMax * before;
  }
  return isFlat;
}

if (globalThis.gc === undefined) throw new Error("run it with node --expose-gc");
const seconds = Number(process.argv[2] ?? 3600);
const folder = await mkdtemp(join(tmpdir(), "tsswarm-churn-"));
const stop = new AbortController();
const manager = new RunningManager(configIn(folder));
await manager.ready();
const [address = ""] = (await init(manager)).Managers;
const { JoinTokens } = await manager.control.unary("GetCluster", {});
const running: Promise<void>[] = [];
for (let i = 1; i <= agents; i++) {
  const identity = await joined({
    directory: join(folder, `agent${i}`),
    remotes: [address],
    token: JoinTokens?.Worker ?? "",
  });
  running.push(agent(address, identity, stop.signal));
}
const churn = new Churn(manager.control);
running.push(churn.run(stop.signal));
const samples: Sample[] = [];
const started = performance.now();
while (performance.now() - started < seconds * 1000) {
  await new Promise((resolve) => setTimeout(resolve, Math.min(sampleMs, seconds * 100)));
  const at = sample();
  samples.push(at);
  const { Items } = await manager.control.unary("ListTasks", { Filters: {}, Status: false });
  const states = Items.filter(({ Status }) => Status?.State === "running").length;
  console.log(
    `${((performance.now() - started) / 1000).toFixed(0)} s: heap ${at.heap.toFixed(1)} MiB, rss ${at.rss.toFixed(1)} MiB; ${churn.count} orders, ${churn.refused} refused; ${Items.length} tasks, ${states} running`,
  );
}
const isFlat = verdict(samples);
stop.abort();
await Promise.allSettled(running);
await manager[Symbol.asyncDispose]();
await rm(folder, { recursive: true, force: true });
process.exit(isFlat ? 0 : 1);
