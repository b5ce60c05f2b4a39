// Drives autoscaling on the leader: looks at what tasks use, remembers what was needed, and writes the number of replicas alone.

import { messageOf } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import { decide, type Need, needOf, rememberedMs, type Sample, scaled } from "./plan/autoscale.ts";
import type { Store } from "./store/types.ts";

const lookMs = 5_000;

export interface AutoscalerOptions {
  readonly store: Store;
  /** The last report of a task. */
  readonly sampleOf: (taskId: string) => Sample | undefined;
  readonly world: World;
  readonly log: Log;
}

/** Until the signal aborts. A write that fails is made by a later look, if it is still due. */
export async function runAutoscaler(
  options: AutoscalerOptions,
  signal: AbortSignal,
): Promise<void> {
  const { world } = options;
  const needs = new Map<string, readonly Need[]>();
  while (!signal.aborted) {
    await world.sleep(lookMs, signal).catch(() => {});
    if (!signal.aborted) await look(options, needs, signal);
  }
}

async function look(
  { store, sampleOf, world, log }: AutoscalerOptions,
  needs: Map<string, readonly Need[]>,
  signal: AbortSignal,
): Promise<void> {
  const now = world.now();
  const { state } = store;
  for (const id of needs.keys())
    if (state.table("service").get(id)?.Spec?.Autoscale === undefined) needs.delete(id);
  for (const service of state.table("service").values()) {
    const need = needOf(state, service, sampleOf, now);
    if (need === null) continue;
    // One look more than the window: it shows that the window is covered.
    const since = now - rememberedMs(service) - 2 * lookMs;
    const seen = [...(needs.get(service.ID) ?? []).filter(({ at }) => at >= since), need];
    needs.set(service.ID, seen);
    const decided = decide(service, seen, now);
    if (decided === null) continue;
    try {
      const object = scaled(service, { ...decided, at: now });
      await store.write([{ op: "put", kind: "service", object }], signal);
      log.info({ service: service.ID, why: object.ScalingStatus?.Message }, "a service is scaled");
    } catch (error) {
      log.warn({ service: service.ID, error: messageOf(error) }, "a service could not be scaled");
    }
  }
}
