// Between the log in memory, the disk and the state machine: what is to be written, what is durable, what may be applied or go.

import { assertThat } from "../../proto/kit/assert.ts";
import type { Entry, Persist, SnapshotMark } from "./messages.ts";
import type { InFlight, RaftState } from "./state.ts";

export function takePersist(raft: RaftState): Persist | null {
  if (raft.inFlight !== null) return null;
  const last = raft.log.last.index;
  const snapshot = raft.unwrittenSnapshot;
  const isChanged = raft.written.term !== raft.term || raft.written.vote !== raft.vote;
  if (!isChanged && snapshot === null && raft.truncateFrom === null && raft.unwrittenFrom > last)
    return null;
  const entries =
    raft.unwrittenFrom > last
      ? []
      : raft.log.slice(raft.unwrittenFrom, last, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  raft.persists += 1;
  const persist: Persist = {
    sequence: raft.persists,
    // Not beyond what is durable: entries of a torn write may be missing where its hard state is not.
    hardState: {
      term: raft.term,
      vote: raft.vote,
      commit: Math.min(raft.commit, raft.durable),
    },
    snapshot,
    truncateFrom: snapshot === null ? raft.truncateFrom : null,
    entries,
  };
  raft.inFlight = {
    sequence: persist.sequence,
    term: raft.term,
    vote: raft.vote,
    snapshot,
    last,
    ticks: 0,
  };
  raft.written = { term: raft.term, vote: raft.vote };
  raft.unwrittenFrom = last + 1;
  raft.unwrittenSnapshot = null;
  raft.truncateFrom = null;
  return persist;
}

export function persisted(raft: RaftState, sequence: number): InFlight {
  const done = raft.inFlight;
  assertThat(done?.sequence === sequence, "the write that is durable is the one outstanding");
  raft.inFlight = null;
  raft.durable = Math.max(raft.durable, done.last);
  if (done.snapshot !== null && done.snapshot === raft.snapshot) {
    raft.restore = done.snapshot;
    raft.durable = Math.max(raft.durable, done.snapshot.index);
  }
  return done;
}

export function takeApply(raft: RaftState): readonly Entry[] {
  const through = Math.min(raft.commit, raft.durable);
  if (raft.isInstalling || raft.handed >= through) return [];
  const apply = raft.log.slice(
    raft.handed + 1,
    through,
    raft.limits.applyEntriesMax,
    raft.limits.applyBytesMax,
  );
  raft.handed = apply.at(-1)?.index ?? raft.handed;
  assertThat(raft.handed <= raft.durable, "nothing is applied before it is durable here");
  return apply;
}

export function applied(raft: RaftState, index: number): void {
  assertThat(
    index >= raft.applied && index <= raft.handed,
    "applied goes forward, within what was handed out",
  );
  raft.applied = index;
}

export function describe(raft: RaftState, index: number): SnapshotMark {
  const term = raft.log.termAt(index);
  assertThat(term !== null && index <= raft.applied, "a snapshot is taken of what is applied");
  const known = raft.configurations.findLast((at) => at.index <= index);
  assertThat(known !== undefined, "the configuration at a snapshot is known");
  return { index, term, configuration: known.configuration };
}

export function compact(raft: RaftState, index: number): void {
  assertThat(index <= raft.applied, "only what is applied is in a snapshot");
  if (index <= (raft.snapshot?.index ?? 0)) return;
  raft.snapshot = describe(raft, index);
  forgetBefore(raft, index);
  const inForce = raft.configurations.findLastIndex((known) => known.index <= index);
  raft.configurations = raft.configurations.slice(Math.max(0, inForce));
}

export function forgetBefore(raft: RaftState, snapshotIndex: number): void {
  const { entriesKept, bytesKept } = raft.limits;
  const { base } = raft.log;
  let keepFrom = Math.max(base.index, snapshotIndex - entriesKept);
  while (keepFrom < snapshotIndex && raft.log.bytes(keepFrom, snapshotIndex) > bytesKept)
    keepFrom += 1;
  raft.log.compact(keepFrom);
}
