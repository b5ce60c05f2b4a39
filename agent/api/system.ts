// /_ping, /version, /info: who answers here, and what it can do.

import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { arch, cpus, hostname, release, totalmem } from "node:os";
import type { FastifyInstance, FastifyReply } from "fastify";
import { logDrivers } from "../../proto/config.ts";
import { messageOf } from "../../proto/kit/errors.ts";
import { timestamp } from "../../proto/kit/world.ts";
import { clusterJson, type Json } from "./adapt.ts";
import { listRequest, readerOf } from "./control.ts";
import { diskUsage } from "./disk-usage.ts";
import { Query } from "./request.ts";
import type { ApiContext, LocalNode } from "./types.ts";
import { apiVersion, apiVersionMin } from "./versions.ts";

const clusterMsMax = 3_000;

export function addSystem(app: FastifyInstance, context: ApiContext): void {
  const ping = (reply: FastifyReply) =>
    reply
      .headers({
        "Builder-Version": "1",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        Pragma: "no-cache",
        Swarm: swarmHeader(context.membership.local()),
      })
      .type("text/plain; charset=utf-8");
  app.get("/_ping", { exposeHeadRoute: false }, async (_request, reply) => ping(reply).send("OK"));
  app.head("/_ping", async (_request, reply) => ping(reply).header("Content-Length", "0").send());
  app.get("/version", async () => version(context));
  app.get("/info", async (_request, reply) => info(context, reply));
  app.get("/system/df", async (request) => diskUsage(context, new Query(request).texts("type")));
}

function swarmHeader({ state, isManager }: LocalNode): string {
  if (state !== "active") return state;
  return isManager ? "active/manager" : "active/worker";
}

function version(context: ApiContext): Json {
  const { containerdVersion, runcVersion } = context.engine.info();
  const own = {
    ApiVersion: apiVersion,
    MinAPIVersion: apiVersionMin,
    Arch: goArchitecture(),
    BuildTime: "",
    Experimental: "false",
    GitCommit: "",
    GoVersion: "",
    KernelVersion: release(),
    Os: "linux",
  };
  return {
    Platform: { Name: "tsswarm" },
    Version: context.version,
    ...own,
    Experimental: false,
    Components: [
      { Name: "Engine", Version: context.version, Details: own },
      { Name: "containerd", Version: containerdVersion, Details: {} },
      { Name: "runc", Version: runcVersion, Details: {} },
    ],
  };
}

async function info(context: ApiContext, reply: FastifyReply): Promise<Json> {
  const engine = context.engine.info();
  return {
    ID: engineId(context),
    Containers: engine.containers,
    ContainersRunning: engine.running,
    ContainersPaused: engine.paused,
    ContainersStopped: engine.stopped,
    Images: engine.images,
    Driver: "overlayfs",
    DriverStatus: [["driver-type", "io.containerd.snapshotter.v1"]],
    Plugins: {
      Volume: ["local"],
      Network: ["bridge", "host", "ipvlan", "macvlan", "null", "overlay"],
      Authorization: null,
      Log: logDrivers,
    },
    ...kernelAbilities,
    NFd: 0,
    NGoroutines: 0,
    NEventsListener: 0,
    SystemTime: timestamp(Date.now()),
    LoggingDriver: context.logs.driver,
    CgroupDriver: "cgroupfs",
    CgroupVersion: existsSync("/sys/fs/cgroup/cgroup.controllers") ? "2" : "1",
    KernelVersion: release(),
    ...operatingSystem(),
    OSType: "linux",
    Architecture: machine(),
    NCPU: cpus().length,
    MemTotal: totalmem(),
    IndexServerAddress: "https://index.docker.io/v1/",
    RegistryConfig: registryConfig(context),
    GenericResources: context.genericResources.length === 0 ? null : context.genericResources,
    DockerRootDir: context.dataRoot,
    HttpProxy: "",
    HttpsProxy: "",
    NoProxy: "",
    Name: hostname(),
    Labels: context.labels,
    ExperimentalBuild: false,
    ServerVersion: context.version,
    Runtimes: Object.fromEntries(
      Object.values(engine.ociRuntimes.known).map(({ name, shim, path }) => [
        name,
        path === "" ? { runtimeType: shim } : { path },
      ]),
    ),
    DefaultRuntime: engine.ociRuntimes.byDefault,
    Swarm: await swarmInfo(context, reply),
    LiveRestoreEnabled: true,
    Isolation: "",
    InitBinary: "",
    ContainerdCommit: { ID: engine.containerdVersion },
    RuncCommit: { ID: engine.runcVersion },
    InitCommit: { ID: "" },
    SecurityOptions: securityOptions(),
    Warnings: null,
  };
}

