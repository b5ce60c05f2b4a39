// What the planner has still to look at: gathered from the store's steps, taken by each run.

import type { Node, ServiceSpec, Task } from "../../proto/gen/types.ts";
import type { Applied } from "../store/types.ts";
import { hasEnded } from "./tasks.ts";
import type { PlanEnd, PlanInput, Transaction } from "./types.ts";

/** Starts with a look at everything. No clock: the driver gives the time. */
export class Agenda {
  #everything = true;
  #services = new Set<string>();
  #nodes = new Set<string>();
  #versions = false;
  #fleet = false;
  /** When a service wants to be looked at although nothing changed. */
  readonly #wakes = new Map<string, number>();

  /** Notes what the changes of a step may let the planner decide. */
  note(changes: readonly Applied[]): void {
    for (const change of changes) this.#noteOne(change);
  }

  /** A transaction was refused: what it was about is looked at again. */
  refused(transaction: Transaction): void {
    for (const change of transaction)
      if (change.op === "put" && change.kind === "task")
        this.#services.add(change.object.ServiceID);
      else if (change.op === "put" && change.kind === "service")
        this.#services.add(change.object.ID);
      else this.#everything = true;
  }

  /** Look at everything again: a new term, or a state that was replaced. */
  all(): void {
    this.#everything = true;
  }

  /** When there is something to do: 0 for at once, null for nothing but a change. */
  get wakeAt(): number | null {
    if (this.#everything || this.#services.size > 0 || this.#nodes.size > 0 || this.#versions)
      return 0;
    let least: number | null = null;
    for (const at of this.#wakes.values()) if (least === null || at < least) least = at;
    return least;
  }

  /** What the next run has to look at, and forgets it; undefined when there is nothing. */
  take(now: number): PlanInput["dirty"] | undefined {
    for (const [serviceId, at] of this.#wakes)
      if (at <= now) {
        this.#services.add(serviceId);
        this.#wakes.delete(serviceId);
      }
    const services = this.#services;
    const nodes = this.#nodes;
    const versions = this.#versions;
    this.#services = new Set();
    this.#nodes = new Set();
    this.#versions = false;
    const fleet = this.#fleet;
    this.#fleet = false;
    if (this.#everything) {
      this.#everything = false;
      this.#wakes.clear();
      return null;
    }
    if (services.size === 0 && nodes.size === 0 && !versions) return undefined;
    for (const serviceId of services) this.#wakes.delete(serviceId);
    return { services, nodes, versions, fleet };
  }

  /** A run is through. */
  done(end: PlanEnd): void {
    for (const [serviceId, at] of end.wakes) this.#wakes.set(serviceId, at);
  }

  #noteOne(change: Applied): void {
    switch (change.kind) {
      case "service":
        this.#services.add(change.id);
        if (namesFiles(change.before?.Spec) || namesFiles(change.before?.PreviousSpec))
          this.#versions = true;
        break;
      case "revision":
        if (namesFiles(change.before?.Spec)) this.#versions = true;
        break;
      case "secret":
      case "config":
        // The one before it may be used by nobody.
        if (change.before === undefined) this.#versions = true;
        break;
      case "task":
        this.#noteTask(change.before, change.after);
        break;
      case "node":
        if (!mattersToPlan(change.before, change.after)) break;
        this.#nodes.add(change.id);
        this.#fleet = true;
        break;
      case "network":
        // More addresses, or none at all: rare, and any service may be concerned. A new one concerns none.
        if (change.before !== undefined) this.#everything = true;
        break;
      case "cluster":
        if (
          change.before?.Spec?.Orchestration?.TaskHistoryRetentionLimit !==
          change.after?.Spec?.Orchestration?.TaskHistoryRetentionLimit
        )
          this.#everything = true;
        break;
      default:
        break;
    }
  }

  #noteTask(before: Task | undefined, after: Task | undefined): void {
    const task = after ?? before;
    if (task === undefined) return;
    this.#services.add(task.ServiceID);
    // Its node has room again: what waits for room is looked at.
    const hadEnded = before === undefined || hasEnded(before);
    const isGone = after === undefined || hasEnded(after);
    if (!hadEnded && isGone && task.NodeID !== "") this.#nodes.add(task.NodeID);
  }
}

function namesFiles(spec: ServiceSpec | undefined): boolean {
  const container = spec?.TaskTemplate?.ContainerSpec;
  return (container?.Secrets.length ?? 0) + (container?.Configs.length ?? 0) > 0;
}

/** Beats and addresses of a node change often and decide nothing here. */
function mattersToPlan(before: Node | undefined, after: Node | undefined): boolean {
  return JSON.stringify(planPart(before)) !== JSON.stringify(planPart(after));
}

function planPart(node: Node | undefined): unknown {
  if (node === undefined) return null;
  const description = node.Description;
  return [
    node.Spec?.Role,
    node.Spec?.Availability,
    Object.entries(node.Spec?.Labels ?? {}).sort(),
    node.Status?.State,
    node.Status?.Addr,
    description?.Hostname,
    description?.Platform,
    description?.Resources,
    Object.entries(description?.Engine?.Labels ?? {}).sort(),
  ];
}
