// `tsswarm plugin …`: Docker's managed plugins, of whatever daemon is asked.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { jsonLines } from "./client.ts";
import type { DockerCommand } from "./command.ts";
import { authHeaders } from "./credentials.ts";
import { addInspect } from "./inspect.ts";
import { readLine } from "./secret-input.ts";
import { type Listing, list, shortId } from "./table.ts";
import { forEach, type Terminal } from "./terminal.ts";
import { collect, count, filters } from "./values.ts";

interface Plugin {
  readonly Id?: string;
  readonly Name: string;
  readonly Enabled?: boolean;
  readonly PluginReference?: string;
  readonly Config?: { readonly Description?: string };
}

interface Privilege {
  readonly Name: string;
  readonly Value: readonly string[] | null;
}

interface InstallFlags {
  readonly alias?: string;
  readonly disable?: boolean;
  readonly grantAllPermissions?: boolean;
}

const grantFlag = "--grant-all-permissions";
const pluginListing: Listing = {
  headings: {
    ...{ ID: "ID", Name: "NAME", Description: "DESCRIPTION", Enabled: "ENABLED" },
    PluginReference: "PLUGIN REFERENCE",
  },
  columns: ["{{.ID}}", "{{.Name}}", "{{.Description}}", "{{.Enabled}}"],
};

export function addPluginCommands(program: DockerCommand, open: () => Terminal): void {
  const group = program.command("plugin").description("Manage plugins") as DockerCommand;
  addList(group, open);
  addInspect(group, open, "plugins", (name) => `/plugins/${name}/json`);
  addSwitches(group, open);
  addTransfers(group, open);
  group
    .command("rm")
    .alias("remove")
    .description("Remove one or more plugins")
    .usage("[OPTIONS] PLUGIN [PLUGIN...]")
    .argument("<plugins...>")
    .option("-f, --force", "Force the removal of an active plugin")
    .action(async (names: string[], flags: { force?: boolean }) => {
      const terminal = open();
      const query = { force: flags.force === true };
      await forEach(terminal, names, async (name) => {
        await terminal.client.delete(pathOf(name), { query });
        terminal.print(`${name}\n`);
      });
    });
}

function addList(group: DockerCommand, open: () => Terminal): void {
  group
    .command("ls")
    .alias("list")
    .description("List plugins")
    .option("-f, --filter <filter>", "Provide filter values", collect)
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("--no-trunc", "Don't truncate output")
    .option("-q, --quiet", "Only display plugin IDs")
    .action(async (flags) => {
      const terminal = open();
      const query = { filters: filters(flags.filter) };
      const plugins = await terminal.client.get<readonly Plugin[] | null>("/plugins", { query });
      const rows = (plugins ?? []).map((plugin) => ({
        ID: shortId(plugin.Id ?? "", !flags.trunc),
        Name: plugin.Name,
        Description: plugin.Config?.Description ?? "",
        Enabled: String(plugin.Enabled === true),
        PluginReference: plugin.PluginReference ?? "",
      }));
      const quiet = flags.quiet === true ? "ID" : undefined;
      terminal.print(list(rows, pluginListing, { format: flags.format, quiet }));
    });
}

function addSwitches(group: DockerCommand, open: () => Terminal): void {
  const change = async (name: string, verb: string, options: object) => {
    const terminal = open();
    await terminal.client.post(`${pathOf(name)}/${verb}`, options);
    return terminal;
  };
  group
    .command("enable")
    .description("Enable a plugin")
    .usage("[OPTIONS] PLUGIN")
    .argument("<plugin>")
    .option("--timeout <int>", "HTTP client timeout (in seconds)", count, 30)
    .action(async (name: string, { timeout }: { timeout: number }) =>
      (await change(name, "enable", { query: { timeout } })).print(`${name}\n`),
    );
  group
    .command("disable")
    .description("Disable a plugin")
    .usage("[OPTIONS] PLUGIN")
    .argument("<plugin>")
    .option("-f, --force", "Force the disable of an active plugin")
    .action(async (name: string, flags: { force?: boolean }) =>
      (await change(name, "disable", { query: { force: flags.force === true } })).print(
        `${name}\n`,
      ),
    );
  group
    .command("set")
    .description("Change settings for a plugin")
    .usage("PLUGIN KEY=VALUE [KEY=VALUE...]")
    .argument("<plugin>")
    .argument("<settings...>")
    .action(async (name: string, body: string[]) => {
      await change(name, "set", { body });
    });
}

