// The whole manager under many agents: three managers as processes, sessions over mTLS, a runtime that only says it runs things.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { codec } from "../../proto/codec.ts";
import type { ServiceSpec } from "../../proto/gen/types.ts";
import { asSwarmError } from "../../proto/kit/errors.ts";
import { Client } from "../../proto/rpc-client.ts";
import { toManager } from "../../proto/tls.ts";
import { inFolder } from "../folder.ts";
import { Child } from "../log/child.ts";
import { type OurCluster, ourMembers } from "../log/sides.ts";
import type { Figure } from "../record.ts";
import { median } from "../statistics.ts";
import { BenchError, pause, waitFor } from "../wait.ts";
import type { FakeAgentsSetting, Report } from "./setting.ts";
import type { ProcessFigures } from "./watch.ts";

export const agentsMeasurements = ["agents-2000"] as const;

const managers = 3;
const agentProcesses = 2;
const tasksPerAgent = 25;
const networks = 20;
const servicesMax = 100;
const probes = 10;
const openMsMax = 300_000;
const runMsMax = 900_000;
const answerMsMax = 60_000;
/** All have been told what there is when none is told anything for so long. */
const quietMsMin = 1_000;
/** Longer than a node may be silent before it is lost. */
const afterDeathMs = 15_000;
const callMsMax = 30_000;
const attemptsMax = 20;
const retryMs = 200;

export async function measureAgents(
  agents: number,
  note: (figure: Figure) => void,
  signal: AbortSignal,
): Promise<void> {
  await inFolder("tsswarm-agents-", async (folder) => {
    const cluster = await ourMembers(folder, managers, signal, agents);
    const world = new World({ cluster, folder, agents, note, signal });
    try {
      await world.run();
    } finally {
      world.close();
      await cluster.stop();
    }
  });
}

interface WorldParts {
  readonly cluster: OurCluster;
  readonly folder: string;
  readonly agents: number;
  readonly note: (figure: Figure) => void;
  readonly signal: AbortSignal;
}

class World {
  readonly #cluster: OurCluster;
  readonly #agents: number;
  readonly #signal: AbortSignal;
  readonly #processes: readonly Child[];
  readonly #note: (figure: Figure) => void;
  readonly #controls: readonly Client<"Control">[];
  #asked = 0;
  #agentsCpuSeconds = 0;
  #ended = 0;

