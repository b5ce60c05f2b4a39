// The argument tree.

import type { OutputConfiguration } from "commander";
import { DockerCommand, explain } from "./command.ts";
import { addCompletionCommand } from "./completion.ts";
import { addContainerCommands } from "./container.ts";
import { addContainerGroup } from "./container-commands.ts";
import { addContextCommands } from "./context.ts";
import { addDaemonCommands } from "./daemon.ts";
import { addDoctorCommand } from "./doctor.ts";
import type { Doors } from "./doors.ts";
import type { ConnectFlags } from "./endpoint.ts";
import { addExamples } from "./examples.ts";
import { addExecCommand } from "./exec.ts";
import { addImages, addPull } from "./image.ts";
import { addImageGroup } from "./image-commands.ts";
import { addLoginCommands } from "./login.ts";
import { addNetworkCommands } from "./network.ts";
import { addNodeCommands } from "./node.ts";
import { addFileCommands } from "./secret.ts";
import { addServiceCommands } from "./service.ts";
import { addStackCommands } from "./stack/commands.ts";
import { addSwarmCommands } from "./swarm.ts";
import { addDialCommand, addSystemCommands, ownVersion } from "./system.ts";
import { addSystemGroup } from "./system-group.ts";
import { openTerminal, type Terminal } from "./terminal.ts";
import { addVolumeCommands } from "./volume.ts";

/** Runs one command; the exit code. */
export async function runProgram(args: readonly string[], doors: Doors): Promise<number> {
  const result = { code: 0 };
  const program = buildProgram(doors, openTerminal, result);
  try {
    await program.parseAsync(args, { from: "user" });
    return result.code;
  } catch (error) {
    return explain(error, (text) => process.stderr.write(text));
  }
}

export function buildProgram(
  doors: Doors,
  connect: (flags: ConnectFlags) => Terminal,
  result: { code: number },
  output: OutputConfiguration = {},
): DockerCommand {
  const program = new DockerCommand("tsswarm");
  program
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
    .configureOutput(output)
    .enablePositionalOptions();
  const open = () => connect(program.opts<ConnectFlags>());
  addSwarmCommands(program, open);
  addNodeCommands(program, open);
  addServiceCommands(program, open);
  addStackCommands(program, open);
  addNetworkCommands(program, open);
  addFileCommands(program, "secret", open);
  addFileCommands(program, "config", open);
  addContainerCommands(program, open);
  addExecCommand(program, open);
  addPull(program, open);
  addImages(program, "images", open);
  addContainerGroup(program, open);
  addImageGroup(program, open);
  addVolumeCommands(program, open);
  addSystemGroup(program, open);
  addSystemCommands(program, open);
  addDoctorCommand(program, open);
  addContextCommands(program, open);
  addLoginCommands(program, open);
  addDialCommand(program, open);
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
  addCompletionCommand(program, () => doors.labCommands());
  addExamples(program);
  return program;
}
