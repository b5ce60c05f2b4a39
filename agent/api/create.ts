// From the body of POST /containers/create to what the engine makes: defaults, checks in Docker's sentences, and a clear
// refusal of what cannot be. Pure.

import { isIP, isIPv4, isIPv6 } from "node:net";
import { codec } from "../../proto/codec.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { ipBytes, ipText } from "../../proto/kit/ip.ts";
import type {
  ContainerConfig,
  CreateContainer,
  EndpointWish,
  HostConfig,
  LocalSettings,
  RestartPolicy,
} from "../engine/container-types.ts";
import { type LogDefaults, logConfig, logSettings, plainLogs } from "../engine/log-limits.ts";
import type { Json } from "./adapt.ts";
import { type CreateBody, createBody, type HostBody, withIpcMode } from "./create-body.ts";
import { blockIoOf, checkLimits } from "./create-limits.ts";
import { mountsOf } from "./create-mounts.ts";
import { parsePort, portsIn, portsOf } from "./create-ports.ts";
import { parseBody } from "./request.ts";

export interface CreateRequest {
  readonly container: CreateContainer;
  readonly warnings: readonly string[];
}

const nsPerMs = 1e6;

/** What is meant where a body is silent. */
export interface CreateDefaults {
  readonly logs: LogDefaults;
  readonly ipcMode: "private" | "shareable";
}

const plain: CreateDefaults = { logs: plainLogs, ipcMode: "private" };

/** Throws `invalid`, `unsupported`. Names of networks and containers are not looked up here. */
export function parseCreate(
  json: unknown,
  name: string,
  { logs, ipcMode }: CreateDefaults = plain,
): CreateRequest {
  const body = withIpcMode(parseBody(createBody, json), ipcMode);
  const { HostConfig: host } = body;
  if (body.Image === "") throw new SwarmError("invalid", "no image specified");
  refuseWhatCannotBe(body);
  const mode = networkMode(host.NetworkMode, body.NetworkDisabled);
  checkNetwork(body, mode);
  if (!["", "default"].includes(host.Isolation))
    throw new SwarmError(
      "invalid",
      `invalid isolation: "${host.Isolation}": only "default" is supported`,
    );
  const warnings: string[] = [];
  const exposed = [...new Set([...body.ExposedPorts, ...Object.keys(host.PortBindings)])];
  for (const port of Object.keys(host.PortBindings)) parsePort(port);
  for (const port of exposed.flatMap(portsIn)) parsePort(port);
  const ports = portsOf(host.PortBindings, exposed, host.PublishAllPorts);
  if (mode === "host" && ports.length > 0)
    warnings.push("Published ports are discarded when using host network mode");
  const isWired = mode !== "host" && !mode.startsWith("container:");
  const restart = restartPolicy(host);
  const log = logConfig(host.LogConfig?.Type ?? "", host.LogConfig?.Config ?? {}, logs);
  return {
    warnings,
    container: {
      name,
      config: configOf(body, exposed),
      host: {
        ...hostOf(body),
        ...logSettings(log.Type, log.Config),
        PublishedPorts: isWired ? ports : [],
      },
      networkNamespace: "",
      networks: {},
      local: {
        networkMode: mode,
        endpoints: endpointsOf(body, mode),
        restart,
        autoRemove: host.AutoRemove,
        shown: { ...shownHost(host, json, mode, restart), LogConfig: log },
      },
    },
  };
}

function configOf(body: CreateBody, exposed: readonly string[]): ContainerConfig {
  for (const entry of body.Env)
    if (entry === "" || entry.startsWith("="))
      throw new SwarmError("invalid", `invalid environment variable: ${entry}`);
  if (body.WorkingDir !== "" && !body.WorkingDir.startsWith("/"))
    throw new SwarmError(
      "invalid",
      `the working directory '${body.WorkingDir}' is invalid, it needs to be an absolute path`,
    );
  const health = healthOf(body);
  return {
    Image: body.Image,
    Hostname: body.Hostname,
    Domainname: body.Domainname,
    User: body.User,
    AttachStdin: body.AttachStdin,
    AttachStdout: body.AttachStdout,
    AttachStderr: body.AttachStderr,
    ExposedPorts: exposed.map((port) => (port.includes("/") ? port : `${port}/tcp`)),
    Tty: body.Tty,
    OpenStdin: body.OpenStdin,
    StdinOnce: body.StdinOnce,
    Env: body.Env,
    Cmd: body.Cmd,
    Entrypoint: body.Entrypoint,
    WorkingDir: body.WorkingDir,
    Labels: body.Labels,
    ...(body.MacAddress === "" ? {} : { MacAddress: body.MacAddress.toLowerCase() }),
    ...(body.Volumes.length === 0 ? {} : { Volumes: body.Volumes }),
    StopSignal: body.StopSignal,
    ...(typeof body.StopTimeout === "number" ? { StopTimeout: body.StopTimeout } : {}),
    ...(health === undefined ? {} : { Healthcheck: health }),
  };
}

