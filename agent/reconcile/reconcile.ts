// All decisions of the agent, pure: what is wanted × what there is → steps.

import { fileKey, fileReferences } from "../../proto/file-targets.ts";
import type { Task } from "../../proto/gen/types.ts";
import { isFinal, rankOf } from "../../proto/states.ts";
import {
  attachmentsOf,
  drainMs,
  graceMs,
  graceMsDefault,
  ownPortsOf,
  restartAt,
  sandboxSteps,
} from "./spec.ts";
import { hasStarted, later } from "./states.ts";
import type {
  Circumstances,
  Observed,
  ObservedContainer,
  Plan,
  Report,
  Step,
  TaskMemory,
} from "./types.ts";

export interface WantedTasks {
  readonly tasks: ReadonlyMap<string, Task>;
  /** False: what is wanted may be out of date, start nothing new and remove nothing. */
  readonly confirmed: boolean;
}

export const noMemory: TaskMemory = {
  reported: "",
  reportedPid: 0,
  wired: "",
  hasRun: false,
  restarts: 0,
};

/** The plans of all tasks that need something, by no particular order. Performing them and asking again ends in none. */
export function reconcile(
  wanted: WantedTasks,
  observed: Observed,
  circumstances: Circumstances,
): readonly Plan[] {
  const plans: Plan[] = [];
  for (const task of wanted.tasks.values()) {
    // A container made by hand, on a network of the swarm: whoever made it looks after it.
    if (task.Attached !== undefined) continue;
    const plan = planTask(task, wanted.confirmed, observed, circumstances);
    if (plan.steps.length > 0 || plan.wakeAt !== null) plans.push(plan);
  }
  if (!wanted.confirmed) return plans;
  const strangers = new Set([
    ...observed.containers.keys(),
    ...observed.sandboxes,
    ...observed.provided,
  ]);
  for (const id of strangers)
    if (!wanted.tasks.has(id)) plans.push(down(id, removeStranger(id, observed)));
  return plans;
}

/** A task that the managers have forgotten: nothing of it stays. */
function removeStranger(id: string, observed: Observed): Step[] {
  const container = observed.containers.get(id);
  const steps: Step[] = [];
  if (container !== undefined && isAlive(container))
    steps.push({ do: "stop", containerId: container.id, graceMs: graceMsDefault });
  if (observed.sandboxes.has(id)) steps.push({ do: "removeSandbox" });
  if (observed.provided.has(id)) steps.push({ do: "removeFiles" });
  if (container !== undefined) steps.push({ do: "remove", containerId: container.id });
  return steps;
}

/** One task and all that is known of it. */
interface Case {
  readonly task: Task;
  readonly container: ObservedContainer | null;
  readonly hasSandbox: boolean;
  /** none: its files have to be put in place first; coming: they have not all been sent yet. */
  readonly files: "in place" | "none" | "coming";
  /** There is something of them to remove. */
  readonly hasFiles: boolean;
  readonly memory: TaskMemory;
  /** The furthest state that either side knows. */
  readonly state: string;
  /** Something new may be started. */
  readonly mayStart: boolean;
  readonly circumstances: Circumstances;
}

function planTask(
  task: Task,
  confirmed: boolean,
  observed: Observed,
  circumstances: Circumstances,
): Plan {
  const memory = observed.memory.get(task.ID) ?? noMemory;
  const found: Case = {
    task,
    container: observed.containers.get(task.ID) ?? null,
    hasSandbox: observed.sandboxes.has(task.ID),
    files: filesOf(task, observed),
    hasFiles: observed.provided.has(task.ID),
    memory,
    state: later(task.Status?.State ?? "", memory.reported),
    mayStart: confirmed && circumstances.isNetworkReady,
    circumstances,
  };
  if (isWantedUp(task) && !isFinal(found.state)) return planUp(found);
  return down(task.ID, planDown(found));
}

function filesOf(task: Task, observed: Observed): Case["files"] {
  const references = fileReferences(task.Spec?.ContainerSpec);
  if (references.length === 0 || observed.provided.has(task.ID)) return "in place";
  return references.every(({ kind, id }) => observed.files.has(fileKey(kind, id)))
    ? "none"
    : "coming";
}

/** Nothing where they are in place. */
function fileSteps({ task, files }: Case): readonly Step[] {
  return files === "in place" ? [] : [{ do: "provideFiles", task }];
}

function isWantedUp(task: Task): boolean {
  return ["ready", "running", "complete"].includes(task.DesiredState);
}

function planUp(found: Case): Plan {
  const { task, container } = found;
  if (container === null) return planMissing(found);
  switch (container.phase) {
    case "created":
      return up(task.ID, startCreated(found));
    case "running":
    case "paused":
      return planRunning(found, container);
    case "exited":
    case "dead":
      return planEnded(found, container);
    case "removing":
      return up(task.ID, []);
  }
}

function planMissing(found: Case): Plan {
  const { task, state, mayStart } = found;
  if (hasStarted(state))
    // Somebody removed it, or this machine was set up anew. A replacement is a new task.
    return down(task.ID, endWith(found, failed(null, "task: its container is gone")));
  const steps: Step[] = [];
  if (rankOf(state) < rankOf("accepted")) steps.push(report(progress("accepted", "accepted")));
  if (!mayStart || found.files === "coming") return up(task.ID, steps);
  if (rankOf(state) < rankOf("preparing")) steps.push(report(progress("preparing", "preparing")));
  steps.push(
    { do: "pull", image: task.Spec?.ContainerSpec?.Image ?? "" },
    ...sandboxSteps(task, false),
    ...fileSteps(found),
    { do: "create", task },
  );
  if (task.DesiredState === "ready") steps.push(report(progress("ready", "prepared")));
  else steps.push(report(progress("starting", "starting")), { do: "start" });
  return up(task.ID, steps);
}

