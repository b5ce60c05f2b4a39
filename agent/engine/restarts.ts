// When a container made by hand is started again by itself: Docker's restart policies and their back-off. Pure.

import type { LocalSettings } from "./container-types.ts";

const waitMsMin = 100;
const waitMsMax = 60_000;
/** Having run so long, a container counts as well: the next wait is the shortest again. */
const wellMs = 10_000;

export interface Ended {
  readonly exitCode: number;
  readonly local: Pick<LocalSettings, "restart" | "isStoppedByHand" | "restartCount">;
}

export function isRestarted({ exitCode, local }: Ended): boolean {
  if (local.isStoppedByHand) return false;
  const { Name, MaximumRetryCount } = local.restart;
  if (Name === "always" || Name === "unless-stopped") return true;
  if (Name !== "on-failure" || exitCode === 0) return false;
  return MaximumRetryCount === 0 || local.restartCount < MaximumRetryCount;
}

/** After a start of the daemon: `always` also brings back what was stopped by hand, but nothing that never ran. */
export function isRevived(ended: Ended, hasRun: boolean): boolean {
  if (!hasRun) return false;
  return ended.local.restart.Name === "always" || isRestarted(ended);
}

/** `lastMs`: the wait before, 0 for none; `ranMs`: how long it ran since. */
export function restartWaitMs(lastMs: number, ranMs: number): number {
  if (lastMs === 0 || ranMs >= wellMs) return waitMsMin;
  return Math.min(lastMs * 2, waitMsMax);
}
