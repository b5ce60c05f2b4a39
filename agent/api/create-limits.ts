// The limits of a container as Docker checks them, in its sentences. Pure.

import { cpus } from "node:os";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { HostConfig } from "../engine/container-types.ts";

const memoryMin = 6 * 1024 * 1024;
const [weightMin, weightMax] = [10, 1000];

export type Limits = Required<
  Pick<
    HostConfig,
    | "Memory"
    | "MemorySwap"
    | "MemoryReservation"
    | "NanoCpus"
    | "CpuPeriod"
    | "CpuQuota"
    | "CpuShares"
    | "CpusetCpus"
    | "CpusetMems"
    | "PidsLimit"
  >
>;

/** Throws `invalid`. */
export function checkLimits(limits: Limits): void {
  const { Memory, MemorySwap, MemoryReservation, NanoCpus, CpuPeriod, CpuQuota } = limits;
  refuseIf(Memory !== 0 && Memory < memoryMin, "Minimum memory limit allowed is 6MB");
  refuseIf(
    Memory > 0 && MemorySwap > 0 && MemorySwap < Memory,
    "Minimum memoryswap limit should be larger than memory limit, see usage",
  );
  refuseIf(
    Memory === 0 && MemorySwap > 0,
    "You should always set the Memory limit when using Memoryswap limit, see usage",
  );
  refuseIf(MemorySwap < -1, "MemorySwap must be a positive integer or -1 for unlimited swap");
  refuseIf(
    MemoryReservation !== 0 && MemoryReservation < memoryMin,
    "Minimum memory reservation allowed is 6MB",
  );
  refuseIf(
    Memory > 0 && MemoryReservation > Memory,
    "Minimum memory limit can not be less than memory reservation limit, see usage",
  );
  const cores = cpus().length;
  refuseIf(
    NanoCpus < 0 || NanoCpus > cores * 1e9,
    `range of CPUs is from 0.01 to ${cores}.00, as there are only ${cores} CPUs available`,
  );
  for (const [name, value] of [
    ["Period", CpuPeriod],
    ["Quota", CpuQuota],
  ] as const)
    refuseIf(
      NanoCpus > 0 && value > 0,
      `Conflicting options: Nano CPUs and CPU ${name} cannot both be set.`,
    );
  refuseIf(
    CpuPeriod !== 0 && (CpuPeriod < 1_000 || CpuPeriod > 1_000_000),
    "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
  );
  refuseIf(CpuQuota > 0 && CpuQuota < 1_000, "CPU cfs quota can not be less than 1ms (i.e. 1000)");
  const setPattern = /^\d+(-\d+)?(,\d+(-\d+)?)*$/;
  for (const name of ["CpusetCpus", "CpusetMems"] as const)
    refuseIf(
      limits[name] !== "" && !setPattern.test(limits[name]),
      `Invalid value ${limits[name]} for ${name === "CpusetCpus" ? "cpuset cpus" : "cpuset mems"}`,
    );
}

/** 0: none. Throws `invalid`. */
export function checkWeight(weight: number): void {
  refuseIf(
    weight !== 0 && (weight < weightMin || weight > weightMax),
    `Range of blkio weight is from ${weightMin} to ${weightMax}`,
  );
}

type BlockIo = Pick<
  HostConfig,
  | "BlkioWeight"
  | "BlkioWeightDevice"
  | "BlkioDeviceReadBps"
  | "BlkioDeviceWriteBps"
  | "BlkioDeviceReadIOps"
  | "BlkioDeviceWriteIOps"
>;

/** Those that say something. Throws `invalid`. */
export function blockIoOf(host: Required<BlockIo>): BlockIo {
  const { BlkioWeight, BlkioWeightDevice, ...throttles } = host;
  for (const weight of [BlkioWeight, ...BlkioWeightDevice.map(({ Weight }) => Weight)])
    checkWeight(weight);
  const names = [
    ...(["BlkioDeviceReadBps", "BlkioDeviceWriteBps"] as const),
    ...(["BlkioDeviceReadIOps", "BlkioDeviceWriteIOps"] as const),
  ];
  for (const name of names)
    for (const { Path, Rate } of throttles[name])
      refuseIf(Rate < 0, `invalid rate for device ${Path}: ${Rate}`);
  const lists = [...names, "BlkioWeightDevice" as const].filter((name) => host[name].length > 0);
  return {
    ...(BlkioWeight === 0 ? {} : { BlkioWeight }),
    ...Object.fromEntries(lists.map((name) => [name, host[name]])),
  };
}

/** What the kernel here cannot do, in Docker's sentence. */
export function discarded(
  { BlkioWeight = 0, BlkioWeightDevice = [] }: HostConfig,
  canWeighIo: boolean,
): readonly string[] {
  const isWeighed = BlkioWeight !== 0 || BlkioWeightDevice.length > 0;
  return isWeighed && !canWeighIo
    ? [
        "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
      ]
    : [];
}

function refuseIf(isWrong: boolean, sentence: string): void {
  if (isWrong) throw new SwarmError("invalid", sentence);
}
