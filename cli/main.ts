#!/usr/bin/env node
// The one program: a client of the REST API and, by the same name, the daemon, its two children and the lab.
// Only what a command needs is loaded, so that the client's commands start quickly.

import { constants } from "node:os";
import type { Doors } from "./doors.ts";

const nodeMinimum = [20, 11] as const;

async function main(): Promise<void> {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major < nodeMinimum[0] || (major === nodeMinimum[0] && minor < nodeMinimum[1])) {
    console.error(
      `tsswarm needs Node ${nodeMinimum.join(".")} or newer, this is ${process.version}`,
    );
    process.exit(1);
  }
  const isDaemons = ["daemon", "agent", "manager"].includes(process.argv[2] ?? "");
  // As in `tsswarm service logs web | head`: nobody reads on, which for others is a signal and for Node an error.
  if (!isDaemons) process.stdout.on("error", () => process.exit(128 + constants.signals.SIGPIPE));
  const { runProgram } = await import("./program.ts");
  process.exitCode = await runProgram(process.argv.slice(2), doors);
  // One of the daemon's processes that has failed may still hold sockets: it has to end, to be started again.
  if (isDaemons) process.exit();
}

/** What this program is besides a client. */
const doors: Doors = {
  async daemon(config) {
    const { runKeeper } = await import("../agent/keeper/main.ts");
    await runKeeper(config, stopSignal({ stdin: false }));
    process.exit(0);
  },
  async agent(config) {
    const { runAgent } = await import("../agent/main.ts");
    await runAgent(config, stopSignal({ stdin: true }));
    process.exit(0);
  },
  async manager(config) {
    const { runManager } = await import("../manager/main.ts");
    await runManager(config, stopSignal({ stdin: true }));
    process.exit(0);
  },
  async lab(args) {
    const { runLab } = await import("../deploy/lab/main.ts");
    return runLab(args);
  },
  async labCommands() {
    const { labProgram } = await import("../deploy/lab/main.ts");
    return labProgram({ code: 0 });
  },
};

/** Aborts when the process is told to stop, or, for the keeper's children, when the keeper has gone. */
function stopSignal(options: { readonly stdin: boolean }): AbortSignal {
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const)
    process.once(name, () => stop.abort(new Error(`told to stop by ${name}`)));
  if (options.stdin) {
    const gone = () => stop.abort(new Error("the keeper is gone"));
    process.stdin.on("end", gone).on("error", gone).on("close", gone).resume();
  }
  return stop.signal;
}

await main();