  constructor({ cluster, folder, agents, note, signal }: WorldParts) {
    this.#note = note;
    this.#cluster = cluster;
    this.#agents = agents;
    this.#signal = signal;
    const { addresses, clusterId, identity } = cluster.client;
    this.#controls = addresses.map(
      (address) => new Client("Control", address, toManager(identity, clusterId)),
    );
    this.#processes = Array.from({ length: agentProcesses }, (_, part) => {
      const setting: FakeAgentsSetting = {
        clusterId,
        rootCA: identity.rootCA,
        key: identity.key,
        addresses,
        agents: cluster.agents.filter((_agent, i) => i % agentProcesses === part),
      };
      const file = join(folder, `agents${part}.json`);
      writeFileSync(file, JSON.stringify(setting), { mode: 0o600 });
      const program = fileURLToPath(new URL("./fake-agents.js", import.meta.url));
      return new Child(process.execPath, [program, file]);
    });
  }

  close(): void {
    for (const child of this.#processes) void child.end();
    for (const control of this.#controls) control.close();
  }

  async run(): Promise<void> {
    const began = performance.now();
    await this.#until("have a session", openMsMax, ({ open }) => open === this.#agents);
    this.#figure("all have a session", "s", seconds(began));
    await this.#runTasks();
    await this.#figuresOf("tasks to running");
    await this.#probe();
    await this.#figuresOf("at rest");
    await this.#withoutLeader();
  }

  async #runTasks(): Promise<void> {
    const tasks = this.#agents * tasksPerAgent;
    const services = Math.min(servicesMax, this.#agents);
    for (let n = 0; n < networks; n++)
      await this.#write((control) =>
        control.unary("CreateNetwork", {
          Spec: codec("NetworkSpec").parse({ Name: `net${n}`, Driver: "overlay" }),
        }),
      );
    const began = performance.now();
    for (let n = 0; n < services; n++)
      await this.#create(spec(`service${n}`, Math.floor(tasks / services), n));
    const wanted = Math.floor(tasks / services) * services;
    await this.#until(`run ${wanted} tasks`, runMsMax, ({ running }) => running >= wanted);
    this.#figure(
      `${wanted} tasks on ${networks} networks, published: all run`,
      "s",
      seconds(began),
    );
    await this.#rest();
    this.#figure("all agents know all endpoints", "s", seconds(began) - quietMsMin / 1000);
  }

  async #rest(): Promise<void> {
    await this.#until("are told all", runMsMax, ({ quietMs }) => quietMs >= quietMsMin);
  }

  /** One service more, once all is at rest, again and again: until it is answered, and until every agent can reach it. */
  async #probe(): Promise<void> {
    const answered: number[] = [];
    const known: number[] = [];
    for (let n = 0; n < probes; n++) {
      const began = performance.now();
      await this.#create(spec(`probe${n}`, 1, n));
      answered.push(performance.now() - began);
      const name = `probe${n}.1`;
      await this.#until(`know ${name}`, answerMsMax, ({ heard }) => heard[name] === this.#agents);
      known.push(performance.now() - began);
      await this.#rest();
    }
    this.#figure("one service more: created", "ms", median(answered));
    this.#figure("one service more: all agents know its endpoint", "ms", median(known));
  }

  async #withoutLeader(): Promise<void> {
    for (const child of this.#processes) child.tell("reset");
    const leader = this.#cluster.leader() ?? 0;
    const began = performance.now();
    await this.#cluster.end(leader, "killed");
    const survivors = this.#controls.filter((_, i) => i !== leader);
    const lost = new Set<string>();
    let answeredMs: number | null = null;
    let openMs: number | null = null;
    while (performance.now() - began < afterDeathMs || openMs === null) {
      if (performance.now() - began > openMsMax)
        throw new BenchError("agents found no other manager");
      for (const id of await this.#lostNodes(survivors)) lost.add(id);
      answeredMs ??= this.#cluster.leader() === null ? null : performance.now() - began;
      if (openMs === null && this.#report().open === this.#agents && answeredMs !== null)
        openMs = performance.now() - began;
      await pause(100, this.#signal);
    }
    this.#figure("leader killed: all have a session again", "s", openMs / 1000);
    this.#figure(
      "leader killed: longest that an agent heard nothing",
      "s",
      this.#report().silentMsMax / 1000,
    );
    this.#figure("leader killed: agents declared lost", "agents", lost.size);
    if (lost.size > 0) throw new BenchError(`${lost.size} agents were declared lost`);
  }

  async #lostNodes(controls: readonly Client<"Control">[]): Promise<readonly string[]> {
    const ids = new Set(this.#cluster.agents.map(({ id }) => id));
    for (const control of controls) {
      const request = { Filters: {}, Status: false };
      const answer = await control
        .unary("ListNodes", request, { signal: this.#signal, timeoutMs: callMsMax })
        .catch(() => null);
      if (answer === null) continue;
      return answer.Items.filter(({ ID, Status }) => ids.has(ID) && Status?.State === "down").map(
        ({ ID }) => ID,
      );
    }
    return [];
  }

  get #leader(): Client<"Control"> {
    const control = this.#controls[this.#cluster.leader() ?? 0];
    if (control === undefined) throw new BenchError("nobody leads");
    return control;
  }

  async #create(Spec: ServiceSpec): Promise<void> {
    const options = { signal: this.#signal, timeoutMs: callMsMax };
    await this.#write((control) =>
      control.unary("CreateService", { Spec, RegistryAuth: "" }, options),
    );
  }

  /** Managers on a busy machine may elect another leader: then it is asked, and may know of it already. */
  async #write(call: (control: Client<"Control">) => Promise<unknown>): Promise<void> {
    for (let attempt = 1; ; attempt++)
      try {
        await call(this.#leader);
        return;
      } catch (error) {
        const { code } = asSwarmError(error);
        if (attempt > 1 && code === "conflict") return;
        if (code === "conflict" || attempt === attemptsMax) throw error;
        await pause(retryMs, this.#signal);
      }
  }

  /** Of all agents together. */
  #report(): Report {
    const all = this.#processes.map((child) => {
      const line = child.latest("report ");
      return line === null ? null : (JSON.parse(line) as Report);
    });
    const sum = (of: (report: Report) => number) =>
      all.reduce((total, report) => total + (report === null ? 0 : of(report)), 0);
    const sums = (of: (report: Report) => Readonly<Record<string, number>>) => {
      const keys = new Set(all.flatMap((report) => Object.keys(report === null ? {} : of(report))));
      return Object.fromEntries([...keys].map((key) => [key, sum((one) => of(one)[key] ?? 0)]));
    };
    return {
      open: sum(({ open }) => open),
      running: sum(({ running }) => running),
      cpuSeconds: sum(({ cpuSeconds }) => cpuSeconds),
      silentMsMax: Math.max(...all.map((report) => report?.silentMsMax ?? 0)),
      loopMsMax: Math.max(...all.map((report) => report?.loopMsMax ?? 0)),
      quietMs: Math.min(...all.map((report) => report?.quietMs ?? 0)),
      ended: sum(({ ended }) => ended),
      whys: sums(({ whys }) => whys),
      heard: sums(({ heard }) => heard),
    };
  }

  async #until(what: string, msMax: number, fact: (report: Report) => boolean): Promise<void> {
    const why = () =>
      `not all of ${this.#agents} agents ${what}: ${JSON.stringify(this.#report())}`;
    await waitFor(why, msMax, async () => (fact(this.#report()) ? true : undefined), this.#signal);
  }

  /** Of the manager that costs most. */
  async #figuresOf(phase: string): Promise<void> {
    const all: ProcessFigures[] = [];
    for (let member = 0; member < managers; member++) {
      const beginning = `figures ${++this.#asked} `;
      this.#cluster.tell(member, `measure ${this.#asked}`);
      const why = () => `manager ${member + 1} does not tell its figures`;
      const ask = async () => this.#cluster.latest(member, beginning) ?? undefined;
      all.push(JSON.parse(await waitFor(why, answerMsMax, ask, this.#signal)) as ProcessFigures);
    }
    const most = (of: (figures: ProcessFigures) => number) => Math.max(...all.map(of));
    this.#figure(
      `${phase}: RSS of a manager`,
      "MB",
      most(({ rssMb }) => rssMb),
    );
    this.#figure(
      `${phase}: loop delay, 99th percentile`,
      "ms",
      most(({ loopP99Ms }) => loopP99Ms),
    );
    this.#figure(
      `${phase}: longest loop delay`,
      "ms",
      most(({ loopMaxMs }) => loopMaxMs),
    );
    this.#figure(
      `${phase}: longest garbage collection`,
      "ms",
      most(({ gcMaxMs }) => gcMaxMs),
    );
    const cpu = all.map(({ cpuSeconds }) => cpuSeconds);
    this.#figure(`${phase}: CPU of the three managers`, "s", sumOf(cpu));
    const { cpuSeconds, silentMsMax, loopMsMax, ended } = this.#report();
    this.#figure(`${phase}: CPU of the agents`, "s", cpuSeconds - this.#agentsCpuSeconds);
    this.#agentsCpuSeconds = cpuSeconds;
    this.#figure(`${phase}: longest that an agent heard nothing`, "ms", silentMsMax);
    this.#figure(`${phase}: longest loop delay of the agents' processes`, "ms", loopMsMax);
    this.#figure(`${phase}: sessions that broke`, "agents", ended - this.#ended);
    this.#ended = ended;
    for (const child of this.#processes) child.tell("reset");
  }

  #figure(name: string, unit: Figure["unit"], value: number): void {
    this.#note({ name: `${this.#agents} agents, ${name}`, unit, value });
  }
}

function spec(Name: string, Replicas: number, n: number): ServiceSpec {
  return codec("ServiceSpec").parse({
    Name,
    TaskTemplate: {
      ContainerSpec: { Image: "none" },
      Resources: { Reservations: { NanoCPUs: 1e7, MemoryBytes: 2 ** 24 } },
      Networks: [{ Target: `net${n % networks}` }],
    },
    Mode: { Replicated: { Replicas } },
    EndpointSpec: {
      Mode: "vip",
      Ports: [{ Protocol: "tcp", TargetPort: 80, PublishMode: "ingress" }],
    },
  });
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

function seconds(began: number): number {
  return (performance.now() - began) / 1000;
}
