// What the manager asks of Raft: writes, reads, changes of members, and another leader. Each waits for what it needs, within limits.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { World } from "../../proto/kit/world.ts";
import { isJoint, type MembersChange } from "./configuration.ts";
import { bestVoter, type RaftCore } from "./core.ts";
import type { Ending } from "./ending.ts";
import type { Accepted, Proposed, Refused } from "./messages.ts";
import type { RaftLimits } from "./options.ts";
import type { Turns } from "./turns.ts";
import type { Applied, RaftStatus } from "./types.ts";
import { refusal, type Waiters } from "./waiters.ts";

export interface RequestsOptions {
  readonly id: string;
  readonly directory: string;
  readonly core: RaftCore;
  readonly world: World;
  readonly limits: RaftLimits;
  /** The longest that a follower waits before it stands. */
  readonly electionMs: number;
  readonly waiters: Waiters;
  readonly turns: Turns;
  readonly ending: Ending;
  readonly freeBytes: () => number;
  /** As it was last told to others. */
  readonly role: () => Pick<RaftStatus, "role" | "term" | "leader">;
  readonly settledTerm: () => number;
  /** The core has been told something. */
  readonly wake: () => void;
}

/** Each as in Raft (types.ts). */
export class Requests {
  readonly #options: RequestsOptions;
  /** Not from 1: an answer to a read of the process before this one may still be on its way. */
  #readIds: number;

  constructor(options: RequestsOptions) {
    this.#options = options;
    this.#readIds = Math.floor(options.world.random() * 2 ** 48);
  }

  async propose(data: Uint8Array, signal: AbortSignal): Promise<Applied> {
    const { core, waiters } = this.#options;
    const propose = (): Proposed | Refused => {
      this.#throwIfFull();
      return core.propose(data);
    };
    const proposed = await this.#asLeader(propose, ["transferring"], signal);
    return await waiters.proposal(proposed, signal);
  }

  async read(signal: AbortSignal): Promise<void> {
    const { id: self, core, world, waiters, ending, electionMs } = this.#options;
    const giveUp = world.monotonic() + 2 * electionMs;
    for (;;) {
      this.#readIds += 1;
      const id = `${self}/${this.#readIds}`;
      await this.#asLeader(() => core.read(id), ["transferring"], signal);
      try {
        return await waiters.read(id, signal);
      } catch (error) {
        // Asking again does no harm: the leader may just have changed.
        const isOver = signal.aborted || ending.isNear;
        if (isOver || world.monotonic() >= giveUp) throw error;
      }
    }
  }

  async settled(signal: AbortSignal): Promise<void> {
    const { role, term } = this.#options.role();
    if (role === "leader" && this.#options.settledTerm() === term) return;
    await this.read(signal);
  }

  async changeMembers(change: MembersChange, signal: AbortSignal): Promise<void> {
    const { core, waiters, turns, ending } = this.#options;
    const proposed = await this.#asLeader(
      () => core.changeMembers(change),
      ["transferring", "not_ready"],
      signal,
    );
    await waiters.proposal(proposed, signal);
    await turns.until(() => !isJoint(core.configuration), Number.MAX_SAFE_INTEGER, signal);
    ending.throwIfNear();
  }

  async transfer(to: string | null, signal: AbortSignal): Promise<void> {
    const { id, core, turns, ending, electionMs, role } = this.#options;
    const hand = (): Accepted | Refused => {
      const target = to ?? bestVoter(core.status());
      if (target !== null) return core.transfer(target);
      throw new SwarmError("unavailable", "no other manager could take over");
    };
    await this.#asLeader(hand, ["transferring"], signal);
    const isOther = (leader: string | null) => leader !== null && leader !== id;
    const isOver = () =>
      isOther(role().leader) || (role().role === "leader" && core.status().transferTarget === null);
    await turns.until(isOver, 2 * electionMs, signal);
    ending.throwIfNear();
    if (!isOther(role().leader))
      throw new SwarmError("unavailable", "the other manager did not take over in time");
  }

  #throwIfFull(): void {
    const { limits, directory, waiters, freeBytes } = this.#options;
    if (freeBytes() < limits.freeBytesMin)
      throw new SwarmError(
        "exhausted",
        `less than ${limits.freeBytesMin >> 20} MiB are free under ${directory}; make room there and try again`,
      );
    if (waiters.proposals >= limits.waitersMax)
      throw new SwarmError("exhausted", "too many writes are under way; try again");
  }

  /**
   * Does something only a leader can do, or a member with a leader: waits for one to be there, and tries again while the refusal
   * is one of those that pass; up to two election timeouts altogether. What is refused then is thrown.
   */
  async #asLeader<T extends { readonly ok: true }>(
    what: () => T | Refused,
    passing: readonly Refused["code"][],
    signal: AbortSignal,
  ): Promise<T> {
    const { core, turns, ending, electionMs, wake } = this.#options;
    const attempt = () => {
      ending.throwIfNear();
      return what();
    };
    const isPassing = ({ code }: Refused) =>
      passing.includes(code) || (code === "no_leader" && core.status().leader === null);
    const answer = await turns.retry(attempt, isPassing, 2 * electionMs, signal);
    if (!answer.ok) throw refusal(answer);
    wake();
    return answer;
  }
}
