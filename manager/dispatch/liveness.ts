// Which nodes are lost: pure. A node is lost when its host is silent, not when its agent is; see design.md, "Sessions".

/**
 * In heartbeat periods (two beats a period are due). After `probed` without a beat the host is asked; after `suspect` it counts
 * as silent; after `lost` without beat or answer it is gone. Lost has to lie between two promises: a host cut off for 3 s
 * (some tenths more, as commands take time, and half a second since its last beat) loses nothing, and tasks of a dead host
 * run elsewhere within 5 s.
 */
const probedPeriods = 1.5;
const suspectPeriods = 3;
const lostPeriods = 4.2;
const periodMsDefault = 1_000;
/**
 * An agent that was killed, is being upgraded, or said goodbye may be away for a minute while its host lives; and some
 * seconds more, to start again.
 */
const graceMs = 70_000;
const probeMs = 100;
/** Elections may take longer than a node takes to be lost: whoever leads then asks its host some times first. */
const watchedMsMin = 1_000;
/** A host that answers a probe is asked again after this. */
const probeAnsweredMs = 1_000;
/** After a time in which nobody watched (all managers were away, a node has just joined) agents get so long to come. */
export const startGraceMs = 6_000;
/** When many fall silent at once, it is more likely us or the network: nothing moves for so long. */
const suspicionMs = 30_000;
const silentNodesMin = 2;
const silentShareMax = 1 / 3;
/** While a host is silent, ticks come so often. */
export const tickMs = 50;
/** A tick that comes so much later than it was due: this process was stopped, and nobody is to blame for the silence. */
const lateTickMs = 400;

export type Verdict = "ready" | "down" | "unknown";

export interface Transition {
  readonly nodeId: string;
  readonly verdict: Verdict;
  readonly message: string;
}

export interface Outputs {
  readonly transitions: readonly Transition[];
  /** Nodes whose host to probe now. */
  readonly probes: readonly string[];
  /** Set when a suspicion begins or ends. */
  readonly suspicion: "begins" | "ends" | null;
  /** When to tick again. Beats in between only make it later than needed. */
  readonly dueAt: number;
}

interface Life {
  verdict: Verdict | null;
  /** The last beat. */
  agentAt: number;
  /** The last beat or answered probe. */
  hostAt: number;
  probedAt: number;
  isLeaving: boolean;
}

/** All times are milliseconds of a clock that never jumps. */
export class Liveness {
  readonly #lives = new Map<string, Life>();
  #dueAt: number;
  #suspiciousSince: number | null = null;
  #periodMs = periodMsDefault;

  constructor(now: number) {
    this.#dueAt = now;
  }

  /** The cluster's HeartbeatPeriod; shorter ones than our agents' beats allow count as 1 s. */
  setPeriod(ms: number): void {
    this.#periodMs = Math.max(periodMsDefault, ms);
  }

