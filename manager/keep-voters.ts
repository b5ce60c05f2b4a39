// The leader keeps Raft's members as the node objects want them, and what those say of the managers true.

import { messageOf, SwarmError } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import { withStatus } from "./identity/managers.ts";
import type { Raft } from "./raft/types.ts";
import type { Change, State, Store } from "./store/types.ts";
import { levelOf, type Members, nextStep, statusOf, type VoterStep } from "./voters.ts";

/** Who answers is looked at so often; changes of node objects are seen at once. */
const lookMs = 500;
/** A new leader knows after this long who answers it. */
const settleMs = 1_500;
const stepMsMax = 5_000;
const retryMs = 1_000;
const retryMsMax = 10_000;
const writeMsMax = 5_000;

export interface KeepVotersOptions {
  readonly raft: Raft;
  readonly store: Store;
  readonly world: World;
  readonly log: Log;
  readonly nodeId: string;
}

/** Until the signal aborts. */
export async function keepVoters(options: KeepVotersOptions, signal: AbortSignal): Promise<void> {
  const keeper = new Keeper(options);
  await Promise.all([keeper.follow(signal), keeper.run(signal)]);
}

class Keeper {
  readonly #options: KeepVotersOptions;
  readonly #startedAt: number;
  #wake = new AbortController();
  #failures = 0;
  #notBefore = 0;

  constructor(options: KeepVotersOptions) {
    this.#options = options;
    this.#startedAt = options.world.monotonic();
  }

  async follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        for await (const { changes } of this.#options.store.watch(signal))
          if (changes.some(({ kind }) => kind === "node")) this.#wake.abort();
      } catch (error) {
        if (!(error instanceof SwarmError) || error.code !== "exhausted") throw error;
      }
    }
  }

  async run(signal: AbortSignal): Promise<void> {
    const { world, log } = this.#options;
    while (!signal.aborted) {
      this.#wake = new AbortController();
      try {
        const isMore = await this.#look(signal);
        if (isMore) continue;
      } catch (error) {
        if (signal.aborted) return;
        log.warn({ error: messageOf(error) }, "the managers' status could not be written");
      }
      await world.sleep(lookMs, AbortSignal.any([signal, this.#wake.signal])).catch(() => {});
    }
  }

  /** True when there may be more to do at once. */
  async #look(signal: AbortSignal): Promise<boolean> {
    const { store, world } = this.#options;
    const members = this.#members();
    if (members === null) return false;
    await this.#writeStatus(members, signal);
    const step = nextStep(store.state, members);
    if (step === null || world.monotonic() < this.#notBefore) return false;
    return this.#take(step, signal);
  }

  #members(): Members | null {
    const { raft, nodeId } = this.#options;
    const { role, last, configuration, followers } = raft.status();
    if (role !== "leader") return null;
    return { self: nodeId, last, followers, ...configuration };
  }

  async #writeStatus(members: Members, signal: AbortSignal): Promise<void> {
    const { store, world } = this.#options;
    const isSettled = world.monotonic() - this.#startedAt >= settleMs;
    const compute = (state: State): readonly Change[] => [
      ...[...state.table("node").values()].flatMap((node) =>
        withStatus(node, statusOf(node, members, isSettled)),
      ),
      ...levelChange(state),
    ];
    if (compute(store.state).length === 0) return;
    const ends = AbortSignal.any([signal, AbortSignal.timeout(writeMsMax)]);
    await store.writeFrom((state) => ({ changes: compute(state), result: null }), ends);
  }

  /** What Raft refuses now (a learner behind, no quorum that answers) is tried again, ever more slowly. */
  async #take(step: VoterStep, signal: AbortSignal): Promise<boolean> {
    const { log, world } = this.#options;
    try {
      await this.#perform(step, AbortSignal.any([signal, AbortSignal.timeout(stepMsMax)]));
      log.info({ ...step }, "the managers have changed");
      this.#failures = 0;
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      this.#failures += 1;
      const waitMs = Math.min(retryMsMax, retryMs * this.#failures);
      this.#notBefore = world.monotonic() + waitMs;
      log.warn({ ...step, error: messageOf(error), waitMs }, "the managers cannot be changed now");
      return false;
    }
  }

  #perform(step: VoterStep, signal: AbortSignal): Promise<void> {
    const { raft } = this.#options;
    switch (step.do) {
      case "remove":
        return raft.changeMembers({ remove: [step.id] }, signal);
      case "learn":
        return raft.changeMembers({ learners: [step.id] }, signal);
      case "promote":
        return raft.changeMembers({ voters: [step.id] }, signal);
      case "handOver":
        return raft.transfer(null, signal);
    }
  }
}

function levelChange(state: State): readonly Change[] {
  const { cluster } = state;
  if (cluster === undefined) return [];
  const FeatureLevel = levelOf(state, cluster);
  if (FeatureLevel === cluster.FeatureLevel) return [];
  return [{ op: "put", kind: "cluster", object: { ...cluster, FeatureLevel } }];
}
