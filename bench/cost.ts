// What an act costs: seconds that pass, and seconds of CPU.

import type { Figure } from "./record.ts";
import type { Cluster } from "./services.ts";

export interface Cost {
  readonly value: number;
  readonly cpu: number;
}

/** Seconds that pass, and seconds of CPU that the hosts use meanwhile: on a busy machine the latter say more. */
export async function cost({ side }: Cluster, act: () => Promise<unknown>): Promise<Cost> {
  const before = side.cpuSeconds();
  const value = await seconds(act);
  return { value, cpu: side.cpuSeconds() - before };
}

export async function seconds(act: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await act();
  return (performance.now() - start) / 1000;
}

export function figuresOf(name: string, { value, cpu }: Cost): readonly Figure[] {
  return [
    { name, unit: "s", value },
    { name: `${name}: CPU`, unit: "s", value: cpu },
  ];
}
