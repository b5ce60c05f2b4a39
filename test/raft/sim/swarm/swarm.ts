// The whole manager in simulation: stores on simulated Raft, leaders that plan, agents that obey, operators that want things.

import {
  createNetwork,
  ingressSpec,
  newNetwork,
  removeService,
  writeService,
} from "../../../../manager/plan/write.ts";
import { emptyState, snapshotOf } from "../../../../manager/store/store.ts";
import type { Change, State } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import type { Task } from "../../../../proto/gen/types.ts";
import type { Dice } from "../chance.ts";
import type { History } from "../history.ts";
import type { Member } from "../member.ts";
import type { Network } from "../network.ts";
import type { Schedule } from "../schedule.ts";
import { mustHold } from "../violation.ts";
import { Agent } from "./agents.ts";
import { Lead, type Order } from "./lead.ts";
import { Outcomes, StoreReplica } from "./replica.ts";

export interface SwarmTotals {
  containersStarted: number;
  agentsMoved: number;
  hostsLost: number;
  ordersDone: number;
  ordersUnknown: number;
}

export interface SwarmGround {
  readonly schedule: Schedule;
  readonly members: ReadonlyMap<string, Member>;
  readonly network: Network;
  readonly history: History;
  readonly dice: Dice;
  readonly trace: (what: string, id: string, ...numbers: readonly number[]) => void;
}

/** What an operator was told of a service. */
interface Wanted {
  readonly name: string;
  exists: boolean;
  replicas: number;
  image: string;
  /** False after an answer that never came. */
  isCertain: boolean;
  isBusy: boolean;
}

const stepMs = 50;

/**
 * How many services of how many replicas there may be, and a network that has room for them, and for so many addresses more:
 * the fewer, the sooner one comes again.
 */
interface Size {
  readonly services: number;
  readonly replicas: number;
  readonly bits: number;
}
const sizes: readonly Size[] = [
  { services: 1, replicas: 3, bits: 29 },
  { services: 2, replicas: 5, bits: 28 },
  { services: 4, replicas: 5, bits: 27 },
  { services: 5, replicas: 6, bits: 26 },
];

export class Swarm {
  readonly totals: SwarmTotals = {
    containersStarted: 0,
    agentsMoved: 0,
    hostsLost: 0,
    ordersDone: 0,
    ordersUnknown: 0,
  };
  readonly #ground: SwarmGround;
  readonly #dice: Dice;
  readonly #outcomes = new Outcomes();
  readonly #replicas = new Map<string, StoreReplica>();
  readonly #leads = new Map<string, Lead>();
  readonly #agents: Agent[] = [];
  readonly #wanted: Wanted[] = [];
  readonly #size: Size;
  #services = 0;
  #isCalm = false;

  constructor(ground: SwarmGround) {
    this.#ground = ground;
    this.#dice = ground.dice;
    this.#size = sizes[this.#dice.below(sizes.length)] ?? { services: 5, replicas: 6, bits: 26 };
  }

