// What one seed's world is like: each draws its own mix of cluster, limits, weather and work ("swarm testing").

import type { CoreLimits } from "../../../manager/raft/core.ts";
import { Dice, streamOf } from "./chance.ts";

/** Mean milliseconds between two events of a kind; infinite: never. */
type Every = number;

export interface Settings {
  readonly seed: number;
  readonly safetyMs: number;
  readonly voters: number;
  readonly learners: number;
  /** The first configuration is the log's first entry, as in a real cluster; else it is given to the constructor. */
  readonly isInLog: boolean;
  readonly limits: Partial<CoreLimits>;
  readonly electionTicks: number;
  readonly tickMs: number;
  /** Clocks run at most so much faster or slower. */
  readonly skew: number;
  readonly network: {
    readonly delayMs: number;
    readonly jitterMs: number;
    readonly loss: number;
    readonly duplicate: number;
    /** Part of the messages that take ten times as long. */
    readonly straggle: number;
    /** Part of the failed deliveries the sender is told about. */
    readonly tellsUnreachable: number;
    readonly perLinkMax: number;
  };
  readonly disk: {
    readonly writeMs: number;
    /** Part of the writes that take up to ten election timeouts. */
    readonly stall: number;
    /** Part of the crashes after which the newest snapshot file is unreadable. */
    readonly snapshotDamage: number;
  };
  readonly applyMs: number;
  /** Part of the inputs after which the shell asks for outputs later, with the next one. */
  readonly batches: number;
  readonly snapshotEvery: number;
  readonly reportsSnapshots: number;
  readonly refusesRemoved: boolean;
  readonly every: {
    readonly crash: Every;
    readonly massCrash: Every;
    readonly partition: Every;
    readonly pause: Every;
    readonly clog: Every;
    readonly skewChange: Every;
    readonly transfer: Every;
    readonly membership: Every;
    readonly campaign: Every;
  };
  readonly downMs: number;
  readonly partitionMs: number;
  readonly pauseMs: number;
  readonly clients: number;
  readonly keys: number;
  readonly thinkMs: number;
  readonly payloadBytes: number;
  readonly reads: number;
  /** Quiet periods: in this part of the time clients do nothing. */
  readonly quiet: number;
  /** Liveness: everyone comes back, or only a quorum. */
  readonly healsAll: boolean;
}

const never = Number.POSITIVE_INFINITY;

export function settingsOf(seed: number): Settings {
  const dice = new Dice(streamOf(seed, "settings"));
  const electionTicks = dice.between(3, 10);
  const tickMs = 100;
  const timeoutMs = electionTicks * tickMs;
  const maybe = (probability: number, low: number, high: number): Every =>
    dice.chance(probability) ? dice.between(low, high) : never;
  const part = (probability: number, most: number) =>
    dice.chance(probability) ? dice.random() * most : 0;
  const preVote = dice.chance(0.8);
  const checkQuorum = dice.chance(0.7);
  return {
    seed,
    safetyMs: 60_000,
    voters: dice.oneOf(1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7),
    learners: dice.oneOf(0, 0, 0, 1, 2),
    isInLog: dice.chance(0.6),
    limits: { ...limitsOf(dice), electionTicks, preVote, checkQuorum },
    electionTicks,
    tickMs,
    skew: dice.oneOf(0, 0.05, 0.2),
    network: networkOf(dice, timeoutMs, part),
    disk: {
      writeMs: dice.oneOf(0, 1, 5, 30, timeoutMs / 4),
      stall: part(0.25, 0.02),
      snapshotDamage: part(0.3, 0.5),
    },
    applyMs: dice.oneOf(0, 0, 0, 2, 40),
    batches: part(0.4, 0.8),
    snapshotEvery: dice.oneOf(4, 8, 15, 40, 200),
    reportsSnapshots: dice.oneOf(1, 0.9, 0.5, 0),
    refusesRemoved: !(preVote && checkQuorum) || dice.chance(0.5),
    every: {
      crash: maybe(0.75, 1_500, 20_000),
      massCrash: maybe(0.15, 10_000, 40_000),
      partition: maybe(0.7, 2_000, 20_000),
      pause: maybe(0.4, 2_000, 20_000),
      clog: maybe(0.3, 2_000, 20_000),
      skewChange: maybe(0.3, 3_000, 15_000),
      transfer: maybe(0.4, 2_000, 15_000),
      membership: maybe(0.5, 1_500, 15_000),
      campaign: maybe(0.2, 3_000, 20_000),
    },
    downMs: dice.oneOf(50, 500, 3_000, 10_000),
    partitionMs: dice.oneOf(timeoutMs, 2_000, 5_000, 12_000),
    pauseMs: dice.oneOf(timeoutMs / 2, 2 * timeoutMs, 5_000),
    clients: dice.between(1, 5),
    keys: dice.oneOf(1, 2, 5),
    thinkMs: dice.oneOf(20, 100, 300, 1_000),
    payloadBytes: dice.oneOf(16, 16, 200, 3_000),
    reads: dice.oneOf(0.2, 0.5, 0.8),
    quiet: part(0.4, 0.7),
    healsAll: dice.chance(0.4),
  };
}

function limitsOf(dice: Dice): Partial<CoreLimits> {
  return {
    heartbeatTicks: dice.oneOf(1, 1, 1, 2),
    appendEntriesMax: dice.oneOf(1, 2, 4, 256),
    appendBytesMax: dice.oneOf(100, 4_000, 256 * 1024),
    inflightMessagesMax: dice.oneOf(1, 2, 8, 64),
    inflightBytesMax: dice.oneOf(100, 10_000, 4 * 1024 * 1024),
    uncommittedEntriesMax: dice.oneOf(3, 20, 10_000),
    uncommittedBytesMax: dice.oneOf(300, 10_000, 16 * 1024 * 1024),
    applyGapMax: dice.oneOf(5, 5_000),
    applyEntriesMax: dice.oneOf(1, 3, 256),
    entriesKept: dice.oneOf(0, 0, 3, 20, 5_000),
    bytesKept: dice.oneOf(200, 32 * 1024 * 1024),
    readsMax: dice.oneOf(2, 10_000),
    lazyCommit: dice.chance(0.4),
    strictMembers: dice.chance(0.5),
    learnerLagMax: dice.oneOf(3, 1_000),
    snapshotTicksMax: dice.oneOf(20, 60),
  };
}

function networkOf(
  dice: Dice,
  timeoutMs: number,
  part: (probability: number, most: number) => number,
): Settings["network"] {
  return {
    delayMs: dice.oneOf(0, 1, 1, 10, 40),
    jitterMs: dice.oneOf(0, 2, 20, timeoutMs / 4, timeoutMs),
    loss: part(0.5, dice.oneOf(0.02, 0.1, 0.5)),
    duplicate: part(0.4, dice.oneOf(0.05, 0.5)),
    straggle: part(0.4, 0.1),
    tellsUnreachable: dice.oneOf(0, 0.3, 1),
    perLinkMax: dice.oneOf(20, 200, 1_000),
  };
}
