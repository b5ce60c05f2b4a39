// Many agents in one process: `node fake-agents.js SETTING-FILE`. Each has a real session with a manager and a runtime that only
// says it does as it is told. What all of them are told alike is read once. Prints a Report as JSON, a line at a time; told "reset"
// it forgets the longest silence and delay.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { setPriority } from "node:os";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { codec } from "../../proto/codec.ts";
import type {
  Assignment,
  Endpoint,
  FromAgent,
  Hello,
  TaskStatus,
  TaskUpdate,
  ToAgent,
} from "../../proto/gen/types.ts";
import { messageOf } from "../../proto/kit/errors.ts";
import { Queue } from "../../proto/kit/queue.ts";
import { realWorld, timestamp } from "../../proto/kit/world.ts";
import { unpacked } from "../../proto/packed.ts";
import { Client } from "../../proto/rpc-client.ts";
import { toManager } from "../../proto/tls.ts";
import type { FakeAgentsSetting, Report } from "./setting.ts";

const beatMs = 500;
/** So many parts of all agents beat one after the other. */
const beatParts = 20;
const reportMs = 50;
const queueMax = 10_000;
/** Of what all are told alike the newest. */
const packedMax = 4_096;
const retryMsMax = 2_000;
const whyMax = 80;
const whysMax = 20;
/** A real node starts its agent when it boots; not all at once. */
const startsPerSecond = 250;
/** Real agents have machines of their own: the managers' need of this one goes first. */
const niceness = 5;

setPriority(niceness);
const setting = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as FakeAgentsSetting;
const heard = new Map<string, number>();
/** Why sessions ended or did not begin. */
const whys = new Map<string, number>();
/** By a digest of what is packed. */
const packedProbes = new Map<string, readonly string[]>();

class FakeAgent {
  silentMsMax = 0;
  isOpen = false;
  readonly #index: number;
  readonly #tasks = new Map<string, string>();
  readonly #networks = new Set<string>();
  readonly #probes = new Set<string>();
  #outgoing: Queue<FromAgent> | null = null;
  #version = "";
  #heardAt: number | null = null;

  constructor(index: number) {
    this.#index = index;
  }

  running = 0;

