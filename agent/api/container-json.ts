// A container in the two shapes Docker shows it: a line of `docker ps`, and `docker inspect`.

import { createHash } from "node:crypto";
import type { Mount } from "../../proto/gen/types.ts";
import { humanDuration } from "../../proto/kit/duration.ts";
import type { Container } from "../engine/container-types.ts";
import type { Json } from "./adapt.ts";
import { portsIn } from "./create-ports.ts";
import { predefinedId, shownNetworkId } from "./predefined.ts";

const never = "0001-01-01T00:00:00Z";

/** `now` in milliseconds since 1970. */
export function containerSummary(container: Container, dataRoot: string, now: number): Json {
  return {
    Id: container.id,
    Names: [`/${container.name}`],
    Image: container.config.Image,
    ImageID: container.imageId,
    Command: commandOf(container).join(" "),
    Created: Math.floor(Date.parse(container.created) / 1000),
    Ports: portList(container),
    Labels: container.config.Labels ?? {},
    State: container.state.Status,
    Status: statusLine(container, now),
    HostConfig: { NetworkMode: networkMode(container) },
    NetworkSettings: { Networks: networksJson(container) },
    Mounts: (container.host.Mounts ?? []).map((mount) => mountJson(mount, dataRoot)),
  };
}

/** `execs`: ids of the processes that run in it beside its own. */
export function containerJson(
  container: Container,
  dataRoot: string,
  execs: readonly string[],
): Json {
  const { state, config } = container;
  const {
    PublishedPorts: _,
    Tmpfs: _tmpfs,
    LogLimits: _log,
    LogAttributes: _with,
    LogDriver,
    ...host
  } = container.host;
  const files = `${dataRoot}/containers/${container.id}`;
  const [path = "", ...args] = commandOf(container);
  const running = ["running", "paused", "restarting"].includes(state.Status);
  return {
    Id: container.id,
    Created: container.created,
    Path: path,
    Args: args,
    State: {
      Status: state.Status,
      Running: running,
      Paused: state.Status === "paused",
      Restarting: state.Status === "restarting",
      OOMKilled: state.OOMKilled,
      Dead: state.Status === "dead",
      Pid: running ? state.Pid : 0,
      ExitCode: state.ExitCode,
      Error: state.Error,
      StartedAt: state.StartedAt || never,
      FinishedAt: state.FinishedAt || never,
      ...(state.Health === undefined ? {} : { Health: state.Health }),
    },
    Image: container.imageId,
    ResolvConfPath: `${files}/resolv.conf`,
    HostnamePath: `${files}/hostname`,
    HostsPath: `${files}/hosts`,
    LogPath: LogDriver === "none" || LogDriver === "journald" ? "" : `${files}/current.log`,
    Name: `/${container.name}`,
    RestartCount: container.local?.restartCount ?? 0,
    Driver: "overlayfs",
    Platform: "linux",
    MountLabel: "",
    ProcessLabel: "",
    AppArmorProfile: "",
    ExecIDs: orNull(execs),
    HostConfig: {
      ...host,
      Binds: null,
      PortBindings: portBindings(container, false),
      AutoRemove: false,
      NetworkMode: networkMode(container),
      RestartPolicy: { Name: "no", MaximumRetryCount: 0 },
      Privileged: host.Privileged ?? false,
      ReadonlyRootfs: host.ReadonlyRootfs ?? false,
      Memory: host.Memory ?? 0,
      NanoCpus: host.NanoCpus ?? 0,
      // Of a container made by hand: as it was asked for.
      ...container.local?.shown,
      Runtime: host.Runtime || "runc",
      LogConfig: { Type: LogDriver ?? "json-file", Config: logOptions(container) },
    },
    GraphDriver: { Name: "overlayfs", Data: null },
    Mounts: (host.Mounts ?? []).map((mount) => mountJson(mount, dataRoot)),
    Config: {
      AttachStdin: false,
      AttachStdout: false,
      AttachStderr: false,
      StdinOnce: false,
      OnBuild: null,
      ...config,
      Hostname: config.Hostname || container.id.slice(0, 12),
      Domainname: config.Domainname ?? "",
      User: config.User ?? "",
      Tty: config.Tty ?? false,
      OpenStdin: config.OpenStdin ?? false,
      Env: config.Env ?? [],
      Cmd: config.Cmd ?? null,
      Entrypoint: config.Entrypoint ?? null,
      WorkingDir: config.WorkingDir ?? "",
      Labels: config.Labels ?? {},
      Volumes: (config.Volumes ?? []).length === 0 ? null : marks(config.Volumes ?? []),
      ExposedPorts: marks(config.ExposedPorts ?? []),
    },
    NetworkSettings: {
      SandboxID: "",
      SandboxKey: container.networkNamespace,
      Ports: running ? portBindings(container, true) : {},
      ...(container.local === undefined ? {} : bridgeJson(container)),
      Networks: networksJson(container),
    },
  };
}

