// Puts the engine together: images, containers, execs, health checks and logs over one runtime and one keeper.

import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { DaemonConfig } from "../../proto/config.ts";
import { messageOf } from "../../proto/kit/errors.ts";
import type { Keeper } from "../../proto/kit/keeper.ts";
import type { Log } from "../../proto/kit/log.ts";
import { parseReference } from "../../proto/kit/reference.ts";
import { Scope } from "../../proto/kit/scope.ts";
import type { World } from "../../proto/kit/world.ts";
import { loadAppArmorProfile } from "../runtime/apparmor.ts";
import { type HostFacts, missingFacts, readHostFacts } from "../runtime/host.ts";
import type { Runtime } from "../runtime/types.ts";
import { Containers } from "./containers.ts";
import { describeDistribution } from "./distribution.ts";
import { Execs } from "./execs.ts";
import { runHealthChecks } from "./health.ts";
import { Hub } from "./hub.ts";
import { Images } from "./images.ts";
import { openLibc } from "./libc.ts";
import { readLogs } from "./logs.ts";
import { Volumes } from "./mounts.ts";
import { Puller } from "./pull.ts";
import { Records } from "./records.ts";
import { Registry, type RegistryOptions } from "./registry.ts";
import type { Engine } from "./types.ts";

export interface EngineParts {
  readonly runtime: Runtime;
  readonly keeper: Keeper;
  readonly config: DaemonConfig;
  readonly world: World;
  readonly log: Log;
}

/** An engine that can be closed. Containers go on; the next engine adopts them. */
export interface OpenEngine extends Engine {
  close(): Promise<void>;
}

const run = promisify(execFile);
const versionMsMax = 5_000;

/** Adopts what runs. Throws `unavailable` when containerd is not there. */
export async function openEngine(parts: EngineParts): Promise<OpenEngine> {
  const { runtime, keeper, config, world, log } = parts;
  const dataRoot = config["data-root"];
  const execRoot = config["exec-root"];
  await mkdir(join(execRoot, "fifo"), { recursive: true, mode: 0o700 });
  const host = await examineHost(log);
  const libc = openLibc();
  const scope = new Scope("engine");
  const hub = new Hub(world);
  const images = new Images(runtime);
  const records = new Records(dataRoot, log);
  const volumes = new Volumes(dataRoot);
  const registries: RegistryOptions = {
    insecure: config["insecure-registries"],
    mirrors: config["registry-mirrors"],
    world,
  };
  const puller = new Puller(runtime, images, registries);
  const containers: Containers = new Containers({
    runtime,
    images,
    records,
    volumes,
    host,
    libc,
    config,
    world,
    log,
    keeper,
    hub,
    scope,
    logBytesMax: parseSize(config["log-opts"]["max-size"]),
    logFilesMax: Number(config["log-opts"]["max-file"]),
    onRunning: (id, signal) =>
      scope.spawn(`health ${id}`, async (closing) => {
        const stop = AbortSignal.any([signal, closing]);
        const show = (health: Parameters<Containers["setHealth"]>[1]) =>
          containers.setHealth(id, health);
        await runHealthChecks(containers.find(id), execs, show, world, stop).catch(
          (error: unknown) => {
            if (!stop.aborted) log.error({ container: id, error: messageOf(error) }, "no health");
          },
        );
      }),
  });
  const execs = new Execs({ runtime, containers, hub, libc, host, execRoot, world });
  const versions = await readVersions(runtime);
  await images.all();
  await runtime.dropLeases("pull");
  await containers.adopt();
  keeper.onReconnect(() => {
    if (scope.signal.aborted) return;
    containers
      .reopenLogs()
      .catch((error: unknown) => log.error({ error: messageOf(error) }, "logs are not followed"));
  });
  scope.spawn("runtime events", async (signal) => {
    for await (const event of runtime.events(signal))
      if (event.kind === "oom") await containers.noteOutOfMemory(event.id);
  });
  return {
    pull: (reference, auth, progress, signal) => puller.pull(reference, auth, progress, signal),
    images: () => images.summaries(),
    inspectImage: (reference) => images.inspect(reference),
    removeImage: (reference, force) =>
      images.remove(reference, force, (id) => containers.list().some((c) => c.imageId === id)),
    distribution: (reference, auth, signal) =>
      describeDistribution(parseReference(reference), new Registry(registries, auth), signal),
    create: (container, signal) => containers.create(container, signal),
    start: (id) => containers.start(id),
    stop: (id, graceMs, signal) => containers.stop(id, graceMs, signal),
    kill: (id, signalName) => containers.kill(id, signalName),
    remove: async (id, options) => {
      const record = containers.find(id);
      await containers.remove(id, options);
      execs.forget(record.id);
    },
    list: () => containers.list(),
    inspect: (id) => containers.find(id),
    wait: (id, signal) => containers.wait(id, signal),
    logs: (id, query, signal) => {
      const record = containers.find(id);
      const ended = containers.wait(record.id, signal);
      ended.catch(() => {});
      return readLogs(records.logs(record.id), query, ended, signal);
    },
    createExec: async (id, exec) => execs.create(id, exec),
    startExec: (execId, signal) => execs.start(execId, signal),
    resizeExec: (execId, rows, columns) => execs.resize(execId, rows, columns),
    inspectExec: (execId) => execs.inspect(execId),
    events: (signal) => hub.listen(AbortSignal.any([signal, scope.signal])),
    info: () => {
      const states = containers.list().map((container) => container.state.Status);
      const running = states.filter((status) => status === "running").length;
      const paused = states.filter((status) => status === "paused").length;
      return {
        containers: states.length,
        running,
        paused,
        stopped: states.length - running - paused,
        images: images.count,
        ...versions,
      };
    },
    close: () => scope.close(),
  };
}

async function examineHost(log: Log): Promise<HostFacts> {
  const facts = await readHostFacts();
  for (const missing of missingFacts(facts)) log.warn(missing);
  if (!facts.hasAppArmor) return facts;
  const problem = await loadAppArmorProfile();
  if (problem !== null) log.warn(problem);
  return { ...facts, hasAppArmorProfile: problem === null };
}

/** `10m`, `512k`, `1g`, or bytes. */
export function parseSize(text: string): number {
  const [, digits = "0", unit = ""] = /^(\d+)([kmg]?)$/i.exec(text) ?? [];
  const powers: Readonly<Record<string, number>> = { "": 0, k: 1, m: 2, g: 3 };
  return Number(digits) * 1024 ** (powers[unit.toLowerCase()] ?? 0);
}

async function readVersions(
  runtime: Runtime,
): Promise<{ readonly containerdVersion: string; readonly runcVersion: string }> {
  const runc = await run("runc", ["--version"], { timeout: versionMsMax }).then(
    ({ stdout }) => /version (\S+)/.exec(stdout)?.[1] ?? "",
    () => "",
  );
  return { containerdVersion: await runtime.version(), runcVersion: runc };
}
