// `tsswarm cp`: files between this machine and a container, as tar.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, lstatSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import type { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type DaemonClient, DaemonError } from "./client.ts";
import type { DockerCommand } from "./command.ts";
import type { Terminal } from "./terminal.ts";
import { UsageError } from "./values.ts";

export function addCopy(parent: DockerCommand, open: () => Terminal): void {
  parent
    .command("cp")
    .description("Copy files/folders between a container and the local filesystem")
    .usage("CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH")
    .argument("<source>")
    .argument("<target>")
    .action(async (source: string, target: string) => {
      const [from, to] = [inContainer(source), inContainer(target)];
      if (from !== null && to !== null)
        throw new UsageError("copying between containers is not supported");
      if (from !== null) await copyOut(open(), from, target);
      else if (to !== null) await copyIn(open(), source, to);
      else throw new UsageError("must specify at least one container source");
    });
}

interface Place {
  readonly url: string;
  readonly path: string;
}

/** `name:path`; what begins like a path of this machine is one. */
function inContainer(text: string): Place | null {
  const at = text.indexOf(":");
  if (at < 1 || /^[./]/.test(text)) return null;
  const path = text.slice(at + 1);
  return {
    url: `/containers/${encodeURIComponent(text.slice(0, at))}/archive`,
    path: path.startsWith("/") ? path : `/${path}`,
  };
}

async function copyOut(terminal: Terminal, { url, path }: Place, target: string): Promise<void> {
  const response = await terminal.client.open("GET", url, { query: { path } });
  if (target === "-") {
    await pipeline(response, process.stdout, { end: false });
    return;
  }
  // Its content alone, when the path says so; else under its own name, or the target's.
  const isContent = /\/\.$/.test(path);
  const isFolder =
    existsSync(target) &&
    lstatSync(`${target}/`, { throwIfNoEntry: false })?.isDirectory() === true;
  const [folder, name] = isFolder ? [target, ""] : [dirname(resolve(target)), basename(target)];
  if (!existsSync(folder))
    throw new Error(`invalid output path: directory "${folder}" does not exist`);
  const own = basename(path.replace(/\/\.?$/, ""));
  const rename = isContent
    ? [`--transform=s,^[^/]*/\\?,${name === "" ? "" : `${quoted(name)}/`},`]
    : name === ""
      ? []
      : [`--transform=s,^${pattern(own)}\\(/\\|$\\),${quoted(name)}\\1,`];
  await throughTar(["-x", "--no-same-owner", ...rename, "-C", folder], async (stdin) =>
    pipeline(response, stdin),
  );
}

async function copyIn(terminal: Terminal, source: string, { url, path }: Place): Promise<void> {
  const { client } = terminal;
  if (source === "-") {
    await put(client, url, path, process.stdin);
    return;
  }
  const place = resolve(source);
  const facts = lstatSync(place);
  const isContent = /\/\.$/.test(source);
  const isFolder = await isFolderThere(terminal, { url, path });
  // Into the folder under its own name, or as the name that is wanted.
  const [into, name] = isFolder ? [path, basename(place)] : [dirname(path), basename(path)];
  if (!isFolder && path.endsWith("/") && !facts.isDirectory())
    throw new Error(`no such directory: ${path}`);
  const args = isContent
    ? ["-C", place, ...(isFolder ? [] : [`--transform=s,^\\.,./${quoted(name)},`]), "--", "."]
    : [
        "-C",
        dirname(place),
        `--transform=s,^${pattern(basename(place))}\\(/\\|$\\),${quoted(name)}\\1,`,
        "--",
        basename(place),
      ];
  const child = spawn("tar", ["-c", ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const closed = once(child, "close") as Promise<[number | null]>;
  await put(client, url, into, child.stdout);
  const [code] = await closed;
  if (code !== 0) throw new Error(`tar ended with ${code}`);
}

/** An answer that nobody reads would hold its connection, and with it this process, until the daemon gives it up. */
async function put(
  client: DaemonClient,
  url: string,
  path: string,
  stream: Readable,
): Promise<void> {
  (await client.open("PUT", url, { query: { path }, stream })).resume();
}

async function isFolderThere(terminal: Terminal, { url, path }: Place): Promise<boolean> {
  try {
    const response = await terminal.client.open("HEAD", url, { query: { path } });
    response.resume();
    const header = String(response.headers["x-docker-container-path-stat"] ?? "");
    const stat = JSON.parse(Buffer.from(header, "base64").toString()) as {
      mode: number;
      linkTarget: string;
    };
    if (stat.linkTarget !== "") return isFolderThere(terminal, { url, path: stat.linkTarget });
    return stat.mode >= 2 ** 31;
  } catch (error) {
    if (error instanceof DaemonError && error.status === 404) return false;
    throw error;
  }
}

async function throughTar(
  args: readonly string[],
  feed: (stdin: Writable) => Promise<void>,
): Promise<void> {
  const child = spawn("tar", [...args], { stdio: ["pipe", "inherit", "inherit"] });
  const closed = once(child, "close") as Promise<[number | null]>;
  await feed(child.stdin);
  const [code] = await closed;
  if (code !== 0) throw new Error(`tar ended with ${code}`);
}

function pattern(text: string): string {
  return text.replace(/[.*[\]^$\\,]/g, "\\$&");
}
function quoted(text: string): string {
  return text.replace(/[&\\,]/g, "\\$&");
}
