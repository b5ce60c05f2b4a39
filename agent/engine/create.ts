// Making a container: from what was asked for and its image to a snapshot, files, a specification and a record.

import { access, mkdir, readFile, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import type { DaemonConfig } from "../../proto/config.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import { signalNumber } from "../../proto/kit/signals.ts";
import { timestamp, type World } from "../../proto/kit/world.ts";
import type { HostFacts } from "../runtime/host.ts";
import type { LimitsInput } from "../runtime/limits.ts";
import { findRuntime, type OciRuntimes } from "../runtime/oci-runtimes.ts";
import { buildSpec } from "../runtime/spec.ts";
import type { SpecMount, SpecUser } from "../runtime/spec-types.ts";
import type { Runtime, SnapshotMount } from "../runtime/types.ts";
import { cgroupPath } from "./cgroup.ts";
import type { ContainerConfig, CreateContainer, HostConfig } from "./container-types.ts";
import { commandOf, mergeConfig, processEnv } from "./defaults.ts";
import { findDevices, type GivenDevices } from "./devices.ts";
import { hostsFile, resolvFile } from "./etc.ts";
import type { Images } from "./images.ts";
import type { Libc } from "./libc.ts";
import { logDefaults, logSettings } from "./log-limits.ts";
import { fillVolume, prepareMounts, tmpfsMounts } from "./mounts.ts";
import { nobody, type OwnUsers } from "./own-user.ts";
import type { ContainerFile, Records } from "./records.ts";
import { withRootfs } from "./rootfs.ts";
import { parseSecurity } from "./security.ts";
import { shmMounts } from "./sharing.ts";
import type { Volumes } from "./volumes.ts";

export interface CreatorParts {
  readonly runtime: Runtime;
  readonly images: Images;
  readonly records: Records;
  readonly volumes: Volumes;
  readonly users: OwnUsers;
  readonly host: HostFacts;
  readonly ociRuntimes: OciRuntimes;
  readonly libc: Libc;
  readonly config: DaemonConfig;
  readonly world: World;
  readonly log: Log;
}

const initPaths = [
  "/usr/bin/docker-init",
  "/usr/libexec/docker/docker-init",
  "/usr/bin/tini-static",
  "/usr/bin/tini",
];
const initTarget = "/sbin/docker-init";

export class Creator {
  readonly #parts: CreatorParts;

  constructor(parts: CreatorParts) {
    this.#parts = parts;
  }

  /** Leaves nothing behind when it fails. Throws `not_found` for the image, `invalid` for what cannot be. */
  async create(
    wanted: CreateContainer,
    id: string,
  ): Promise<{ readonly record: ContainerFile; readonly mounts: readonly SnapshotMount[] }> {
    const { runtime, images, records, volumes } = this.#parts;
    const oci = findRuntime(this.#parts.ociRuntimes, wanted.host.Runtime ?? "");
    const image = await images.find(wanted.config.Image);
    const config = mergeConfig(withHostname(wanted), image.config, id);
    signalNumber(config.StopSignal ?? "");
    const directory = records.path(id);
    await mkdir(records.logs(id), { recursive: true, mode: 0o710 });
    const anonymous: string[] = [];
    try {
      const [snapshot, prepared, etc] = await allOf(
        runtime.prepareSnapshot(id, image.chainId),
        prepareMounts(
          ...([wanted.host.Mounts ?? [], image.config.config.Volumes, volumes, anonymous] as const),
          () => records.notePending(id, anonymous),
        ),
        this.#etcFiles(id, wanted, config),
      );
      const container = { id, config, host: wanted.host };
      const user = await this.#parts.users.ofImage(image.chainId, container, snapshot);
      if (prepared.fresh.length > 0)
        await withRootfs(this.#parts.libc, directory, snapshot, async (root) => {
          for (const fresh of prepared.fresh) await fillVolume(fresh, root);
        });
      const execRoot = this.#parts.config["exec-root"];
      const init = wanted.host.Init === true ? [await initMount()] : [];
      const mounts = [...etc, ...init, ...shmMounts(wanted.host, execRoot, id), ...prepared.mounts];
      mounts.push(...tmpfsMounts(wanted.host.Tmpfs ?? {}), ...fileMounts(wanted.files ?? []));
      const devices = await findDevices(wanted.host);
      const spec = this.#spec(wanted, config, user ?? nobody, mounts, devices, id);
      await runtime.createContainer({
        id,
        image: image.record.name,
        labels: {},
        snapshotKey: id,
        spec,
        oci,
      });
      const record: ContainerFile = {
        format: 1,
        id,
        name: wanted.name,
        created: timestamp(this.#parts.world.now()),
        imageId: image.id,
        config,
        host: {
          ...(wanted.host.LogDriver === undefined
            ? logSettings("", {}, logDefaults(this.#parts.config))
            : {}),
          ...wanted.host,
          Runtime: oci.name,
          Mounts: prepared.resolved,
        },
        networks: wanted.networks,
        networkNamespace: wanted.networkNamespace,
        state: {
          Status: "created",
          Pid: 0,
          ExitCode: 0,
          OOMKilled: false,
          Error: "",
          StartedAt: zeroTime,
          FinishedAt: zeroTime,
        },
        ...(wanted.local === undefined
          ? {}
          : { local: { ...wanted.local, isStoppedByHand: false, restartCount: 0 } }),
        process: spec.process,
        ...(user === null ? { isUserUnknown: true } : {}),
        anonymousVolumes: anonymous,
      };
      await records.save(record);
      return { record, mounts: snapshot };
    } catch (error) {
      await runtime.deleteContainer(id).catch(() => {});
      await runtime.removeSnapshot(id).catch(() => {});
      for (const name of anonymous) await volumes.remove(name).catch(() => {});
      await records.remove(id);
      throw error;
    }
  }

  #spec(
    wanted: CreateContainer,
    config: ContainerConfig,
    user: SpecUser,
    mounts: readonly SpecMount[],
    devices: GivenDevices,
    id: string,
  ) {
    const { host } = wanted;
    const command = commandOf(config);
    const { spec, warnings } = buildSpec(
      {
        args: host.Init === true && command.length > 0 ? [initTarget, "--", ...command] : command,
        env: processEnv(config),
        cwd: config.WorkingDir ?? "",
        user,
        hostname: config.Hostname ?? "",
        terminal: config.Tty === true,
        mounts,
        isRootReadonly: host.ReadonlyRootfs === true,
        privileged: host.Privileged === true,
        capabilityAdd: host.CapAdd ?? [],
        capabilityDrop: host.CapDrop ?? [],
        ...parseSecurity(host.SecurityOpt ?? []),
        cgroupsPath: cgroupPath(host, this.#parts.config, id),
        networkNamespace: wanted.networkNamespace,
        sysctls: host.Sysctls ?? {},
        ulimits: (host.Ulimits ?? []).map((u) => ({ name: u.Name, hard: u.Hard, soft: u.Soft })),
        oomScoreAdj: host.OomScoreAdj ?? 0,
        ...limitsOf(host),
        shmBytes: host.IpcMode === "none" ? null : (host.ShmSize ?? 0),
        devices: devices.nodes,
        deviceRules: devices.rules,
        blockIo: devices.blockIo,
        namespaces: {
          pid: host.PidMode === "host" ? "host" : "",
          ipc: host.IpcMode === "host" ? "host" : "",
          uts: host.UTSMode ?? "",
          cgroup: host.CgroupnsMode ?? "",
        },
        ...(host.MaskedPaths === undefined ? {} : { maskedPaths: host.MaskedPaths }),
        ...(host.ReadonlyPaths === undefined ? {} : { readonlyPaths: host.ReadonlyPaths }),
      },
      this.#parts.host,
    );
    for (const warning of warnings) this.#parts.log.warn({ container: id }, warning);
    return spec;
  }

  async #etcFiles(
    id: string,
    wanted: CreateContainer,
    config: ContainerConfig,
  ): Promise<readonly SpecMount[]> {
    const { host } = wanted;
    const other = /^container:(.+)$/.exec(wanted.local?.networkMode ?? "")?.[1];
    if (other !== undefined) return etcMounts(this.#parts.records.path(other));
    const hostname = config.Hostname ?? "";
    const resolv = resolvFile({
      isOnHostNetwork: wanted.networkNamespace === "",
      hostFile: await readFile("/etc/resolv.conf", "utf8").catch(() => ""),
      servers: host.Dns ?? [],
      search: host.DnsSearch ?? [],
      options: host.DnsOptions ?? [],
    });
    const gateway = Object.values(wanted.networks)[0]?.Gateway ?? "127.0.0.1";
    const files: Readonly<Record<string, string>> = {
      hosts: hostsFile(hostname, wanted.networks, host.ExtraHosts ?? [], gateway),
      hostname: `${hostname}\n`,
      "resolv.conf": resolv,
    };
    const directory = await this.#parts.records.makeEtc(id, wanted.local === undefined);
    for (const [name, content] of Object.entries(files))
      await writeFile(join(directory, name), content, { mode: 0o644 });
    return etcMounts(directory);
  }
}

const etcNames = ["hosts", "hostname", "resolv.conf"];

/** Who shares a network shares its files. */
function etcMounts(directory: string): readonly SpecMount[] {
  return etcNames.map((name) => ({
    destination: `/etc/${name}`,
    type: "bind",
    source: join(directory, name),
    options: ["rbind", "rprivate", "rw"],
  }));
}

function fileMounts(files: NonNullable<CreateContainer["files"]>): readonly SpecMount[] {
  const options = ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"];
  return files.map(({ source, target }) => ({
    destination: target,
    type: "bind",
    source,
    options,
  }));
}

/** The limits of a container, as its specification has them. */
export function limitsOf(host: HostConfig): Omit<LimitsInput, "blockIo"> {
  return {
    memoryBytes: host.Memory ?? 0,
    memoryReservationBytes: host.MemoryReservation ?? 0,
    memorySwapBytes: host.MemorySwap ?? 0,
    nanoCpus: host.NanoCpus ?? 0,
    pidsMax: host.PidsLimit ?? 0,
    isOomKillDisabled: host.OomKillDisable === true,
    ...(host.MemorySwappiness === undefined ? {} : { swappiness: host.MemorySwappiness }),
    cpu: {
      shares: host.CpuShares ?? 0,
      periodUs: host.CpuPeriod ?? 0,
      quotaUs: host.CpuQuota ?? 0,
      cpus: host.CpusetCpus ?? "",
      mems: host.CpusetMems ?? "",
    },
  };
}

/** On the host's network a container has the host's name. */
function withHostname({ config, networkNamespace }: CreateContainer): ContainerConfig {
  return networkNamespace === "" && !config.Hostname ? { ...config, Hostname: hostname() } : config;
}

/** All at once; fails only when none is under way any more, so that what they made can be removed. */
async function allOf<A, B, C>(a: Promise<A>, b: Promise<B>, c: Promise<C>): Promise<[A, B, C]> {
  await Promise.allSettled([a, b, c]);
  return Promise.all([a, b, c]);
}

/** Go's zero time, which Docker shows for "not yet". */
export const zeroTime = "0001-01-01T00:00:00Z";

async function initMount(): Promise<SpecMount> {
  for (const source of initPaths) {
    const isThere = await access(source).then(
      () => true,
      () => false,
    );
    if (isThere)
      return { destination: initTarget, type: "bind", source, options: ["bind", "rprivate", "ro"] };
  }
  throw new SwarmError(
    "unsupported",
    "an init process was asked for, but this machine has none: install tini",
  );
}
