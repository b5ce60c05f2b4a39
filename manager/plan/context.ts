// What the decisions about one service share: the state, the rules of its spec, and the pools they draw from.

import type { Network, Node, Service, Task } from "../../proto/gen/types.ts";
import { timestamp } from "../../proto/kit/world.ts";
import type { State } from "../store/types.ts";
import { AddressPool } from "./addresses.ts";
import type { Constraint } from "./constraints.ts";
import {
  type RestartRules,
  restartRules,
  rollbackDefaults,
  stopGraceMs,
  type UpdateRules,
  updateDefaults,
  updateRules,
} from "./defaults.ts";
import { fleetOf } from "./fleet.ts";
import { constraintsOf, fits, Placement } from "./place.ts";
import type { Slot } from "./slot.ts";
import { withFurtherSubnet } from "./subnets.ts";
import { isGlobal, isJob, isUpToDate } from "./tasks.ts";

/** Address pools by network id, shared by all services of one plan on one state. */
export type Pools = Map<string, AddressPool>;

export interface Facts {
  readonly state: State;
  readonly now: number;
  readonly newId: () => string;
  readonly pools: Pools;
  /** Networks that get a further subnet in this plan, by id. */
  readonly grown: Map<string, Network>;
}

export type Standing = "ok" | "lost" | "evicted";

export class Context {
  readonly state: State;
  readonly now: number;
  /** `now` as it is written into objects. */
  readonly at: string;
  readonly service: Service;
  readonly isGlobal: boolean;
  /** The desired state of a task that may start. */
  readonly goal: "running" | "complete";
  readonly restart: RestartRules;
  readonly constraints: readonly Constraint[];
  readonly stopGraceMs: number;
  /** To be written with what this service gets. */
  readonly grown: Network[] = [];
  readonly #facts: Facts;
  readonly #isCurrent = new Map<number, boolean>();
  readonly #standings = new Map<string, Standing>();
  #placement: Placement | undefined;
  #wakeAt: number | null = null;

  constructor(facts: Facts, service: Service) {
    this.#facts = facts;
    this.state = facts.state;
    this.now = facts.now;
    this.at = timestamp(facts.now);
    this.service = service;
    this.isGlobal = isGlobal(service.Spec);
    this.goal = isJob(service.Spec) ? "complete" : "running";
    this.restart = restartRules(service.Spec);
    this.constraints = constraintsOf(service.Spec);
    this.stopGraceMs = stopGraceMs(service.Spec);
  }

  /** The rules of the update that is under way, or would be. */
  get update(): UpdateRules {
    const isRollback = this.service.UpdateStatus?.State.startsWith("rollback") === true;
    const spec = this.service.Spec;
    return isRollback
      ? updateRules(spec?.RollbackConfig, rollbackDefaults)
      : updateRules(spec?.UpdateConfig, updateDefaults);
  }

  /** Made when the first task has to be placed: it looks at every node. */
  get placement(): Placement {
    this.#placement ??= new Placement(this.state, this.service, this.now);
    return this.#placement;
  }

  get wakeAt(): number | null {
    return this.#wakeAt;
  }

  /** Asks to be run again at a time, when nothing happens before. */
  wake(at: number): void {
    if (this.#wakeAt === null || at < this.#wakeAt) this.#wakeAt = at;
  }

  pool(networkId: string): AddressPool | null {
    let pool = this.#facts.pools.get(networkId);
    if (pool === undefined) {
      const network = this.state.table("network").get(networkId);
      if (network === undefined) return null;
      pool = new AddressPool(this.state, network);
      this.#facts.pools.set(networkId, pool);
    }
    return pool;
  }

  /** Gives a network a further subnet; its addresses can be given once it is written. Else says why it cannot grow. */
  grow(network: Network): string | null {
    if (this.#facts.grown.has(network.ID)) return null;
    const further = withFurtherSubnet(this.state, network);
    if ("why" in further) return further.why;
    this.#facts.grown.set(network.ID, further.network);
    this.grown.push(further.network);
    return null;
  }

  /** The task runs what the service's spec says now. */
  isCurrent(task: Task): boolean {
    let answer = this.#isCurrent.get(task.SpecVersion);
    if (answer === undefined) {
      answer = isUpToDate(this.state, this.service, task);
      this.#isCurrent.set(task.SpecVersion, answer);
    }
    return answer;
  }

  /**
   * ok: the task may stay. lost: its node is dead or no longer there. evicted: the node is drained or no longer fits.
   * An unassigned task is ok. A node that is only suspected (unknown, disconnected) keeps what it has.
   */
  standing(task: Task): Standing {
    if (task.NodeID === "") return "ok";
    let standing = this.#standings.get(task.NodeID);
    if (standing === undefined) {
      standing = this.#standingOn(this.node(task.NodeID));
      this.#standings.set(task.NodeID, standing);
    }
    return standing;
  }

  #standingOn(node: Node | undefined): Standing {
    if (node === undefined || isLost(node)) return "lost";
    const isFit =
      node.Spec?.Availability !== "drain" && fits(node, this.service.Spec, this.constraints);
    return isFit ? "ok" : "evicted";
  }

  /** A global service wants a task on this node. */
  isEligible(nodeId: string): boolean {
    const node = this.node(nodeId);
    return (
      node !== undefined &&
      !isLost(node) &&
      node.Spec?.Availability === "active" &&
      fits(node, this.service.Spec, this.constraints)
    );
  }

  node(id: string): Node | undefined {
    return fleetOf(this.state).node(id);
  }

  newTask(
    slot: Slot,
    desired: {
      readonly DesiredState: string;
      readonly notBefore?: number;
      /** The task that goes on until this one runs. */
      readonly replaces?: string;
    },
  ): Task {
    const id = this.#facts.newId();
    const { at } = this;
    const place = slot.number ?? slot.nodeId ?? "";
    const task: Task = {
      ID: id,
      CreatedAt: at,
      UpdatedAt: at,
      Name: `${this.service.Spec?.Name ?? ""}.${place}.${id}`,
      Labels: {},
      ServiceID: this.service.ID,
      ...(slot.number === undefined ? {} : { Slot: slot.number }),
      NodeID: slot.nodeId ?? "",
      Status: { Timestamp: at, State: "pending", Message: "pending task scheduling", Err: "" },
      DesiredState: desired.DesiredState,
      NetworksAttachments: [],
      SpecVersion: this.service.SpecVersion,
      GenericResources: [],
      ...(this.service.JobStatus?.JobIteration === undefined
        ? {}
        : { JobIteration: this.service.JobStatus.JobIteration }),
      ...(desired.notBefore === undefined ? {} : { NotBefore: timestamp(desired.notBefore) }),
      ...(desired.replaces === undefined ? {} : { Replaces: desired.replaces }),
      Ports: [],
    };
    slot.add(task);
    return task;
  }
}

export function isLost(node: Node | undefined): boolean {
  return node === undefined || node.Status?.State === "down";
}
