// `tsswarm stack …`

import type { Service } from "../../proto/gen/types.ts";
import type { Body } from "../body.ts";
import { type DockerCommand, ExitCode } from "../command.ts";
import { serviceListing, serviceRow } from "../service.ts";
import { byName, type Listing, list } from "../table.ts";
import { listTasks } from "../tasks.ts";
import type { Terminal } from "../terminal.ts";
import { collect, duration, filters, UsageError } from "../values.ts";
import type { DeployFlags, FileFlags } from "./deploy.ts";
import { ofStack } from "./look.ts";
import { namespaceLabel } from "./names.ts";
import type { PlanOptions } from "./plan.ts";
import { removeStack } from "./remove.ts";

const waitDefault = 600e9;

export function addStackCommands(program: DockerCommand, open: () => Terminal): void {
  const stack = program
    .command("stack")
    .description("Manage stacks of services from Compose files") as DockerCommand;
  addDeploy(stack, open);
  addDiff(stack, open);
  addConfig(stack, open);
  addReading(stack, open);
  addRemove(stack, open);
}

function withFiles(command: DockerCommand): DockerCommand {
  return command
    .option(
      "-c, --compose-file <strings>",
      'Path to a Compose file, or "-" to read from stdin',
      collect,
    )
    .option("--env-file <file>", "Variables for the Compose file, instead of .env", collect)
    .option("--profile <name>", 'Profile of services to deploy as well, "*" for all', collect);
}

function withPlan(command: DockerCommand): DockerCommand {
  return withFiles(command)
    .option(
      "--prune",
      "Remove services, networks, secrets and configs that are no longer referenced",
    )
    .option(
      "--resolve-image <string>",
      'Query the registry to resolve image digest and supported platforms ("always", "changed", "never")',
      resolving,
      "always",
    );
}

function resolving(text: string): PlanOptions["resolveImage"] {
  if (text === "always" || text === "changed" || text === "never") return text;
  throw new UsageError(
    `invalid option ${text} for flag --resolve-image: always, changed or never is expected`,
  );
}

/** What reads Compose files is loaded for the commands that have one. */
function deploying() {
  return import("./deploy.ts");
}

/** Ctrl-C ends the command; the cluster goes on. */
async function interruptible(act: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const stop = new AbortController();
  const interrupt = () => stop.abort(new Error("interrupted: what has been written goes on"));
  process.once("SIGINT", interrupt);
  try {
    await act(stop.signal);
  } finally {
    process.off("SIGINT", interrupt);
  }
}

function addDeploy(stack: DockerCommand, open: () => Terminal): void {
  const command = stack
    .command("deploy")
    .alias("up")
    .description("Deploy a new stack or update an existing stack")
    .argument("<stack>") as DockerCommand;
  withPlan(command)
    .deniable(
      "-d, --detach",
      "Exit immediately instead of waiting for the stack services to converge",
    )
    .option("-q, --quiet", "Suppress progress output")
    .option("--with-registry-auth", "Send registry authentication details to Swarm agents")
    .option(
      "--wait-timeout <duration>",
      "How long to wait for a condition of depends_on, and for the services to converge",
      duration,
      waitDefault,
    )
    .action((name: string, flags: DeployFlags & { readonly detach?: boolean }) =>
      interruptible(async (signal) => {
        const { deploy } = await deploying();
        await deploy(open(), name, { ...flags, detach: flags.detach !== false }, signal);
      }),
    );
}

function addDiff(stack: DockerCommand, open: () => Terminal): void {
  const command = stack
    .command("diff")
    .description("Show what a deploy would change; ends with 1 if anything")
    .argument("<stack>") as DockerCommand;
  withPlan(command).action(
    (name: string, flags: FileFlags & Pick<DeployFlags, "prune" | "resolveImage">) =>
      interruptible(async (signal) => (await deploying()).showDiff(open(), name, flags, signal)),
  );
}

