// Written scenarios, each for a bug that chance meets too rarely. They drive one core by hand.

import { configurationOf } from "../../../manager/raft/configuration.ts";
import type { Restored } from "../../../manager/raft/core.ts";
import type { Entry, Message, Outputs } from "../../../manager/raft/messages.ts";
import type { CoreClass } from "./simulation.ts";
import { mustHold } from "./violation.ts";

const three = configurationOf(["a", "b", "c"]);

function noops(terms: readonly number[]): readonly Entry[] {
  return terms.map((term, i) => ({ index: i + 1, term, kind: "noop" }));
}

function withLog(terms: readonly number[], commit: number): Restored {
  const hardState = { term: terms.at(-1) ?? 0, vote: null, commit };
  return { hardState, base: { index: 0, term: 0 }, entries: noops(terms), snapshot: null };
}

/** openraft's and hashicorp's #95: the last term decides, the length only among equals. */
function aNewerTermWinsOverALongerLog(core: CoreClass): void {
  const restored = withLog([1, 1, 1, 1], 0);
  const voter = new core("b", three, { random: () => 0, restored });
  const asked = { from: "a", to: "b", term: 3, lastIndex: 2, lastTerm: 2, transfer: false };
  voter.step({ kind: "RequestVote", ...asked });
  const sent = voter.outputs().sendAfterPersist;
  mustHold(
    "up-to-date logs",
    sent.some((each) => each.kind === "RequestVoteReply" && each.granted),
    () => "a log with a newer last term did not get the vote",
  );
}

function aFollowerCommitsWhatTheMessageCovers(core: CoreClass): void {
  const follower = new core("b", three, { random: () => 0, restored: withLog([1, 1, 1], 0) });
  const append = { from: "a", to: "b", term: 2, prevIndex: 1, prevTerm: 1, commit: 3, stream: 1 };
  follower.step({ kind: "AppendEntries", ...append, entries: [] });
  const { commit } = follower.status();
  mustHold("commit within the message", commit === 1, () => `it covers 1, ${commit} is committed`);
}

/** Else a write torn after its hard state makes the old entries look committed. */
function theCommitIndexWaitsForItsEntries(core: CoreClass): void {
  const follower = new core("b", three, { random: () => 0, restored: withLog([1, 1], 1) });
  const append = { from: "a", to: "b", term: 2, prevIndex: 1, prevTerm: 1, commit: 2, stream: 1 };
  follower.step({
    kind: "AppendEntries",
    ...append,
    entries: [{ index: 2, term: 2, kind: "noop" }],
  });
  const commit = follower.outputs().persist?.hardState.commit;
  mustHold("commit within the disk", commit === 1, () => `it holds 1, ${commit} is written`);
}

function aSnapshotNobodyReportsIsSentAgain(core: CoreClass): void {
  const voters = configurationOf(["a", "b"]);
  const leader = new core("a", voters, {
    random: () => 0,
    preVote: false,
    snapshotTicksMax: 10,
    restored: {
      hardState: { term: 1, vote: null, commit: 5 },
      base: { index: 5, term: 1 },
      entries: [],
      snapshot: { index: 5, term: 1, configuration: voters },
    },
  });
  let sent = 0;
  const pump = (): Outputs => {
    const outputs = leader.outputs();
    sent += outputs.sendNow.filter((each) => each.kind === "InstallSnapshot").length;
    if (outputs.persist !== null) leader.persisted(outputs.persist.sequence);
    return outputs;
  };
  const step = (message: Message) => {
    leader.step(message);
    return pump();
  };
  leader.campaign();
  pump();
  const reply = { from: "b", to: "a", term: 2 };
  const { sendNow } = step({ kind: "RequestVoteReply", ...reply, granted: true });
  const append = sendNow.find((each) => each.kind === "AppendEntries");
  const stream = append?.kind === "AppendEntries" ? append.stream : 0;
  const rejected = { prevIndex: 5, hintIndex: 0, hintTerm: 0 };
  step({ kind: "AppendEntriesReply", ...reply, stream, match: 0, rejected });
  for (let i = 0; i < 14; i++) {
    leader.tick();
    pump();
    step({ kind: "HeartbeatReply", ...reply, sequence: 0 });
  }
  mustHold("lost snapshots", sent === 2, () => `a snapshot was sent ${sent} times in 14 ticks`);
}

/** Seed 3124: the round's answers can come from nobody any more. */
function aReadOutlivesTheLastFollower(core: CoreClass): void {
  const leader = new core("a", configurationOf(["a", "b"]), {
    random: () => 0,
    preVote: false,
    strictMembers: false,
  });
  const answered: string[] = [];
  let stream = 0;
  const pump = (): void => {
    for (let more = true; more; ) {
      const { persist, readsReady, sendNow } = leader.outputs();
      answered.push(...readsReady.map(({ id }) => id));
      for (const each of sendNow) if (each.kind === "AppendEntries") stream = each.stream;
      more = persist !== null;
      if (persist !== null) leader.persisted(persist.sequence);
    }
  };
  leader.campaign();
  pump();
  const reply = { from: "b", to: "a", term: 1 };
  leader.step({ kind: "RequestVoteReply", ...reply, granted: true });
  pump();
  leader.step({ kind: "AppendEntriesReply", ...reply, stream, match: 1, rejected: null });
  leader.read("r");
  pump();
  leader.changeMembers({ remove: ["b"] });
  pump();
  mustHold("reads end", answered.includes("r"), () => "a read waits for one who is gone");
}

/** Seed 4368: its vote is needed, which it must refuse; see `mayStand`. */
function aLearnerThatIsNeededStands(core: CoreClass): void {
  const members = configurationOf(["a", "b", "c"], ["d"]);
  const learner = new core("d", members, { random: () => 0, restored: withLog([1, 7], 1) });
  const asked = { from: "a", to: "d", term: 8, lastIndex: 5, lastTerm: 6, transfer: false };
  learner.step({ kind: "RequestPreVote", ...asked });
  learner.outputs();
  const sent: Message[] = [];
  for (let i = 0; i < 20; i++) {
    learner.tick();
    sent.push(...learner.outputs().sendNow);
  }
  mustHold(
    "somebody can lead",
    sent.some((each) => each.kind === "RequestPreVote" && each.to === "b"),
    () => "a learner that refused its vote to a shorter log does not stand",
  );
}

export const scenarios: readonly ((core: CoreClass) => void)[] = [
  aNewerTermWinsOverALongerLog,
  aFollowerCommitsWhatTheMessageCovers,
  theCommitIndexWaitsForItsEntries,
  aSnapshotNobodyReportsIsSentAgain,
  aReadOutlivesTheLastFollower,
  aLearnerThatIsNeededStands,
];
