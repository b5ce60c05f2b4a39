// An engine whose containers are records, and whose execs run on the test's own machine.

import { spawn } from "node:child_process";
import { PassThrough, Readable } from "node:stream";
import type { Container, CreateContainer } from "../../../../agent/engine/container-types.ts";
import type { ExecConfig, ExecState } from "../../../../agent/engine/stream-types.ts";
import type {
  ContainerEvent,
  Engine,
  LocalNetworkObject,
  ObjectEvent,
  VolumeObject,
} from "../../../../agent/engine/types.ts";
import { chooseRuntimes } from "../../../../agent/runtime/oci-runtimes.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import { Queue } from "../../../../proto/kit/queue.ts";
import { timestamp } from "../../../../proto/kit/world.ts";

export class FakeEngine implements Engine {
  readonly containers = new Map<string, Container>();
  readonly execs = new Map<string, ExecState>();
  readonly watchers = new Set<Queue<ContainerEvent>>();
  readonly resized: string[] = [];

  add(name: string, changes: Partial<CreateContainer["config"]> = {}): Container {
    const container: Container = {
      id: Buffer.from(name.padEnd(32, "\0")).toString("hex"),
      name,
      created: timestamp(Date.now() - 120_000),
      imageId: `sha256:${"a".repeat(64)}`,
      config: {
        Image: "registry.lab:5000/whoami:latest",
        Cmd: ["whoami", "-v"],
        Labels: { "com.docker.swarm.task.id": "t1", tier: "front" },
        ...changes,
      },
      host: {},
      networks: {
        web: {
          NetworkID: "n1",
          IPAddress: "10.0.1.5",
          IPPrefixLen: 24,
          Gateway: "10.0.1.1",
          GlobalIPv6Address: "",
          GlobalIPv6PrefixLen: 0,
          IPv6Gateway: "",
          Aliases: ["web"],
        },
      },
      networkNamespace: "/run/tsswarm/netns/x",
      state: {
        Status: "running",
        Pid: 42,
        ExitCode: 0,
        OOMKilled: false,
        Error: "",
        StartedAt: timestamp(Date.now() - 100_000),
        FinishedAt: "",
      },
    };
    this.containers.set(container.id, container);
    return container;
  }

