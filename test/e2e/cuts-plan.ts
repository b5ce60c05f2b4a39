// What happens to the hosts and when, drawn from a seed: cuts and losses of power that overlap, programs that crash. Pure.

import type { Program } from "../../deploy/lab/processes.ts";

export type Fault = {
  readonly host: string;
  /** Milliseconds after the round's begin. */
  readonly startMs: number;
} & (
  | { readonly kind: "cut"; readonly lengthMs: number }
  | { readonly kind: "power"; readonly lengthMs: number }
  | { readonly kind: "crash"; readonly program: Program }
);

/** Faults of one round, no two of one host. */
export type Round = readonly Fault[];

export interface Length {
  readonly cuts: number;
  readonly reboots: number;
  /** Seconds of the longest cut. */
  readonly secondsMax: number;
}

const startMsMax = 2_000;
const powerMsMax = 8_000;
const programs = ["agent", "keeper", "manager", "containerd"] as const;

/** As many cuts, reboots and crashes of programs (as many as reboots) as asked for. The first of `hosts` is the manager. */
export function planRounds(
  hosts: readonly string[],
  length: Length,
  random: () => number,
): readonly Round[] {
  const all: Fault["kind"][] = [
    ...new Array<"cut">(length.cuts).fill("cut"),
    ...new Array<"power">(length.reboots).fill("power"),
    ...new Array<"crash">(length.reboots).fill("crash"),
  ];
  shuffle(all, random);
  const rounds: Round[] = [];
  while (all.length > 0) {
    const kinds = all.splice(0, 1 + Math.floor(random() * hosts.length));
    const places = shuffle([...hosts], random);
    rounds.push(
      kinds.map((kind, i) => faultOf(kind, places[i] ?? "", hosts[0] ?? "", length, random)),
    );
  }
  return rounds;
}

/** When it is over, in milliseconds after the round's begin. */
export function endMsOf(fault: Fault): number {
  return fault.startMs + (fault.kind === "crash" ? 0 : fault.lengthMs);
}

function faultOf(
  kind: Fault["kind"],
  host: string,
  manager: string,
  length: Length,
  random: () => number,
): Fault {
  const startMs = random() * startMsMax;
  switch (kind) {
    case "cut":
      return { kind, host, startMs, lengthMs: 1000 * cutSeconds(length.secondsMax, random) };
    case "power":
      return { kind, host, startMs, lengthMs: random() * powerMsMax };
    case "crash": {
      const there = programs.filter((program) => program !== "manager" || host === manager);
      const program = there[Math.floor(random() * there.length)] ?? "agent";
      return { kind, host, startMs, program };
    }
  }
}

/** Most are short: around the 4 s after which a host counts as lost; some take long. */
function cutSeconds(max: number, random: () => number): number {
  const kind = random();
  const [least, most] = kind < 0.7 ? [1, 5] : kind < 0.93 ? [5, 20] : [20, 180];
  return Math.min(max, least + random() * (most - least));
}

function shuffle<T>(list: T[], random: () => number): T[] {
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [list[i], list[j]] = [list[j] as T, list[i] as T];
  }
  return list;
}

/** mulberry32 */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
