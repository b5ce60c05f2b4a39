// `tsswarm lab …`: several hosts on one machine.

import { Command, CommanderError } from "commander";
import { cutCable, healCable } from "./cables.ts";
import { waitForDaemon } from "./cluster.ts";
import { add, down, status, up } from "./lab.ts";
import { type Machine, machine, outsideMachine, socketOf } from "./names.ts";
import { powerOff, powerOn } from "./power.ts";
import { findProgram, initOf, type ProcessId, type Program } from "./processes.ts";
import { theHost, theLab } from "./record.ts";
import { LabError, runHere } from "./run.ts";

const crashable: readonly Program[] = ["keeper", "agent", "manager", "containerd"];

/** Runs a lab command; the exit code. */
export async function runLab(args: readonly string[]): Promise<number> {
  const result = { code: 0 };
  try {
    await labProgram(result).parseAsync(args, { from: "user" });
    return result.code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    console.error(`tsswarm lab: ${error instanceof Error ? error.message : String(error)}`);
    return 1;
  }
}

/** The tree of the lab's commands; `result` is given the exit code of a command run in the lab. */
export function labProgram(result: { code: number }): Command {
  const program = new Command("tsswarm lab")
    .description("Several hosts on this machine, for trying and testing")
    .exitOverride()
    .configureOutput({
      outputError: (text, write) => write(text.replace(/^error: /, "tsswarm lab: ")),
    })
    .enablePositionalOptions()
    .addHelpText("after", examples);
  const say = (line: string) => console.log(line);
  program
    .command("up")
    .description("Start the hosts and make a cluster of them")
    .addHelpText("after", example("up", "up --hosts 5"))
    .option("--hosts <number>", "how many hosts", number("--hosts"), 3)
    .option("--managers <number>", "how many of them are managers", number("--managers"), 1)
    .action((options: { hosts: number; managers: number }) =>
      up(options.hosts, options.managers, say),
    );
  program
    .command("down")
    .description("End and remove all of it")
    .addHelpText("after", example("down"))
    .action(() => down(say));
  program
    .command("status")
    .description("Show the hosts")
    .addHelpText("after", example("status"))
    .action(async () => showStatus());
  program
    .command("add")
    .description("Add one more host to the cluster")
    .addHelpText("after", example("add"))
    .option("--manager", "as a manager", false)
    .action((options: { manager: boolean }) => add(options.manager ? "manager" : "worker", say));
  addHostCommands(program);
  program
    .command("exec")
    .description('Run a command on a host, or as the client "outside" the cluster')
    .addHelpText(
      "after",
      example("exec h1 -- ip addr", "exec outside -- busybox wget -qO- http://10.77.0.11:8080/"),
    )
    .usage("HOST|outside -- COMMAND…")
    .argument("<host>")
    .argument("<command...>")
    .passThroughOptions()
    .action(async (name: string, command: string[]) => {
      result.code = await execute(name, command[0] === "--" ? command.slice(1) : command);
    });
  return program;
}

const examples = `
Examples:
  tsswarm lab up --hosts 3
  tsswarm -H unix://${socketOf(machine("h1"))} node ls
  tsswarm lab exec outside -- busybox wget -qO- http://10.77.0.11:8080/
  tsswarm lab power-off h3
  tsswarm lab down`;

function example(...lines: readonly string[]): string {
  const shown = lines.map((line) => `  tsswarm lab ${line}`);
  return `\nExample${lines.length > 1 ? "s" : ""}:\n${shown.join("\n")}`;
}

function addHostCommands(program: Command): void {
  program
    .command("power-off <host>")
    .description("Pull the cable, then kill everything in the host at once")
    .addHelpText("after", example("power-off h3"))
    .action(async (name: string) => {
      const host = theHost(name);
      if (initOf(host) === null) throw new LabError(`${name} is off already`);
      await powerOff(host);
    });
  program
    .command("power-on <host>")
    .description("Boot the host with the disk it had")
    .addHelpText("after", example("power-on h3"))
    .action(async (name: string) => {
      const host = theHost(name);
      if (initOf(host) !== null) throw new LabError(`${name} is on already`);
      await powerOn(host);
      await waitForDaemon(host);
    });
  program
    .command("crash <host> <program>")
    .description(`Kill one program of the host: ${crashable.join(", ")}; it is started again`)
    .addHelpText("after", example("crash h2 agent"))
    .action((name: string, what: string) => crash(theHost(name), what));
  program
    .command("cut <host>")
    .description("Pull the host's cable")
    .addHelpText("after", example("cut h3"))
    .action((name: string) => {
      runningHost(name);
      cutCable(theHost(name));
    });
  program
    .command("heal <host>")
    .description("Put the host's cable back")
    .addHelpText("after", example("heal h3"))
    .action((name: string) => {
      runningHost(name);
      healCable(theHost(name));
    });
}

function crash(host: Machine, what: string): void {
  const program = crashable.find((name) => name === what);
  if (program === undefined) throw new LabError(`"${what}" is none of ${crashable.join(", ")}`);
  const pid = findProgram(runningHost(host.name), program);
  if (pid === null) throw new LabError(`no ${program} runs on ${host.name} now`);
  process.kill(pid, "SIGKILL");
}

function runningHost(name: string): ProcessId {
  const init = initOf(theHost(name));
  if (init === null)
    throw new LabError(`${name} is off; \`tsswarm lab power-on ${name}\` starts it`);
  return init;
}

function execute(name: string, command: readonly string[]): Promise<number> {
  theLab();
  const init = name === "outside" ? initOf(outsideMachine) : runningHost(name);
  if (init === null) throw new LabError("the client outside is not running");
  const namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--wd=/"];
  return runHere("nsenter", ["--target", `${init.pid}`, ...namespaces, "--", ...command]);
}

async function showStatus(): Promise<void> {
  const rows = (await status()).map((row) => [
    row.host,
    row.address,
    row.power,
    row.cable,
    row.swarm,
    row.role,
    row.socket,
  ]);
  const table = [["HOST", "ADDRESS", "POWER", "CABLE", "SWARM", "ROLE", "SOCKET"], ...rows];
  const widths =
    table[0]?.map((_, i) => Math.max(...table.map((row) => (row[i] ?? "").length))) ?? [];
  for (const row of table)
    console.log(
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("   ")
        .trimEnd(),
    );
  if (theLab().phase !== "up")
    console.log("The lab was not finished; `tsswarm lab down` removes it.");
}

function number(option: string): (text: string) => number {
  return (text) => {
    if (!/^\d+$/.test(text)) throw new LabError(`${option}: "${text}" is not a number`);
    return Number(text);
  };
}