const kernelAbilities = {
  MemoryLimit: true,
  SwapLimit: true,
  CpuCfsPeriod: true,
  CpuCfsQuota: true,
  CPUShares: true,
  CPUSet: true,
  PidsLimit: true,
  IPv4Forwarding: true,
  OomKillDisable: false,
  Debug: false,
};

/** Stable for a machine and data folder. */
function engineId(context: ApiContext): string {
  const facts = [readText("/etc/machine-id"), hostname(), context.dataRoot];
  const hash = createHash("sha256").update(facts.join("\0")).digest("hex");
  return hash.slice(0, 32).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}

function operatingSystem(): { OperatingSystem: string; OSVersion: string } {
  const text = readText("/etc/os-release");
  const value = (key: string) => new RegExp(`^${key}="?([^"\n]*)"?$`, "m").exec(text)?.[1] ?? "";
  return { OperatingSystem: value("PRETTY_NAME") || "Linux", OSVersion: value("VERSION_ID") };
}

function machine(): string {
  const names: Readonly<Record<string, string>> = { x64: "x86_64", arm64: "aarch64" };
  return names[arch()] ?? arch();
}

function goArchitecture(): string {
  return arch() === "x64" ? "amd64" : arch();
}

function registryConfig(context: ApiContext): Json {
  const insecure = context.insecureRegistries.map((name) => [
    name,
    { Name: name, Mirrors: [], Secure: false, Official: false },
  ]);
  return {
    AllowNondistributableArtifactsCIDRs: null,
    AllowNondistributableArtifactsHostnames: null,
    InsecureRegistryCIDRs: ["127.0.0.0/8"],
    IndexConfigs: {
      "docker.io": {
        Name: "docker.io",
        Mirrors: context.registryMirrors,
        Secure: true,
        Official: true,
      },
      ...Object.fromEntries(insecure),
    },
    Mirrors: context.registryMirrors,
  };
}

function securityOptions(): string[] {
  const appArmor = readText("/sys/module/apparmor/parameters/enabled") === "Y";
  return [...(appArmor ? ["name=apparmor"] : []), "name=seccomp,profile=builtin"];
}

async function swarmInfo(context: ApiContext, reply: FastifyReply): Promise<Json> {
  const local = context.membership.local();
  const base = {
    NodeID: local.nodeId,
    NodeAddr: local.nodeAddr,
    LocalNodeState: local.state,
    ControlAvailable: local.state === "active" && local.isManager,
    Error: local.error,
    RemoteManagers: local.managers.length === 0 ? null : local.managers,
  };
  if (!base.ControlAvailable) return base;
  try {
    const reader = readerOf(context, reply);
    const [cluster, nodes] = await Promise.all([
      reader.unary("GetCluster", {}, { timeoutMs: clusterMsMax }),
      reader.unary("ListNodes", listRequest({}), { timeoutMs: clusterMsMax }),
    ]);
    return {
      ...base,
      Nodes: nodes.Items.length,
      Managers: nodes.Items.filter((node) => node.ManagerStatus !== undefined).length,
      Cluster: clusterJson(cluster, false),
    };
  } catch (error) {
    return { ...base, Error: base.Error || messageOf(error) };
  }
}
