// The manager goes before what this machine runs for others: a leader that gets no processor for half a second costs an election.

import { readdir, readFile, writeFile } from "node:fs/promises";
import { setPriority } from "node:os";
import { errnoOf, messageOf } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";

/** About ten times the share of an ordinary process. */
const niceness = -10;

/** Where that is not allowed, the log says so and the manager runs as others do. */
export async function takePrecedence(log: Log): Promise<void> {
  try {
    // Threads have a priority each; those to come take after the one that starts them.
    for (const thread of await readdir("/proc/self/task")) setPriority(Number(thread), niceness);
    if (await leadsSession()) await weighSession();
  } catch (error) {
    log.warn({ error: messageOf(error) }, "the manager has no precedence over other processes");
  }
}

/** Where the kernel weighs sessions against each other (sched_autogroup), processes only count within theirs. */
async function weighSession(): Promise<void> {
  try {
    await writeFile("/proc/self/autogroup", `${niceness}`);
  } catch (error) {
    // This kernel does not.
    if (errnoOf(error) !== "ENOENT") throw error;
  }
}

/** The keeper starts the manager in a session of its own; one by hand is in its shell's, which is not ours to weigh. */
async function leadsSession(): Promise<boolean> {
  const stat = await readFile("/proc/self/stat", "utf8");
  const [, , , session] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(session) === process.pid;
}
