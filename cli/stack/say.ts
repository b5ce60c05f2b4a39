// Plans as `stack diff` prints them, and files as `stack config` does. Pure.

import { durationText } from "../values.ts";
import type { Difference } from "./compare.ts";
import type { Plan, Step } from "./steps.ts";
import { isMap, mapEntries, type Tree, type TreeMap } from "./tree.ts";
import { writeYaml } from "./yaml.ts";

/** One line for each thing that a deploy would change, its fields below it; "" when it would change nothing. */
export function planText(plan: Plan): string {
  const lines = [...plan.before, ...plan.services, ...plan.after].flatMap(stepLines);
  return lines.map((line) => `${line}\n`).join("");
}

export function changesNothing(plan: Plan): boolean {
  return planText(plan) === "";
}

function stepLines(step: Step): readonly string[] {
  switch (step.do) {
    case "create-network":
      return [`+ network ${step.name}`];
    case "create-file":
      return [`+ ${step.kind} ${step.name}`];
    case "create-service":
      return [`+ service ${step.name}`];
    case "rotate-file":
      return [`~ ${step.kind} ${step.name}: its content`];
    case "relabel-file":
      return [`~ ${step.kind} ${step.name}: its labels`];
    case "update-service":
      return [`~ service ${step.name}`, ...step.differences.flatMap(differenceLines)];
    case "remove-service":
      return [`- service ${step.name}`];
    case "remove-network":
      return [`- network ${step.name}`];
    case "remove-file":
      return [`- ${step.kind} ${step.name}`];
    case "wait":
    case "leave-service":
      return [];
    default:
      return step satisfies never;
  }
}

function differenceLines({ path, from, to }: Difference): readonly string[] {
  const shown = (value: unknown) =>
    typeof value === "number" && /(Delay|Monitor|Window|Interval|Timeout|Period)$/.test(path)
      ? durationText(value)
      : typeof value === "string"
        ? value
        : JSON.stringify(value);
  return [
    ...(from === undefined ? [] : [`    - ${path}: ${shown(from)}`]),
    ...(to === undefined ? [] : [`    + ${path}: ${shown(to)}`]),
  ];
}

const sections = ["services", "networks", "volumes", "secrets", "configs"];

/** Sorted as Docker sorts: sections first, then what begins with x-; names by the alphabet. */
export function fileText(file: TreeMap): string {
  const extras = Object.keys(file).filter((key) => key.startsWith("x-"));
  const entries = [...sections, ...extras.sort()].flatMap((key): [string, Tree][] => {
    const value = file[key];
    if (value === undefined || value === null) return [];
    if (!isMap(value)) return [[key, value]];
    const shown = key === "services" ? mapEntries(value, shownService) : value;
    return [
      [
        key,
        mapEntries(sorted(shown), (each) =>
          isMap(each) && key === "services" ? sorted(each) : each,
        ),
      ],
    ];
  });
  return writeYaml(Object.fromEntries(entries));
}

/** What is said of a dependency or a port by default is not repeated. */
function shownService(service: Tree): Tree {
  if (!isMap(service)) return service;
  const { depends_on: dependencies } = service;
  if (!isMap(dependencies)) return service;
  const isPlain = Object.values(dependencies).every(
    (each) =>
      isMap(each) &&
      each["condition"] === "service_started" &&
      each["required"] === true &&
      Object.keys(each).length === 2,
  );
  return isPlain ? { ...service, depends_on: Object.keys(dependencies) } : service;
}

function sorted(map: TreeMap): TreeMap {
  return Object.fromEntries(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)));
}