function healthOf(body: CreateBody): ContainerConfig["Healthcheck"] {
  if (body.Healthcheck === null || body.Healthcheck === undefined) return undefined;
  const health = codec("HealthConfig").parse(body.Healthcheck);
  for (const name of ["Interval", "Timeout", "StartPeriod", "StartInterval"] as const) {
    const value = health[name] ?? 0;
    if (value !== 0 && value < nsPerMs)
      throw new SwarmError("invalid", `${name} in Healthcheck cannot be less than 1ms`);
  }
  if ((health.Retries ?? 0) < 0)
    throw new SwarmError("invalid", "Retries in Healthcheck cannot be negative");
  return health;
}

function hostOf(body: CreateBody): HostConfig {
  const { HostConfig: host } = body;
  const limits = {
    Memory: host.Memory,
    MemorySwap: host.MemorySwap,
    MemoryReservation: host.MemoryReservation,
    NanoCpus: host.NanoCpus,
    CpuPeriod: host.CpuPeriod,
    CpuQuota: host.CpuQuota,
    CpuShares: host.CpuShares,
    CpusetCpus: host.CpusetCpus,
    CpusetMems: host.CpusetMems,
    PidsLimit: host.PidsLimit,
  };
  checkLimits(limits);
  const blockIo = blockIoOf(host);
  if (host.ShmSize < 0) throw new SwarmError("invalid", "SHM size can not be less than 0");
  if (host.OomScoreAdj < -1000 || host.OomScoreAdj > 1000)
    throw new SwarmError(
      "invalid",
      `Invalid value ${host.OomScoreAdj}, range for oom score adj is [-1000, 1000]`,
    );
  return {
    ...limits,
    ...blockIo,
    ...(host.Runtime === "" ? {} : { Runtime: host.Runtime }),
    ReadonlyRootfs: host.ReadonlyRootfs,
    Init: host.Init ?? false,
    CapAdd: host.CapAdd,
    CapDrop: host.CapDrop,
    GroupAdd: host.GroupAdd,
    Sysctls: host.Sysctls,
    Ulimits: host.Ulimits.map((ulimit) => codec("Ulimit").parse(ulimit)),
    OomScoreAdj: host.OomScoreAdj,
    OomKillDisable: host.OomKillDisable,
    ...((host.MemorySwappiness ?? -1) < 0 ? {} : { MemorySwappiness: host.MemorySwappiness ?? 0 }),
    Privileged: host.Privileged,
    SecurityOpt: host.SecurityOpt,
    ExtraHosts: host.ExtraHosts.map(extraHost),
    Dns: host.Dns,
    DnsSearch: host.DnsSearch,
    DnsOptions: host.DnsOptions,
    Mounts: mountsOf(body),
    Tmpfs: host.Tmpfs,
    ShmSize: host.ShmSize,
    CgroupParent: host.CgroupParent,
    Devices: host.Devices,
    DeviceCgroupRules: host.DeviceCgroupRules,
    PidMode: host.PidMode,
    ...(host.VolumesFrom.length === 0 ? {} : { VolumesFrom: host.VolumesFrom }),
    IpcMode: host.IpcMode === "private" ? "" : host.IpcMode,
    UTSMode: host.UTSMode,
    CgroupnsMode: host.CgroupnsMode,
    ...(host.MaskedPaths ? { MaskedPaths: host.MaskedPaths } : {}),
    ...(host.ReadonlyPaths ? { ReadonlyPaths: host.ReadonlyPaths } : {}),
  };
}

function extraHost(line: string): string {
  const at = line.search(/[:=]/);
  if (at <= 0) throw new SwarmError("invalid", `bad format for add-host: "${line}"`);
  return `${line.slice(0, at)}:${line.slice(at + 1)}`;
}

/** "default" and nothing are the bridge. */
function networkMode(mode: string, isDisabled: boolean): string {
  if (isDisabled) return "none";
  return mode === "" || mode === "default" ? "bridge" : mode;
}

