// POST /containers/create: the shape of its body. What Docker has and nobody here reads stays out.

import { z } from "zod";
import { flag, map, text, texts } from "./fields.ts";

const whole = z
  .int()
  .nullish()
  .transform((value) => value ?? 0);
const marks = z
  .record(z.string(), z.unknown())
  .nullish()
  .transform((value) => Object.keys(value ?? {}));
/** Old clients send one word for a list. */
const words = z
  .union([z.string(), z.array(z.string())])
  .nullish()
  .transform((value) => (typeof value === "string" ? [value] : (value ?? null)));
const list = z
  .array(z.record(z.string(), z.unknown()))
  .nullish()
  .transform((value) => value ?? []);

const binding = z.object({ HostIp: text, HostPort: text });

export const endpointBody = z.object({
  IPAMConfig: z.object({ IPv4Address: text, IPv6Address: text, LinkLocalIPs: texts }).nullish(),
  Aliases: texts,
  Links: texts,
  MacAddress: text,
  DriverOpts: map,
  GwPriority: whole,
});

function listOf<T extends z.ZodType>(item: T) {
  return z
    .array(item)
    .nullish()
    .transform((value) => value ?? []);
}
const throttled = listOf(z.object({ Path: text, Rate: whole }));

const hostBody = z.object({
  Binds: texts,
  LogConfig: z.object({ Type: text, Config: map }).nullish(),
  NetworkMode: text,
  PortBindings: z
    .record(z.string(), z.array(binding).nullable())
    .nullish()
    .transform((value) => value ?? {}),
  RestartPolicy: z.object({ Name: text, MaximumRetryCount: whole }).nullish(),
  AutoRemove: flag,
  VolumeDriver: text,
  VolumesFrom: texts,
  CapAdd: words.transform((value) => value ?? []),
  CapDrop: words.transform((value) => value ?? []),
  CgroupnsMode: text,
  Dns: texts,
  DnsOptions: texts,
  DnsSearch: texts,
  ExtraHosts: texts,
  GroupAdd: texts,
  IpcMode: text,
  Isolation: text,
  Links: texts,
  OomScoreAdj: whole,
  PidMode: text,
  Privileged: flag,
  PublishAllPorts: flag,
  ReadonlyRootfs: flag,
  SecurityOpt: texts,
  StorageOpt: map,
  Tmpfs: map,
  UTSMode: text,
  UsernsMode: text,
  ShmSize: whole,
  Sysctls: map,
  Runtime: text,
  CpuShares: whole,
  Memory: whole,
  NanoCpus: whole,
  CgroupParent: text,
  BlkioWeight: whole,
  BlkioWeightDevice: listOf(z.object({ Path: text, Weight: whole })),
  BlkioDeviceReadBps: throttled,
  BlkioDeviceWriteBps: throttled,
  BlkioDeviceReadIOps: throttled,
  BlkioDeviceWriteIOps: throttled,
  CpuPeriod: whole,
  CpuQuota: whole,
  CpuRealtimePeriod: whole,
  CpuRealtimeRuntime: whole,
  CpusetCpus: text,
  CpusetMems: text,
  Devices: listOf(z.object({ PathOnHost: text, PathInContainer: text, CgroupPermissions: text })),
  DeviceCgroupRules: texts,
  DeviceRequests: list,
  MemoryReservation: whole,
  MemorySwap: whole,
  MemorySwappiness: z.int().nullish(),
  OomKillDisable: flag,
  PidsLimit: whole,
  Ulimits: list,
  Mounts: list,
  MaskedPaths: z.array(z.string()).nullish(),
  ReadonlyPaths: z.array(z.string()).nullish(),
  Init: z.boolean().nullish(),
});

const wholeBody = z.object({
  // Beside HostConfig, where Docker's first clients have them.
  ...{ Memory: whole, MemorySwap: whole, CpuShares: whole },
  ...{ CpusetCpus: text, Cpuset: text, VolumeDriver: text, Runtime: text },
  Hostname: text,
  Domainname: text,
  User: text,
  AttachStdin: flag,
  AttachStdout: flag,
  AttachStderr: flag,
  ExposedPorts: marks,
  Tty: flag,
  OpenStdin: flag,
  StdinOnce: flag,
  Env: texts,
  Cmd: words,
  Healthcheck: z.record(z.string(), z.unknown()).nullish(),
  Image: text,
  Volumes: marks,
  WorkingDir: text,
  Entrypoint: words,
  NetworkDisabled: flag,
  MacAddress: text,
  Labels: map,
  StopSignal: text,
  StopTimeout: z.int().nullish(),
  HostConfig: hostBody.nullish().transform((value) => value ?? hostBody.parse({})),
  NetworkingConfig: z
    .object({
      EndpointsConfig: z
        .record(z.string(), endpointBody.nullable())
        .nullish()
        .transform((value) => value ?? {}),
    })
    .nullish()
    .transform((value) => value?.EndpointsConfig ?? {}),
});

export const createBody = wholeBody.transform(
  ({
    Memory,
    MemorySwap,
    CpuShares,
    CpusetCpus,
    Cpuset,
    VolumeDriver,
    Runtime,
    HostConfig,
    ...body
  }) => ({
    ...body,
    HostConfig: {
      ...HostConfig,
      Runtime: HostConfig.Runtime || Runtime,
      Memory: HostConfig.Memory || Memory,
      MemorySwap: HostConfig.MemorySwap || MemorySwap,
      CpuShares: HostConfig.CpuShares || CpuShares,
      CpusetCpus: HostConfig.CpusetCpus || CpusetCpus || Cpuset,
      VolumeDriver: HostConfig.VolumeDriver || VolumeDriver,
    },
  }),
);

export type CreateBody = z.infer<typeof createBody>;
export type HostBody = z.infer<typeof hostBody>;
export type EndpointBody = z.infer<typeof endpointBody>;

/** The one given where the body has none. */
export function withIpcMode(body: CreateBody, mode: "private" | "shareable"): CreateBody {
  const { HostConfig } = body;
  return { ...body, HostConfig: { ...HostConfig, IpcMode: HostConfig.IpcMode || mode } };
}
