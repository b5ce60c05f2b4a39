// The program: its own flags, and of its commands those that are asked for.

import type { OutputConfiguration } from "commander";
import { DockerCommand, explain } from "./command.ts";
import type { Doors } from "./doors.ts";
import type { ConnectFlags } from "./endpoint.ts";
import { addExamples } from "./examples.ts";
import { addFamilies } from "./families.ts";
import { ownVersion } from "./own-version.ts";
import { openTerminal, type Terminal } from "./terminal.ts";

/** Runs one command; the exit code. */
export async function runProgram(args: readonly string[], doors: Doors): Promise<number> {
  const result = { code: 0 };
  try {
    const program = rootProgram();
    await addCommands(program, doors, openTerminal, result, firstWord(args));
    await program.parseAsync(args, { from: "user" });
    return result.code;
  } catch (error) {
    return explain(error, (text) => process.stderr.write(text));
  }
}

/** The command's first word. What follows it is the command's own: its -c is not the program's. */
function firstWord(args: readonly string[]): string | undefined {
  return rootProgram()
    .passThroughOptions()
    .parseOptions([...args]).operands[0];
}

/** The program with all its commands. */
export async function buildProgram(
  doors: Doors,
  connect: (flags: ConnectFlags) => Terminal,
  result: { code: number },
  output: OutputConfiguration = {},
): Promise<DockerCommand> {
  const program = rootProgram().configureOutput(output);
  await addCommands(program, doors, connect, result, undefined);
  return program;
}

/** `word`: the first of the command that is asked for; undefined: none is known. */
async function addCommands(
  program: DockerCommand,
  doors: Doors,
  connect: (flags: ConnectFlags) => Terminal,
  result: { code: number },
  word: string | undefined,
): Promise<void> {
  const open = () => connect(program.opts<ConnectFlags>());
  await addFamilies({ program, open, doors, result }, word);
  addExamples(program);
}

function rootProgram(): DockerCommand {
  const program = new DockerCommand("tsswarm");
  return program
    .description("A cluster of containers on a handful of machines")
    .version(
      `tsswarm version ${ownVersion()}`,
      "-v, --version",
      "Print version information and quit",
    )
    .option(
      "-H, --host <url>",
      "Daemon to talk to: unix:///path, tcp://host:port or ssh://user@host (or TSSWARM_HOST)",
    )
    .option("-c, --context <string>", "Name of the context to use (overrides DOCKER_CONTEXT)")
    .option("--config <string>", "Location of client config files (default ~/.docker)")
    .option("--tls", "Use TLS; implied by --tlsverify")
    .option("--tlscacert <string>", "Trust certs signed only by this CA")
    .option("--tlscert <string>", "Path to TLS certificate file")
    .option("--tlskey <string>", "Path to TLS key file")
    .option("--tlsverify", "Use TLS and verify the remote")
    .exitOverride()
    .enablePositionalOptions();
}
