// Bugs planted on purpose: each is a classic one (raft.md's catalogue), and the simulation has to find it.

import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { CoreClass } from "./simulation.ts";

export interface Mutant {
  readonly name: string;
  readonly what: string;
  readonly file: string;
  /** Built JavaScript that stands in the file exactly once. */
  readonly text: string;
  readonly becomes: string;
}

const core = "core.js";
const configuration = "configuration.js";

export const mutants: readonly Mutant[] = [
  {
    name: "vote-not-persisted",
    what: "a vote in a term that is known already is not written",
    file: core,
    text: "this.#written.term !== this.#term || this.#written.vote !== this.#vote",
    becomes: "this.#written.term !== this.#term",
  },
  {
    name: "vote-sent-early",
    what: "a vote is sent before it is durable",
    file: core,
    text: 'this.#sendLater({ kind: "RequestVoteReply", to: message.from, granted });',
    becomes: 'this.#send({ kind: "RequestVoteReply", to: message.from, granted });',
  },
  {
    name: "vote-twice",
    what: "a member votes for everyone who asks",
    file: core,
    text: "const isFree = this.#vote === null && this.#leader === null;",
    becomes: "const isFree = true;",
  },
  {
    name: "vote-forgotten",
    what: "a restarted member does not remember its vote",
    file: core,
    text: "this.#vote = hard.term === this.#term ? hard.vote : null;",
    becomes: "this.#vote = null;",
  },
  {
    name: "term-forgotten",
    what: "a restarted member knows only the terms of its log",
    file: core,
    text: "this.#term = Math.max(hard.term, this.#log.last.term);",
    becomes: "this.#term = this.#log.last.term;",
  },
  {
    name: "vote-for-short-logs",
    what: "votes do not look at the candidate's log",
    file: core,
    text: "(this.#vote === message.from || isFree) && this.#isUpToDate(message)",
    becomes: "(this.#vote === message.from || isFree)",
  },
  {
    name: "logs-compared-by-parts",
    what: "a log is up to date only if both its last term and its last index are (hashicorp/raft #95)",
    file: core,
    text: "if (message.lastTerm !== last.term)\n            return message.lastTerm > last.term;\n        return message.lastIndex >= last.index;",
    becomes: "return message.lastTerm >= last.term && message.lastIndex >= last.index;",
  },
  {
    name: "strangers-vote",
    what: "votes of learners and strangers count",
    file: configuration,
    text: "const granted = voters.filter((id) => votes.get(id) === true).length;",
    becomes: "const granted = [...votes.values()].filter((each) => each).length;",
  },
  {
    name: "old-term-by-counting",
    what: "entries of older terms are committed by counting replicas (paper, figure 8)",
    file: core,
    text: "if (reached > this.#commit && this.#log.termAt(reached) === this.#term)",
    becomes: "if (reached > this.#commit)",
  },
  {
    name: "even-majority",
    what: "half of an even cluster counts as a majority",
    file: configuration,
    text: "return values[Math.floor(voters.length / 2)] ?? 0;",
    becomes: "return values[Math.floor((voters.length - 1) / 2)] ?? 0;",
  },
  {
    name: "learner-in-quorum",
    what: "learners are counted when entries are committed",
    file: configuration,
    text: "const incoming = majorityValue(configuration.voters, reachedBy);",
    becomes:
      "const incoming = majorityValue([...configuration.voters, ...configuration.learners], reachedBy);",
  },
  {
    name: "joint-commit-one-half",
    what: "a joint configuration commits with the incoming majority alone",
    file: configuration,
    text: "if (!isJoint(configuration))\n        return incoming;",
    becomes: "return incoming;",
  },
  {
    name: "joint-election-one-half",
    what: "a joint configuration elects with the incoming majority alone",
    file: configuration,
    text: "[configuration.voters, configuration.outgoing].filter((half) => half.length > 0)",
    becomes: "[configuration.voters]",
  },
  {
    name: "joint-forgotten-in-snapshot",
    what: "a snapshot's mark loses the outgoing half of its configuration",
    file: core,
    text: "return { index, term, configuration: known.configuration };",
    becomes:
      "return { index, term, configuration: { ...known.configuration, outgoing: [], learnersNext: [] } };",
  },
  {
    name: "joint-never-left",
    what: "nobody leaves a joint configuration",
    file: core,
    text: 'this.#appendOwn({ kind: "configuration", configuration: left(current.configuration) });',
    becomes: "return;",
  },
  {
    name: "two-changes",
    what: "a change of members begins while another is not committed",
    file: core,
    text: "if (current.index > this.#commit || isJoint(current.configuration))",
    becomes: "if (isJoint(current.configuration))",
  },
  {
    name: "change-before-own-commit",
    what: "a new leader changes members before it has committed anything (Ongaro 2015)",
    file: core,
    text: 'if (!this.#hasCommittedInTerm())\n            return refuse("not_ready"',
    becomes: 'if (false)\n            return refuse("not_ready"',
  },
  {
    name: "change-not-rolled-back",
    what: "a configuration stays in force after its entry was cut off",
    file: core,
    text: "this.#configurations = this.#configurations.filter((known) => known.index < from);",
    becomes: "",
  },
  {
    name: "leader-counts-itself-early",
    what: "a leader counts its own entries before they are durable",
    file: core,
    text: "id === this.#id ? this.#durable : (role.followers.get(id)?.match ?? 0)",
    becomes: "id === this.#id ? this.#log.last.index : (role.followers.get(id)?.match ?? 0)",
  },
  {
    name: "ack-sent-early",
    what: "a follower acknowledges entries before they are durable",
    file: core,
    text: 'Math.min(message.commit, match));\n        this.#sendLater({ kind: "AppendEntriesReply"',
    becomes: 'Math.min(message.commit, match));\n        this.#send({ kind: "AppendEntriesReply"',
  },
  {
    name: "ack-outlives-truncation",
    what: "what waited for the disk in an older term is sent although it was undone since",
    file: core,
    text: "this.#sendAfterPersist = this.#sendAfterPersist.filter((message) => message.term >= term);",
    becomes: "",
  },
  {
    name: "applied-before-durable",
    what: "entries are applied when committed, durable here or not (etcd #14370)",
    file: core,
    text: "const through = Math.min(this.#commit, this.#durable);",
    becomes: "const through = this.#commit;",
  },
  {
    name: "torn-commit",
    what: "the commit index that is written runs ahead of the entries in the same write",
    file: core,
    text: "commit: Math.min(this.#commit, this.#durable),",
    becomes: "commit: this.#commit,",
  },
  {
    name: "truncates-what-matches",
    what: "an append cuts off what follows, conflict or not (openraft 9540c904)",
    file: core,
    text: "const first = this.#log.firstNew(entries);",
    becomes: "const first = entries.find((entry) => entry.index > this.#commit) ?? null;",
  },
  {
    name: "previous-term-unchecked",
    what: "an append is taken when the entry before it is there, of whatever term",
    file: core,
    text: "if (this.#log.termAt(prevIndex) !== prevTerm) {",
    becomes: "if (this.#log.termAt(prevIndex) === null) {",
  },
  {
    name: "commit-beyond-message",
    what: "a follower commits its own tail, which the append did not cover",
    file: core,
    text: "this.#commit = Math.max(this.#commit, Math.min(message.commit, match));",
    becomes:
      "this.#commit = Math.max(this.#commit, Math.min(message.commit, this.#log.last.index));",
  },
  {
    name: "heartbeat-commits-too-much",
    what: "a heartbeat carries the leader's commit index, whatever the follower has",
    file: core,
    text: "const commit = Math.min(progress.match, this.#commit);",
    becomes: "const commit = this.#commit;",
  },
  {
    name: "commit-goes-back",
    what: "a late heartbeat takes the commit index back",
    file: core,
    text: "this.#commit = Math.max(this.#commit, message.commit);",
    becomes: "this.#commit = message.commit;",
  },
  {
    name: "old-snapshot-installed",
    what: "a snapshot older than what is committed replaces the log",
    file: core,
    text: "if (snapshot.index > this.#commit) {",
    becomes: "{",
  },
  {
    name: "snapshot-acked-early",
    what: "an installed snapshot is acknowledged before the log says so durably",
    file: core,
    text: 'this.#sendLater({ kind: "InstallSnapshotReply", to, stream, match: this.#commit });',
    becomes: 'this.#send({ kind: "InstallSnapshotReply", to, stream, match: this.#commit });',
  },
  {
    name: "read-without-round",
    what: "a leader answers reads without asking anyone",
    file: core,
    text: "read.sequence !== null && read.sequence <= reached",
    becomes: "read.sequence !== null && reached >= 0",
  },
  {
    name: "read-by-old-heartbeat",
    what: "an answer to a heartbeat from before the read confirms it (etcd #20418)",
    file: core,
    text: "role.sequence += 1;",
    becomes: "role.sequence ||= 1;",
  },
  {
    name: "read-by-lease",
    what: "a leader answers reads as long as followers were heard of lately",
    file: core,
    text: "id === this.#id ? role.sequence : (role.followers.get(id)?.acknowledged ?? 0)",
    becomes: "id === this.#id || this.#isActive(role.followers.get(id)) ? role.sequence : 0",
  },
  {
    name: "read-before-own-commit",
    what: "a new leader answers reads before it has committed in its term (etcd #7331)",
    file: core,
    text: "role.reads.some((read) => read.sequence === null) && this.#hasCommittedInTerm()",
    becomes: "role.reads.some((read) => read.sequence === null)",
  },
  {
    name: "prevote-answered-with-own-term",
    what: "a granted pre-vote carries the voter's term (etcd d4471b2)",
    file: core,
    text: "const term = granted ? message.term : this.#term;",
    becomes: "const term = this.#term;",
  },
  {
    name: "lost-window",
    what: "when all appends of a full window are lost, nobody notices (etcd #14633)",
    file: core,
    text: 'if (progress.match < this.#log.last.index || progress.mode.kind === "probe")',
    becomes: 'if (progress.next <= this.#log.last.index || progress.mode.kind === "probe")',
  },
  {
    name: "lost-snapshot",
    what: "a snapshot whose fate is not reported is waited for for ever",
    file: core,
    text: "if (progress.mode.ticks > this.#limits.snapshotTicksMax)",
    becomes: "if (false)",
  },
  {
    name: "window-unbounded",
    what: "the window of appends under way has no limit in messages",
    file: "progress.js",
    text: "return inflight.length < messagesMax && bytes < bytesMax;",
    becomes: "return bytes < bytesMax;",
  },
  {
    name: "older-term-unanswered",
    what: "a leader of an older term gets no answer from one who is ahead",
    file: core,
    text: 'case "AppendEntries":\n            case "Heartbeat":\n            case "InstallSnapshot":\n                // Frees',
    becomes:
      'case "AppendEntries":\n            case "Heartbeat":\n            case "InstallSnapshot":\n                return;\n                // Frees',
  },
];

export function mutantOf(name: string): Mutant {
  const found = mutants.find((mutant) => mutant.name === name);
  if (found === undefined) throw new Error(`there is no mutant ${name}; --mutants lists them`);
  return found;
}

/** The core with a bug, from a changed copy of the built files in a folder of its own. */
export async function loadMutant(mutant: Mutant): Promise<CoreClass> {
  const built = fileURLToPath(new URL("../../../", import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), "tsswarm-mutant-"));
  try {
    for (const part of ["manager/raft", "proto/kit"])
      cpSync(join(built, part), join(folder, part), { recursive: true });
    writeFileSync(join(folder, "package.json"), '{"type":"module"}');
    const path = join(folder, "manager/raft", mutant.file);
    const text = readFileSync(path, "utf8");
    const places = text.split(mutant.text).length - 1;
    if (places !== 1)
      throw new Error(
        `mutant ${mutant.name}: its text stands in ${mutant.file} ${places} times instead of once; bring the table up to date`,
      );
    writeFileSync(
      path,
      text.replace(mutant.text, () => mutant.becomes),
    );
    const loaded: { readonly RaftCore: CoreClass } = await import(
      join(folder, "manager/raft/core.js")
    );
    return loaded.RaftCore;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
