// Tasks at the control door.

import type { ListRequest, Task } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Handlers } from "../../proto/rpc-server.ts";
import { isIngressPort, protocolOf } from "../plan/ports.ts";
import { expandTask, hasEnded, isUpToDate, specOf } from "../plan/tasks.ts";
import type { State } from "../store/types.ts";
import { type ControlContext, fresh } from "./context.ts";
import { checkValue, filterBy, hasLabel, type Matchers, truth } from "./filters.ts";
import { find, hostnameOf } from "./find.ts";

type TaskHandlers = Pick<Handlers<"Control">, "GetTask" | "ListTasks" | "GetTaskOfContainer">;

export function taskHandlers(context: ControlContext): TaskHandlers {
  return {
    GetTask: async (request, caller) => {
      const state = await fresh(context, caller);
      return shown(state, find(state, "task", request.ID));
    },
    GetTaskOfContainer: async (request, caller) => {
      const state = await fresh(context, caller);
      return shown(state, ofContainer(state, request.ID));
    },
    ListTasks: async (request, caller) => {
      const state = await fresh(context, caller);
      return { Items: listTasks(state, request) };
    },
  };
}

/** Container ids are 64 hexadecimal digits; names are web.1.<task id>. */
export function ofContainer(state: State, wanted: string): Task {
  const tasks = state.table("task");
  const named = tasks.get(wanted.split(".").at(-1) ?? "");
  if (named !== undefined && named.Name === wanted) return named;
  const found: Task[] = [];
  if (/^[0-9a-f]{12,64}$/.test(wanted))
    for (const task of tasks.values())
      if (task.Status?.ContainerStatus?.ContainerID.startsWith(wanted) === true) found.push(task);
  const [only, another] = found;
  if (only === undefined) throw new SwarmError("not_found", `No such container: ${wanted}`);
  if (another !== undefined)
    throw new SwarmError("invalid", `Multiple IDs found with provided prefix: ${wanted}`);
  return only;
}

function listTasks(state: State, request: ListRequest): Task[] {
  const passes = filterBy(request.Filters, matchersOf(state));
  return candidates(state, request)
    .filter((task) => task.Attached === undefined && passes(task))
    .map((task) => shown(state, task));
}

/** A port of its service that its node cannot publish is its error too, as long as it has none of its own. */
function shown(state: State, task: Task): Task {
  const expanded = expandTask(state, task);
  const Err = expanded.Status?.Err === "" && !hasEnded(task) ? portTrouble(state, task) : "";
  if (expanded.Status === undefined || Err === "") return expanded;
  return { ...expanded, Status: { ...expanded.Status, Err } };
}

/** From what the node says of itself (see the dispatcher's Message). */
function portTrouble(state: State, task: Task): string {
  const troubles = state.table("node").get(task.NodeID)?.Status?.Message.split("; ") ?? [];
  if (troubles.every((trouble) => !trouble.startsWith("port "))) return "";
  const ports = state.table("service").get(task.ServiceID)?.Endpoint?.Ports ?? [];
  const keys = ports
    .filter((port) => isIngressPort(port))
    .map(({ PublishedPort, Protocol }) => `${PublishedPort}/${protocolOf({ Protocol })}`);
  const isOwn = (trouble: string) =>
    keys.some((key) => new RegExp(`^port (\\S+:)?${key} `).test(trouble));
  return troubles.filter(isOwn).join("; ");
}

/** Most lists are of one service or node: no need to look at every task. */
function candidates(state: State, request: ListRequest): readonly Task[] {
  const services = request.Filters["service"]?.Values ?? [];
  if (services.length > 0)
    return services.flatMap((id) => state.tasksOfService(idOf(state, "service", id)));
  const nodes = request.Filters["node"]?.Values ?? [];
  if (nodes.length > 0) return nodes.flatMap((id) => state.tasksOfNode(idOf(state, "node", id)));
  return [...state.table("task").values()];
}

function idOf(state: State, kind: "service" | "node", wanted: string): string {
  try {
    return find(state, kind, wanted).ID;
  } catch {
    // A removed service's tasks may still be asked for by its id; what nobody knows has no tasks.
    return wanted;
  }
}

function matchersOf(state: State): Matchers<Task> {
  const known = new Map<string, string>();
  // Asked for each task, and found out once.
  const meant = (kind: "service" | "node", wanted: string) => {
    const key = `${kind} ${wanted}`;
    const id = known.get(key) ?? idOf(state, kind, wanted);
    known.set(key, id);
    return id;
  };
  return {
    id: (task, value) => task.ID.startsWith(value),
    name: (task, value) =>
      task.Name.startsWith(value) || nameInService(state, task).startsWith(value),
    // Its service's, as in Docker: `docker stack ps` lists so.
    label: (task, value) => {
      const service = state.table("service").get(task.ServiceID)?.Spec ?? specOf(state, task);
      return hasLabel(service?.Labels, value);
    },
    service: (task, value) => task.ServiceID === meant("service", value),
    node: (task, value) => task.NodeID === meant("node", value) || nodeIsNamed(state, task, value),
    "desired-state": (task, value) => {
      checkValue("desired-state", value, [
        "running",
        "shutdown",
        "accepted",
        "ready",
        "complete",
        "remove",
      ]);
      return task.DesiredState === value || (value === "running" && task.DesiredState === "ready");
    },
    "up-to-date": (task, value) => {
      const service = state.table("service").get(task.ServiceID);
      const isCurrent = service !== undefined && isUpToDate(state, service, task);
      return isCurrent === truth("up-to-date", value);
    },
    runtime: (_task, value) => value === "container",
  };
}

function nameInService(state: State, task: Task): string {
  const service = state.table("service").get(task.ServiceID)?.Spec?.Name ?? "";
  return `${service}.${task.Slot ?? task.NodeID}`;
}

function nodeIsNamed(state: State, task: Task, name: string): boolean {
  const node = state.table("node").get(task.NodeID);
  return node !== undefined && hostnameOf(node) === name;
}
