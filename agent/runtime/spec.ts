// From what a container wants to the OCI specification runc reads. Pure; what this machine cannot give becomes a warning.

import { SwarmError } from "../../proto/kit/errors.ts";
import { chooseCapabilities } from "./capabilities.ts";
import type { HostFacts } from "./host.ts";
import { type LimitsInput, limitsOfResources } from "./limits.ts";
import { adaptSeccomp, defaultSeccomp } from "./seccomp.ts";
import type {
  RuntimeSpec,
  SpecCapabilities,
  SpecDevice,
  SpecDeviceNode,
  SpecMount,
  SpecProcess,
  SpecResources,
  SpecUser,
} from "./spec-types.ts";

export interface SpecInput extends LimitsInput {
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  readonly user: SpecUser;
  readonly hostname: string;
  readonly terminal: boolean;
  readonly mounts: readonly SpecMount[];
  readonly isRootReadonly: boolean;
  readonly privileged: boolean;
  readonly capabilityAdd: readonly string[];
  readonly capabilityDrop: readonly string[];
  readonly noNewPrivileges: boolean;
  /** A profile in the OCI's or in Docker's form replaces the default one. */
  readonly seccomp: "default" | "unconfined" | Readonly<Record<string, unknown>>;
  /** "" is the default profile; "unconfined" is none. */
  readonly appArmor: string;
  readonly cgroupsPath: string;
  /** Path of a network namespace; "" is the host's own. */
  readonly networkNamespace: string;
  readonly sysctls: Readonly<Record<string, string>>;
  readonly ulimits: readonly {
    readonly name: string;
    readonly hard: number;
    readonly soft: number;
  }[];
  readonly oomScoreAdj: number;
  /** 0: the usual; null: no shared memory. */
  readonly shmBytes: number | null;
  readonly devices?: readonly SpecDeviceNode[];
  /** Further rules of the device cgroup. */
  readonly deviceRules?: readonly SpecDevice[];
  /** "host", or the path of another container's; absent: its own. */
  readonly namespaces?: {
    readonly pid?: string;
    readonly ipc?: string;
    readonly uts?: string;
    readonly cgroup?: string;
  };
  /** In place of the usual ones. */
  readonly maskedPaths?: readonly string[];
  readonly readonlyPaths?: readonly string[];
}

export const appArmorProfile = "tsswarm-default";
export const shmBytesDefault = 64 * 1024 * 1024;

export function buildSpec(
  input: SpecInput,
  host: HostFacts,
): { readonly spec: RuntimeSpec; readonly warnings: readonly string[] } {
  const warnings: string[] = [];
  const process = processOf(input, host, warnings);
  const seccomp = input.privileged
    ? null
    : seccompOf(input, host, process.capabilities.bounding, warnings);
  const isOnHost = input.networkNamespace === "";
  const spec: RuntimeSpec = {
    ociVersion: "1.0.2",
    process,
    root: { path: "rootfs", readonly: input.isRootReadonly },
    // Who shares the host's name cannot set it.
    ...(input.namespaces?.uts === "host" ? {} : { hostname: input.hostname }),
    mounts: orderMounts(baseMounts(input, host), input.mounts),
    linux: {
      cgroupsPath: input.cgroupsPath,
      namespaces: namespacesOf(input, host),
      resources: resourcesOf(input, host, warnings),
      ...(input.devices === undefined || input.devices.length === 0
        ? {}
        : { devices: input.devices }),
      sysctl: isOnHost
        ? { ...input.sysctls }
        : {
            "net.ipv4.ip_unprivileged_port_start": "0",
            "net.ipv4.ping_group_range": "0 2147483647",
            ...input.sysctls,
          },
      ...(propagates(input.mounts) ? { rootfsPropagation: "rshared" } : {}),
      ...(seccomp === null ? {} : { seccomp }),
      maskedPaths: input.privileged ? [] : (input.maskedPaths ?? maskedPaths),
      readonlyPaths: input.privileged ? [] : (input.readonlyPaths ?? readonlyPaths),
    },
  };
  return { spec, warnings };
}

/** A further process in a container: as the container's own, but for what is given. */
export function execProcess(
  container: SpecProcess,
  exec: {
    readonly args: readonly string[];
    readonly env: readonly string[];
    readonly cwd: string;
    readonly user: SpecUser;
    readonly terminal: boolean;
    readonly privileged: boolean;
  },
  host: HostFacts,
): SpecProcess {
  const { oomScoreAdj: _, ...base } = container;
  const bounding = exec.privileged ? [...host.capabilities] : container.capabilities.bounding;
  return {
    ...base,
    args: exec.args,
    env: exec.env,
    cwd: exec.cwd,
    user: exec.user,
    terminal: exec.terminal,
    capabilities: capabilitySets(bounding, exec.user),
  };
}