function marks(names: readonly string[]): Readonly<Record<string, object>> {
  return Object.fromEntries(names.map((name) => [name, {}]));
}

function commandOf(container: Container): readonly string[] {
  return [...(container.config.Entrypoint ?? []), ...(container.config.Cmd ?? [])];
}

function networkMode(container: Container): string {
  const [first] = Object.keys(container.networks);
  if (container.local !== undefined) return container.local.networkMode;
  return container.networkNamespace === "" ? "host" : (first ?? "none");
}

/** What older clients read of the default bridge, outside Networks. */
function bridgeJson(container: Container): Json {
  const bridge = container.networks["bridge"];
  return {
    Bridge: "",
    HairpinMode: false,
    LinkLocalIPv6Address: "",
    LinkLocalIPv6PrefixLen: 0,
    SecondaryIPAddresses: null,
    SecondaryIPv6Addresses: null,
    EndpointID: bridge === undefined ? "" : endpointId(container, bridge.NetworkID),
    Gateway: bridge?.Gateway ?? "",
    GlobalIPv6Address: bridge?.GlobalIPv6Address ?? "",
    GlobalIPv6PrefixLen: bridge?.GlobalIPv6PrefixLen ?? 0,
    IPv6Gateway: bridge?.IPv6Gateway ?? "",
    IPAddress: bridge?.IPAddress ?? "",
    IPPrefixLen: bridge?.IPPrefixLen ?? 0,
    MacAddress: macOn(container, "bridge"),
  };
}

/** It follows from the address, here as in agent/network. */
function macOf(address: string): string {
  const bytes = address.split(".").map((part) => Number(part).toString(16).padStart(2, "0"));
  return address === "" ? "" : `02:42:${bytes.join(":")}`;
}

export function macOn({ local, networks }: Container, name: string): string {
  if (local === undefined) return "";
  const { MacAddress, IPAddress = "" } = networks[name] ?? {};
  return MacAddress ?? local.endpoints[name]?.mac ?? macOf(IPAddress);
}

/** Other than Docker, an endpoint has no id of its own: this one stands for it. */
export function endpointId(container: Container, networkId: string): string {
  if (container.local === undefined || container.state.Pid === 0) return "";
  return createHash("sha256").update(`${networkId}\0${container.id}`).digest("hex");
}

function networksJson(container: Container): Json {
  return Object.fromEntries(
    Object.entries(shownNetworks(container)).map(([name, item]) => [
      name,
      {
        IPAMConfig: container.local === undefined ? taskAddresses(item) : ipam(container, name),
        Links: linksOf(container, name),
        Aliases: orNull(item.Aliases),
        NetworkID: container.local === undefined ? item.NetworkID : shownNetworkId(item.NetworkID),
        EndpointID: endpointId(container, item.NetworkID),
        Gateway: item.Gateway,
        IPAddress: item.IPAddress,
        IPPrefixLen: item.IPPrefixLen,
        IPv6Gateway: item.IPv6Gateway ?? "",
        GlobalIPv6Address: item.GlobalIPv6Address ?? "",
        GlobalIPv6PrefixLen: item.GlobalIPv6PrefixLen ?? 0,
        MacAddress: macOn(container, name),
        DriverOpts: container.local?.endpoints[name]?.driverOptions ?? null,
        DNSNames:
          container.local === undefined || name === "bridge"
            ? orNull(item.Aliases)
            : [...new Set([container.name, ...item.Aliases, container.id.slice(0, 12)])],
      },
    ]),
  );
}

/** As Docker shows a list in which nobody has put anything. */
function orNull<T>(list: readonly T[]): readonly T[] | null {
  return list.length === 0 ? null : list;
}

/** The host's own network, and none, are shown as networks too. */
function shownNetworks({ local, networks }: Container): Container["networks"] {
  const mode = local?.networkMode ?? "";
  if (!["host", "none"].includes(mode) || Object.keys(networks).length > 0) return networks;
  const nowhere = { IPAddress: "", IPPrefixLen: 0, Gateway: "", Aliases: [] };
  return { [mode]: { ...nowhere, NetworkID: predefinedId(mode) } };
}