  /** To one manager after the other, for ever. */
  async run(): Promise<void> {
    for (let attempt = this.#index; ; attempt++) {
      const address = setting.addresses[attempt % setting.addresses.length] ?? "";
      await this.#session(address).catch((error: unknown) => {
        const why = messageOf(error).slice(0, whyMax);
        if (whys.size < whysMax || whys.has(why)) whys.set(why, (whys.get(why) ?? 0) + 1);
      });
      this.isOpen = false;
      await pause(Math.random() * retryMsMax);
    }
  }

  beat(): void {
    this.#outgoing?.push(said({ Beat: { UnreachablePeers: [], UnheldPorts: [], Usage: [] } }));
  }

  async #session(address: string): Promise<void> {
    const agent = setting.agents[this.#index];
    if (agent === undefined) return;
    const { clusterId, rootCA, key } = setting;
    const identity = { rootCA, key, certificate: agent.certificate };
    const client = new Client("Dispatch", address, toManager(identity, clusterId));
    const outgoing = new Queue<FromAgent>(queueMax);
    outgoing.push(said({ Hello: this.#hello(agent.id) }));
    try {
      for await (const message of client.duplex("Session", outgoing, {})) {
        this.isOpen = true;
        this.#outgoing = outgoing;
        this.#hear();
        this.#take(message, outgoing);
      }
    } finally {
      if (this.isOpen) ended += 1;
      this.#outgoing = null;
      outgoing.end();
      client.close();
    }
  }

  #hello(id: string): Hello {
    const at = this.#index;
    return codec("Hello").parse({
      Description: {
        Hostname: `host-${id}`,
        Platform: { OS: "linux", Architecture: "x86_64" },
        Resources: { NanoCPUs: 64e9, MemoryBytes: 256 * 2 ** 30 },
      },
      DataPathAddr: `10.200.${at >> 8}.${at & 255}`,
      BootID: "boot",
      Unpacks: true,
      Have: this.#version,
      Networks: [...this.#networks],
      Tasks: [...this.#tasks].map(([ID, State]) => ({ ID, Status: statusOf(State) })),
    });
  }

  /** How long the manager said nothing. */
  #hear(): void {
    const now = performance.now();
    if (this.#heardAt !== null) this.silentMsMax = Math.max(this.silentMsMax, now - this.#heardAt);
    this.#heardAt = now;
  }

  #take(message: ToAgent, outgoing: Queue<FromAgent>): void {
    if (message.Complete) {
      this.#networks.clear();
      this.#tasks.clear();
      this.running = 0;
    }
    for (const { Kind, ID } of message.Remove) {
      if (Kind === "task") this.#note(ID, null);
      if (Kind === "network") this.#networks.delete(ID);
    }
    if (message.Packed.length > 0) toldAt = performance.now();
    for (const bytes of message.Packed) for (const name of probesIn(bytes)) this.#hearOf(name);
    const Tasks = message.Set.flatMap((assignment) => this.#obey(assignment));
    if (Tasks.length > 0) outgoing.push(said({ Tasks }));
    if (message.Version === "") return;
    this.#version = message.Version;
    outgoing.push(said({ Acknowledged: { Version: message.Version } }));
  }

  #obey({ Task, Network, Endpoint }: Assignment): readonly TaskUpdate[] {
    if (Network !== undefined) this.#networks.add(Network.ID);
    if (Endpoint !== undefined) for (const name of probeOf(Endpoint)) this.#hearOf(name);
    if (Task === undefined) return [];
    const isUp = Task.DesiredState === "running" || Task.DesiredState === "ready";
    const state = isUp ? Task.DesiredState : "shutdown";
    this.#note(Task.ID, state);
    return state === Task.Status?.State ? [] : [{ ID: Task.ID, Status: statusOf(state) }];
  }

  #note(taskId: string, state: string | null): void {
    if (this.#tasks.get(taskId) === "running") this.running -= 1;
    if (state === "running") this.running += 1;
    if (state === null) this.#tasks.delete(taskId);
    else this.#tasks.set(taskId, state);
  }

  #hearOf(probe: string): void {
    if (this.#probes.has(probe)) return;
    this.#probes.add(probe);
    heard.set(probe, (heard.get(probe) ?? 0) + 1);
  }
}

/** The name of its task, if it serves and is a probe's. */
function probeOf({ Names: [name = ""], State }: Endpoint): readonly string[] {
  return name.startsWith("probe") && State === "serving" ? [name] : [];
}

function probesIn(bytes: Uint8Array): readonly string[] {
  const key = createHash("sha1").update(bytes).digest("base64");
  const known = packedProbes.get(key);
  if (known !== undefined) return known;
  const told = unpacked({ ...codec("ToAgent").parse({}), Packed: [bytes] });
  const probes = told.Set.flatMap(({ Endpoint }) =>
    Endpoint === undefined ? [] : probeOf(Endpoint),
  );
  packedProbes.set(key, probes);
  for (const oldest of packedProbes.keys())
    if (packedProbes.size > packedMax) packedProbes.delete(oldest);
    else break;
  return probes;
}

function said(words: Partial<FromAgent>): FromAgent {
  return { Tasks: [], ...words };
}

function statusOf(State: string): TaskStatus {
  return { Timestamp: timestamp(realWorld.now()), State, Message: State, Err: "" };
}

let ended = 0;
let toldAt = performance.now();
const delay = monitorEventLoopDelay({ resolution: 5 });
delay.enable();
const agents = setting.agents.map((_, index) => new FakeAgent(index));
for (const [index, agent] of agents.entries())
  setTimeout(() => void agent.run(), (index / startsPerSecond) * 1000);

let part = 0;
setInterval(() => {
  part = (part + 1) % beatParts;
  for (let i = part; i < agents.length; i += beatParts) agents[i]?.beat();
}, beatMs / beatParts);

setInterval(() => {
  const { user, system } = process.cpuUsage();
  const report: Report = {
    open: agents.filter(({ isOpen }) => isOpen).length,
    running: agents.reduce((sum, agent) => sum + agent.running, 0),
    silentMsMax: Math.max(...agents.map(({ silentMsMax }) => silentMsMax)),
    loopMsMax: delay.max / 1e6,
    quietMs: performance.now() - toldAt,
    ended,
    whys: Object.fromEntries(whys),
    cpuSeconds: (user + system) / 1e6,
    heard: Object.fromEntries(heard),
  };
  process.stdout.write(`report ${JSON.stringify(report)}\n`);
}, reportMs);

createInterface({ input: process.stdin })
  .on("line", () => {
    for (const agent of agents) agent.silentMsMax = 0;
    delay.reset();
  })
  .on("close", () => process.exit(0));
