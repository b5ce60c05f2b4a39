// RUN: the command in a container of its own on the image so far; what it changed is the next layer.

import { createHash, randomBytes } from "node:crypto";
import type { Stats } from "node:fs";
import { chmod, chown, lstat, mkdir, readdir, rm, rmdir, writeFile } from "node:fs/promises";
import type { Server } from "node:net";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import type { Mount } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { CreateContainer, HostConfig } from "../engine/container-types.ts";
import { insideRoot } from "../engine/rootfs.ts";
import type { Runtime, SnapshotMount } from "../runtime/types.ts";
import { type AgentDoor, listenAsAgent } from "./agent-socket.ts";
import type { TellBuild } from "./events.ts";
import type { BuildGround } from "./ground.ts";
import { type Change, keepChange } from "./layers.ts";
import { BuildError } from "./request.ts";
import type { BuiltImage, RunMount, Step } from "./types.ts";

/** Containers with it belong to a build; those an agent left behind are removed when it starts. */
export const buildLabel = "tsswarm.build";
/** Folders in memory, one for each step that runs. */
export const secretsPrefix = "build-";
/** Made for the container's sake, where the image has nothing. */
const stubs = [
  ...["etc/hosts", "etc/hostname", "etc/resolv.conf", "dev/console", "dev/pts", "dev/shm"],
  ...["dev/mqueue", "proc", "sys", "dev"],
];
const scriptTarget = "/.tsswarm-script";

const noHealth = { Test: ["NONE"] };

export interface RunParts {
  readonly ground: BuildGround;
  /** Under the build's lease. */
  readonly runtime: Runtime;
  readonly scratch: string;
  readonly network: string;
  readonly host: HostConfig;
  /** The container of a command that fails stays. */
  readonly keepsFailed: boolean;
  readonly args: ReadonlyMap<string, string>;
  readonly secret: (id: string) => Promise<Buffer | null>;
  readonly agent: (id: string) => Promise<AgentDoor | null>;
  /** The files of the context (""), of which these paths are looked at; of an earlier stage or an image. */
  readonly filesOf: (from: string, paths: readonly string[]) => Promise<string>;
  readonly tell: TellBuild;
}

/** Throws `BuildError` with the command's exit code. */
export async function runStep(
  step: Extract<Step, { do: "run" }>,
  before: BuiltImage,
  parts: RunParts,
  signal: AbortSignal,
): Promise<Change> {
  const { ground } = parts;
  if (before.id === "")
    throw new SwarmError("invalid", "RUN needs an image: nothing can be run on scratch alone");
  const agents: Server[] = [];
  return withSecrets(ground.memory, async (secrets) => {
    const prepared = await prepareMounts(step, parts, secrets, agents);
    const id = await ground.engine.create(containerOf(step, before, prepared, parts), signal);
    return runIn(id, step, before, prepared, parts, signal);
  }).finally(() => {
    for (const agent of agents) agent.close();
  });
}