function taskAddresses({ IPAddress, GlobalIPv6Address }: Container["networks"][string]): Json {
  return {
    IPv4Address: IPAddress,
    ...(GlobalIPv6Address ? { IPv6Address: GlobalIPv6Address } : {}),
  };
}

function ipam(container: Container, name: string): Json | null {
  const { address = "", address6 = "", linkLocal } = container.local?.endpoints[name] ?? {};
  if (address === "" && address6 === "" && linkLocal === undefined) return null;
  return {
    ...(address === "" ? {} : { IPv4Address: address }),
    ...(address6 === "" ? {} : { IPv6Address: address6 }),
    ...(linkLocal === undefined ? {} : { LinkLocalIPs: linkLocal }),
  };
}

/** On a network of one's own; those on the default bridge stand in HostConfig. */
function linksOf(container: Container, name: string): readonly string[] | null {
  const links = name === "bridge" ? undefined : container.local?.endpoints[name]?.links;
  return links?.map(({ target, alias }) => `${target}:${alias}`) ?? null;
}

/** A line of `docker ps` lists what leads in from the host, and what the image only says it listens on. */
function portList(container: Container): Json[] {
  if (!["running", "paused"].includes(container.state.Status)) return [];
  return Object.entries(portBindings(container, true)).flatMap(([port, bindings]) => {
    const [number, Type] = port.split("/");
    const PrivatePort = Number(number);
    if (bindings === null) return [{ PrivatePort, Type }];
    return bindings.map(({ HostIp, HostPort }) => ({
      IP: HostIp,
      PrivatePort,
      PublicPort: Number(HostPort),
      Type,
    }));
  });
}

/** By `80/tcp`; null for a port that is only exposed, left out unless `withExposed`, and on links of the host alone. */
function portBindings(
  { config, host, ports, networks }: Container,
  withExposed: boolean,
): Record<string, { readonly HostIp: string; readonly HostPort: string }[] | null> {
  const bindings: ReturnType<typeof portBindings> = {};
  for (const { protocol, targetPort, publishedPort, hostIP } of ports ??
    host.PublishedPorts ??
    []) {
    const port = `${targetPort}/${protocol}`;
    const known = bindings[port] ?? [];
    const HostIp = hostIP === undefined || hostIP === "" ? "0.0.0.0" : hostIP;
    bindings[port] = [...known, { HostIp, HostPort: String(publishedPort) }];
  }
  const all = Object.values(networks);
  const isDirect = all.length > 0 && all.every((network) => network.isDirect === true);
  if (withExposed && !isDirect)
    for (const port of (config.ExposedPorts ?? []).flatMap(portsIn)) bindings[port] ??= null;
  return bindings;
}

function mountJson(mount: Mount, dataRoot: string): Json {
  const isVolume = mount.Type === "volume";
  const isNamed = isVolume && mount.Source !== "";
  return {
    Type: mount.Type,
    ...(isVolume ? { Name: mount.Source, Driver: "local" } : {}),
    Source: isNamed ? `${dataRoot}/volumes/${mount.Source}/_data` : mount.Source,
    Destination: mount.Target,
    Mode: isVolume ? "z" : "",
    RW: !mount.ReadOnly,
    Propagation: mount.BindOptions?.Propagation || (mount.Type === "bind" ? "rprivate" : ""),
  };
}

function statusLine(container: Container, now: number): string {
  const { Status, StartedAt, FinishedAt, ExitCode, Health } = container.state;
  const since = (moment: string) => humanDuration(now - Date.parse(moment));
  const health =
    Health === undefined || Health.Status === "none" ? "" : ` (${healthWord(Health.Status)})`;
  if (Status === "running") return `Up ${since(StartedAt)}${health}`;
  if (Status === "paused") return `Up ${since(StartedAt)} (Paused)`;
  if (Status === "restarting") return `Restarting (${ExitCode}) ${since(FinishedAt)} ago`;
  if (Status === "exited") return `Exited (${ExitCode}) ${since(FinishedAt)} ago`;
  if (Status === "removing") return "Removal In Progress";
  return Status === "dead" ? "Dead" : "Created";
}

function healthWord(status: string): string {
  return status === "starting" ? "health: starting" : status;
}

/** Of a container made by hand: as they were asked for. */
function logOptions({ local }: Container): unknown {
  const asked = local?.shown["LogConfig"] as { readonly Config?: unknown } | undefined;
  return asked?.Config ?? {};
}