function checkNetwork({ HostConfig: host, Hostname }: CreateBody, mode: string): void {
  if (host.UTSMode === "host" && Hostname !== "")
    throw new SwarmError("invalid", "conflicting options: hostname and the UTS mode");
  if (!mode.startsWith("container:")) return;
  if (mode === "container:")
    throw new SwarmError(
      "invalid",
      "Invalid network mode: invalid container format container:<name|id>",
    );
  const conflicts: readonly (readonly [boolean, string])[] = [
    [Hostname !== "", "hostname and the network mode"],
    [host.Dns.length > 0, "dns and the network mode"],
    [host.ExtraHosts.length > 0, "custom host-to-IP mapping and the network mode"],
    [
      Object.keys(host.PortBindings).length > 0 || host.PublishAllPorts,
      "port publishing and the container type network mode",
    ],
  ];
  for (const [isWrong, what] of conflicts)
    if (isWrong) throw new SwarmError("invalid", `conflicting options: ${what}`);
}

function endpointsOf(body: CreateBody, mode: string): LocalSettings["endpoints"] {
  if (mode === "none" || mode === "host" || mode.startsWith("container:")) return {};
  const links = body.HostConfig.Links.map(parseLink);
  const own = endpointWish(mode, { MacAddress: body.MacAddress });
  const first: EndpointWish = { ...own, ...(links.length === 0 ? {} : { links }) };
  const endpoints: Record<string, EndpointWish> = { [mode]: first };
  for (const [name, asked] of Object.entries(body.NetworkingConfig)) {
    const key = name === "default" ? "bridge" : name;
    const wish = endpointWish(key, asked ?? {});
    const both = [...(endpoints[key]?.links ?? []), ...(wish.links ?? [])];
    const known = key === mode && own.mac !== undefined ? { mac: own.mac } : {};
    endpoints[key] = { ...known, ...wish, ...(both.length === 0 ? {} : { links: both }) };
  }
  return endpoints;
}

/** `container`, or `container:name it is called by`; old clients put slashes in front. */
function parseLink(text: string): { readonly target: string; readonly alias: string } {
  const [target = "", alias = target, ...more] = text
    .split(":")
    .map((part) => part.split("/").at(-1) ?? "");
  if (target === "" || alias === "" || more.length > 0)
    throw new SwarmError("invalid", `bad format for links: ${text}`);
  return { target, alias };
}

/** Also for network connect. Throws `invalid`, `unsupported`. */
export function endpointWish(
  network: string,
  asked: {
    readonly Aliases?: readonly string[];
    readonly Links?: readonly string[];
    readonly MacAddress?: string;
    readonly GwPriority?: number;
    readonly DriverOpts?: Readonly<Record<string, string>>;
    readonly IPAMConfig?:
      | {
          readonly IPv4Address: string;
          readonly IPv6Address: string;
          readonly LinkLocalIPs: readonly string[];
        }
      | null
      | undefined;
  },
): EndpointWish {
  const address = asked.IPAMConfig?.IPv4Address ?? "";
  const address6 = asked.IPAMConfig?.IPv6Address ?? "";
  const aliases = asked.Aliases ?? [];
  if (network === "bridge" && (address !== "" || address6 !== ""))
    throw new SwarmError(
      "invalid",
      "user specified IP address is supported on user defined networks only",
    );
  if (network === "bridge" && aliases.length > 0)
    throw new SwarmError(
      "invalid",
      "network-scoped alias is supported only for containers in user defined networks",
    );
  if (address !== "" && !isIPv4(address))
    throw new SwarmError("invalid", `invalid IPv4 address: ${address}`);
  if (address6 !== "" && !isIPv6(address6))
    throw new SwarmError("invalid", `invalid IPv6 address: ${address6}`);
  const linkLocal = asked.IPAMConfig?.LinkLocalIPs ?? [];
  for (const each of linkLocal)
    if (isIP(each) === 0 || ["0.0.0.0", "::"].includes(each))
      throw new SwarmError("invalid", `invalid link-local IP address: ${each}`);
  const mac = (asked.MacAddress ?? "").toLowerCase();
  if (mac !== "" && !/^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/.test(mac))
    throw new SwarmError("invalid", `invalid MAC address: ${mac}`);
  const priority = asked.GwPriority ?? 0;
  const links = (asked.Links ?? []).map(parseLink);
  const driverOptions = asked.DriverOpts ?? {};
  return {
    ...{ aliases, address },
    ...(address6 === "" ? {} : { address6: ipText(ipBytes(address6)) }),
    ...(mac === "" ? {} : { mac }),
    ...(linkLocal.length === 0 ? {} : { linkLocal }),
    ...(Object.keys(driverOptions).length === 0 ? {} : { driverOptions }),
    ...(priority === 0 ? {} : { gatewayPriority: priority }),
    ...(links.length === 0 ? {} : { links }),
  };
}

