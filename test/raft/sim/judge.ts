// The rules of Raft, looked at from outside after every event: with all disks and all messages in sight.

import type { CoreLimits, CoreStatus } from "../../../manager/raft/core.ts";
import type {
  Configuration,
  Entry,
  Message,
  Persist,
  SnapshotMark,
} from "../../../manager/raft/messages.ts";
import type { SimDisk } from "./disk.ts";
import { hasQuorum, membersOf, quorumsMeet } from "./quorums.ts";
import { mustHold } from "./violation.ts";

/** What the judge has to see of a member. */
export interface Judged {
  readonly id: string;
  readonly disk: SimDisk;
}

interface Seen {
  readonly entry: Entry;
  readonly previousTerm: number;
}

export class Judge {
  /** Who led in which term. */
  readonly leaders = new Map<number, string>();
  /** Term of what was chosen at each index; 0 at 0. */
  readonly chosen: number[] = [0];
  /** The term of the leader that committed it. */
  readonly #committedIn: number[] = [0];
  configurationsCommitted = 0;
  jointCommitted = 0;
  /** Committed ones, oldest first. */
  readonly #configurations: { readonly index: number; readonly configuration: Configuration }[];
  readonly #members: ReadonlyMap<string, Judged>;
  readonly #limits: CoreLimits;
  readonly #entries = new Map<number, Seen>();
  readonly #votes = new Map<string, string>();
  readonly #hashes: number[] = [];
  readonly #statuses = new Map<string, CoreStatus>();

  constructor(
    members: ReadonlyMap<string, Judged>,
    limits: CoreLimits,
    configuration: Configuration,
  ) {
    this.#members = members;
    this.#configurations = [{ index: 0, configuration }];
    this.#limits = limits;
  }

  get lastChosen(): number {
    return this.chosen.length - 1;
  }

  entryAt(index: number, term: number): Entry | undefined {
    return this.#entries.get(keyOf(index, term))?.entry;
  }

  /** The first entry is there from the beginning, everywhere. */
  bootstrapped(entry: Entry & { readonly kind: "configuration" }): void {
    this.#entries.set(keyOf(entry.index, entry.term), { entry, previousTerm: 0 });
    if (this.lastChosen === 0) this.#choose(entry.index, entry.term);
  }

  /** The member's process begins anew: what it knows may be older than what it knew. */
  restarted(id: string): void {
    this.#statuses.delete(id);
  }

  /** A write is on its way to the disk, or done: log matching (paper §5.3) for each entry. */
  written(member: Judged, persist: Persist): void {
    const first = persist.entries[0];
    if (first === undefined) return;
    const { snapshot } = persist;
    let previousTerm =
      snapshot !== null && snapshot.index === first.index - 1
        ? snapshot.term
        : member.disk.termAt(first.index - 1);
    mustHold("disk", previousTerm !== null, () => `${member.id} writes ${first.index} after a gap`);
    for (const entry of persist.entries) {
      this.#see(member, entry, previousTerm ?? 0);
      previousTerm = entry.term;
    }
  }

