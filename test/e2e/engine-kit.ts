// What the engine's end-to-end test needs: a private containerd, a private registry, an image made by hand, a keeper.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer, Socket } from "node:net";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { type OpenEngine, openEngine } from "../../agent/engine/engine.ts";
import { LogBook } from "../../agent/keeper/logs.ts";
import { openContainerd } from "../../agent/runtime/containerd.ts";
import { endShim, findShims } from "../../agent/runtime/shims.ts";
import type { Runtime } from "../../agent/runtime/types.ts";
import { parseDaemonConfig } from "../../proto/config.ts";
import type { Keeper, KeeperRequest } from "../../proto/kit/keeper.ts";
import { silentLog } from "../../proto/kit/log.ts";
import { realWorld } from "../../proto/kit/world.ts";

const readyMsMax = 60_000;

export interface Server {
  readonly address: string;
  stop(): Promise<void>;
}
interface ContainerdServer extends Server {
  /** SIGKILL, and started again. */
  crash(): Promise<void>;
}

async function startContainerd(directory: string): Promise<ContainerdServer> {
  mkdirSync(directory, { recursive: true });
  const config = join(directory, "config.toml");
  const address = join(directory, "containerd.sock");
  writeFileSync(
    config,
    [
      "version = 2",
      `root = "${directory}/root"`,
      `state = "${directory}/state"`,
      'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
      "[grpc]",
      `address = "${address}"`,
    ].join("\n"),
  );
  let child = await run();
  return {
    address,
    stop: () => end(child, "SIGTERM"),
    crash: async () => {
      await end(child, "SIGKILL");
      child = await run();
    },
  };

  async function run(): Promise<ChildProcess> {
    const started = spawn("containerd", ["--config", config], {
      stdio: ["ignore", "ignore", openSync(join(directory, "containerd.log"), "a")],
    });
    await until("containerd answers", () => canConnect(address));
    return started;
  }
}

async function startRegistry(directory: string, htpasswd = ""): Promise<Server> {
  mkdirSync(directory, { recursive: true });
  const port = await freePort();
  const config = join(directory, "registry.yml");
  const lines = [
    "version: 0.1",
    "log: {level: error, accesslog: {disabled: true}}",
    "storage:",
    `  filesystem: {rootdirectory: ${directory}/registry}`,
    "http:",
    `  addr: 127.0.0.1:${port}`,
  ];
  if (htpasswd !== "") {
    writeFileSync(join(directory, "htpasswd"), htpasswd);
    lines.push("auth:", `  htpasswd: {realm: test, path: ${directory}/htpasswd}`);
  }
  writeFileSync(config, `${lines.join("\n")}\n`);
  const child = spawn("docker-registry", ["serve", config], {
    stdio: ["ignore", "ignore", openSync(join(directory, "registry.log"), "a")],
  });
  await until("the registry answers", () =>
    fetch(`http://127.0.0.1:${port}/v2/`).then(
      (r) => r.ok || r.status === 401,
      () => false,
    ),
  );
  return { address: `127.0.0.1:${port}`, stop: () => end(child, "SIGTERM") };
}

/** A tar of a small Debian-like root: busybox with its libraries, users, a folder for volumes. */
export function busyboxLayer(directory: string): Buffer {
  const root = join(directory, "rootfs");
  for (const path of ["bin", "etc", "tmp", "root", "data", "proc", "sys", "dev", "var"])
    mkdirSync(join(root, path), { recursive: true });
  execFileSync("cp", ["/bin/busybox", join(root, "bin/busybox")]);
  const libraries = execFileSync("ldd", ["/bin/busybox"], { encoding: "utf8" });
  for (const [path] of libraries.matchAll(/\/\S+/g))
    execFileSync("cp", ["--parents", "-L", path, root]);
  for (const name of [
    "sh",
    "cat",
    "echo",
    "sleep",
    "id",
    "ls",
    "seq",
    "env",
    "kill",
    "true",
    "dd",
    "ln",
    "rm",
    "sort",
    "wc",
  ])
    execFileSync("ln", ["-sf", "busybox", join(root, "bin", name)]);
  writeFileSync(
    join(root, "etc/passwd"),
    "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n",
  );
  writeFileSync(join(root, "etc/group"), "root:x:0:\napp:x:1000:\nextra:x:2000:app\n");
  writeFileSync(join(root, "data/seed"), "from the image\n");
  return execFileSync("tar", ["-C", root, "--owner=0", "--group=0", "-c", "."], {
    maxBuffer: 64 * 1024 * 1024,
  });
}

