// `stack rm`: everything that has a stack's label.

import { setTimeout as delay } from "node:timers/promises";
import type { Task } from "../../proto/gen/types.ts";
import { isFinal } from "../../proto/states.ts";
import type { Body } from "../body.ts";
import type { Terminal } from "../terminal.ts";
import { UsageError } from "../values.ts";
import { look } from "./look.ts";
import { namespaceLabel, stackNameProblem } from "./names.ts";

const pauseMs = 250;
const waitMsMax = 120_000;
/** False when something of it is left; each failure has been said. `isDetached`: without waiting for its containers to end. */
export async function removeStack(
  terminal: Terminal,
  stack: string,
  isDetached: boolean,
  signal: AbortSignal,
): Promise<boolean> {
  const problem = stackNameProblem(stack);
  if (problem !== null) throw new UsageError(problem);
  const { client } = terminal;
  const had = await look(client, stack, null, signal);
  const isOurs = (each: { readonly labels: Readonly<Record<string, string>> }) =>
    each.labels[namespaceLabel] === stack;
  const all = [
    ...had.services.map((each) => ({
      what: `service ${each.Spec?.Name}`,
      path: `/services/${each.ID}`,
    })),
    ...had.files
      .filter(isOurs)
      .map(({ kind, name, id }) => ({ what: `${kind} ${name}`, path: `/${kind}s/${id}` })),
    ...had.networks
      .filter(isOurs)
      .map(({ name, id }) => ({ what: `network ${name}`, path: `/networks/${id}` })),
  ];
  if (all.length === 0) terminal.warn(`Nothing found in stack: ${stack}\n`);
  let isWhole = true;
  for (const { what, path } of all) {
    terminal.print(`Removing ${what}\n`);
    try {
      await client.delete(path, { signal });
    } catch (error) {
      if (error instanceof Error && "status" in error && error.status === 404) continue;
      terminal.warn(
        `Failed to remove ${what}: ${error instanceof Error ? error.message : error}\n`,
      );
      isWhole = false;
    }
  }
  if (!isWhole) terminal.warn(`Failed to remove some resources from stack: ${stack}\n`);
  const services = had.services.map(({ ID = "" }) => ID);
  if (!isDetached && services.length > 0) await gone(terminal, stack, services, signal);
  return isWhole;
}

async function gone(
  terminal: Terminal,
  stack: string,
  service: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const end = terminal.now() + waitMsMax;
  for (;;) {
    const query = { filters: JSON.stringify({ service }) };
    const tasks = await terminal.client.get<readonly Body<Task>[]>("/tasks", { query, signal });
    const left = tasks.filter((task) => !isFinal(task.Status?.State ?? ""));
    if (left.length === 0) return;
    if (terminal.now() > end)
      throw new Error(
        `${left.length} tasks of stack ${stack} have not ended within ${waitMsMax / 1000} seconds`,
      );
    await delay(pauseMs, undefined, { signal });
  }
}
