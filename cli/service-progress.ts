// Watching a service until it runs as wanted, and telling how far it is.

import { setTimeout as delay } from "node:timers/promises";
import type { Node, Service, Task } from "../proto/gen/types.ts";
import { rankOf } from "../proto/states.ts";
import type { Body } from "./body.ts";
import { ExitCode } from "./command.ts";
import { Screen } from "./screen.ts";
import { silenced, type Terminal } from "./terminal.ts";

const pauseMs = 200;
const monitorMsDefault = 5000;
const slotsShownMax = 20;
const wantedStates: ReadonlySet<string> = new Set(["running", "ready", "complete"]);
const runningRank = rankOf("running");

export interface Progress {
  readonly running: number;
  readonly wanted: number;
  /** One line per slot or node: its label and state. */
  readonly lines: readonly {
    readonly label: string;
    readonly state: string;
    readonly isFailed: boolean;
  }[];
  readonly isConverged: boolean;
  /** The update has stopped by itself: it will not go on. */
  readonly stopped: string | null;
  /** Why the spec that was asked for is no longer the service's. */
  readonly rolledBack: string | null;
  readonly isJob: boolean;
}

type Seen = {
  readonly service: Body<Service>;
  /** Those of the service's newest spec, also the ended ones. */
  readonly tasks: readonly Body<Task>[];
  readonly nodes: readonly Body<Node>[];
};

/** How far a service is. Pure. */
export function progressOf({ service, tasks, nodes }: Seen): Progress {
  const current = tasks.filter((task) => wantedStates.has(task.DesiredState ?? ""));
  const mode = service.Spec?.Mode;
  const state = service.UpdateStatus?.State ?? "";
  const isJob = mode?.ReplicatedJob !== undefined || mode?.GlobalJob !== undefined;
  const isGlobal = mode?.Global !== undefined || mode?.GlobalJob !== undefined;
  const slots = isGlobal
    ? nodeSlots(current, nodes)
    : isJob
      ? numberedSlots(0, mode.ReplicatedJob?.TotalCompletions ?? 1)
      : numberedSlots(1, mode?.Replicated?.Replicas ?? 1);
  const total = slots.length;
  const lines = slots.map((slot, i) => {
    const task = newest(current.filter(slot.has));
    const failed = task === undefined ? undefined : failure(tasks.filter(slot.has), task);
    const label = slot.label || `${i + 1}/${total}`;
    return { label, state: stateText(task, failed), isFailed: failed !== undefined };
  });
  const running = slots.filter((slot) =>
    current.some((task) => slot.has(task) && (isJob ? isComplete(task) : isUp(task))),
  ).length;
  const isStopped = state === "paused" || state === "rollback_paused";
  return {
    running,
    wanted: total,
    lines,
    isConverged:
      running === total && state !== "updating" && state !== "rollback_started" && !isStopped,
    stopped: isStopped ? (service.UpdateStatus?.Message ?? state) : null,
    rolledBack: /update rolled back (.*)/.exec(service.UpdateStatus?.Message ?? "")?.[1] ?? null,
    isJob,
  };
}

interface Slot {
  readonly label: string;
  readonly has: (task: Body<Task>) => boolean;
}

function numberedSlots(first: number, count: number): readonly Slot[] {
  return Array.from({ length: count }, (_, i) => ({
    label: "",
    has: (task) => (task.Slot ?? 0) === first + i,
  }));
}

function isUp(task: Body<Task>): boolean {
  return task.DesiredState === "running" && task.Status?.State === "running";
}

function isComplete(task: Body<Task>): boolean {
  return task.Status?.State === "complete";
}

function nodeSlots(tasks: readonly Body<Task>[], nodes: readonly Body<Node>[]): readonly Slot[] {
  const wanted = new Set(tasks.map((task) => task.NodeID ?? ""));
  return nodes
    .filter((node) => wanted.has(node.ID ?? ""))
    .map((node) => ({
      label: (node.ID ?? "").slice(0, 12),
      has: (task) => task.NodeID === node.ID,
    }));
}

function newest(tasks: readonly Body<Task>[]): Body<Task> | undefined {
  return [...tasks].sort((a, b) => ((a.CreatedAt ?? "") < (b.CreatedAt ?? "") ? 1 : -1))[0];
}