export function smallLayer(directory: string, name: string, content: string): Buffer {
  const root = join(directory, `layer-${name}`);
  mkdirSync(root, { recursive: true });
  writeFileSync(join(root, name), content);
  return execFileSync("tar", ["-C", root, "--owner=0", "--group=0", "-c", "."], {
    maxBuffer: 64 * 1024 * 1024,
  });
}

export interface ImageToPush {
  readonly layers: readonly { readonly tar: Buffer; readonly compression: "gzip" | "zstd" }[];
  readonly config: Readonly<Record<string, unknown>>;
  /** Put behind an index that also lists a platform nobody has. */
  readonly indexed?: boolean;
}

/** Returns the digest its tag stands for. */
export async function pushImage(
  registry: string,
  name: string,
  image: ImageToPush,
  authorization = "",
): Promise<string> {
  const [repository, tag = "latest"] = name.split(":");
  const base = `http://${registry}/v2/${repository}`;
  const headers: Record<string, string> = authorization === "" ? {} : { authorization };
  const layers = [];
  for (const { tar, compression } of image.layers) {
    const blob =
      compression === "gzip"
        ? gzipSync(tar)
        : execFileSync("zstd", ["-q", "-c"], { input: tar, maxBuffer: 64 * 1024 * 1024 });
    layers.push({
      mediaType: `application/vnd.oci.image.layer.v1.tar+${compression}`,
      digest: await pushBlob(base, blob, headers),
      size: blob.length,
    });
  }
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === "x64" ? "amd64" : process.arch,
      os: "linux",
      created: "2026-01-02T03:04:05Z",
      rootfs: { type: "layers", diff_ids: image.layers.map(({ tar }) => digestOf(tar)) },
      config: image.config,
    }),
  );
  const manifest = {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: {
      mediaType: "application/vnd.oci.image.config.v1+json",
      digest: await pushBlob(base, config, headers),
      size: config.length,
    },
    layers,
  };
  if (image.indexed !== true) return pushManifest(base, tag, manifest, headers);
  const bytes = Buffer.from(JSON.stringify(manifest));
  await pushManifest(base, digestOf(bytes), manifest, headers);
  const entry = { mediaType: manifest.mediaType, digest: digestOf(bytes), size: bytes.length };
  const architecture = process.arch === "x64" ? "amd64" : process.arch;
  const index = {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.index.v1+json",
    manifests: [
      { ...entry, platform: { os: "plan9", architecture: "mips" } },
      { ...entry, platform: { os: "linux", architecture } },
    ],
  };
  return pushManifest(base, tag, index, headers);
}

async function pushBlob(
  base: string,
  blob: Buffer,
  headers: Record<string, string>,
): Promise<string> {
  const digest = digestOf(blob);
  const started = await fetch(`${base}/blobs/uploads/`, { method: "POST", headers });
  if (!started.ok) throw new Error(`upload refused: ${started.status}`);
  const location = new URL(started.headers.get("location") ?? "", base);
  location.searchParams.set("digest", digest);
  const done = await fetch(location, {
    method: "PUT",
    headers: { ...headers, "content-type": "application/octet-stream" },
    body: new Uint8Array(blob),
  });
  if (!done.ok) throw new Error(`upload failed: ${done.status} ${await done.text()}`);
  return digest;
}

