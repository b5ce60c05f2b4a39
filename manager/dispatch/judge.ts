// Keeps the liveness of all nodes going: beats in, probes out, verdicts into the store.

import type { Node } from "../../proto/gen/types.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import type { State } from "../store/types.ts";
import { Liveness, type Outputs, startGraceMs, type Transition } from "./liveness.ts";
import type { StatusWriter } from "./status.ts";

const probesMax = 512;
const leavesForGood = "leave";

export interface FormerLeader {
  readonly nodeId: string;
  /** Monotonic ms. */
  readonly heardAt: number;
}

export interface JudgeOptions {
  readonly world: World;
  readonly log: Log;
  readonly status: StatusWriter;
  readonly addressOf: (nodeId: string) => string;
  /** Whether the host at the address answers. */
  readonly probe: (address: string, signal: AbortSignal) => Promise<boolean>;
  /** Who led before, when it was heard by this manager until lately: its own node has been silent since then. */
  readonly formerLeader: FormerLeader | null;
  /** Called when a node has been declared down. */
  readonly lost: (nodeId: string) => void;
}

export class Judge {
  readonly #options: JudgeOptions;
  readonly #liveness: Liveness;
  /** Nodes that are probed, and whether their host has answered. */
  readonly #probed = new Map<string, boolean>();
  #probing = 0;

  constructor(options: JudgeOptions) {
    this.#options = options;
    this.#liveness = new Liveness(options.world.monotonic());
  }

  /**
   * All nodes there are, and the cluster's heartbeat; nodes that are known already stay as they are. All get one full grace: most
   * have a session with another manager, which tells of them at once.
   */
  begin(state: State): void {
    const { world, formerLeader } = this.#options;
    const now = world.monotonic();
    this.#liveness.setPeriod((state.cluster?.Spec?.Dispatcher?.HeartbeatPeriod ?? 0) / 1e6);
    for (const node of state.table("node").values()) {
      const verdict = verdictOf(node);
      if (node.ID === formerLeader?.nodeId)
        this.#liveness.expectSilent(node.ID, formerLeader.heardAt, now, verdict);
      else
        this.#liveness.expect(node.ID, formerLeader === null ? now + startGraceMs : now, verdict);
    }
  }

  /** A node that has just joined. */
  expect(node: Node): void {
    const at = this.#options.world.monotonic() + startGraceMs;
    this.#liveness.expect(node.ID, at, verdictOf(node));
  }

  forget(nodeId: string): void {
    this.#probed.delete(nodeId);
    this.#liveness.forget(nodeId);
  }

  heard(nodeId: string): void {
    if (this.#probed.delete(nodeId))
      this.#options.log.info({ node: nodeId }, "a silent node is heard again");
    const transition = this.#liveness.heard(nodeId, this.#options.world.monotonic());
    if (transition !== null) this.#apply(transition);
  }

  /** The agent goes and will be back; with the reason "leave" it will not. */
  leaving(nodeId: string, reason: string): void {
    if (reason !== leavesForGood) {
      this.#liveness.leaving(nodeId);
      return;
    }
    const transition = this.#liveness.left(nodeId);
    if (transition !== null) this.#apply(transition);
  }

  async run(signal: AbortSignal): Promise<void> {
    const { world } = this.#options;
    while (!signal.aborted) {
      const outputs = this.#liveness.tick(world.monotonic());
      for (const transition of outputs.transitions) this.#apply(transition);
      for (const nodeId of outputs.probes) void this.#probe(nodeId, signal);
      this.#tellSuspicion(outputs);
      await world.sleep(Math.max(0, outputs.dueAt - world.monotonic()), signal).catch(() => {});
    }
  }

  #apply({ nodeId, verdict, message }: Transition): void {
    const { log, status } = this.#options;
    log.info({ node: nodeId, state: verdict, message }, "a node's state has changed");
    status.node(nodeId, { State: verdict, Message: message });
    if (verdict === "down") this.#options.lost(nodeId);
  }

  async #probe(nodeId: string, signal: AbortSignal): Promise<void> {
    const { world, probe, addressOf, log } = this.#options;
    if (this.#probing >= probesMax) return;
    this.#probing += 1;
    if (!this.#probed.has(nodeId)) {
      this.#probed.set(nodeId, false);
      log.info({ node: nodeId }, "a node's agent is silent; asking its host");
    }
    try {
      if (!(await probe(addressOf(nodeId), signal))) return;
      this.#liveness.probeAnswered(nodeId, world.monotonic());
      if (this.#probed.get(nodeId) !== false) return;
      this.#probed.set(nodeId, true);
      log.info({ node: nodeId }, "the host answers: its tasks stay while its agent is away");
    } finally {
      this.#probing -= 1;
    }
  }

  #tellSuspicion({ suspicion }: Outputs): void {
    if (suspicion === null) return;
    const sentence =
      suspicion === "begins"
        ? "many nodes fell silent at once: this manager or its network is suspected, no task is moved for 30 s"
        : "the suspicion is over";
    this.#options.log.warn({ suspicion }, sentence);
  }
}

function verdictOf(node: Node): "ready" | "down" | "unknown" {
  const state = node.Status?.State;
  return state === "ready" || state === "down" ? state : "unknown";
}