  replica(id: string): StoreReplica {
    const known = this.#replicas.get(id);
    if (known !== undefined) return known;
    const made = new StoreReplica(this.#outcomes);
    this.#replicas.set(id, made);
    return made;
  }

  begin(): void {
    const nodes = this.#dice.between(2, 5);
    const ground = {
      schedule: this.#ground.schedule,
      members: () => [...this.#ground.members.values()],
      replica: (id: string) => this.replica(id),
      leadOf: (member: Member) => this.#leadOf(member),
      agents: () => this.#agents,
      trace: this.#ground.trace,
    };
    for (let i = 1; i <= nodes; i++) this.#agents.push(new Agent(`n${i}`, ground, this.#dice));
    for (let i = 1; i <= this.#size.services; i++)
      this.#wanted.push({
        name: `s${i}`,
        exists: false,
        replicas: 0,
        image: "",
        isCertain: true,
        isBusy: false,
      });
    this.#step(0);
  }

  calm(): void {
    this.#isCalm = true;
    for (const agent of this.#agents) {
      agent.isUp = true;
      agent.cutUntil = 0;
    }
  }

  // ── time ──

  #step(count: number): void {
    this.#followLeaders();
    for (const lead of this.#leads.values()) if (!lead.member.isPaused) lead.tick();
    for (const [i, agent] of this.#agents.entries()) if ((count + i) % 4 === 0) agent.act();
    if (!this.#isCalm) {
      if (this.#dice.chance(0.05)) this.#order();
      if (this.#dice.chance(0.01)) this.#fault();
    }
    this.#ground.schedule.after(stepMs, () => this.#step(count + 1));
  }

  #followLeaders(): void {
    for (const member of this.#ground.members.values()) {
      const { status } = member;
      const lead = this.#leads.get(member.id);
      const term = status?.role === "leader" ? status.term : 0;
      if (lead?.term === term) continue;
      lead?.end();
      this.#leads.delete(member.id);
      if (term > 0) this.#leads.set(member.id, new Lead(member, term, this.#leadGround()));
    }
  }

  #leadGround(): ConstructorParameters<typeof Lead>[2] {
    return {
      schedule: this.#ground.schedule,
      history: this.#ground.history,
      outcomes: this.#outcomes,
      replica: (id) => this.replica(id),
      answersProbe: (nodeId) =>
        this.#agents.some((agent) => agent.id === nodeId && agent.isUp && !agent.isCut),
      firstChanges: () => this.#firstChanges(),
    };
  }

  /** Whom a manager tells what its agents say. */
  #leadOf(member: Member): Lead | null {
    const { status } = member;
    if (status === null || status.leader === null) return null;
    const lead = this.#leads.get(status.leader);
    if (lead === undefined || lead.term !== status.term || !lead.isReady) return null;
    return this.#ground.network.isCut(member.id, status.leader) ? null : lead;
  }

  #readyLead(): Lead | null {
    const ready = [...this.#leads.values()].filter((lead) => lead.isReady && lead.member.isUp);
    return ready.sort((a, b) => b.term - a.term)[0] ?? null;
  }

  #firstChanges(): readonly Change[] {
    const cluster = codec("Cluster").parse({ ID: "cluster", NextVNI: 4097 });
    const ingress = newNetwork(emptyState(), cluster, ingressSpec, { id: "ingress", vni: 4096 });
    const nodes = this.#agents.map(({ id }, i) =>
      codec("Node").parse({
        ID: id,
        Spec: { Role: "worker", Availability: "active" },
        Status: { State: "ready", Addr: "10.0.0.1" },
        Description: {
          Hostname: id,
          Platform: { OS: "linux", Architecture: "x86_64" },
          Resources: { NanoCPUs: 16e9, MemoryBytes: 1 << 30 },
          Engine: {},
        },
        Index: i + 1,
      }),
    );
    return [
      { op: "put", kind: "cluster", object: cluster },
      { op: "put", kind: "network", object: ingress },
      ...nodes.map((object): Change => ({ op: "put", kind: "node", object })),
    ];
  }

  // ── what goes wrong and what is wanted ──

  #fault(): void {
    const agent = this.#dice.pick(this.#agents);
    if (agent === undefined) return;
    const { schedule } = this.#ground;
    const kind = this.#dice.random();
    if (kind < 0.4) agent.failOne();
    else if (kind < 0.7) agent.cutUntil = schedule.now + this.#dice.exponential(6_000);
    else if (agent.isUp) {
      this.totals.hostsLost += 1;
      agent.crash();
      schedule.after(1_000 + this.#dice.exponential(8_000), () => {
        agent.isUp = true;
      });
    }
  }

  #order(): void {
    const lead = this.#readyLead();
    const wanted = this.#dice.pick(this.#wanted.filter(({ isBusy }) => !isBusy));
    if (lead === null || wanted === undefined) return;
    const kind = this.#dice.random();
    if (kind < 0.1) this.#give(lead, this.#drain());
    else if (kind < 0.25) this.#give(lead, this.#remove(wanted));
    else
      this.#give(
        lead,
        this.#set(
          wanted,
          this.#dice.between(0, this.#size.replicas),
          `image${this.#dice.below(3)}`,
        ),
      );
  }

  #give(lead: Lead, order: Order): void {
    lead.orders.push(order);
  }

  /** Makes the service so, whether it is there or not. */
  #set(wanted: Wanted, replicas: number, image: string): Order {
    wanted.isBusy = true;
    return {
      compute: (state, now) => {
        const back = state.table("network").named("back");
        const made = back === undefined ? this.#makeNetwork(state) : [];
        if (made.length > 0) return made;
        const previous = state.table("service").named(wanted.name);
        this.#services += 1;
        const spec = codec("ServiceSpec").parse({
          Name: wanted.name,
          TaskTemplate: {
            ContainerSpec: { Image: image },
            Networks: [{ Target: back?.ID }],
            RestartPolicy: { Condition: "any", Delay: 500_000_000 },
          },
          Mode: { Replicated: { Replicas: replicas } },
        });
        const id = `${wanted.name}-${this.#services}`;
        return writeService(state, previous, spec, { id, now }).changes;
      },
      settled: (how) => {
        const isNetwork = how === "done" && !this.#isSet(wanted, replicas);
        this.#settled(wanted, how, () => {
          if (isNetwork) return;
          Object.assign(wanted, { exists: true, replicas, image });
        });
      },
    };
  }

  /** The order may have made the network first. */
  #isSet(wanted: Wanted, replicas: number): boolean {
    const lead = this.#readyLead();
    const service =
      lead === null
        ? undefined
        : this.replica(lead.member.id).state.table("service").named(wanted.name);
    return service?.Spec?.Mode?.Replicated?.Replicas === replicas;
  }

  #makeNetwork(state: State): readonly Change[] {
    const Config = [{ Subnet: `192.168.7.0/${this.#size.bits}` }];
    const spec = codec("NetworkSpec").parse({ Name: "back", IPAM: { Config } });
    return createNetwork(state, spec, { id: "back" }).changes;
  }

  #remove(wanted: Wanted): Order {
    wanted.isBusy = true;
    return {
      compute: (state) => {
        const service = state.table("service").named(wanted.name);
        return service === undefined ? [] : removeService(state, service.ID);
      },
      settled: (how) =>
        this.#settled(wanted, how, () => {
          wanted.exists = false;
        }),
    };
  }

  #settled(wanted: Wanted, how: "done" | "refused" | "unknown", apply: () => void): void {
    wanted.isBusy = false;
    if (how === "done") {
      this.totals.ordersDone += 1;
      wanted.isCertain = true;
      apply();
    } else if (how === "unknown") {
      this.totals.ordersUnknown += 1;
      wanted.isCertain = false;
    }
  }

  #drain(): Order {
    const id = this.#dice.pick(this.#agents)?.id ?? "";
    return this.#availability(id, this.#dice.chance(0.5) ? "drain" : "active");
  }

  #availability(id: string, Availability: string): Order {
    return {
      compute: (state) => {
        const node = state.table("node").get(id);
        if (node?.Spec === undefined || node.Spec.Availability === Availability) return [];
        const object = { ...node, Spec: { ...node.Spec, Availability } };
        return [{ op: "put", kind: "node", object }];
      },
      settled: () => {},
    };
  }

  // ── the end ──

  /** What has not come right yet in the calm; empty: all is as it should be. */
  missing(): string {
    const lead = this.#readyLead();
    if (lead === null) return "a manager that leads";
    const { state } = this.replica(lead.member.id);
    if (state.cluster === undefined) return "the cluster";
    for (const node of state.table("node").values()) {
      if (node.Spec?.Availability !== "active") {
        if (lead.isIdle) this.#give(lead, this.#availability(node.ID, "active"));
        return `an end to draining ${node.ID}`;
      }
      if (node.Status?.State !== "ready") return `node ${node.ID}, ${node.Status?.State}`;
    }
    for (const service of state.table("service").values()) {
      const running = state.tasksOfService(service.ID).filter(shouldRun);
      const replicas = service.Spec?.Mode?.Replicated?.Replicas ?? 0;
      if (running.length !== replicas || !running.every((task) => task.Status?.State === "running"))
        return `${replicas} replicas of ${service.ID}, there are ${running.length}`;
    }
    for (const agent of this.#agents) {
      const wanted = state
        .tasksOfNode(agent.id)
        .filter(shouldRun)
        .map(({ ID }) => ID);
      if (wanted.sort().join() !== agent.runningIds.join())
        return `the store's tasks on ${agent.id}: ${wanted} instead of ${agent.runningIds}`;
    }
    return lead.isIdle ? "" : "rest";
  }

  check(): void {
    const lead = this.#readyLead();
    mustHold("rest", lead !== null, () => "nobody leads");
    const { state } = this.replica(lead.member.id);
    for (const { name, exists, replicas, image, isCertain, isBusy } of this.#wanted) {
      if (!isCertain || isBusy) continue;
      const service = state.table("service").named(name);
      // A failed update goes back by itself.
      if (exists && service?.UpdateStatus?.State.startsWith("rollback") === true) continue;
      const spec = service?.Spec;
      mustHold(
        "acknowledged orders stay",
        (spec !== undefined) === exists &&
          (!exists || spec?.Mode?.Replicated?.Replicas === replicas) &&
          (!exists || spec?.TaskTemplate?.ContainerSpec?.Image === image),
        () =>
          `${name} was to ${exists ? `have ${replicas} of ${image}` : "be gone"}: ${JSON.stringify(spec?.Mode)}`,
      );
    }
    this.#checkSameBytes(lead.member);
    this.totals.containersStarted = this.#agents.reduce((sum, { started }) => sum + started, 0);
    this.totals.agentsMoved = this.#agents.reduce((sum, { moved }) => sum + moved, 0);
  }

  #checkSameBytes(leader: Member): void {
    const bytes = (id: string) => Buffer.concat([...snapshotOf(this.replica(id).state)]);
    const own = bytes(leader.id);
    for (const member of this.#ground.members.values()) {
      if (!member.isUp || member.machine.index !== leader.machine.index) continue;
      mustHold("equal stores", own.equals(bytes(member.id)), () => `${member.id} and ${leader.id}`);
    }
  }
}

function shouldRun(task: Task): boolean {
  return task.DesiredState === "running";
}