async function pushManifest(
  base: string,
  tag: string,
  manifest: { readonly mediaType: string },
  headers: Record<string, string>,
): Promise<string> {
  const body = JSON.stringify(manifest);
  const done = await fetch(`${base}/manifests/${tag}`, {
    method: "PUT",
    headers: { ...headers, "content-type": manifest.mediaType },
    body,
  });
  if (!done.ok) throw new Error(`manifest refused: ${done.status} ${await done.text()}`);
  return digestOf(Buffer.from(body));
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** The keeper's log pipes, in this process. */
export class TestKeeper implements Keeper {
  #book = new LogBook(silentLog, Date.now);
  readonly #listeners: (() => void)[] = [];

  async ask(request: KeeperRequest): Promise<{ readonly ok: true }> {
    if (request.do === "openLogs") this.#book.open(request);
    if (request.do === "teeLogs") this.#book.tee(request);
    if (request.do === "closeLogs") await this.#book.close(request.container);
    return { ok: true };
  }

  onReconnect(listener: () => void): void {
    this.#listeners.push(listener);
  }

  get followed(): readonly string[] {
    return this.#book.requests.map((request) => request.container);
  }

  async stop(): Promise<void> {
    await this.#book.stop();
  }

  /** All pipes are dropped for a moment, then the engine is told. */
  async restart(): Promise<void> {
    await this.stop();
    this.#book = new LogBook(silentLog, Date.now);
    for (const listener of this.#listeners) listener();
  }
}

/** Waits for a fact; the description is what the failure says. */
export async function until(
  what: string,
  fact: () => boolean | Promise<boolean>,
  msMax = readyMsMax,
): Promise<void> {
  const deadline = Date.now() + msMax;
  while (!(await fact())) {
    if (Date.now() > deadline) throw new Error(`not within ${msMax} ms: ${what}`);
    await delay(20);
  }
}

/** A containerd, a registry and the newest engine over them, in a folder of their own. */
export class Ground {
  readonly directory: string;
  readonly keeper = new TestKeeper();
  readonly containerd: ContainerdServer;
  readonly registry: Server;
  /** The daemon's configuration, as in its file. */
  readonly settings: object;
  readonly #cgroups: string;
  readonly #runtimes: Runtime[] = [];
  #engine: OpenEngine | null = null;

  static async make(name: string): Promise<Ground> {
    const directory = mkdtempSync(`/tmp/tsswarm-${name}-`);
    const containerd = await startContainerd(join(directory, "containerd"));
    try {
      const registry = await startRegistry(join(directory, "registry"));
      return new Ground(directory, containerd, registry);
    } catch (error) {
      await containerd.stop();
      rmSync(directory, { recursive: true });
      throw error;
    }
  }

  private constructor(directory: string, containerd: ContainerdServer, registry: Server) {
    this.directory = directory;
    this.containerd = containerd;
    this.registry = registry;
    this.#cgroups = basename(directory);
    this.settings = {
      "data-root": join(directory, "data"),
      "exec-root": join(directory, "run"),
      containerd: containerd.address,
      "cgroup-parent": `/${this.#cgroups}`,
    };
  }

  async open(): Promise<{ readonly engine: OpenEngine; readonly runtime: Runtime }> {
    const { keeper, containerd } = this;
    const config = parseDaemonConfig(this.settings, "test");
    const runtime = await openContainerd({ address: containerd.address, namespace: "tsswarm" });
    this.#runtimes.push(runtime);
    const engine = await openEngine({ runtime, keeper, config, world: realWorld, log: silentLog });
    this.#engine = engine;
    return { engine, runtime };
  }

  /** Ends and removes everything, also what a failed engine has left: shims, mounts, control groups. */
  async remove(): Promise<void> {
    for (const container of this.#engine?.list() ?? [])
      await this.#engine?.remove(container.id, { force: true, volumes: true }).catch(() => {});
    await this.#engine?.close();
    for (const runtime of this.#runtimes) runtime.close();
    await this.keeper.stop();
    await this.registry.stop();
    await this.containerd.stop();
    const { address } = this.containerd;
    for (const shim of await findShims(address, "tsswarm")) await endShim(shim, address, "tsswarm");
    const mounted = readFileSync("/proc/self/mounts", "utf8")
      .split("\n")
      .map((line) => line.split(" ")[1] ?? "")
      .filter((path) => path.startsWith(`${this.directory}/`));
    for (const path of mounted.reverse()) execFileSync("umount", ["-l", path]);
    rmSync(this.directory, { recursive: true, force: true });
    removeCgroups(this.#cgroups);
  }
}

/** Takes away the empty groups that are left of a test's containers, in every hierarchy. */
function removeCgroups(parent: string): void {
  for (const hierarchy of ["", ...readdirSync("/sys/fs/cgroup")])
    try {
      rmdirSync(join("/sys/fs/cgroup", hierarchy, parent));
    } catch {
      // Not there, or not a hierarchy.
    }
}

async function canConnect(path: string): Promise<boolean> {
  const socket = new Socket();
  socket.connect(path);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill(signal);
  await exited;
}