function processOf(input: SpecInput, host: HostFacts, warnings: string[]): SpecProcess {
  if (input.args.length === 0)
    throw new SwarmError("invalid", "no command specified, neither by the container nor its image");
  const { chosen, unknown } = chooseCapabilities(
    input.capabilityAdd,
    input.capabilityDrop,
    input.privileged,
  );
  if (unknown.length > 0)
    throw new SwarmError("invalid", `unknown capability: ${unknown.join(", ")}`);
  const given = chosen.filter((name) => host.capabilities.includes(name));
  const refused = chosen.filter((name) => !host.capabilities.includes(name));
  if (refused.length > 0) warnings.push(`this machine cannot give ${refused.join(", ")}: left out`);
  const oomScoreAdj = oomScoreOf(input, host, warnings);
  return {
    terminal: input.terminal,
    user: input.user,
    args: input.args,
    env: input.env,
    cwd: input.cwd === "" ? "/" : input.cwd,
    capabilities: capabilitySets(given, input.user),
    rlimits: limitsOf(input, host, warnings),
    noNewPrivileges: input.noNewPrivileges,
    ...appArmorOf(input, host, warnings),
    ...(oomScoreAdj === null ? {} : { oomScoreAdj }),
  };
}

/** The same process as somebody else. */
export function withUser(process: SpecProcess, user: SpecUser): SpecProcess {
  return {
    ...process,
    user,
    capabilities: capabilitySets(process.capabilities.bounding, user),
  };
}

/** Only root has them in effect; other users may regain them through set-user-id programs. */
function capabilitySets(names: readonly string[], user: SpecUser): SpecCapabilities {
  const effective = user.uid === 0 ? names : [];
  return { bounding: names, effective, permitted: effective, inheritable: [], ambient: [] };
}

function limitsOf(input: SpecInput, host: HostFacts, warnings: string[]): SpecProcess["rlimits"] {
  const mayRaise = host.capabilities.includes("CAP_SYS_RESOURCE");
  return input.ulimits.map(({ name, hard, soft }) => {
    const type = `RLIMIT_${name.toUpperCase()}`;
    const own = host.hardLimits[type];
    const unlimited = Number.MAX_SAFE_INTEGER;
    const wanted = { hard: hard < 0 ? unlimited : hard, soft: soft < 0 ? unlimited : soft };
    if (mayRaise || own === undefined || wanted.hard <= own) return { type, ...wanted };
    warnings.push(`ulimit ${name}=${hard} is above this machine's hard limit of ${own}: lowered`);
    return { type, hard: own, soft: Math.min(wanted.soft, own) };
  });
}

function oomScoreOf(input: SpecInput, host: HostFacts, warnings: string[]): number | null {
  if (input.oomScoreAdj === 0) return null;
  if (input.oomScoreAdj < host.oomScoreAdj && !host.capabilities.includes("CAP_SYS_RESOURCE")) {
    warnings.push(
      `OomScoreAdj ${input.oomScoreAdj} is below our own ${host.oomScoreAdj}: left out`,
    );
    return null;
  }
  return input.oomScoreAdj;
}

function appArmorOf(
  input: SpecInput,
  host: HostFacts,
  warnings: string[],
): { readonly apparmorProfile?: string } {
  if (!host.hasAppArmor) {
    if (input.appArmor !== "" && input.appArmor !== "unconfined")
      warnings.push(`this kernel has no AppArmor: profile ${input.appArmor} is left out`);
    return {};
  }
  if (input.appArmor !== "") return { apparmorProfile: input.appArmor };
  if (input.privileged) return { apparmorProfile: "unconfined" };
  return host.hasAppArmorProfile ? { apparmorProfile: appArmorProfile } : {};
}

function seccompOf(
  input: SpecInput,
  host: HostFacts,
  capabilities: readonly string[],
  warnings: string[],
): NonNullable<RuntimeSpec["linux"]["seccomp"]> | null {
  if (input.seccomp === "unconfined") return null;
  if (!host.hasSeccomp) {
    if (input.seccomp !== "default")
      warnings.push("this kernel has no seccomp: the profile is left out");
    return null;
  }
  if (input.seccomp !== "default")
    return adaptSeccomp(input.seccomp, host.architecture, capabilities);
  const filter = defaultSeccomp(host.architecture, capabilities);
  if (filter === null) warnings.push(`no system call filter for ${host.architecture}`);
  return filter;
}

