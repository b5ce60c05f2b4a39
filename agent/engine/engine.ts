// Puts the engine together: images, containers, execs, health checks and logs over one runtime and one keeper.

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { DaemonConfig } from "../../proto/config.ts";
import { messageOf } from "../../proto/kit/errors.ts";
import type { Keeper } from "../../proto/kit/keeper.ts";
import type { Log } from "../../proto/kit/log.ts";
import { parseReference } from "../../proto/kit/reference.ts";
import { Scope } from "../../proto/kit/scope.ts";
import { timestamp, type World } from "../../proto/kit/world.ts";
import { loadAppArmorProfile } from "../runtime/apparmor.ts";
import { type HostFacts, missingFacts, readHostFacts } from "../runtime/host.ts";
import { chooseRuntimes, programVersion, readOciFacts } from "../runtime/oci-runtimes.ts";
import type { Runtime } from "../runtime/types.ts";
import { Attachments } from "./attach.ts";
import { cgroupPath } from "./cgroup.ts";
import { listChanges } from "./changes.ts";
import { readOnly } from "./commit.ts";
import { ContainerHub } from "./container-hub.ts";
import { Containers } from "./containers.ts";
import { describeDistribution } from "./distribution.ts";
import { Execs } from "./execs.ts";
import { runHealthChecks } from "./health.ts";
import { Hub } from "./hub.ts";
import { inspectImage } from "./image-inspect.ts";
import { ImageOperations } from "./image-operations.ts";
import { Images } from "./images.ts";
import { readJournal } from "./journal-logs.ts";
import { type Libc, openLibc } from "./libc.ts";
import { LocalNetworks, networkType } from "./local-networks.ts";
import { Locals } from "./locals.ts";
import { checkReadable } from "./log-limits.ts";
import { readLogs } from "./logs.ts";
import { memoryFolder, openMemory } from "./memory.ts";
import { Operations } from "./operations.ts";
import type { OverlayDoor } from "./overlay.ts";
import { OwnUsers } from "./own-user.ts";
import { Puller } from "./pull.ts";
import { Pusher } from "./push.ts";
import { Records } from "./records.ts";
import { Registry, type RegistryOptions } from "./registry.ts";
import { endLooks, withRootfs } from "./rootfs.ts";
import { readStats } from "./stats.ts";
import type { Engine, ObjectEvent } from "./types.ts";
import { Volumes } from "./volumes.ts";
import { Wiring, type WiringParts } from "./wiring.ts";

export interface EngineParts {
  readonly runtime: Runtime;
  readonly keeper: Keeper;
  /** For containers made by hand; tasks bring their own namespace. Absent: there are none but on the host's network. */
  readonly network?: WiringParts["network"];
  readonly config: DaemonConfig;
  readonly world: World;
  readonly log: Log;
}

/** An engine that can be closed. Containers go on; the next engine adopts them. */
export interface OpenEngine extends Engine {
  /** The way to the swarm's networks for containers made by hand; null: none. */
  attachThrough(door: OverlayDoor | null): void;
  /** Whether tasks' containers are known by the disk, or by memory alone: then a reboot leaves nothing of them. */
  keepTasks(place: "disk" | "memory"): Promise<void>;
  /** What builds are made on. */
  readonly ground: {
    readonly runtime: Runtime;
    readonly images: Images;
    readonly libc: Libc;
    readonly scratch: string;
    readonly memory: string;
  };
  close(): Promise<void>;
}

/** What an agent that died may have left in the middle. */
const leasePurposes = ["pull", "load", "import", "commit", "build"];