function addTransfers(group: DockerCommand, open: () => Terminal): void {
  group
    .command("install")
    .description("Install a plugin")
    .usage("[OPTIONS] PLUGIN [KEY=VALUE...]")
    .argument("<plugin>")
    .argument("[settings...]")
    .option("--alias <string>", "Local name for plugin")
    .option("--disable", "Do not enable the plugin on install")
    .option(grantFlag, "Grant all permissions necessary to run the plugin")
    .action(async (remote: string, settings: string[], flags: InstallFlags) => {
      const terminal = open();
      const name = flags.alias ?? remote;
      await bring(terminal, "/plugins/pull", remote, { name }, flags);
      if (settings.length > 0)
        await terminal.client.post(`${pathOf(name)}/set`, { body: settings });
      if (flags.disable !== true)
        await terminal.client.post(`${pathOf(name)}/enable`, { query: { timeout: 0 } });
      terminal.print(`Installed plugin ${remote}\n`);
    });
  group
    .command("upgrade")
    .description("Upgrade an existing plugin")
    .usage("[OPTIONS] PLUGIN [REMOTE]")
    .argument("<plugin>")
    .argument("[remote]")
    .option(grantFlag, "Grant all permissions necessary to run the plugin")
    .option("--skip-remote-check", "Do not check if specified remote plugin matches existing one")
    .action(async (name: string, asked: string | undefined, flags) => {
      const terminal = open();
      const known = await terminal.client.get<Plugin>(`${pathOf(name)}/json`);
      if (known.Enabled === true) throw new Error("the plugin must be disabled before upgrading");
      const before = known.PluginReference ?? "";
      const remote = asked ?? before;
      if (flags.skipRemoteCheck !== true && bare(remote) !== bare(before))
        throw new Error(
          `${name} is of ${before}, not of ${remote}: --skip-remote-check upgrades it all the same`,
        );
      await bring(terminal, `${pathOf(name)}/upgrade`, remote, {}, flags);
      terminal.print(`Upgraded plugin ${name} to ${remote}\n`);
    });
  group
    .command("push")
    .description("Push a plugin to a registry")
    .usage("PLUGIN[:TAG]")
    .argument("<plugin>")
    .action(async (name: string) => {
      const terminal = open();
      const headers = await authHeaders(terminal.configFolder, name);
      await follow(terminal, `${pathOf(name)}/push`, { headers });
    });
  group
    .command("create")
    .description("Create a plugin from a rootfs and configuration")
    .usage("[OPTIONS] PLUGIN PLUGIN-DATA-DIR")
    .argument("<plugin>")
    .argument("<folder>")
    .option("--compress", "Compress the context using gzip")
    .action(async (name: string, folder: string, flags: { compress?: boolean }) => {
      const { client, print } = open();
      const zip = flags.compress === true ? ["-z"] : [];
      const tar = spawn("tar", ["-c", ...zip, "-C", folder, "--", "config.json", "rootfs"], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const closed = once(tar, "close") as Promise<[number | null]>;
      const options = { query: { name }, stream: tar.stdout };
      (await client.open("POST", "/plugins/create", options)).resume();
      const [code] = await closed;
      if (code !== 0) throw new Error(`tar ended with ${code}`);
      print(`${name}\n`);
    });
}

/** From a registry, once somebody has allowed what it wants to be allowed. */
async function bring(
  terminal: Terminal,
  path: string,
  remote: string,
  query: Readonly<Record<string, string>>,
  flags: InstallFlags,
): Promise<void> {
  const { client } = terminal;
  const headers = await authHeaders(terminal.configFolder, remote);
  const privileges = await client.get<readonly Privilege[] | null>("/plugins/privileges", {
    query: { remote },
    headers,
  });
  const wanted = privileges ?? [];
  if (wanted.length > 0 && flags.grantAllPermissions !== true) {
    const lines = wanted.map(({ Name, Value }) => ` - ${Name}: [${(Value ?? []).join(" ")}]\n`);
    const question = `Plugin "${remote}" requests the following privileges:\n${lines.join("")}Do you grant the above permissions? [y/N] `;
    if (!/^y(es)?$/i.test(await readLine(question).catch(() => "")))
      throw new Error(
        `permission denied while installing plugin ${remote}: ${grantFlag} grants it`,
      );
  }
  await follow(terminal, path, { query: { ...query, remote }, headers, body: wanted });
}

/** Tells what the daemon says of it; its error is ours. */
async function follow(terminal: Terminal, path: string, options: object): Promise<void> {
  const lines = jsonLines(await terminal.client.open("POST", path, options));
  for await (const line of lines as AsyncIterable<{
    status?: string;
    id?: string;
    error?: string;
  }>) {
    if (line.error !== undefined) throw new Error(`Error response from daemon: ${line.error}`);
    if (line.status === undefined) continue;
    terminal.print(`${line.id === undefined ? "" : `${line.id}: `}${line.status}\n`);
  }
}

function pathOf(name: string): string {
  return `/plugins/${encodeURIComponent(name)}`;
}

/** Without its tag. */
function bare(remote: string): string {
  return remote.replace(/:[^/:]*$/, "");
}
