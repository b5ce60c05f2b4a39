// Which node a task goes to: filters in order, then the emptiest node of those that pass.

import type { GenericResource, Node, Service, ServiceSpec, Task } from "../../proto/gen/types.ts";
import type { State } from "../store/types.ts";
import {
  architecture,
  type Constraint,
  isAboutServices,
  matches,
  parseConstraint,
} from "./constraints.ts";
import { type Fleet, fleetOf } from "./fleet.ts";
import {
  claim,
  copyHeld,
  hasGeneric,
  hold,
  nothingHeld,
  type WantedGeneric,
  wantedOf,
} from "./generic.ts";
import { nodeTest } from "./neighbours.ts";
import { dynamicPortMax, dynamicPortMin, isIngressPort, portKey, protocolOf } from "./ports.ts";
import { type Leaf, SpreadTree } from "./spread.ts";
import { endedAt, hasEnded, isAssigned, isWanted, specOf, stateOf } from "./tasks.ts";
import { bump, hostPortKeys, noUsage, reservationOf, type Usage } from "./usage.ts";

/** So many of a service version on one node within the window, and other nodes come first. */
export const failuresMax = 3;
const failureWindowMs = 5 * 60_000;

type Filter =
  | "ready"
  | "resources"
  | "constraints"
  | "neighbours"
  | "platform"
  | "ports"
  | "replicas";

interface Candidate extends Leaf {
  readonly node: Node;
  /** Its place in the fleet: decides between equals. */
  readonly rank: number;
  /** Shared with other plans until something is placed here. */
  usage: Usage;
  isOwnUsage: boolean;
  ofService: number;
  isFailing: boolean;
  /** One bit for each preference that it satisfies, the first the highest. */
  preferred: number;
}

/** What a task of the service needs of its node. */
export interface Needs {
  readonly nanoCpus: number;
  readonly memoryBytes: number;
  readonly ports: readonly string[];
  readonly generic: WantedGeneric;
  /** Infinity: no limit. */
  readonly replicasMax: number;
}

/** Placement of one service's tasks on one state; counts what it has placed. */
export class Placement {
  readonly #state: State;
  readonly #needs: Needs;
  readonly #fleet: Fleet;
  /** In the fleet's order: a candidate, or by which filter no task of the service may go there. */
  readonly #places: (Candidate | Filter)[] = [];
  /** Nodes that have had room. What is placed here only ever takes room away. */
  readonly #open: SpreadTree<Candidate>;
  /** Nodes without room, by the filter that said so. */
  readonly #full = new Map<string, Filter>();
  readonly #isBinpack: boolean;
  /** Tasks in `ofService`, by id. */
  readonly #counted: Set<string>;