function addConfig(stack: DockerCommand, open: () => Terminal): void {
  const command = stack
    .command("config")
    .description(
      "Output the final config file, after doing merges and interpolations",
    ) as DockerCommand;
  withFiles(command)
    .option("--skip-interpolation", "Skip interpolation and output only merged config")
    .action(async (flags: FileFlags & { readonly skipInterpolation?: boolean }) =>
      (await deploying()).printConfig(open(), flags),
    );
}

const stackListing: Listing = {
  headings: { Name: "NAME", Services: "SERVICES", Orchestrator: "ORCHESTRATOR" },
  columns: ["{{.Name}}", "{{.Services}}"],
};

function addReading(stack: DockerCommand, open: () => Terminal): void {
  stack
    .command("ls")
    .alias("list")
    .description("List stacks")
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .action(async (flags: { format?: string }) => {
      const terminal = open();
      const services = await terminal.client.get<readonly Body<Service>[]>("/services", {
        query: { filters: JSON.stringify({ label: [namespaceLabel] }) },
      });
      const counts = new Map<string, number>();
      for (const service of services) {
        const name = service.Spec?.Labels?.[namespaceLabel] ?? "";
        counts.set(name, (counts.get(name) ?? 0) + 1);
      }
      const rows = [...counts]
        .sort(([a], [b]) => byName(a, b))
        .map(([Name, count]) => ({ Name, Services: String(count), Orchestrator: "Swarm" }));
      terminal.print(list(rows, stackListing, { format: flags.format }));
    });
  stack
    .command("services")
    .description("List the services in the stack")
    .argument("<stack>")
    .option("-f, --filter <filter>", "Filter output based on conditions provided", collect)
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("-q, --quiet", "Only display IDs")
    .action(
      async (name: string, flags: { filter?: string[]; format?: string; quiet?: boolean }) => {
        const terminal = open();
        const query = { filters: ofStack(name, given(flags.filter)), status: true };
        const services = await terminal.client.get<readonly Body<Service>[]>("/services", {
          query,
        });
        if (services.length === 0) return terminal.warn(`Nothing found in stack: ${name}\n`);
        const rows = services
          .map(serviceRow)
          .sort((a, b) => byName(a["Name"] ?? "", b["Name"] ?? ""));
        const quiet = flags.quiet === true ? "ID" : undefined;
        terminal.print(list(rows, serviceListing, { format: flags.format, quiet }));
      },
    );
  stack
    .command("ps")
    .description("List the tasks in the stack")
    .argument("<stack>")
    .option("-f, --filter <filter>", "Filter output based on conditions provided", collect)
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("--no-resolve", "Do not map IDs to Names")
    .option("--no-trunc", "Do not truncate output")
    .option("-q, --quiet", "Only display task IDs")
    .action(async (name: string, flags) => {
      const terminal = open();
      const query = { filters: ofStack(name) };
      const tasks = await terminal.client.get<readonly unknown[]>("/tasks", { query });
      if (tasks.length === 0) {
        terminal.warn(`nothing found in stack: ${name}\n`);
        throw new ExitCode(1);
      }
      const label = [`${namespaceLabel}=${name}`];
      await listTasks(terminal, { ...flags, scope: { label } });
    });
}

function given(pairs: readonly string[] | undefined): Readonly<Record<string, readonly string[]>> {
  return JSON.parse(filters(pairs) ?? "{}") as Record<string, readonly string[]>;
}

function addRemove(stack: DockerCommand, open: () => Terminal): void {
  const command = stack
    .command("rm")
    .alias("remove")
    .alias("down")
    .description("Remove one or more stacks")
    .argument("<stacks...>") as DockerCommand;
  command
    .deniable("-d, --detach", "Do not wait for stack removal")
    .action((names: string[], flags: { readonly detach?: boolean }) =>
      interruptible(async (signal) => {
        const terminal = open();
        let isWhole = true;
        for (const name of names)
          isWhole = (await removeStack(terminal, name, flags.detach !== false, signal)) && isWhole;
        if (!isWhole) throw new ExitCode(1);
      }),
    );
}