  #see(member: Judged, entry: Entry, previousTerm: number): void {
    const key = keyOf(entry.index, entry.term);
    const seen = this.#entries.get(key);
    if (seen === undefined) {
      this.#entries.set(key, { entry, previousTerm });
      return;
    }
    mustHold(
      "log matching",
      seen.previousTerm === previousTerm && isSame(seen.entry, entry),
      () =>
        `${member.id} has another entry ${entry.index} of term ${entry.term}, or another before it`,
    );
  }

  /** After each input: what a running member says of itself. */
  look(member: Judged, status: CoreStatus): void {
    const before = this.#statuses.get(member.id);
    this.#statuses.set(member.id, status);
    this.#checkOrder(member, status);
    if (before !== undefined) this.#checkForward(member, before, status);
    const isLeader = status.role === "leader";
    if (isLeader && (before?.role !== "leader" || before.term !== status.term))
      this.#elected(member, status);
    if (status.commit > (before?.commit ?? 0)) this.#committed(member, before, status);
    if (isLeader) this.#checkBounds(member, status);
  }

  #checkOrder({ id }: Judged, status: CoreStatus): void {
    const { applied, commit, durable, last, base, snapshotIndex } = status;
    const isInstalling = applied < base.index;
    mustHold(
      "order of indexes",
      commit <= last.index &&
        base.index <= snapshotIndex &&
        (isInstalling || (snapshotIndex <= applied && applied <= commit && applied <= durable)),
      () => `${id}: ${JSON.stringify({ base, snapshotIndex, applied, commit, durable, last })}`,
    );
  }

  #checkForward({ id }: Judged, before: CoreStatus, after: CoreStatus): void {
    mustHold(
      "never backwards",
      after.term >= before.term && after.commit >= before.commit && after.applied >= before.applied,
      () => `${id} went back from ${before.term}/${before.commit}/${before.applied}`,
    );
    if (before.term !== after.term) return;
    mustHold(
      "one vote a term",
      before.vote === null || before.vote === after.vote,
      () => `${id} forgets its vote in term ${after.term}`,
    );
    mustHold(
      "leader append-only",
      before.role !== "leader" || after.role !== "leader" || after.last.index >= before.last.index,
      () => `${id} shortened its log while leader`,
    );
  }

  /** Election safety, and leader completeness at the moment of election (paper §5.2, §5.4). */
  #elected(member: Judged, status: CoreStatus): void {
    const { id, disk } = member;
    const other = this.leaders.get(status.term);
    mustHold(
      "one leader a term",
      other === undefined || other === id,
      () => `${other} and ${id} lead term ${status.term}`,
    );
    this.leaders.set(status.term, id);
    mustHold(
      "durable vote",
      disk.hardState.term === status.term && disk.hardState.vote === id,
      () => `${id} leads term ${status.term} with its own vote not on disk`,
    );
    const votes = (voter: string) =>
      voter === id || this.#votes.get(`${voter}@${status.term}`) === id;
    mustHold(
      "elected by a quorum",
      hasQuorum(status.configuration, votes),
      () => `${id} leads term ${status.term} without the votes for it`,
    );
    const written = disk.entries.findLast((entry) => entry.kind === "configuration");
    mustHold(
      "configuration of the log",
      written === undefined || isSameConfiguration(written.configuration, status.configuration),
      () => `${id} follows ${JSON.stringify(status.configuration)}, its log ${written?.index}`,
    );
    // What leaders of earlier terms have committed; one of a later term may be at work already.
    const last = this.#committedIn.findLastIndex((term) => term < status.term);
    const term = disk.termAt(last);
    mustHold(
      "leader completeness",
      term === this.chosen[last] || disk.base.index > last,
      () =>
        `${id} leads term ${status.term} without entry ${last} of term ${this.chosen[last]} (it has ${term})`,
    );
  }

  /** A commit index is reported: the first time by a leader, with a quorum of disks behind it. */
  #committed(member: Judged, before: CoreStatus | undefined, status: CoreStatus): void {
    const { commit } = status;
    if (commit <= this.lastChosen) {
      this.#checkCommitted(member, status);
      return;
    }
    const { id } = member;
    mustHold(
      "commit by counting",
      (status.role === "leader" || before?.role === "leader") && before !== undefined,
      () =>
        `${id}, no leader, is the first to call ${commit} committed; ${this.lastChosen} is chosen`,
    );
    const term = before.term;
    const seen = this.#entries.get(keyOf(commit, term));
    mustHold(
      "only its own term",
      seen !== undefined,
      () => `${id} commits ${commit} in term ${term}, but that entry is not of its term`,
    );
    const holds = (voter: string) => this.#holds(voter, commit, term);
    const configurations = [before.configuration, status.configuration];
    mustHold(
      "commit on a quorum",
      configurations.some((each) => hasQuorum(each, holds)),
      () =>
        `${id} commits ${commit} of term ${term} without a quorum of disks: ${JSON.stringify(configurations)}`,
    );
    this.#choose(commit, term);
  }

  /** What a member calls committed is what was chosen, as far as it is on disk. */
  #checkCommitted({ id, disk }: Judged, { commit, durable }: CoreStatus): void {
    const through = Math.min(commit, durable);
    mustHold(
      "committed is chosen",
      disk.base.index >= through || disk.termAt(through) === this.chosen[through],
      () =>
        `${id} calls ${through} committed, of term ${disk.termAt(through)} instead of ${this.chosen[through]}`,
    );
  }

  #holds(id: string, index: number, term: number): boolean {
    const disk = this.#members.get(id)?.disk;
    if (disk === undefined) return false;
    return disk.termAt(index) === term || disk.base.index >= index;
  }

  /** With an entry everything before it in the same log is chosen. */
  #choose(commit: number, term: number): void {
    const terms: number[] = [];
    const configurations: (Entry & { readonly kind: "configuration" })[] = [];
    let at = term;
    for (let index = commit; index > this.lastChosen; index--) {
      terms.push(at);
      const seen = this.#entries.get(keyOf(index, at));
      mustHold(
        "log matching",
        seen !== undefined,
        () => `entry ${index} of term ${at} was never written`,
      );
      if (seen.entry.kind === "configuration") configurations.push(seen.entry);
      at = seen.previousTerm;
    }
    mustHold(
      "state machine safety",
      at === this.chosen[this.lastChosen],
      () =>
        `${this.lastChosen} was chosen in term ${this.chosen[this.lastChosen]}, now it would be ${at}`,
    );
    this.chosen.push(...terms.toReversed());
    this.#committedIn.push(...terms.map(() => term));
    this.#configurations.push(...configurations.toReversed());
    this.configurationsCommitted += configurations.length;
    this.jointCommitted += configurations.filter((each) => isJoint(each.configuration)).length;
  }

  /** The one that is committed last, and those some log holds that may still be. */
  configurationsPossible(): readonly Configuration[] {
    const { index, configuration } = this.#configurationAt(this.lastChosen);
    const known = [...this.#statuses.values()].filter((each) => each.configurationIndex > index);
    const onDisk = [...this.#members.values()].flatMap(({ disk }) =>
      disk.entries.flatMap((entry) =>
        entry.kind === "configuration" && entry.index > index ? [entry.configuration] : [],
      ),
    );
    return [configuration, ...known.map((each) => each.configuration), ...onDisk];
  }

  /** Whether a member is out for good. */
  isRemoved(id: string): boolean {
    return !this.configurationsPossible().some((each) => membersOf(each).includes(id));
  }

  #configurationAt(index: number): {
    readonly index: number;
    readonly configuration: Configuration;
  } {
    const found = this.#configurations.findLast((known) => known.index <= index);
    mustHold("configuration of the log", found !== undefined, () => `none at ${index}`);
    return found;
  }

  /** A snapshot says which entry it ends with and who were members there (raft.md 12). */
  snapshot({ id }: Judged, mark: SnapshotMark): void {
    const { index, configuration } = this.#configurationAt(mark.index);
    // Who joined without a configuration knows none before the log's first.
    const isUntold = index === 0 && mark.configuration.voters.length === 0;
    mustHold(
      "snapshots tell the truth",
      this.chosen[mark.index] === mark.term &&
        (isUntold || isSameConfiguration(configuration, mark.configuration)),
      () => `${id} has ${JSON.stringify(mark)} instead of ${JSON.stringify(configuration)}`,
    );
  }

  /** What limits promise holds. */
  #checkBounds({ id }: Judged, status: CoreStatus): void {
    const { inflightMessagesMax, uncommittedEntriesMax, readsMax } = this.#limits;
    for (const follower of status.followers) {
      mustHold(
        "bounds",
        follower.inflight <= inflightMessagesMax &&
          follower.match < follower.next &&
          follower.match <= status.last.index,
        () => `${id} with ${JSON.stringify(follower)}`,
      );
    }
    // Beside proposals: the no-op, a change of members and its second half.
    mustHold(
      "bounds",
      status.last.index - status.commit <= uncommittedEntriesMax + 3 ||
        status.commit < this.lastChosen ||
        this.#isNew(status),
      () => `${id} has ${status.last.index - status.commit} uncommitted entries`,
    );
    mustHold("bounds", status.reads <= 2 * readsMax, () => `${id} holds ${status.reads} reads`);
  }

  /** A new leader may have found many uncommitted entries of others. */
  #isNew(status: CoreStatus): boolean {
    return this.chosen[status.commit] !== status.term;
  }

  /** A message leaves: what it promises is on disk (raft.md 1, 2, 3). */
  sent({ id, disk }: Judged, message: Message): void {
    const { term, vote } = disk.hardState;
    switch (message.kind) {
      case "RequestVote":
        this.#promise(id, message, term > message.term || (term === message.term && vote === id));
        this.#vote(id, message.term, id);
        return;
      case "RequestVoteReply":
        this.#promise(
          id,
          message,
          message.granted ? term === message.term && vote === message.to : term >= message.term,
        );
        if (message.granted) this.#vote(id, message.term, message.to);
        return;
      case "RequestPreVoteReply":
        this.#promise(id, message, message.granted || term >= message.term);
        return;
      case "AppendEntriesReply":
      case "InstallSnapshotReply": {
        const last = disk.lastIndex;
        this.#promise(id, message, term >= message.term && last >= message.match);
        return;
      }
      case "AppendEntries":
      case "Heartbeat":
      case "InstallSnapshot":
      case "TimeoutNow":
        this.#promise(id, message, term > message.term || (term === message.term && vote === id));
        return;
      default:
    }
  }

  #promise(id: string, message: Message, isKept: boolean): void {
    mustHold(
      "durable before sent",
      isKept,
      () => `${id} sends what its disk does not hold: ${JSON.stringify(message)}`,
    );
  }

  /** One vote a term, across crashes. */
  #vote(id: string, term: number, to: string): void {
    const key = `${id}@${term}`;
    const before = this.#votes.get(key);
    mustHold(
      "one vote a term",
      before === undefined || before === to,
      () => `${id} votes for ${before} and ${to} in term ${term}`,
    );
    this.#votes.set(key, to);
  }

  /** A leader appends a change of members. */
  changed(id: string, before: CoreStatus, next: Configuration): void {
    mustHold(
      "one change at a time",
      before.configurationIndex <= before.commit && before.configuration.outgoing.length === 0,
      () => `${id} begins a change while that of ${before.configurationIndex} is not committed`,
    );
    mustHold(
      "one change at a time",
      this.chosen[before.commit] === before.term,
      () => `${id} begins a change before it has committed in its term ${before.term}`,
    );
    mustHold(
      "quorums meet",
      quorumsMeet(before.configuration, next),
      () => `${JSON.stringify(before.configuration)} → ${JSON.stringify(next)}`,
    );
  }

  /** State machine safety: one entry per index, applied when durable here and chosen. */
  applied({ id, disk }: Judged, entry: Entry): void {
    mustHold(
      "state machine safety",
      this.chosen[entry.index] === entry.term,
      () =>
        `${id} applies ${entry.index} of term ${entry.term}; chosen is ${this.chosen[entry.index]}`,
    );
    const seen = this.entryAt(entry.index, entry.term);
    mustHold(
      "state machine safety",
      seen !== undefined && isSame(seen, entry),
      () => `${id} applies another entry ${entry.index}`,
    );
    mustHold(
      "applied is durable",
      disk.termAt(entry.index) === entry.term || disk.base.index >= entry.index,
      () => `${id} applies ${entry.index} which its disk does not hold`,
    );
  }

  /** Equal applied index, equal state. */
  state({ id }: Judged, index: number, hash: number): void {
    const known = this.#hashes[index];
    mustHold(
      "equal states",
      known === undefined || known === hash,
      () => `${id} differs at ${index}`,
    );
    this.#hashes[index] = hash;
  }
}

function isJoint(configuration: Configuration): boolean {
  return configuration.outgoing.length > 0;
}

function isSameConfiguration(a: Configuration, b: Configuration): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function keyOf(index: number, term: number): number {
  return index * 4_194_304 + term;
}

function isSame(a: Entry, b: Entry): boolean {
  if (a === b) return true;
  if (a.index !== b.index || a.term !== b.term || a.kind !== b.kind) return false;
  if (a.kind === "data" && b.kind === "data") return Buffer.compare(a.data, b.data) === 0;
  if (a.kind === "configuration" && b.kind === "configuration")
    return isSameConfiguration(a.configuration, b.configuration);
  return true;
}