/** What the last failed task of the slot said, while its successor does not run yet. */
function failure(all: readonly Body<Task>[], task: Body<Task>): string | undefined {
  if (task.Status?.State === "running" || isComplete(task)) return undefined;
  const ended = all.filter(
    (each) => each.Status?.State === "failed" || each.Status?.State === "rejected",
  );
  const said = newest(ended)?.Status?.Err ?? "";
  return said || task.Status?.Err || undefined;
}

function stateText(task: Body<Task> | undefined, failed: string | undefined): string {
  const state = task?.Status?.State ?? "";
  if (failed !== undefined) return failed;
  const at = Math.max(0, Math.min(rankOf(state), runningRank));
  const bar = "=".repeat(Math.round((at / runningRank) * 50));
  return `${state.padEnd(9)} [${`${bar}>`.padEnd(51)}]`;
}

/** Waits until the service runs as wanted, unless told not to. Ctrl-C stops the waiting only. */
export async function follow(
  terminal: Terminal,
  id: string,
  flags: { readonly detach?: boolean; readonly quiet?: boolean },
): Promise<void> {
  if (flags.detach === true) return;
  const stop = new AbortController();
  const interrupt = () => stop.abort();
  process.once("SIGINT", interrupt);
  try {
    const code = await watchService(
      flags.quiet === true ? silenced(terminal) : terminal,
      id,
      stop.signal,
    );
    if (code !== 0) throw new ExitCode(code);
  } finally {
    process.off("SIGINT", interrupt);
  }
}

/** Returns the exit code. `signal` detaches: the service goes on without us. */
export async function watchService(
  terminal: Terminal,
  id: string,
  signal: AbortSignal,
): Promise<number> {
  const screen = new Screen(terminal);
  let stableSince: number | null = null;
  while (!signal.aborted) {
    const seen = await look(terminal, id);
    // It runs when its time has come.
    if (seen.service.Spec?.Schedule !== undefined) return 0;
    const progress = progressOf(seen);
    if (progress.stopped !== null) {
      screen.show(textLines(progress), "");
      terminal.warn(`service update paused: ${progress.stopped}\n`);
      return 1;
    }
    if (!progress.isConverged) stableSince = null;
    else stableSince ??= terminal.now();
    const monitorMs = progress.isJob && progress.wanted > 0 ? 0 : monitorMsOf(seen.service);
    const leftMs = stableSince === null ? monitorMs : monitorMs - (terminal.now() - stableSince);
    const isDone = stableSince !== null && leftMs <= 0;
    screen.show(textLines(progress), verification(id, stableSince !== null, leftMs));
    if (isDone && progress.rolledBack !== null)
      terminal.warn(`service rolled back: ${progress.rolledBack}\n`);
    if (isDone) return progress.rolledBack === null ? 0 : 1;
    await delay(pauseMs, undefined, { signal }).catch(() => {});
  }
  terminal.print(
    `Operation continuing in background.\nUse \`tsswarm service ps ${id}\` to check progress.\n`,
  );
  return 0;
}

function monitorMsOf(service: Body<Service>): number {
  return (service.Spec?.UpdateConfig?.Monitor ?? monitorMsDefault * 1e6) / 1e6;
}

async function look(terminal: Terminal, id: string): Promise<Seen> {
  const { client } = terminal;
  const query = { filters: JSON.stringify({ service: [id], "_up-to-date": ["true"] }) };
  const [service, tasks] = await Promise.all([
    client.get<Body<Service>>(`/services/${id}`),
    client.get<readonly Body<Task>[]>("/tasks", { query }),
  ]);
  const mode = service.Spec?.Mode;
  const isGlobal = mode?.Global !== undefined || mode?.GlobalJob !== undefined;
  const nodes = isGlobal ? await client.get<readonly Body<Node>[]>("/nodes") : [];
  return { service, tasks, nodes };
}

function verification(id: string, isStable: boolean, leftMs: number): string {
  if (!isStable) return "";
  if (leftMs <= 0) return `verify: Service ${id} converged`;
  const seconds = Math.ceil(leftMs / 1000);
  return `verify: Waiting ${seconds} seconds to verify that tasks are stable...`;
}

function textLines(progress: Progress): readonly string[] {
  const total = `overall progress: ${progress.running} out of ${progress.wanted} tasks`;
  if (progress.lines.length > slotsShownMax) return [total];
  return [total, ...progress.lines.map((line) => `${line.label}: ${line.state}`.trimEnd())];
}
