// For each node why a task of a service does not fit on it, in sentences with the figures.

import type { Node, NodeVerdict, Service, Task } from "../../proto/gen/types.ts";
import type { State } from "../store/types.ts";
import { isAboutServices, parseConstraint } from "./constraints.ts";
import { amountsOf, namesTaken } from "./generic.ts";
import { nodeTest } from "./neighbours.ts";
import { countOwn, failuresMax, hasPlatform, type Needs, needsOf } from "./place.ts";
import { hasEnded, isAssigned, isWanted } from "./tasks.ts";
import { hostPortKeys, usageOf } from "./usage.ts";
import { missingFile } from "./validate-files.ts";

/** By host name. */
export function verdictsOf(state: State, service: Service, now: number): readonly NodeVerdict[] {
  const needs = needsOf(service.Spec);
  const own = countOwn(state, service, now);
  const tests = (service.Spec?.TaskTemplate?.Placement?.Constraints ?? []).map((text) => {
    const constraint = parseConstraint(text);
    return { text, constraint, fits: nodeTest(state, service, constraint) };
  });
  const missing = missingFile(state, service.Spec);
  const verdicts = [...state.table("node").values()].map((node): NodeVerdict => {
    const unmet = tests.filter(({ fits }) => !fits(node));
    const Reasons = [
      ...availability(node),
      ...unmet.map(({ text, constraint }) =>
        isAboutServices(constraint)
          ? `what runs there does not satisfy ${text}`
          : `it does not satisfy the constraint ${text}`,
      ),
      ...platform(node, service),
      ...resources(state, node, needs),
      ...ports(state, node, needs),
      ...(missing === null ? [] : [missing]),
    ];
    const count = own.wanted.get(node.ID) ?? 0;
    if (count >= needs.replicasMax)
      Reasons.push(`it has ${count} of the service's tasks, and ${needs.replicasMax} are allowed`);
    const failures = own.failures.get(node.ID) ?? 0;
    const Note =
      failures >= failuresMax
        ? `${failures} of the service's tasks have failed there lately: other nodes come first`
        : "";
    const Hostname = node.Description?.Hostname ?? "";
    return { NodeID: node.ID, Hostname, Fits: Reasons.length === 0, Reasons, Note };
  });
  return verdicts.sort((a, b) => (a.Hostname < b.Hostname ? -1 : 1));
}

/** The service's tasks that have no node. */
export function pendingTasks(state: State, service: Service): readonly Task[] {
  return state
    .tasksOfService(service.ID)
    .filter((task) => isWanted(task) && !hasEnded(task) && !isAssigned(task));
}

function availability({ Status, Spec }: Node): readonly string[] {
  return [
    ...(Status?.State === "ready" ? [] : [`it is ${Status?.State ?? "unknown"}`]),
    ...(Spec?.Availability === "active" ? [] : [`its availability is ${Spec?.Availability}`]),
  ];
}

function platform(node: Node, { Spec }: Service): readonly string[] {
  if (hasPlatform(node, Spec)) return [];
  const text = (one: { readonly OS: string; readonly Architecture: string } | undefined) =>
    `${one?.OS}/${one?.Architecture}`;
  const wanted = (Spec?.TaskTemplate?.Placement?.Platforms ?? []).map(text).join(", ");
  return [`it is ${text(node.Description?.Platform)}, the image is for ${wanted}`];
}

function resources(state: State, node: Node, needs: Needs): readonly string[] {
  const usage = usageOf(state, node.ID);
  const has = node.Description?.Resources;
  const reasons: string[] = [];
  const freeCpus = (has?.NanoCPUs ?? 0) - usage.nanoCpus;
  if (needs.nanoCpus > Math.max(freeCpus, 0))
    reasons.push(`${cores(needs.nanoCpus)} CPUs are reserved, ${cores(freeCpus)} are free`);
  const freeMemory = (has?.MemoryBytes ?? 0) - usage.memoryBytes;
  if (needs.memoryBytes > Math.max(freeMemory, 0))
    reasons.push(`${mib(needs.memoryBytes)} of memory are reserved, ${mib(freeMemory)} are free`);
  const generic = amountsOf(has?.GenericResources ?? []);
  for (const [kind, count] of needs.generic.amounts) {
    const free = (generic.get(kind) ?? 0) - (usage.generic.amounts.get(kind) ?? 0);
    if (count > free) reasons.push(`${count} of ${kind} are reserved, ${free} are free`);
  }
  for (const name of namesTaken(node, usage.generic, needs.generic, []))
    reasons.push(`${name} is reserved, and not free there`);
  return reasons;
}

function cores(nanoCpus: number): string {
  return String(Number((nanoCpus / 1e9).toFixed(3)));
}

function mib(bytes: number): string {
  return `${Math.floor(bytes / (1 << 20))} MiB`;
}

function ports(state: State, node: Node, needs: Needs): readonly string[] {
  if (needs.ports.length === 0) return [];
  const holders = new Map<string, string>();
  for (const task of state.tasksOfNode(node.ID))
    if (!hasEnded(task) && isAssigned(task))
      for (const key of hostPortKeys(task)) holders.set(key, task.Name);
  return needs.ports.flatMap((key) => {
    const holder = holders.get(key);
    return holder === undefined ? [] : [`the task ${holder} has its port ${key}`];
  });
}