function restartPolicy({ RestartPolicy: asked, AutoRemove }: HostBody): RestartPolicy {
  return parseRestart(asked?.Name ?? "", asked?.MaximumRetryCount ?? 0, AutoRemove);
}

export function parseRestart(name: string, retries: number, autoRemove: boolean): RestartPolicy {
  const Name = name === "" ? "no" : name;
  const wrong = (why: string) => new SwarmError("invalid", `invalid restart policy: ${why}`);
  if (Name !== "no" && Name !== "always" && Name !== "unless-stopped" && Name !== "on-failure")
    throw wrong(
      `unknown policy '${name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`,
    );
  if (retries !== 0 && Name !== "on-failure")
    throw wrong("maximum retry count can only be used with 'on-failure'");
  if (retries < 0) throw wrong("maximum retry count cannot be negative");
  if (autoRemove && Name !== "no")
    throw new SwarmError("invalid", "can't create 'AutoRemove' container with restart policy");
  return { Name, MaximumRetryCount: retries };
}

/** Everything that would be accepted and not done. */
function refuseWhatCannotBe({ HostConfig: host }: CreateBody): void {
  refuse(host.DeviceRequests.length > 0, "device requests (--gpus)");
  if (Object.keys(host.StorageOpt).length > 0)
    throw new SwarmError(
      "unsupported",
      "--storage-opt is supported only for storage that limits a container's disk: overlayfs, as it is used here, does not",
    );
  const { PidMode, IpcMode, UTSMode, UsernsMode } = host;
  const modes: readonly (readonly [string, string, RegExp])[] = [
    ["PID mode", PidMode, /^(|host|container:.+)$/],
    ["IPC mode", IpcMode, /^(|none|private|shareable|host|container:.+)$/],
    ["UTS mode", UTSMode, /^(|host)$/],
    // There is none but the host's.
    ["user namespace mode", UsernsMode, /^(|host)$/],
  ];
  for (const [what, mode, known] of modes)
    if (!known.test(mode)) throw new SwarmError("invalid", `invalid ${what}: ${mode}`);
  refuse(host.CpuRealtimePeriod + host.CpuRealtimeRuntime !== 0, "CPU real-time limits");
  const swappiness = host.MemorySwappiness ?? -1;
  if (swappiness < -1 || swappiness > 100)
    throw new SwarmError(
      "invalid",
      `Invalid value: ${swappiness}, valid memory swappiness range is 0-100`,
    );
}

function refuse(isAsked: boolean, what: string): void {
  if (isAsked)
    throw new SwarmError("unsupported", `${what} is not available in this version of tsswarm`);
}

/** Null in inspect when the client said nothing of them. */
const listKeys = [
  ...["CapAdd", "CapDrop", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts", "GroupAdd"],
  ...["Links", "SecurityOpt", "VolumesFrom"],
] as const satisfies readonly (keyof HostBody)[];

/** HostConfig as inspect shows it: as sent, with Docker's defaults for what was not. */
function shownHost(host: HostBody, json: unknown, mode: string, restart: RestartPolicy): Json {
  const sent = (json as { HostConfig?: Json | null }).HostConfig ?? {};
  const unsaid = listKeys.filter((key) => (sent[key] ?? null) === null && host[key].length === 0);
  return {
    ...host,
    ...Object.fromEntries(unsaid.map((key) => [key, null])),
    Binds: host.Binds.length === 0 ? null : host.Binds,
    // Of Windows: shown as sent.
    CpuCount: sent["CpuCount"] ?? 0,
    CpuPercent: sent["CpuPercent"] ?? 0,
    Annotations: sent["Annotations"] ?? null,
    NetworkMode: mode,
    RestartPolicy: restart,
    IpcMode: host.IpcMode,
    CgroupnsMode: host.CgroupnsMode || "host",
    ShmSize: host.ShmSize || 64 * 1024 * 1024,
    ConsoleSize: Array.isArray(sent["ConsoleSize"]) ? sent["ConsoleSize"] : [0, 0],
    PidsLimit: host.PidsLimit === 0 ? null : host.PidsLimit,
    MemorySwappiness: host.MemorySwappiness ?? null,
    Init: host.Init ?? null,
  };
}