function namespacesOf(input: SpecInput, host: HostFacts): RuntimeSpec["linux"]["namespaces"] {
  const namespaces: { type: string; path?: string }[] = [{ type: "mount" }];
  const wanted = input.namespaces ?? {};
  for (const type of ["uts", "ipc", "pid"] as const) {
    const path = wanted[type] ?? "";
    if (path !== "host") namespaces.push(path === "" ? { type } : { type, path });
  }
  if (input.networkNamespace !== "")
    namespaces.push({ type: "network", path: input.networkNamespace });
  // As Docker: on v1 programs expect to see the host's hierarchy, on v2 their own.
  const isOwnCgroup =
    wanted.cgroup === "private" ||
    (host.cgroups === "v2" && !input.privileged && wanted.cgroup !== "host");
  if (isOwnCgroup) namespaces.push({ type: "cgroup" });
  return namespaces;
}

function resourcesOf(input: SpecInput, host: HostFacts, warnings: string[]): SpecResources {
  const allowed = (input.devices ?? []).map(({ type, major, minor }) => ({
    ...{ allow: true, type, major, minor },
    access: "rwm",
  }));
  return {
    devices: input.privileged
      ? [{ allow: true, access: "rwm" }]
      : [...devices, ...(input.deviceRules ?? allowed)],
    ...limitsOfResources(input, host, warnings),
  };
}

function baseMounts(input: SpecInput, host: HostFacts): readonly SpecMount[] {
  const shmBytes = input.shmBytes || shmBytesDefault;
  const sys = input.privileged ? "rw" : "ro";
  const quiet = ["nosuid", "noexec", "nodev"];
  return [
    { destination: "/proc", type: "proc", source: "proc", options: quiet },
    {
      destination: "/dev",
      type: "tmpfs",
      source: "tmpfs",
      options: ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
      destination: "/dev/pts",
      type: "devpts",
      source: "devpts",
      options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    ...(input.shmBytes === null
      ? []
      : [
          {
            destination: "/dev/shm",
            type: "tmpfs",
            source: "shm",
            options: [...quiet, "mode=1777", `size=${shmBytes}`],
          },
        ]),
    { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: quiet },
    { destination: "/sys", type: "sysfs", source: "sysfs", options: [...quiet, sys] },
    {
      destination: "/sys/fs/cgroup",
      type: "cgroup",
      source: "cgroup",
      options: [...quiet, ...(host.cgroups === "v1" ? ["relatime"] : []), sys],
    },
  ];
}

/** A mount replaces a base one at the same place; parents come before what is mounted inside them. */
function orderMounts(base: readonly SpecMount[], own: readonly SpecMount[]): readonly SpecMount[] {
  const replaced = new Set(own.map((mount) => mount.destination));
  const depth = (mount: SpecMount) => mount.destination.split("/").filter((p) => p !== "").length;
  const sorted = own.toSorted((a, b) => depth(a) - depth(b));
  return [...base.filter((mount) => !replaced.has(mount.destination)), ...sorted];
}

function propagates(mounts: readonly SpecMount[]): boolean {
  return mounts.some((mount) => mount.options.some((o) => o === "rshared" || o === "shared"));
}

const devices: readonly SpecDevice[] = [
  { allow: false, access: "rwm" },
  { allow: true, type: "c", access: "m" },
  { allow: true, type: "b", access: "m" },
  { allow: true, type: "c", major: 1, minor: 3, access: "rwm" }, // null
  { allow: true, type: "c", major: 1, minor: 5, access: "rwm" }, // zero
  { allow: true, type: "c", major: 1, minor: 7, access: "rwm" }, // full
  { allow: true, type: "c", major: 1, minor: 8, access: "rwm" }, // random
  { allow: true, type: "c", major: 1, minor: 9, access: "rwm" }, // urandom
  { allow: true, type: "c", major: 5, minor: 0, access: "rwm" }, // tty
  { allow: true, type: "c", major: 5, minor: 1, access: "rwm" }, // console
  { allow: true, type: "c", major: 5, minor: 2, access: "rwm" }, // ptmx
  { allow: true, type: "c", major: 136, access: "rwm" }, // pts
];

const maskedPaths = [
  "/proc/acpi",
  "/proc/asound",
  "/proc/interrupts",
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/sys/devices/virtual/powercap",
  "/sys/firmware",
];

const readonlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