function startCreated(found: Case): Step[] {
  const { task, state, mayStart } = found;
  if (task.DesiredState === "ready")
    return rankOf(state) < rankOf("ready") ? [report(progress("ready", "prepared"))] : [];
  if (!mayStart || found.files === "coming") return [];
  // The sandbox again: after a reboot the container is there, its network namespace and its files are not.
  const steps: Step[] = [...sandboxSteps(task, false), ...fileSteps(found)];
  if (rankOf(state) < rankOf("starting")) steps.push(report(progress("starting", "starting")));
  steps.push({ do: "start" });
  return steps;
}

function planRunning(found: Case, container: ObservedContainer): Plan {
  const { task, memory, state, circumstances } = found;
  if (container.health === "unhealthy")
    return down(task.ID, [
      ...(ownPortsOf(task).length > 0 ? [{ do: "drain", msMax: 0 } as const] : []),
      { do: "stop", containerId: container.id, graceMs: graceMs(task) },
      ...endWith(found, failed(container, "task: unhealthy container")),
    ]);
  const steps: Step[] = [];
  const reached = container.health === "starting" ? "starting" : "running";
  // After a restart of the agent the network has to be told of the sandboxes that are there, and who gets requests now.
  const wanted = reached === "running" || ownPortsOf(task).length === 0 ? "open" : "closed";
  if (memory.wired !== wanted && circumstances.isNetworkReady)
    steps.push(...sandboxSteps(task, wanted === "open"));
  const isNews = memory.reported !== reached || memory.reportedPid !== container.pid;
  if (isNews && rankOf(state) <= rankOf(reached))
    steps.push(
      report({
        state: reached,
        message: reached === "running" ? "started" : "waiting for the health check",
        error: "",
        container: { id: container.id, pid: container.pid, exitCode: 0 },
      }),
    );
  return up(task.ID, steps);
}

function planEnded(found: Case, container: ObservedContainer): Plan {
  const { task, memory, circumstances } = found;
  if (!circumstances.isManaged && memory.hasRun) {
    const due = restartAt(task, container, memory.restarts);
    const at = due === null ? null : Math.max(due, circumstances.restartNotBefore);
    if (at !== null && at > circumstances.now) return up(task.ID, [], at);
    if (at !== null)
      return up(task.ID, [
        ...sandboxSteps(task, false),
        { do: "restart", containerId: container.id },
      ]);
  }
  return down(task.ID, endWith(found, outcomeOf(container)));
}

/** Its own end, as Docker words it. */
function outcomeOf(container: ObservedContainer): Report {
  if (container.error !== "") return failed(container, container.error);
  if (container.exitCode === 0)
    return {
      state: "complete",
      message: "finished",
      error: "",
      container: { id: container.id, pid: 0, exitCode: 0 },
    };
  const why = container.isOutOfMemory ? ": out of memory" : "";
  return failed(container, `task: non-zero exit (${container.exitCode})${why}`);
}

function planDown(found: Case): Step[] {
  const { task, container, state, hasSandbox } = found;
  const steps: Step[] = [];
  if (container !== null && isAlive(container)) {
    const isReached = attachmentsOf(task).length > 0 || ownPortsOf(task).length > 0;
    if (isReached && hasSandbox && !isFinal(state))
      steps.push({ do: "drain", msMax: drainMs(task) });
    steps.push({ do: "stop", containerId: container.id, graceMs: graceMs(task) });
  }
  const stopped: Report = {
    state: "shutdown",
    message: "shutdown",
    error: "",
    container:
      container === null ? null : { id: container.id, pid: 0, exitCode: container.exitCode },
  };
  if (!isFinal(state)) return [...steps, ...endWith(found, stopped)];
  if (hasSandbox) steps.push({ do: "removeSandbox" });
  if (found.hasFiles) steps.push({ do: "removeFiles" });
  return steps;
}

/** The address is free for others once a final state is reported: what leads to it goes first. */
function endWith(found: Case, outcome: Report): Step[] {
  const steps: Step[] = [];
  if (found.hasSandbox) steps.push({ do: "removeSandbox" });
  if (found.hasFiles) steps.push({ do: "removeFiles" });
  return [...steps, report(outcome)];
}

function isAlive(container: ObservedContainer): boolean {
  return container.phase === "running" || container.phase === "paused";
}

function progress(state: string, message: string): Report {
  return { state, message, error: "", container: null };
}

function failed(container: ObservedContainer | null, error: string): Report {
  return {
    state: "failed",
    message: "started",
    error,
    container:
      container === null ? null : { id: container.id, pid: 0, exitCode: container.exitCode },
  };
}

function report(what: Report): Step {
  return { do: "report", report: what };
}

function up(taskId: string, steps: readonly Step[], wakeAt: number | null = null): Plan {
  return { taskId, aim: "up", steps, wakeAt };
}

function down(taskId: string, steps: readonly Step[]): Plan {
  return { taskId, aim: "down", steps, wakeAt: null };
}

/**
 * What a failed step means for its task: before the start it is rejected, at the start it has failed. null: it goes on,
 * and the step is tried again (a running container does not die of it; a stop has to succeed some time).
 */
export function afterFailure(step: Step, isRunning: boolean, error: string): Report | null {
  switch (step.do) {
    case "pull":
    case "provideFiles":
    case "create":
      return { state: "rejected", message: "preparing", error, container: null };
    case "createSandbox":
      if (isRunning) return null;
      return { state: "rejected", message: "preparing", error, container: null };
    case "start":
    case "restart":
      return { state: "failed", message: "starting", error, container: null };
    case "report":
    case "drain":
    case "stop":
    case "removeSandbox":
    case "removeFiles":
    case "remove":
      return null;
  }
}
