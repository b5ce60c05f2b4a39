// The agent: opens everything a node needs, in order, and closes it in reverse.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import type { DaemonConfig } from "../proto/config.ts";
import { asSwarmError, messageOf, SwarmError } from "../proto/kit/errors.ts";
import { KeeperClient } from "../proto/kit/keeper-client.ts";
import { LastLines, type Log, openLog } from "../proto/kit/log.ts";
import { Scope } from "../proto/kit/scope.ts";
import { version } from "../proto/kit/version.ts";
import { realWorld } from "../proto/kit/world.ts";
import { openApi } from "./api/server.ts";
import { openBuilder } from "./build/builder.ts";
import type { Builder } from "./build/request.ts";
import { BuildKit } from "./buildkit/buildkit.ts";
import { checkMachine } from "./checks.ts";
import { ImageCollector } from "./collector.ts";
import { genericResourcesOf } from "./description.ts";
import { NodeDoctor } from "./doctor.ts";
import { type OpenEngine, openEngine } from "./engine/engine.ts";
import { logDefaults, logSettings } from "./engine/log-limits.ts";
import { ownPlatform } from "./engine/manifest.ts";
import { NodeMembership } from "./membership.ts";
import { openMetricsDoor } from "./metrics/door.ts";
import { measured } from "./metrics/measured.ts";
import type { NodeMetrics, NodeMetricsParts } from "./metrics/node-metrics.ts";
import { KernelNetwork } from "./network/network.ts";
import { nodePages } from "./report/node-report.ts";
import { Recent } from "./report/recent.ts";
import { report } from "./report/report.ts";
import { openContainerd } from "./runtime/containerd.ts";
import type { Runtime } from "./runtime/types.ts";

const socketMsMax = 3_000;
const socketRetryMs = 50;
/** Nine times V8's own: an agent works in short bursts, and spent a quarter of them on optimizing code that was over by then. */
const optimizeLate = "--interrupt-budget=600000";
const dockerSocket = "unix:///var/run/docker.sock";

/**
 * Runs until `signal` aborts. Containers go on. Where the machine lacks something, the keeper is told and ends the
 * daemon with that sentence; without a keeper, or when the agent has run before, the sentence is thrown.
 */
export async function runAgent(config: DaemonConfig, signal: AbortSignal): Promise<void> {
  setFlagsFromString(optimizeLate);
  const lines = new LastLines();
  const log = openLog("agent", config["log-level"], lines);
  const keeper = new KeeperClient(join(config["exec-root"], "keeper.sock"), log);
  try {
    const runtime = await Promise.race([prepare(config, signal), untilAborted(signal)]);
    if (runtime !== undefined) await serve(config, runtime, keeper, { log, lines }, signal);
  } catch (error) {
    // A socket that somebody else listens at is no better than a machine that lacks something.
    if (!["unsupported", "conflict", "invalid"].includes(asSwarmError(error).code)) throw error;
    await keeper.ask({ do: "cannotRun", reason: messageOf(error) }).catch(() => {
      throw error;
    });
    await untilAborted(signal);
  } finally {
    keeper.close();
  }
}

/** Throws `unsupported` where the daemon's own log options are none of its log driver's. */
function checkLogs(config: DaemonConfig): void {
  try {
    const { driver, options } = logDefaults(config);
    logSettings(driver, options);
  } catch (error) {
    throw new SwarmError("unsupported", `log-opts: ${messageOf(error)}`, { cause: error });
  }
}

/** Throws `unsupported` with a sentence about the first thing that is missing. */
async function prepare(config: DaemonConfig, signal: AbortSignal): Promise<Runtime> {
  await checkMachine();
  checkLogs(config);
  try {
    await untilThere(config.containerd, signal);
    return await openContainerd({
      address: config.containerd,
      namespace: config["containerd-namespace"],
    });
  } catch (error) {
    throw new SwarmError("unsupported", messageOf(error), { cause: error });
  }
}

/** A machine that starts may start us first. Throws `unavailable`. */
async function untilThere(socket: string, signal: AbortSignal): Promise<void> {
  const deadline = realWorld.monotonic() + socketMsMax;
  while (!existsSync(socket)) {
    if (realWorld.monotonic() > deadline)
      throw new SwarmError(
        "unavailable",
        `containerd does not answer at ${socket}: is it installed and running? (on Debian: apt install containerd)`,
      );
    await realWorld.sleep(socketRetryMs, signal);
  }
}

