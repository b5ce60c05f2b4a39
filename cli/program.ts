// The argument tree.

import { Command, CommanderError } from "commander";
import type { DaemonConfig } from "../proto/config.ts";
import { addDaemonCommands } from "./daemon.ts";

/** What the program does besides talking to a daemon; loaded only when asked for. */
export interface Doors {
  daemon(config: DaemonConfig): Promise<never>;
  agent(config: DaemonConfig): Promise<never>;
  manager(config: DaemonConfig): Promise<never>;
  lab(args: readonly string[]): Promise<number>;
}

/** Runs one command; the exit code. */
export async function runProgram(args: readonly string[], doors: Doors): Promise<number> {
  const result = { code: 0 };
  const program = new Command("tsswarm").exitOverride().enablePositionalOptions();
  addDaemonCommands(program, doors);
  program
    .command("lab")
    .description("Several hosts on this machine, for trying and testing")
    .argument("[args...]")
    .helpOption(false)
    .allowUnknownOption()
    .passThroughOptions()
    .action(async (rest: string[]) => {
      result.code = await doors.lab(rest);
    });
  try {
    await program.parseAsync(args, { from: "user" });
    return result.code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    console.error(error instanceof Error ? error.message : String(error));
    return 1;
  }
}