  #change(id: string, state: Partial<Container["state"]>): void {
    const before = this.inspect(id);
    this.containers.set(before.id, { ...before, state: { ...before.state, ...state } });
  }

  announce(action: ContainerEvent["action"], container: Container): void {
    for (const queue of this.watchers)
      queue.push({ action, container, time: timestamp(Date.now()) });
  }

  pull: Engine["pull"] = async (reference, _auth, progress) => {
    if (reference.includes("missing"))
      throw new SwarmError("not_found", `manifest for ${reference} not found: manifest unknown`);
    progress({ status: "Pulling fs layer", id: "aaaaaaaaaaaa" });
    progress({
      status: "Downloading",
      id: "aaaaaaaaaaaa",
      progressDetail: { current: 5, total: 10 },
    });
    progress({ status: "Pull complete", id: "aaaaaaaaaaaa" });
    if (reference.includes("broken")) throw new SwarmError("unavailable", "connection reset");
    return { id: `sha256:${"a".repeat(64)}`, digest: `sha256:${"d".repeat(64)}` };
  };
  images: Engine["images"] = async () => [
    {
      id: `sha256:${"a".repeat(64)}`,
      parent: "",
      repoTags: ["registry.lab:5000/whoami:latest"],
      repoDigests: [`registry.lab:5000/whoami@sha256:${"d".repeat(64)}`],
      created: timestamp(Date.now() - 3_600_000 * 50),
      size: 12_345_678,
      layers: [
        { id: "base", bytes: 12_000_000 },
        { id: "top", bytes: 345_678 },
      ],
      labels: { tier: "front" },
    },
  ];
  inspectImage: Engine["inspectImage"] = async (reference) => {
    if (!reference.startsWith("registry.lab:5000/whoami"))
      throw new SwarmError("not_found", `No such image: ${reference}`);
    return { Id: `sha256:${"a".repeat(64)}`, RepoTags: ["registry.lab:5000/whoami:latest"] };
  };
  removeImage: Engine["removeImage"] = async (reference, force) => {
    if (!force)
      throw new SwarmError("conflict", `unable to remove ${reference}: a container uses it`);
    return [{ Untagged: reference }, { Deleted: `sha256:${"a".repeat(64)}` }];
  };
  remoteTags: Engine["remoteTags"] = async () => ["1", "2"];
  pushImage: Engine["pushImage"] = async (name, tag, _auth, report) =>
    report({ status: `${name}:${tag}: digest: sha256:${"a".repeat(64)} size: 1` });
  saveImages: Engine["saveImages"] = async (names) => Readable.from([Buffer.from(names.join())]);
  loadImages: Engine["loadImages"] = async (tar, _platform, report) => {
    for await (const part of tar) report({ stream: `Loaded image: ${part}\n` });
  };
  importImage: Engine["importImage"] = async () => `sha256:${"c".repeat(64)}`;
  commit: Engine["commit"] = async () => `sha256:${"e".repeat(64)}`;
  withLayers: Engine["withLayers"] = (_id, run) => run("/usr/share/doc/tar");
  withVolume: Engine["withVolume"] = (_name, run) => run("/usr/share/doc/tar");
  replaceVolume: Engine["replaceVolume"] = async () => {};
  readonly tagged: string[] = [];
  tagImage: Engine["tagImage"] = async (reference, name) =>
    void this.tagged.push(`${reference} ${name}`);
  imageHistory: Engine["imageHistory"] = async () => [
    {
      id: "sha256:aa",
      created: "2026-01-02T03:04:05Z",
      createdBy: "CMD x",
      comment: "",
      tags: ["a:b"],
      bytes: 0,
    },
    { id: "<missing>", created: "", createdBy: "COPY y", comment: "", tags: [], bytes: 2_000 },
  ];
  changes: Engine["changes"] = async () => [{ Path: "/tmp/x", Kind: 1 }];
  checkLogin: Engine["checkLogin"] = async (domain, { username = "", password }) => {
    if (password !== "right")
      throw new SwarmError(
        "denied",
        `registry ${domain} refused the login of user ${username}: no`,
      );
  };
  distribution: Engine["distribution"] = async (reference) => {
    if (!reference.startsWith("registry.lab:5000/"))
      throw new SwarmError("unavailable", `cannot reach the registry of ${reference}`);
    return {
      Descriptor: {
        mediaType: "application/vnd.oci.image.index.v1+json",
        digest: `sha256:${"d".repeat(64)}`,
        size: 428,
      },
      Platforms: [{ architecture: "amd64", os: "linux" }],
    };
  };
  create: Engine["create"] = async (wanted) => {
    if (wanted.config.Image.includes("missing"))
      throw new SwarmError("not_found", `No such image: ${wanted.config.Image}`);
    if (this.list().some(({ name }) => name === wanted.name))
      throw new SwarmError(
        "conflict",
        `Conflict. The container name "/${wanted.name}" is already in use by container "x".`,
      );
    const { id, ...made } = this.add(wanted.name, wanted.config);
    const local = wanted.local && { ...wanted.local, isStoppedByHand: false, restartCount: 0 };
    const { config, host, networks } = wanted;
    const state = { ...made.state, Status: "created", Pid: 0 } as const;
    const container = { ...made, id, config, host, networks, state };
    this.containers.set(id, local === undefined ? container : { ...container, local });
    return id;
  };
  start: Engine["start"] = async (id) => this.#change(id, { Status: "running" });
  stop: Engine["stop"] = async (id) =>
    this.#change(id, { Status: "exited", FinishedAt: timestamp(Date.now()) });
  kill: Engine["kill"] = async (id) =>
    this.#change(id, { Status: "exited", ExitCode: 137, FinishedAt: timestamp(Date.now()) });
  remove: Engine["remove"] = async (id, { force }) => {
    const container = this.inspect(id);
    if (!force && container.state.Status === "running")
      throw new SwarmError(
        "precondition",
        "cannot remove a running container: stop it or use force",
      );
    this.containers.delete(container.id);
  };
  list: Engine["list"] = () => [...this.containers.values()];
  inspect(id: string): Container {
    const all = this.list();
    const found =
      this.containers.get(id) ??
      all.find((item) => item.name === id) ??
      all.find((item) => id.length > 3 && item.id.startsWith(id));
    if (found === undefined) throw new SwarmError("not_found", `No such container: ${id}`);
    return found;
  }
  wait: Engine["wait"] = async (id) => ({ exitCode: this.inspect(id).state.ExitCode });
  async *logs(id: string, query: Parameters<Engine["logs"]>[1], signal: AbortSignal) {
    this.inspect(id);
    for (const stream of ["stdout", "stderr"] as const)
      if (query[stream])
        yield [
          {
            stream,
            time: "2026-01-02T03:04:05.000000006Z",
            data: Buffer.from(`${stream} line\n`),
          },
        ];
    if (query.follow && !signal.aborted)
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
  }
  attach: Engine["attach"] = async (id, wanted) => {
    this.inspect(id);
    const stdin = wanted.stdin ? new PassThrough() : null;
    const stdout = wanted.stdout ? new PassThrough() : null;
    // What is typed comes back.
    if (stdout !== null) stdin === null ? stdout.end("hello\n") : stdin.pipe(stdout);
    return { stdin, stdout, stderr: null, close: () => {} };
  };
  resize: Engine["resize"] = async (id, rows, columns) => {
    this.inspect(id);
    this.resized.push(`${rows}x${columns}`);
  };
  pause: Engine["pause"] = async (id) => this.#change(id, { Status: "paused" });
  searchImages: Engine["searchImages"] = async (_domain, term) => ({
    results: [
      { name: term, description: "the one", star_count: 7, is_official: true },
      { name: `me/${term}` },
    ],
  });
  unlink: Engine["unlink"] = async () => {};
  still: Engine["still"] = (_id, run) => run();
  unpause: Engine["unpause"] = async (id) => this.#change(id, { Status: "running" });
  rename: Engine["rename"] = async (id, name) => {
    const before = this.inspect(id);
    this.containers.set(before.id, { ...before, name });
  };
  readonly updates: Parameters<Engine["update"]>[1][] = [];
  update: Engine["update"] = async (_id, change) => void this.updates.push(change);
  pids: Engine["pids"] = async () => [process.pid];
  stats: Engine["stats"] = async () => null;
  bytes: Engine["bytes"] = async () => 4_096;
  withFiles: Engine["withFiles"] = async (id, run) => {
    this.inspect(id);
    return run(this.root);
  };
  /** Where the files of all containers are. */
  root = "/nonexistent";
  readonly localVolumes = new Map<string, VolumeObject>();
  volumes: Engine["volumes"] = async () => [...this.localVolumes.values()];
  createVolume: Engine["createVolume"] = async (spec) => {
    const name = spec.name || "f".repeat(64);
    const created = timestamp(Date.now());
    const labels = spec.name === "" ? { "com.docker.volume.anonymous": "" } : spec.labels;
    const driver = spec.driver || "local";
    if (driver !== "local")
      throw new SwarmError(
        "not_found",
        `error looking up volume plugin ${driver}: plugin "${driver}" not found`,
      );
    const mountpoint = `/volumes/${name}/_data`;
    const volume = { ...spec, name, driver, labels, created, mountpoint };
    this.localVolumes.set(name, volume);
    return volume;
  };
  removeVolume: Engine["removeVolume"] = async (name) => {
    if (!this.localVolumes.delete(name))
      throw new SwarmError("not_found", `get ${name}: no such volume`);
  };
  volumeBytes: Engine["volumeBytes"] = async () => 1_000;
  volumeScope: Engine["volumeScope"] = async () => "local";
  readonly localNetworks = new Map<string, LocalNetworkObject>();
  networks: Engine["networks"] = () => [...this.localNetworks.values()];
  createNetwork: Engine["createNetwork"] = async (spec) => {
    const id = Buffer.from(spec.name.padEnd(32, "\0")).toString("hex");
    const subnets = spec.subnets.map(({ subnet, gateway }) => ({
      ...{ cidr: subnet, prefix: Number(subnet.split("/")[1]), gateway },
    }));
    const created = timestamp(Date.now());
    const { isConfiguration = false, isIPv6 = false } = spec;
    const configuration = { isIPv6, subnets: spec.subnets };
    const more = isConfiguration ? { configuration, subnets: [] } : { subnets };
    this.localNetworks.set(id, { ...spec, id, created, ...more });
    return id;
  };
  removeNetwork: Engine["removeNetwork"] = async (id) => void this.localNetworks.delete(id);
  readonly connections: string[] = [];
  connect: Engine["connect"] = async (container, network, wish) =>
    void this.connections.push(`+${container} ${network} ${wish.aliases.join(",")}`);
  disconnect: Engine["disconnect"] = async (container, network, force) =>
    void this.connections.push(`-${container} ${network} ${force}`);
  createExec: Engine["createExec"] = async (id, config) => {
    const container = this.inspect(id);
    const state: ExecState = {
      id: `e${this.execs.size}`.padEnd(64, "0"),
      containerId: container.id,
      config,
      running: false,
      exitCode: null,
      pid: 0,
    };
    this.execs.set(state.id, state);
    return state.id;
  };
  /** Runs the command here: a shell is a shell. */
  startExec: Engine["startExec"] = async (execId) => {
    const state = this.inspectExec(execId);
    const [program = "true", ...args] = state.config.cmd;
    if (program.startsWith("no-such")) {
      this.execs.set(execId, { ...state, exitCode: 127 });
      throw new SwarmError("invalid", `exec: "${program}": executable file not found in $PATH`);
    }
    const wanted: ExecConfig = state.config;
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
    this.execs.set(execId, { ...state, running: true, pid: child.pid ?? 0 });
    if (!wanted.attachStdin) child.stdin.end();
    const stdout = new PassThrough();
    child.stdout.pipe(stdout, { end: !wanted.tty });
    if (wanted.tty) child.stderr.pipe(stdout, { end: false });
    const exited = new Promise<number>((resolve) =>
      child.once("close", (code) => {
        this.execs.set(execId, { ...state, running: false, exitCode: code ?? 137 });
        if (wanted.tty) stdout.end();
        resolve(code ?? 137);
      }),
    );
    return {
      stdin: wanted.attachStdin ? child.stdin : null,
      stdout,
      stderr: wanted.tty ? null : child.stderr,
      exited,
    };
  };
  resizeExec: Engine["resizeExec"] = async (execId, rows, columns) => {
    this.inspectExec(execId);
    this.resized.push(`${rows}x${columns}`);
  };
  execsOf: Engine["execsOf"] = (id) =>
    [...this.execs.values()]
      .filter(({ containerId, exitCode }) => containerId === id && exitCode === null)
      .map((state) => state.id);
  inspectExec(execId: string): ExecState {
    const state = this.execs.get(execId);
    if (state === undefined) throw new SwarmError("not_found", `No such exec instance: ${execId}`);
    return state;
  }
  events: Engine["events"] = (signal) => {
    const queue = new Queue<ContainerEvent>(100, signal);
    this.watchers.add(queue);
    return queue;
  };
  objectEvents: Engine["objectEvents"] = (signal) => new Queue<ObjectEvent>(100, signal);
  tell: Engine["tell"] = () => {};
  info: Engine["info"] = () => ({
    containers: this.containers.size,
    running: this.containers.size,
    paused: 0,
    stopped: 0,
    images: 1,
    containerdVersion: "1.6.20",
    runcVersion: "1.1.5",
    ociRuntimes: chooseRuntimes({ crunVersion: "1.8.1", cgroups: "v1" }, {}, ""),
    canWeighIo: false,
  });
}
