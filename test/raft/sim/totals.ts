// Sums over seeds, and how much of each there has to be for a run to prove anything.

import type { Totals } from "./simulation.ts";

/** What a seed brings on average at the least. */
const perSeedMin: Partial<Record<keyof Totals, number>> = {
  simulatedSeconds: 59,
  elections: 3,
  commits: 100,
  writesDone: 60,
  swapsDone: 25,
  readsDone: 40,
  crashes: 2,
  restarts: 1.5,
  tornWrites: 0.05,
  partitions: 1.5,
  oneWayPartitions: 0.5,
  pauses: 0.3,
  stalls: 0.3,
  snapshotsTaken: 10,
  snapshotsInstalled: 0.5,
  damagedSnapshots: 0.1,
  membershipsCommitted: 0.7,
  jointsCommitted: 0.2,
  transfers: 0.5,
  lost: 50,
  duplicated: 50,
};

/** The same, with the whole manager above. */
const perSwarmSeedMin: Partial<Record<keyof Totals, number>> = {
  simulatedSeconds: 60,
  elections: 3,
  commits: 100,
  crashes: 2,
  partitions: 1,
  snapshotsTaken: 5,
  containersStarted: 30,
  ordersDone: 8,
  ordersUnknown: 0.1,
  hostsLost: 2,
  agentsMoved: 0.5,
};

/** Fewer seeds than this need not show everything. */
const seedsMin = 50;

export function addTotals(sum: Totals | null, more: Totals): Totals {
  if (sum === null) return more;
  const keys = Object.keys(more) as (keyof Totals)[];
  const added = keys.map((key) => [
    key,
    key === "recoveryMsMax" ? Math.max(sum[key], more[key]) : sum[key] + more[key],
  ]);
  return Object.fromEntries(added) as Totals;
}

/** What there was too little of; empty: nothing. */
export function shortfalls(totals: Totals, seeds: number, isSwarm = false): readonly string[] {
  if (seeds < seedsMin) return [];
  return (Object.entries(isSwarm ? perSwarmSeedMin : perSeedMin) as [keyof Totals, number][])
    .filter(([key, least]) => totals[key] < least * seeds)
    .map(([key, least]) => `${key}: ${Math.round(totals[key])}, at least ${least * seeds} wanted`);
}

export function printTotals(totals: Totals): string {
  return (Object.entries(totals) as [string, number][])
    .map(([key, value]) => `${key} ${Math.round(value)}`)
    .join(" · ");
}
