// What is done to the programs of the lab's hosts: killed, held.

import { machine } from "../../deploy/lab/names.ts";
import { findProgram, initOf, type Program } from "../../deploy/lab/processes.ts";
import { until } from "../../deploy/lab/run.ts";

const thereMsMax = 90_000;

/** Sends a signal to the host's program once it is there, and not `other`: it may still be on its way back. Its process id. */
function signalProgram(
  host: string,
  program: Program,
  signal: NodeJS.Signals,
  other: number | null,
): Promise<number> {
  return until(`no ${program} on ${host}`, thereMsMax, () => {
    const init = initOf(machine(host));
    const pid = init === null ? null : findProgram(init, program);
    if (pid === null || pid === other) return undefined;
    process.kill(pid, signal);
    return pid;
  });
}

/** Kills it; another is started by its parent. */
export function killProgram(host: string, program: Program): Promise<number> {
  return signalProgram(host, program, "SIGKILL", null);
}

/** Kills it, and stops the next one before it has done anything. Killing that one ends its absence. */
export async function takeAway(host: string, program: Program): Promise<number> {
  return signalProgram(host, program, "SIGSTOP", await killProgram(host, program));
}