/** With a folder in memory, of which nothing is left. */
async function withSecrets<T>(memory: string, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = join(memory, `${secretsPrefix}${randomBytes(8).toString("hex")}`);
  await mkdir(folder, { mode: 0o700 });
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function runIn(
  id: string,
  step: Extract<Step, { do: "run" }>,
  before: BuiltImage,
  prepared: Prepared,
  parts: RunParts,
  signal: AbortSignal,
): Promise<Change> {
  const { ground, runtime, tell } = parts;
  let isKept = false;
  try {
    tell({ tell: "running", container: id });
    const { exitCode } = await follow(id, parts, signal);
    if (exitCode !== 0) {
      // For who wants to look at it. A secret may stand in its environment.
      isKept = parts.keepsFailed && !step.mounts.some(({ type }) => type === "secret");
      throw new BuildError(
        exitCode,
        `The command '${step.shown.trim()}' returned a non-zero code: ${exitCode}`,
      );
    }
    const mounts = await runtime.snapshotMounts(id);
    await removeStubs(mounts, [...stubs, ...prepared.targets]);
    return await keepChange(runtime, id, before, signal);
  } finally {
    if (!isKept) {
      await ground.engine.remove(id, { force: true, volumes: true }).catch(() => {});
      tell({ tell: "removed", container: id });
    }
  }
}

async function follow(
  id: string,
  { ground: { engine }, tell }: RunParts,
  signal: AbortSignal,
): Promise<{ readonly exitCode: number }> {
  const streams = await engine.attach(id, { stdin: false, stdout: true, stderr: true });
  const copy = async (from: Readable | null, stream: 1 | 2) => {
    const decoder = new StringDecoder("utf8");
    for await (const part of from ?? [])
      tell({ tell: "output", stream, text: decoder.write(part as Buffer) });
  };
  const stop = () => {
    engine.kill(id, "SIGKILL").catch(() => {});
  };
  signal.addEventListener("abort", stop, { once: true });
  try {
    const copied = Promise.all([copy(streams.stdout, 1), copy(streams.stderr, 2)]);
    copied.catch(() => {});
    await engine.start(id);
    const ended = await engine.wait(id, signal);
    await copied;
    return ended;
  } finally {
    signal.removeEventListener("abort", stop);
    streams.close();
  }
}

interface Prepared {
  readonly mounts: readonly Mount[];
  readonly tmpfs: Readonly<Record<string, string>>;
  readonly env: readonly string[];
  /** Places in the image that are made for mounts. */
  readonly targets: readonly string[];
  readonly command: readonly string[];
}

async function prepareMounts(
  step: Extract<Step, { do: "run" }>,
  parts: RunParts,
  secrets: string,
  /** Takes what is to be closed when the step is over. */
  agents: Server[],
): Promise<Prepared> {
  const mounts: Mount[] = [];
  const tmpfs: Record<string, string> = {};
  const env: string[] = [];
  for (const mount of step.mounts) {
    if (mount.type === "tmpfs")
      tmpfs[mount.target] = mount.size > 0 ? `exec,size=${mount.size}` : "exec";
    else if (mount.type === "secret") {
      const secret = await parts.secret(mount.id);
      if (secret === null && mount.isRequired)
        throw new SwarmError("not_found", `secret ${mount.id}: not found: give it with --secret`);
      if (secret === null) continue;
      if (mount.env !== "") env.push(`${mount.env}=${secret.toString("utf8")}`);
      else mounts.push(await secretMount(mount, secret, secrets));
    } else if (mount.type === "ssh") {
      const carry = await parts.agent(mount.id);
      if (carry === null && mount.isRequired)
        throw new SwarmError("not_found", `ssh agent ${mount.id}: not found: give it with --ssh`);
      if (carry === null) continue;
      const place = join(secrets, `agent-${agents.length}`);
      agents.push(await listenAsAgent(place, mount, carry));
      mounts.push(bind(place, mount.target, false));
      env.push(`SSH_AUTH_SOCK=${mount.target}`);
    } else if (mount.type === "cache") mounts.push(await cacheMount(mount, parts));
    else {
      const root = await parts.filesOf(mount.from, [mount.source]);
      const source = await insideRoot(root, mount.source);
      mounts.push(bind(source, mount.target, mount.isReadonly));
    }
  }
  let { command } = step;
  if (step.script !== "") {
    const place = join(parts.scratch, `script-${randomBytes(8).toString("hex")}`);
    await writeFile(place, step.script, { mode: 0o755 });
    mounts.push(bind(place, scriptTarget, true));
    command = [scriptTarget];
  }
  const targets = [...mounts.map(({ Target }) => Target), ...Object.keys(tmpfs)];
  return { mounts, tmpfs, env, command, targets: targets.map((path) => path.slice(1)) };
}

function bind(Source: string, Target: string, ReadOnly: boolean): Mount {
  return { Type: "bind", Source, Target, ReadOnly, Consistency: "" };
}

async function secretMount(mount: RunMount, secret: Buffer, folder: string): Promise<Mount> {
  const place = join(folder, `secret-${createHash("sha256").update(mount.id).digest("hex")}`);
  await writeFile(place, secret, { mode: 0o600 });
  await chown(place, mount.uid, mount.gid);
  await chmod(place, mount.mode < 0 ? 0o400 : mount.mode);
  return bind(place, mount.target, true);
}

/** Kept between builds, by its id; filled from a stage or image when it is new. */
async function cacheMount(mount: RunMount, { ground }: RunParts): Promise<Mount> {
  if (mount.from !== "")
    throw new SwarmError("unsupported", "--mount=type=cache with from is not available");
  const name = createHash("sha256").update(mount.id).digest("hex");
  const place = join(ground.caches, name);
  await mkdir(place, { recursive: true });
  await chown(place, mount.uid, mount.gid);
  await chmod(place, mount.mode < 0 ? 0o755 : mount.mode);
  return bind(place, mount.target, mount.isReadonly);
}

function containerOf(
  step: Extract<Step, { do: "run" }>,
  before: BuiltImage,
  prepared: Prepared,
  { network, args, host }: RunParts,
): CreateContainer {
  const mode = networkMode(step.network || network);
  const isWired = mode !== "host" && mode !== "none" && !mode.startsWith("container:");
  const [program = "", ...rest] = prepared.command;
  return {
    name: `build-${randomBytes(8).toString("hex")}`,
    config: {
      Image: before.id,
      Entrypoint: [program],
      Cmd: rest,
      Env: [...[...args].map(([name, value]) => `${name}=${value}`), ...prepared.env],
      Labels: { [buildLabel]: "step" },
      Healthcheck: noHealth,
    },
    host: { ...host, Mounts: prepared.mounts, Tmpfs: prepared.tmpfs },
    networkNamespace: "",
    networks: {},
    local: {
      networkMode: mode,
      endpoints: isWired ? { [mode]: { aliases: [], address: "" } } : {},
      restart: { Name: "no", MaximumRetryCount: 0 },
      autoRemove: false,
      shown: { NetworkMode: mode },
    },
  };
}

function networkMode(text: string): string {
  return text === "" || text === "default" ? "bridge" : text;
}

/** Empty files and folders that were made to mount something there go again, when the image lacks them. */
async function removeStubs(
  mounts: readonly SnapshotMount[],
  targets: readonly string[],
): Promise<void> {
  const options = mounts[0]?.options ?? [];
  const option = (name: string) =>
    options.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1);
  const upper = option("upperdir");
  if (upper === undefined) return;
  const lower = (option("lowerdir") ?? "").split(":").filter((path) => path !== "");
  const isBelow = async (path: string) => {
    for (const layer of lower) if ((await lookInside(layer, path)) !== null) return true;
    return false;
  };
  const wanted = new Set(targets.flatMap((path) => withParents(path)));
  for (const path of [...wanted].sort((a, b) => b.length - a.length)) {
    const place = join(upper, path);
    const facts = await lookInside(upper, path);
    if (facts === null || (await isBelow(path))) continue;
    if (facts.isFile() && facts.size === 0) await rm(place);
    else if (facts.isDirectory() && (await readdir(place)).length === 0) await rmdir(place);
  }
}

/** Null also where a part on the way is a link: that may lead anywhere. */
async function lookInside(root: string, path: string): Promise<Stats | null> {
  let facts: Stats | null = null;
  let at = root;
  for (const part of path.split("/")) {
    if (facts !== null && !facts.isDirectory()) return null;
    at = join(at, part);
    facts = await lstat(at).catch(() => null);
    if (facts === null) return null;
  }
  return facts;
}

/** a/b/c, a/b, a. */
function withParents(path: string): readonly string[] {
  const all: string[] = [];
  for (let at = path; at !== "." && at !== "" && at !== "/"; at = dirname(at)) all.push(at);
  return all;
}
