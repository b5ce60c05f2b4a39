// What the kernel and the system say of this machine, in their own words.

import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { messageOf } from "../../proto/kit/errors.ts";

const run = promisify(execFile);
const commandMsMax = 5_000;
const outputBytesMax = 4 * 1024 * 1024;
/** Of the routers so many are shown. */
const routersMax = 8;

const settings = [
  "kernel/osrelease",
  "kernel/pid_max",
  "fs/file-nr",
  "fs/inotify/max_user_instances",
  "fs/inotify/max_user_watches",
  "net/ipv4/ip_forward",
  "net/ipv4/conf/all/rp_filter",
  "net/ipv6/conf/all/forwarding",
  "net/ipv6/conf/all/disable_ipv6",
  "net/ipv4/neigh/default/gc_thresh3",
  "net/netfilter/nf_conntrack_count",
  "net/netfilter/nf_conntrack_max",
  "net/bridge/bridge-nf-call-iptables",
];

export async function kernelSettings(): Promise<Readonly<Record<string, string>>> {
  const all = settings.map(async (name) => {
    const text = await readFile(`/proc/sys/${name}`, "utf8").catch(() => "not there");
    return [name.replaceAll("/", "."), text.trim().replace(/\s+/g, " ")] as const;
  });
  const files = ["meminfo", "loadavg", "pressure/cpu", "pressure/memory", "pressure/io"].map(
    async (name) =>
      [name, await readFile(`/proc/${name}`, "utf8").catch(() => "not there")] as const,
  );
  return Object.fromEntries(await Promise.all([...all, ...files]));
}

/** Links, addresses, routes, rules and our own tables of this host and of its first routers. */
export async function networkState(namespaces: string, signal: AbortSignal): Promise<string> {
  const names = (await readdir(namespaces).catch(() => [])).filter((name) =>
    name.startsWith("router-"),
  );
  const parts = [await stateIn([], signal)];
  for (const name of names.slice(0, routersMax))
    parts.push(
      `##### ${name}\n${await stateIn(["nsenter", `--net=${join(namespaces, name)}`], signal)}`,
    );
  if (names.length > routersMax)
    parts.push(`##### and ${names.length - routersMax} routers more\n`);
  return parts.join("\n");
}

async function stateIn(inside: readonly string[], signal: AbortSignal): Promise<string> {
  const commands = [
    ["ip", "-brief", "address"],
    ["ip", "route", "show", "table", "all"],
    ["ip", "-6", "route", "show", "table", "all"],
    ["ip", "rule"],
    ["nft", "list", "table", "ip", "tsswarm"],
    ["nft", "list", "table", "ip6", "tsswarm"],
  ];
  const outputs: string[] = [];
  for (const command of commands)
    outputs.push(`$ ${command.join(" ")}\n${await outputOf([...inside, ...command], signal)}`);
  return outputs.join("\n");
}

async function outputOf([program = "", ...args]: readonly string[], signal: AbortSignal) {
  const limits = { timeout: commandMsMax, maxBuffer: outputBytesMax, signal };
  return run(program, args, limits).then(
    ({ stdout }) => stdout,
    (error: unknown) => `could not be had: ${messageOf(error)}\n`,
  );
}