  constructor(state: State, service: Service, now: number) {
    this.#state = state;
    this.#fleet = fleetOf(state);
    this.#needs = needsOf(service.Spec);
    const { fixed, neighbours } = constraintsFor(state, service);
    const preferences = service.Spec?.TaskTemplate?.Placement?.Preferences ?? [];
    const wishes = preferences.flatMap(({ Prefer }) =>
      Prefer === undefined ? [] : nodeTest(state, service, parseConstraint(Prefer.Constraint)),
    );
    const own = countOwn(state, service, now);
    this.#counted = own.counted;
    const fixedFilters = this.#fleet.verdicts(service.Spec, (node) =>
      fixedFilter(node, service.Spec, fixed),
    );
    const usages = this.#fleet.usages(state);
    const candidates: Candidate[] = [];
    for (const [rank, node] of this.#fleet.nodes.entries()) {
      const isNear = neighbours.length === 0 || neighbours.every((fits) => fits(node));
      const filter = fixedFilters[rank] ?? (isNear ? null : "neighbours");
      if (filter !== null) {
        this.#places.push(filter);
        continue;
      }
      let preferred = 0;
      for (const isWished of wishes) preferred = preferred * 2 + (isWished(node) ? 1 : 0);
      const candidate: Candidate = {
        node,
        rank,
        position: -1,
        usage: usages[rank] ?? noUsage,
        isOwnUsage: false,
        ofService: 0,
        isFailing: false,
        preferred,
      };
      this.#places.push(candidate);
      candidates.push(candidate);
    }
    for (const [nodeId, count] of own.wanted) {
      const candidate = this.#candidate(nodeId);
      if (candidate !== undefined) candidate.ofService = count;
    }
    for (const [nodeId, count] of own.failures) {
      const candidate = this.#candidate(nodeId);
      if (candidate !== undefined) candidate.isFailing = count >= failuresMax;
    }
    this.#isBinpack = preferences.some(({ Binpack }) => Binpack !== undefined);
    const spreadBy = preferences.flatMap(({ Spread }) => Spread?.SpreadDescriptor ?? []);
    const labels = spreadBy.map((descriptor) => this.#fleet.labels(descriptor));
    this.#open = new SpreadTree(
      candidates,
      labels.map((ofNodes) => (candidate: Candidate) => ofNodes[candidate.rank] ?? ""),
      this.#isBinpack ? isFuller : isEmptier,
    );
  }

  #candidate(nodeId: string): Candidate | undefined {
    const index = this.#fleet.indexOf(nodeId);
    const place = index === undefined ? undefined : this.#places[index];
    return typeof place === "object" ? place : undefined;
  }

  /**
   * The best node, or the sentence that says why there is none. `replaces` are tasks that stop before this one starts:
   * what they hold does not count. `only` limits the choice to one node.
   */
  choose(
    replaces: readonly Task[],
    only?: string,
  ): { readonly node: Node } | { readonly why: string } {
    this.discount(replaces);
    if (only !== undefined) return this.#chooseOnly(only, replaces);
    let best = this.#open.best((candidate) => this.#isOpen(candidate));
    for (const task of replaces) {
      const candidate = this.#candidate(task.NodeID);
      if (candidate === undefined || this.#changingFilter(candidate, replaces) !== null) continue;
      if (best === undefined || this.#open.isBefore(candidate, best)) best = candidate;
    }
    return best === undefined ? { why: this.#explain() } : { node: best.node };
  }

  /** Leaves tasks out of the counts that will go elsewhere. */
  discount(tasks: readonly Task[]): void {
    for (const task of tasks) this.#discount(task);
  }

  /**
   * How far apart two nodes are for the service. `ofService`: how many more of its tasks the first has, of the first spread
   * preference in which they differ, else themselves. `load`: how many more of all tasks; 0 unless only that tells them apart.
   * Null when a task must not move from the one to the other.
   */
  gap(fromId: string, toId: string): { readonly ofService: number; readonly load: number } | null {
    const from = this.#candidate(fromId);
    const to = this.#candidate(toId);
    if (from === undefined || to === undefined || from === to || to.isFailing) return null;
    const ofBranches = this.#open.gap(from, to);
    if (ofBranches !== null) return { ofService: ofBranches, load: 0 };
    if (to.preferred < from.preferred) return null;
    if (to.preferred > from.preferred) return { ofService: Number.POSITIVE_INFINITY, load: 0 };
    const load = from.usage.tasks - to.usage.tasks;
    return { ofService: from.ofService - to.ofService, load };
  }

  /** It is leaving: its successor may well go where it was. */
  #discount(task: Task): void {
    const candidate = this.#candidate(task.NodeID);
    if (candidate === undefined || !this.#counted.delete(task.ID)) return;
    candidate.ofService--;
    this.#open.counted(candidate, -1, true);
  }

  /** The generic resources that a task on the node gets; `replaces` as for `choose`. */
  claim(node: Node, replaces: readonly Task[]): readonly GenericResource[] {
    const { generic } = this.#needs;
    if (generic.amounts.size === 0) return [];
    const candidate = this.#candidate(node.ID);
    const held = candidate?.usage.generic ?? nothingHeld();
    return claim(node, held, generic, onNode(replaces, node.ID));
  }

  /** Counts a task that is now on the node. */
  add(
    nodeId: string,
    hostPorts: readonly { readonly Protocol: string; readonly PublishedPort: number }[],
    generic: readonly GenericResource[] = [],
  ): void {
    const candidate = this.#candidate(nodeId);
    if (candidate === undefined) return;
    if (!candidate.isOwnUsage) {
      candidate.usage = {
        ...candidate.usage,
        ports: new Map(candidate.usage.ports),
        generic: copyHeld(candidate.usage.generic),
      };
      candidate.isOwnUsage = true;
    }
    candidate.ofService++;
    candidate.usage.tasks++;
    candidate.usage.nanoCpus += this.#needs.nanoCpus;
    candidate.usage.memoryBytes += this.#needs.memoryBytes;
    for (const port of hostPorts)
      bump(candidate.usage.ports, portKey(port.Protocol, port.PublishedPort), 1);
    hold(candidate.usage.generic, generic);
    this.#open.counted(candidate, 1, this.#isBinpack);
  }

  /** A published port that no task on the node has, beside those given; null when all are taken. */
  freePort(nodeId: string, protocol: string, beside: ReadonlySet<number>): number | null {
    const ports = this.#candidate(nodeId)?.usage.ports;
    for (let port = dynamicPortMin; port <= dynamicPortMax; port++)
      if (!beside.has(port) && !ports?.has(portKey(protocol, port))) return port;
    return null;
  }

  #chooseOnly(
    nodeId: string,
    replaces: readonly Task[],
  ): { readonly node: Node } | { readonly why: string } {
    const candidate = this.#candidate(nodeId);
    const place = this.#places[this.#fleet.indexOf(nodeId) ?? -1] ?? "ready";
    const filter = typeof place === "string" ? place : this.#changingFilter(place, replaces);
    if (candidate !== undefined && filter === null) return { node: candidate.node };
    return { why: explain(new Map([[filter ?? "ready", 1]])) };
  }

  #isOpen(candidate: Candidate): boolean {
    const filter = this.#changingFilter(candidate, []);
    if (filter !== null) this.#full.set(candidate.node.ID, filter);
    return filter === null;
  }

  #changingFilter(candidate: Candidate, replaces: readonly Task[]): Filter | null {
    const { usage } = candidate;
    let { nanoCpus, memoryBytes } = usage;
    const freedPorts: string[] = [];
    const leaving = onNode(replaces, candidate.node.ID);
    for (const task of leaving) {
      const freed = reservationOf(specOf(this.#state, task));
      nanoCpus -= freed.nanoCpus;
      memoryBytes -= freed.memoryBytes;
      freedPorts.push(...hostPortKeys(task));
    }
    const needs = this.#needs;
    const has = candidate.node.Description?.Resources;
    if (needs.nanoCpus > 0 && nanoCpus + needs.nanoCpus > (has?.NanoCPUs ?? 0)) return "resources";
    if (needs.memoryBytes > 0 && memoryBytes + needs.memoryBytes > (has?.MemoryBytes ?? 0))
      return "resources";
    if (!hasGeneric(candidate.node, usage.generic, needs.generic, leaving)) return "resources";
    for (const key of needs.ports)
      if ((usage.ports.get(key) ?? 0) > freedPorts.filter((freed) => freed === key).length)
        return "ports";
    return candidate.ofService >= needs.replicasMax ? "replicas" : null;
  }

  #explain(): string {
    const counts = new Map<Filter, number>();
    const refused = this.#places.filter((place) => typeof place === "string");
    for (const filter of [...refused, ...this.#full.values()])
      counts.set(filter, (counts.get(filter) ?? 0) + 1);
    return explain(counts);
  }
}

function onNode(tasks: readonly Task[], nodeId: string): readonly Task[] {
  return tasks.length === 0 ? tasks : tasks.filter((task) => task.NodeID === nodeId);
}

/** The service's constraints on nodes themselves; ones that do not parse were refused at the door. */
export function constraintsOf(spec: ServiceSpec | undefined): readonly Constraint[] {
  const all = (spec?.TaskTemplate?.Placement?.Constraints ?? []).map(parseConstraint);
  return all.some(isAboutServices) ? all.filter((one) => !isAboutServices(one)) : all;
}

/** `fixed`: on nodes themselves. `neighbours`: what those on other services say of a node. */
function constraintsFor(
  state: State,
  service: Service,
): {
  readonly fixed: readonly Constraint[];
  readonly neighbours: readonly ((node: Node) => boolean)[];
} {
  const all = (service.Spec?.TaskTemplate?.Placement?.Constraints ?? []).map(parseConstraint);
  return {
    fixed: all.filter((one) => !isAboutServices(one)),
    neighbours: all.filter(isAboutServices).map((one) => nodeTest(state, service, one)),
  };
}

/** Whether tasks of the service may stay on the node: its constraints and platform fit. */
export function fits(
  node: Node,
  spec: ServiceSpec | undefined,
  constraints: readonly Constraint[],
): boolean {
  return constraints.every((constraint) => matches(constraint, node)) && hasPlatform(node, spec);
}

function fixedFilter(
  node: Node,
  spec: ServiceSpec | undefined,
  constraints: readonly Constraint[],
): Filter | null {
  if (node.Status?.State !== "ready" || node.Spec?.Availability !== "active") return "ready";
  if (!constraints.every((constraint) => matches(constraint, node))) return "constraints";
  return hasPlatform(node, spec) ? null : "platform";
}

export function hasPlatform(node: Node, spec: ServiceSpec | undefined): boolean {
  const wanted = spec?.TaskTemplate?.Placement?.Platforms ?? [];
  if (wanted.length === 0) return true;
  const has = node.Description?.Platform;
  return wanted.some(
    (platform) =>
      (platform.OS === "" || platform.OS === has?.OS) &&
      (platform.Architecture === "" ||
        architecture(platform.Architecture) === architecture(has?.Architecture ?? "")),
  );
}

export function countOwn(
  state: State,
  service: Service,
  now: number,
): { wanted: Map<string, number>; counted: Set<string>; failures: Map<string, number> } {
  const counted = new Set<string>();
  const wanted = new Map<string, number>();
  const failures = new Map<string, number>();
  for (const task of state.tasksOfService(service.ID)) {
    if (isWanted(task) && !hasEnded(task) && isAssigned(task)) {
      bump(wanted, task.NodeID, 1);
      counted.add(task.ID);
    }
    const hasFailed = stateOf(task) === "failed" || stateOf(task) === "rejected";
    if (
      hasFailed &&
      task.SpecVersion === service.SpecVersion &&
      now - endedAt(task) < failureWindowMs
    )
      bump(failures, task.NodeID, 1);
  }
  return { wanted, counted, failures };
}

export function needsOf(spec: ServiceSpec | undefined): Needs {
  const ports = (spec?.EndpointSpec?.Ports ?? [])
    .filter((port) => !isIngressPort(port) && port.PublishedPort !== 0)
    .map((port) => portKey(protocolOf(port), port.PublishedPort));
  const replicasMax = spec?.TaskTemplate?.Placement?.MaxReplicas || Number.POSITIVE_INFINITY;
  return { ...reservationOf(spec), ports, generic: wantedOf(spec), replicasMax };
}

/** Spread, as is the rule: the fewest of the service, then the fewest of all. */
function isEmptier(a: Candidate, b: Candidate): boolean {
  if (a.isFailing !== b.isFailing) return b.isFailing;
  if (a.preferred !== b.preferred) return a.preferred > b.preferred;
  if (a.ofService !== b.ofService) return a.ofService < b.ofService;
  if (a.usage.tasks !== b.usage.tasks) return a.usage.tasks < b.usage.tasks;
  return a.rank < b.rank;
}

/** Binpack: the node of which most is reserved, then the most tasks. */
function isFuller(a: Candidate, b: Candidate): boolean {
  if (a.isFailing !== b.isFailing) return b.isFailing;
  if (a.preferred !== b.preferred) return a.preferred > b.preferred;
  const [fullA, fullB] = [fullness(a), fullness(b)];
  if (fullA !== fullB) return fullA > fullB;
  if (a.usage.tasks !== b.usage.tasks) return a.usage.tasks > b.usage.tasks;
  return a.rank < b.rank;
}

function fullness({ node, usage }: Candidate): number {
  const has = node.Description?.Resources;
  const share = (used: number, all: number | undefined) => (all ? used / all : 0);
  return share(usage.nanoCpus, has?.NanoCPUs) + share(usage.memoryBytes, has?.MemoryBytes);
}

const sentences: { readonly [F in Filter]: (nodes: string, count: number) => string } = {
  ready: (nodes) => `${nodes} not available for new tasks`,
  resources: (nodes) => `insufficient resources on ${nodes}`,
  constraints: (nodes) => `scheduling constraints not satisfied on ${nodes}`,
  neighbours: (nodes) => `affinity to other services not satisfied on ${nodes}`,
  platform: (nodes) => `unsupported platform on ${nodes}`,
  ports: (nodes) => `host-mode port already in use on ${nodes}`,
  replicas: (nodes) => `max replicas per node limit exceeded on ${nodes}`,
};

/** "no suitable node (scheduling constraints not satisfied on 2 nodes; insufficient resources on 1 node)" */
function explain(refusals: ReadonlyMap<Filter, number>): string {
  const parts = [...refusals]
    .sort(([, a], [, b]) => b - a)
    .map(([filter, count]) => sentences[filter](count === 1 ? "1 node" : `${count} nodes`, count));
  return parts.length === 0 ? "no suitable node" : `no suitable node (${parts.join("; ")})`;
}
