// The limits of a container as the OCI specification has them. Pure.

import type { HostFacts } from "./host.ts";
import type { BlockIo, SpecResources } from "./spec-types.ts";

const cpuPeriodUs = 100_000;
const cpuQuotaUsMin = 1_000;

export interface LimitsInput {
  /** 0: no limit. */
  readonly memoryBytes: number;
  readonly memoryReservationBytes: number;
  /** Memory and swap together; 0: as much swap as memory; −1: unlimited. */
  readonly memorySwapBytes: number;
  /** 1e9 is one core. 0: no limit. */
  readonly nanoCpus: number;
  readonly pidsMax: number;
  readonly cpu?: {
    readonly shares?: number;
    readonly periodUs?: number;
    readonly quotaUs?: number;
    readonly cpus?: string;
    readonly mems?: string;
  };
  readonly isOomKillDisabled?: boolean;
  readonly swappiness?: number;
  readonly blockIo?: BlockIo;
}

/** The limits alone, as an update of what runs takes them. */
export function limitsOfResources(
  input: LimitsInput,
  host: Pick<HostFacts, "canWeighIo">,
  warnings: string[],
): Omit<SpecResources, "devices"> {
  const memory = {
    ...(input.memoryBytes > 0 ? { limit: input.memoryBytes } : {}),
    ...(input.memoryReservationBytes > 0 ? { reservation: input.memoryReservationBytes } : {}),
    ...(input.memorySwapBytes !== 0
      ? { swap: input.memorySwapBytes }
      : input.memoryBytes > 0
        ? { swap: input.memoryBytes * 2 }
        : {}),
    ...(input.isOomKillDisabled === true ? { disableOOMKiller: true } : {}),
    ...(input.swappiness === undefined ? {} : { swappiness: input.swappiness }),
  };
  const { shares = 0, periodUs = 0, quotaUs = 0, cpus = "", mems = "" } = input.cpu ?? {};
  const quota = Math.max(cpuQuotaUsMin, Math.round((input.nanoCpus / 1e9) * cpuPeriodUs));
  const cpu = {
    ...(input.nanoCpus > 0 ? { quota, period: cpuPeriodUs } : {}),
    ...(quotaUs !== 0 ? { quota: quotaUs } : {}),
    ...(periodUs > 0 ? { period: periodUs } : {}),
    ...(shares > 0 ? { shares } : {}),
    ...(cpus === "" ? {} : { cpus }),
    ...(mems === "" ? {} : { mems }),
  };
  return {
    ...(Object.keys(memory).length > 0 ? { memory } : {}),
    ...(Object.keys(cpu).length > 0 ? { cpu } : {}),
    ...(input.pidsMax > 0 ? { pids: { limit: input.pidsMax } } : {}),
    ...blockIoOf(input.blockIo, host, warnings),
  };
}

function blockIoOf(
  { weight, weightDevice, ...throttles }: BlockIo = {},
  { canWeighIo }: Pick<HostFacts, "canWeighIo">,
  warnings: string[],
): Pick<SpecResources, "blockIO"> {
  const weights = {
    ...(weight === undefined ? {} : { weight }),
    ...(weightDevice === undefined ? {} : { weightDevice }),
  };
  const isWeighed = Object.keys(weights).length > 0;
  if (isWeighed && !canWeighIo)
    warnings.push("this kernel cannot weigh block I/O: the weight is left out");
  const blockIO = { ...(canWeighIo ? weights : {}), ...throttles };
  return Object.keys(blockIO).length === 0 ? {} : { blockIO };
}