/** Adopts what runs. Throws `unavailable` when containerd is not there. */
export async function openEngine(parts: EngineParts): Promise<OpenEngine> {
  const { runtime, keeper, config, world, log } = parts;
  const dataRoot = config["data-root"];
  const execRoot = config["exec-root"];
  await mkdir(join(execRoot, "fifo"), { recursive: true, mode: 0o700 });
  const [host, oci] = await Promise.all([examineHost(log), readOciFacts()]);
  const ociRuntimes = chooseRuntimes(oci, config.runtimes, config["default-runtime"]);
  const libc = openLibc();
  const scope = new Scope("engine");
  const hub = new ContainerHub(world);
  const objects = new Hub<ObjectEvent>();
  const tell: Engine["tell"] = (event) => objects.emit({ ...event, time: timestamp(world.now()) });
  const images = new Images(runtime);
  const memory = memoryFolder(execRoot);
  await openMemory(memory, libc, log);
  const records = new Records(dataRoot, memory, log);
  const volumes = new Volumes(dataRoot, libc);
  await volumes.settle();
  const registries: RegistryOptions = {
    insecure: config["insecure-registries"],
    mirrors: config["registry-mirrors"],
    world,
  };
  const networks = new LocalNetworks(dataRoot, world);
  await networks.load();
  await rm(join(execRoot, "attach"), { recursive: true, force: true });
  const attachments = new Attachments({ runtime, keeper, libc, execRoot });
  const wiring = new Wiring({
    network: parts.network ?? null,
    networks,
    records,
    list: () => containers.list(),
    tell: ({ action, network, name, container }) =>
      tell({ kind: "network", action, id: network, attributes: { name, container } }),
  });
  for (const [network, error] of await wiring.announce())
    log.warn({ network, error: messageOf(error) }, "the network cannot be used yet");
  const locals = new Locals({
    ...{ wiring, runtime, libc, execRoot, scope, world, log },
    containers: () => containers,
  });
  const imageWork = new ImageOperations({
    ...{ runtime, images, registries, world, dataRoot, hub: objects },
    puller: new Puller(runtime, images, registries),
    pusher: new Pusher(runtime, images, registries),
    containers: () => containers.list(),
  });
  // Before it goes: nothing may delete into an image that a killed engine had mounted there.
  await endLooks(libc, imageWork.scratch);
  await rm(imageWork.scratch, { recursive: true, force: true });
  const containers: Containers = new Containers({
    runtime,
    images,
    records,
    volumes,
    users: new OwnUsers({ libc, records, runtime }),
    host,
    ociRuntimes,
    libc,
    config,
    world,
    log,
    keeper,
    hub,
    scope,
    attachments,
    local: locals,
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
  const operations = new Operations({
    ...{ runtime, containers, records, libc, hub, wiring, networks, volumes, host },
  });
  const execs = new Execs({ runtime, containers, hub, libc, host, execRoot, world });
  const versions = await readVersions(runtime);
  await images.all();
  for (const purpose of leasePurposes) await runtime.dropLeases(purpose);
  await containers.adopt();
  await locals.revive();
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
    pull: imageWork.pull,
    searchImages: (domain, term, limit, auth, signal) =>
      new Registry(registries, auth).search(domain, term, limit, signal),
    remoteTags: imageWork.remoteTags,
    pushImage: imageWork.push,
    saveImages: imageWork.save,
    loadImages: imageWork.load,
    importImage: imageWork.import,
    commit: async (id, wanted, signal) => {
      const record = containers.find(id);
      const commit = () => imageWork.commit(record, wanted, signal);
      const image = await (wanted.isPaused ? operations.still(record.id, commit) : commit());
      hub.emit("commit", containers.findOr(record));
      return image;
    },
    withLayers: async (id, run) => {
      const record = containers.find(id);
      const mounts = readOnly(await runtime.snapshotMounts(record.id));
      hub.emit("export", record);
      return withRootfs(libc, records.path(record.id), mounts, run);
    },
    ground: { runtime, images, libc, memory, scratch: imageWork.scratch },
    images: () => images.summaries(),
    inspectImage: (reference) => inspectImage(images, reference),
    removeImage: imageWork.remove,
    tagImage: imageWork.tag,
    imageHistory: (reference) => images.history(reference),
    checkLogin: (domain, auth, signal) => new Registry(registries, auth).login(domain, signal),
    distribution: (reference, auth, signal) =>
      describeDistribution(parseReference(reference), new Registry(registries, auth), signal),
    create: (container, signal) => containers.create(container, signal),
    start: (id) => locals.start(id),
    stop: async (id, graceMs, signal) => {
      await locals.noteStopped(id);
      const record = containers.find(id);
      if (record.state.Status === "paused") await operations.unpause(record.id);
      if (record.state.Pid === 0) return;
      await containers.stop(record.id, graceMs, signal);
      hub.emit("stop", containers.findOr(record));
    },
    kill: async (id, signalName) => {
      const record = containers.find(id);
      const ends = ["SIGKILL", "9", record.config.StopSignal ?? "SIGTERM"];
      if (record.state.Pid !== 0 && ends.includes(signalName)) await locals.noteStopped(record.id);
      await containers.kill(record.id, signalName);
      hub.emit("kill", record);
      if (record.state.Status === "paused" && ends.slice(0, 2).includes(signalName))
        await runtime.resume(record.id).catch(() => {});
    },
    remove: async (id, options) => {
      const record = containers.find(id);
      if (options.force) {
        await locals.noteStopped(record.id);
        if (containers.find(id).state.Status === "paused") await operations.unpause(record.id);
      }
      await containers.remove(id, options);
      execs.forget(record.id);
    },
    list: () => containers.list(),
    inspect: (id) => containers.find(id),
    wait: (id, signal, condition) =>
      containers.wait(id, AbortSignal.any([signal, scope.signal]), condition),
    attach: async (id, wanted) => {
      const record = containers.find(id);
      const streams = await attachments.open(record, wanted, record.state.Pid !== 0);
      hub.emit("attach", record);
      return streams;
    },
    resize: (id, rows, columns) => operations.resize(id, rows, columns),
    pause: (id) => operations.pause(id),
    unpause: (id) => operations.unpause(id),
    unlink: (id, alias) => locals.unlink(id, alias),
    still: (id, run) => operations.still(id, run),
    rename: (id, name) => containers.rename(id, name),
    update: (id, change) => operations.update(id, change),
    pids: (id) => operations.pids(id),
    stats: async (id) => {
      const { id: full, host: limits, state } = containers.find(id);
      if (state.Pid === 0) return null;
      return readStats(cgroupPath(limits, config, full), state.Pid);
    },
    bytes: (id) => runtime.snapshotBytes(containers.find(id).id),
    changes: async (id) => listChanges(await runtime.snapshotMounts(containers.find(id).id)),
    withFiles: (id, run) => operations.withFiles(id, run),
    volumes: () => volumes.list(),
    createVolume: async (spec) => {
      const made = await volumes.create(spec);
      const attributes = { driver: made.driver };
      tell({ kind: "volume", action: "create", id: made.name, attributes });
      return made;
    },
    removeVolume: async (name, force) => {
      const driver = (await volumes.find(name))?.driver ?? "local";
      await operations.removeVolume(name, force);
      tell({ kind: "volume", action: "destroy", id: name, attributes: { driver } });
    },
    withVolume: (name, run) => operations.withVolume(name, run),
    replaceVolume: (name, unpack) => operations.replaceVolume(name, unpack),
    volumeBytes: (name) => volumes.bytes(name),
    volumeScope: (driver) => volumes.scope(driver),
    networks: () => networks.list(),
    createNetwork: async (spec) => {
      const id = await operations.createNetwork(spec);
      const attributes = { name: spec.name, type: networkType(networks.find(id)) };
      tell({ kind: "network", action: "create", id, attributes });
      return id;
    },
    removeNetwork: async (text) => {
      const network = networks.find(text);
      const { id, name } = network ?? { id: text, name: text };
      await operations.removeNetwork(text);
      const attributes = { name, type: networkType(network) };
      tell({ kind: "network", action: "destroy", id, attributes });
    },
    connect: async (container, network, wish) => {
      await operations.connect(container, network, wish);
      const { id } = containers.find(container);
      const attributes = { name: network, container: id };
      tell({
        kind: "network",
        action: "connect",
        id: networks.find(network)?.id ?? network,
        attributes,
      });
    },
    disconnect: async (container, network, force) => {
      await operations.disconnect(container, network, force);
      const attributes = { name: network, container };
      const id = networks.find(network)?.id ?? network;
      tell({ kind: "network", action: "disconnect", id, attributes });
    },
    attachThrough: (door) => wiring.attachThrough(door),
    keepTasks: (place) => containers.keepTasks(place),
    logs: (id, query, signal) => {
      const record = containers.find(id);
      checkReadable(record.host);
      const ended = containers.wait(record.id, signal);
      ended.catch(() => {});
      if (record.host.LogDriver === "journald") return readJournal(record.id, query, ended, signal);
      return readLogs(records.logs(record.id), query, ended, signal);
    },
    createExec: async (id, exec) => execs.create(id, exec),
    startExec: (execId, signal) => execs.start(execId, signal),
    resizeExec: (execId, rows, columns) => execs.resize(execId, rows, columns),
    inspectExec: (execId) => execs.inspect(execId),
    execsOf: (id) => execs.of(containers.find(id).id),
    events: (signal) => hub.listen(AbortSignal.any([signal, scope.signal])),
    tell,
    objectEvents: (signal) => objects.listen(AbortSignal.any([signal, scope.signal])),
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
        ociRuntimes,
        canWeighIo: host.canWeighIo,
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

async function readVersions(
  runtime: Runtime,
): Promise<{ readonly containerdVersion: string; readonly runcVersion: string }> {
  return { containerdVersion: await runtime.version(), runcVersion: await programVersion("runc") };
}