async function serve(
  config: DaemonConfig,
  runtime: Runtime,
  keeper: KeeperClient,
  { log, lines }: { readonly log: Log; readonly lines: LastLines },
  signal: AbortSignal,
): Promise<void> {
  await using scope = new Scope("agent");
  scope.defer(() => runtime.close());
  const network = new KernelNetwork({
    execRoot: config["exec-root"],
    keeper,
    log,
    world: realWorld,
    mtu: config.mtu,
  });
  scope.defer(() => network.close());
  const opened = await openEngine({ runtime, keeper, network, config, world: realWorld, log });
  scope.defer(() => opened.close());
  const metrics =
    config["metrics-addr"] === ""
      ? null
      : await openMetrics(config, {
          ...{ engine: opened, network, keeper },
          node: () => membership.view(),
        });
  const engine = metrics === null ? opened : measured(opened, metrics);
  const collector = await ImageCollector.open({ engine, config, world: realWorld, log });
  scope.spawn("images", (stop) => collector.run(stop));
  const membership = new NodeMembership({
    config,
    keeper,
    engine,
    network,
    collector,
    world: realWorld,
    log,
  });
  scope.defer(() => membership.close());
  await membership.resume();
  const recent = new Recent();
  scope.spawn("recent events", (stop) => recent.follow(engine, { world: realWorld, log }, stop));
  const doctor = new NodeDoctor(network, () => membership.local());
  const pages = nodePages({
    ...{ config, engine, keeper, recent, lines },
    examine: (stop) => doctor.examine({ repair: false }, stop),
    node: () => membership.view(),
    manager: () => membership.managerMetrics(),
    control: () => membership.control(),
  });
  const hosts = config["docker-socket"] ? [...config.hosts, dockerSocket] : config.hosts;
  const api = await openApi(
    {
      engine,
      builder: await openNodeBuilder(engine, config["data-root"]),
      buildKit: new BuildKit(join(config["data-root"], "build-cache/contexts"), realWorld.now),
      membership,
      doctor,
      report: (stop) => report(pages, realWorld, stop),
      control: () => membership.control(),
      tunnel: (nodeId) => membership.tunnel(nodeId),
      log,
      version,
      dataRoot: config["data-root"],
      labels: config.labels,
      genericResources: genericResourcesOf(config),
      logs: logDefaults(config),
      imageCollection: () => collector.state(),
      insecureRegistries: config["insecure-registries"],
      registryMirrors: config["registry-mirrors"],
    },
    hosts,
    scope.signal,
    config.tlsverify
      ? { ca: config.tlscacert, certificate: config.tlscert, key: config.tlskey }
      : null,
  );
  scope.defer(() => api.close());
  if (metrics !== null) {
    const door = await openMetricsDoor(config["metrics-addr"], async () => {
      const beside = await managerText(membership);
      return `${await metrics.text()}${beside}`;
    });
    scope.defer(() => door.close());
    scope.spawn("metrics", (stop) => metrics.follow(engine, { world: realWorld, log }, stop));
  }
  membership.serveTunnels((stream) => api.serve(stream));
  log.info({ version, pid: process.pid }, "agent started");
  await Promise.race([untilAborted(signal), membership.broken]);
  log.info({ reason: messageOf(signal.reason) }, "agent stopping");
}

/** The library is loaded only where somebody asks for what it counts. */
async function openMetrics(
  config: DaemonConfig,
  parts: Omit<NodeMetricsParts, "namespaces">,
): Promise<NodeMetrics> {
  const { NodeMetrics } = await import("./metrics/node-metrics.ts");
  return new NodeMetrics({ ...parts, namespaces: join(config["exec-root"], "netns") });
}

/** "" on a worker. */
async function managerText(membership: NodeMembership): Promise<string> {
  const up = (value: 0 | 1) =>
    `# HELP tsswarm_manager_up Whether the manager on this node answers\n# TYPE tsswarm_manager_up gauge\ntsswarm_manager_up ${value}\n`;
  return membership.managerMetrics().then(
    (measures) => (measures === null ? "" : `${up(1)}${measures.Text}`),
    () => up(0),
  );
}

async function openNodeBuilder(engine: OpenEngine, dataRoot: string): Promise<Builder> {
  const { os, architecture } = ownPlatform(process.arch);
  return openBuilder({
    ...{ engine, ...engine.ground },
    caches: join(dataRoot, "build-cache"),
    platform: `${os}/${architecture}`,
    now: () => realWorld.now(),
  });
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