  /**
   * A node that is known but has not been heard here: it counts as heard at this time, which may lie ahead. Known ones stay as
   * they are.
   */
  expect(nodeId: string, at: number, verdict: Verdict | null): void {
    if (this.#lives.has(nodeId)) return;
    this.#lives.set(nodeId, {
      verdict,
      agentAt: at,
      hostAt: at,
      probedAt: Number.NEGATIVE_INFINITY,
      isLeaving: false,
    });
  }

  /** One that has been silent since then, before anybody here watched it: its host is asked for a while before it counts as lost. */
  expectSilent(nodeId: string, heardAt: number, now: number, verdict: Verdict | null): void {
    const lostMs = lostPeriods * this.#periodMs;
    this.expect(nodeId, Math.max(heardAt, now + watchedMsMin - lostMs), verdict);
  }

  forget(nodeId: string): void {
    this.#lives.delete(nodeId);
  }

  /** A Hello or a beat. Returns the transition when it was not ready before. */
  heard(nodeId: string, now: number): Transition | null {
    const life = this.#lives.get(nodeId);
    const verdict = life?.verdict ?? null;
    this.#lives.set(nodeId, {
      verdict: "ready",
      agentAt: now,
      hostAt: now,
      probedAt: Number.NEGATIVE_INFINITY,
      isLeaving: false,
    });
    return verdict === "ready" ? null : { nodeId, verdict: "ready", message: "" };
  }

  /** The agent stops on purpose and will be back: even a silent host keeps its tasks for the long grace. */
  leaving(nodeId: string): void {
    const life = this.#lives.get(nodeId);
    if (life !== undefined) life.isLeaving = true;
  }

  /** It will not be back: nothing of it is left. */
  left(nodeId: string): Transition | null {
    const life = this.#lives.get(nodeId);
    if (life === undefined || life.verdict === "down") return null;
    life.verdict = "down";
    return { nodeId, verdict: "down", message: "it has left the swarm" };
  }

  probeAnswered(nodeId: string, now: number): void {
    const life = this.#lives.get(nodeId);
    if (life !== undefined) life.hostAt = Math.max(life.hostAt, now);
  }

  verdict(nodeId: string): Verdict | null {
    return this.#lives.get(nodeId)?.verdict ?? null;
  }

  tick(now: number): Outputs {
    this.#forgiveOwnPause(now);
    const probedMs = probedPeriods * this.#periodMs;
    const suspectMs = suspectPeriods * this.#periodMs;
    const lostMs = lostPeriods * this.#periodMs;
    const lost: [string, Life][] = [];
    const silent: string[] = [];
    const probes: string[] = [];
    let alive = 0;
    for (const [nodeId, life] of this.#lives) {
      if (life.verdict === "down") continue;
      alive += 1;
      if (now - life.agentAt < probedMs) continue;
      if (isProbeDue(life, now)) {
        life.probedAt = now;
        probes.push(nodeId);
      }
      if (now - life.hostAt >= suspectMs) silent.push(nodeId);
      if (isLost(life, now, lostMs)) lost.push([nodeId, life]);
    }
    const suspicion = this.#suspect(silent.length, alive, now);
    const transitions =
      this.#suspiciousSince === null
        ? lost.map(([nodeId, life]) => declareDown(nodeId, life, now, lostMs))
        : this.#doubt(silent);
    this.#dueAt = this.#nextTick(now, probedMs);
    return { transitions, probes, suspicion, dueAt: this.#dueAt };
  }

  /** With everybody heard: when the first of them may have to be probed. */
  #nextTick(now: number, probedMs: number): number {
    let dueAt = now + probedMs;
    for (const { verdict, agentAt } of this.#lives.values())
      if (verdict !== "down") dueAt = Math.min(dueAt, agentAt + probedMs);
    return Math.max(dueAt, now + tickMs);
  }

  #forgiveOwnPause(now: number): void {
    const late = now - this.#dueAt;
    if (late < lateTickMs) return;
    for (const life of this.#lives.values()) {
      life.agentAt = Math.max(life.agentAt, Math.min(now, life.agentAt + late));
      life.hostAt = Math.max(life.hostAt, Math.min(now, life.hostAt + late));
    }
  }

  #suspect(silent: number, alive: number, now: number): Outputs["suspicion"] {
    const isMany = silent > silentNodesMin && silent > alive * silentShareMax;
    if (this.#suspiciousSince === null) {
      if (!isMany) return null;
      this.#suspiciousSince = now;
      return "begins";
    }
    if (isMany && now - this.#suspiciousSince < suspicionMs) return null;
    // Either they are back, or they stayed silent and now count as lost.
    this.#suspiciousSince = null;
    return "ends";
  }

  #doubt(silent: readonly string[]): Transition[] {
    const doubted: Transition[] = [];
    for (const nodeId of silent) {
      const life = this.#lives.get(nodeId);
      if (life === undefined || life.verdict === "unknown") continue;
      life.verdict = "unknown";
      doubted.push({
        nodeId,
        verdict: "unknown",
        message: "silent together with many others: the network is suspected, nothing is moved yet",
      });
    }
    return doubted;
  }
}

function isProbeDue(life: Life, now: number): boolean {
  const wasAnswered = life.hostAt > life.agentAt && life.hostAt >= life.probedAt;
  return now - life.probedAt >= (wasAnswered ? probeAnsweredMs : probeMs);
}

function isLost(life: Life, now: number, lostMs: number): boolean {
  if (now - life.agentAt >= graceMs) return true;
  return !life.isLeaving && now - life.hostAt >= lostMs;
}

function declareDown(nodeId: string, life: Life, now: number, lostMs: number): Transition {
  life.verdict = "down";
  const isHostAlive = now - life.hostAt < lostMs;
  const message = isHostAlive
    ? `its agent has been away for ${Math.round((now - life.agentAt) / 1000)} s`
    : `its host has been silent for ${((now - life.hostAt) / 1000).toFixed(1)} s`;
  return { nodeId, verdict: "down", message };
}
