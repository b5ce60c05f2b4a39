// Fake agents: they hold containers of nothing, do what the manager they are connected to says, and tell what became of it.

import { tasksFor } from "../../../../manager/dispatch/assign.ts";
import { indexOfVersion, missedSince, versionText } from "../../../../manager/dispatch/versions.ts";
import { hasEnded } from "../../../../manager/plan/tasks.ts";
import type { State } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import type { Task, TaskStatus } from "../../../../proto/gen/types.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import { timestamp } from "../../../../proto/kit/world.ts";
import type { Dice } from "../chance.ts";
import type { Member } from "../member.ts";
import type { Schedule } from "../schedule.ts";
import { mustHold } from "../violation.ts";
import { epochMs, type Lead } from "./lead.ts";
import type { StoreReplica } from "./replica.ts";

export interface Container {
  readonly taskId: string;
  readonly addresses: readonly string[];
  state: "running" | "ready" | "failed" | "shutdown";
}

export interface AgentGround {
  readonly schedule: Schedule;
  readonly members: () => readonly Member[];
  readonly replica: (id: string) => StoreReplica;
  /** The lead that this manager can tell, if any. */
  readonly leadOf: (member: Member) => Lead | null;
  readonly agents: () => readonly Agent[];
  readonly trace: (what: string, id: string, ...numbers: readonly number[]) => void;
}

/** A manager that has heard of no leader for so long sends its agents away. */
const aloneMsMax = 4_000;
/** Of the cluster: no new one is forced here. */
const epoch = 1;

export class Agent {
  readonly id: string;
  readonly containers = new Map<string, Container>();
  started = 0;
  moved = 0;
  isUp = true;
  /** The host reaches no manager until then. */
  cutUntil = 0;
  readonly #ground: AgentGround;
  readonly #dice: Dice;
  #manager: Member | null = null;
  /** Its process when the session began: the next one may know less. */
  #process: Member["core"] = null;
  #aloneSince = 0;
  /** The version of what it was told last; kept on its disk. */
  #have = "";
  #versions = 0;

  constructor(id: string, ground: AgentGround, dice: Dice) {
    this.id = id;
    this.#ground = ground;
    this.#dice = dice;
  }

  get isCut(): boolean {
    return this.#ground.schedule.now < this.cutUntil;
  }

  get runningIds(): readonly string[] {
    return [...this.containers.values()]
      .filter(({ state }) => state === "running")
      .map(({ taskId }) => taskId)
      .sort();
  }

  /** The host loses power: nothing of its containers is left. */
  crash(): void {
    this.isUp = false;
    this.#manager = null;
    this.containers.clear();
  }

  /** A container ends by itself. */
  failOne(): void {
    const running = [...this.containers.values()].filter(({ state }) => state === "running");
    const one = this.#dice.pick(running);
    if (one !== undefined) one.state = "failed";
  }

  act(): void {
    if (!this.isUp || this.isCut) return;
    const manager = this.#session();
    if (manager === null) return;
    const { state } = this.#ground.replica(manager.id);
    this.#hear(state);
    this.#reconcile(state);
    this.#tell(this.#ground.leadOf(manager), state);
  }

  #session(): Member | null {
    const { now } = this.#ground.schedule;
    const manager = this.#manager;
    if (manager?.isUp === true && manager.status?.leader !== null) this.#aloneSince = now;
    const isSame = manager?.isUp === true && manager.core === this.#process;
    if (isSame && now - this.#aloneSince <= aloneMsMax) return manager;
    const next = this.#dice.pick(this.#ground.members().filter((each) => each.isUp)) ?? null;
    if (next !== manager && manager !== null) this.moved += 1;
    this.#aloneSince = now;
    this.#manager = next !== null && this.#isServed(next) ? next : null;
    this.#process = this.#manager?.core ?? null;
    return this.#manager;
  }

  /** A manager refuses who knows more than itself; here one that takes it tells everything. */
  #isServed(manager: Member): boolean {
    const { index } = this.#ground.replica(manager.id).state;
    try {
      missedSince(this.#have, epoch, index, { since: () => null });
      return true;
    } catch (error) {
      if (error instanceof SwarmError && error.code === "no_leader") return false;
      throw error;
    }
  }

  #hear(state: State): void {
    const known = indexOfVersion(this.#have, epoch) ?? 0;
    mustHold(
      "agents never go back",
      state.index >= known,
      () => `${this.id} knows ${known} and is told ${state.index}`,
    );
    this.#versions += 1;
    this.#have = versionText(this.id, this.#versions, epoch, state.index);
  }

  #reconcile(state: State): void {
    const assigned = new Map(tasksFor(state, this.id).map((task) => [task.ID, task]));
    for (const id of this.containers.keys()) if (!assigned.has(id)) this.containers.delete(id);
    for (const task of assigned.values()) {
      const container = this.containers.get(task.ID);
      const isWanted = task.DesiredState === "running" || task.DesiredState === "ready";
      if (container === undefined) {
        if (isWanted && !hasEnded(task) && !this.#hasRun(task)) this.#start(task);
      } else if (isWanted) {
        if (task.DesiredState === "running" && container.state === "ready")
          container.state = "running";
      } else if (container.state === "running" || container.state === "ready") {
        if (this.#dice.chance(0.5)) container.state = "shutdown";
      }
    }
  }

  /** The store knows that it ran here: a crash of the host has ended it. */
  #hasRun(task: Task): boolean {
    return task.Status?.State === "running";
  }

  /** The rule that matters most: no two containers with one address of a network, wherever they are. */
  #start(task: Task): void {
    const addresses = task.NetworksAttachments.flatMap(({ Network, Addresses }) =>
      Addresses.map((address) => `${Network?.ID} ${address}`),
    );
    for (const agent of this.#ground.agents())
      for (const other of agent.containers.values()) {
        if (other.state === "failed" || other.state === "shutdown") continue;
        const shared = other.addresses.find((address) => addresses.includes(address));
        mustHold(
          "one holder of an address",
          shared === undefined,
          () => `${shared}: ${task.ID} on ${this.id} and ${other.taskId} on ${agent.id}`,
        );
      }
    const state = task.DesiredState === "ready" ? "ready" : "running";
    this.containers.set(task.ID, { taskId: task.ID, addresses, state });
    this.started += 1;
    this.#ground.trace("container", this.id, this.containers.size);
  }

  #tell(lead: Lead | null, state: State): void {
    if (lead === null) return;
    lead.beat(this.id);
    for (const task of tasksFor(state, this.id)) {
      const container = this.containers.get(task.ID);
      if (container !== undefined) lead.report(this.id, task.ID, this.#status(container.state));
      else if (
        this.#hasRun(task) ||
        (!hasEnded(task) && task.DesiredState !== "running" && task.DesiredState !== "ready")
      )
        lead.report(this.id, task.ID, this.#status(this.#hasRun(task) ? "failed" : "shutdown"));
    }
  }

  #status(state: string): TaskStatus {
    const Timestamp = timestamp(epochMs + Math.floor(this.#ground.schedule.now));
    return codec("TaskStatus").parse({ Timestamp, State: state, Message: state, Err: "" });
  }
}
