// Bugs planted on purpose: each is a classic one (raft.md's catalogue), and the simulation has to find it.

import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runSeeds } from "./seeds.ts";
import type { CoreClass } from "./simulation.ts";

export interface Mutant {
  readonly name: string;
  readonly what: string;
  /** manager/raft unless it says otherwise: another room's bug is one that the whole manager in simulation has to meet. */
  readonly room?: "manager/plan" | "manager/dispatch";
  /** JavaScript that stands exactly once among the built files of the room, in whichever; line breaks, indents and comments do not matter. */
  readonly text: string;
  readonly becomes: string;
}

export const mutants: readonly Mutant[] = [
  {
    name: "vote-not-persisted",
    what: "a vote in a term that is known already is not written",
    text: "raft.written.term !== raft.term || raft.written.vote !== raft.vote",
    becomes: "raft.written.term !== raft.term",
  },
  {
    name: "vote-sent-early",
    what: "a vote is sent before it is durable",
    text: 'raft.sendLater({ kind: "RequestVoteReply", to: message.from, granted });',
    becomes: 'raft.send({ kind: "RequestVoteReply", to: message.from, granted });',
  },
  {
    name: "vote-asked-early",
    what: "votes are asked for again before the candidate's own is durable",
    text: "if (!role.votes.has(raft.id) || elapsed % raft.limits.heartbeatTicks !== 0) return;",
    becomes: "if (elapsed % raft.limits.heartbeatTicks !== 0) return;",
  },
  {
    name: "vote-twice",
    what: "a member votes for everyone who asks",
    text: "const isFree = raft.vote === null && raft.leader === null;",
    becomes: "const isFree = true;",
  },
  {
    name: "vote-forgotten",
    what: "a restarted member does not remember its vote",
    text: "this.vote = hard.term === this.term ? hard.vote : null;",
    becomes: "this.vote = null;",
  },
  {
    name: "term-forgotten",
    what: "a restarted member knows only the terms of its log",
    text: "this.term = Math.max(hard.term, this.log.last.term);",
    becomes: "this.term = this.log.last.term;",
  },
  {
    name: "vote-for-short-logs",
    what: "votes do not look at the candidate's log",
    text: "(raft.vote === message.from || isFree) && isUpToDate(raft, message)",
    becomes: "(raft.vote === message.from || isFree)",
  },
  {
    name: "logs-compared-by-parts",
    what: "a log is up to date only if both its last term and its last index are (hashicorp/raft #95)",
    text: "if (message.lastTerm !== last.term) return message.lastTerm > last.term; return message.lastIndex >= last.index;",
    becomes: "return message.lastTerm >= last.term && message.lastIndex >= last.index;",
  },
  {
    name: "strangers-vote",
    what: "votes of learners and strangers count",
    text: "const granted = voters.filter((id) => votes.get(id) === true).length;",
    becomes: "const granted = [...votes.values()].filter((each) => each).length;",
  },
  {
    name: "old-term-by-counting",
    what: "entries of older terms are committed by counting replicas (paper, figure 8)",
    text: "if (reached > raft.commit && raft.log.termAt(reached) === raft.term)",
    becomes: "if (reached > raft.commit)",
  },
  {
    name: "even-majority",
    what: "half of an even cluster counts as a majority",
    text: "return values[Math.floor(voters.length / 2)] ?? 0;",
    becomes: "return values[Math.floor((voters.length - 1) / 2)] ?? 0;",
  },
  {
    name: "learner-in-quorum",
    what: "learners are counted when entries are committed",
    text: "const incoming = majorityValue(configuration.voters, reachedBy);",
    becomes:
      "const incoming = majorityValue([...configuration.voters, ...configuration.learners], reachedBy);",
  },
  {
    name: "joint-commit-one-half",
    what: "a joint configuration commits with the incoming majority alone",
    text: "if (!isJoint(configuration)) return incoming;",
    becomes: "return incoming;",
  },
  {
    name: "joint-election-one-half",
    what: "a joint configuration elects with the incoming majority alone",
    text: "[configuration.voters, configuration.outgoing].filter((half) => half.length > 0)",
    becomes: "[configuration.voters]",
  },
  {
    name: "joint-forgotten-in-snapshot",
    what: "a snapshot's mark loses the outgoing half of its configuration",
    text: "return { index, term, configuration: known.configuration };",
    becomes:
      "return { index, term, configuration: { ...known.configuration, outgoing: [], learnersNext: [] } };",
  },
  {
    name: "joint-never-left",
    what: "nobody leaves a joint configuration",
    text: 'appendOwn(raft, { kind: "configuration", configuration: left(current.configuration) });',
    becomes: "return;",
  },
  {
    name: "two-changes",
    what: "a change of members begins while another is not committed",
    text: "if (current.index > raft.commit || isJoint(current.configuration))",
    becomes: "if (isJoint(current.configuration))",
  },
  {
    name: "change-before-own-commit",
    what: "a new leader changes members before it has committed anything (Ongaro 2015)",
    text: 'if (!raft.hasCommittedInTerm) return refuse("not_ready"',
    becomes: 'if (false) return refuse("not_ready"',
  },
  {
    name: "change-not-rolled-back",
    what: "a configuration stays in force after its entry was cut off",
    text: "raft.configurations = raft.configurations.filter((known) => known.index < from);",
    becomes: "",
  },
  {
    name: "leader-counts-itself-early",
    what: "a leader counts its own entries before they are durable",
    text: "id === raft.id ? raft.durable : (role.followers.get(id)?.match ?? 0)",
    becomes: "id === raft.id ? raft.log.last.index : (role.followers.get(id)?.match ?? 0)",
  },
  {
    name: "ack-sent-early",
    what: "a follower acknowledges entries before they are durable",
    text: 'Math.min(message.commit, match)); raft.sendLater({ kind: "AppendEntriesReply"',
    becomes: 'Math.min(message.commit, match)); raft.send({ kind: "AppendEntriesReply"',
  },
  {
    name: "ack-outlives-truncation",
    what: "what waited for the disk in an older term is sent although it was undone since",
    text: "raft.sendAfterPersist = raft.sendAfterPersist.filter((message) => message.term >= term);",
    becomes: "",
  },
  {
    name: "applied-before-durable",
    what: "entries are applied when committed, durable here or not (etcd #14370)",
    text: "const through = Math.min(raft.commit, raft.durable);",
    becomes: "const through = raft.commit;",
  },
  {
    name: "torn-commit",
    what: "the commit index that is written runs ahead of the entries in the same write",
    text: "commit: Math.min(raft.commit, raft.durable),",
    becomes: "commit: raft.commit,",
  },
  {
    name: "truncates-what-matches",
    what: "an append cuts off what follows, conflict or not (openraft 9540c904)",
    text: "const first = raft.log.firstNew(entries);",
    becomes: "const first = entries.find((entry) => entry.index > raft.commit) ?? null;",
  },
  {
    name: "previous-term-unchecked",
    what: "an append is taken when the entry before it is there, of whatever term",
    text: "if (raft.log.termAt(prevIndex) !== prevTerm) {",
    becomes: "if (raft.log.termAt(prevIndex) === null) {",
  },
  {
    name: "commit-beyond-message",
    what: "a follower commits its own tail, which the append did not cover",
    text: "raft.commit = Math.max(raft.commit, Math.min(message.commit, match));",
    becomes: "raft.commit = Math.max(raft.commit, Math.min(message.commit, raft.log.last.index));",
  },
  {
    name: "heartbeat-commits-too-much",
    what: "a heartbeat carries the leader's commit index, whatever the follower has",
    text: "const commit = Math.min(progress.match, raft.commit);",
    becomes: "const commit = raft.commit;",
  },
  {
    name: "commit-goes-back",
    what: "a late heartbeat takes the commit index back",
    text: "raft.commit = Math.max(raft.commit, message.commit);",
    becomes: "raft.commit = message.commit;",
  },
  {
    name: "old-snapshot-installed",
    what: "a snapshot older than what is committed replaces the log",
    text: "if (snapshot.index > raft.commit) {",
    becomes: "{",
  },
  {
    name: "snapshot-acked-early",
    what: "an installed snapshot is acknowledged before the log says so durably",
    text: 'raft.sendLater({ kind: "InstallSnapshotReply", to, stream, match: raft.commit });',
    becomes: 'raft.send({ kind: "InstallSnapshotReply", to, stream, match: raft.commit });',
  },
  {
    name: "read-without-round",
    what: "a leader answers reads without asking anyone",
    text: "read.sequence !== null && read.sequence <= reached",
    becomes: "read.sequence !== null && reached >= 0",
  },
  {
    name: "read-by-old-heartbeat",
    what: "an answer to a heartbeat from before the read confirms it (etcd #20418)",
    text: "role.sequence += 1;",
    becomes: "role.sequence ||= 1;",
  },
  {
    name: "read-by-lease",
    what: "a leader answers reads as long as followers were heard of lately",
    text: "id === raft.id ? role.sequence : (role.followers.get(id)?.acknowledged ?? 0)",
    becomes: "id === raft.id || raft.isActive(role.followers.get(id)) ? role.sequence : 0",
  },
  {
    name: "read-before-own-commit",
    what: "a new leader answers reads before it has committed in its term (etcd #7331)",
    text: "role.reads.some((read) => read.sequence === null) && raft.hasCommittedInTerm",
    becomes: "role.reads.some((read) => read.sequence === null)",
  },
  {
    name: "prevote-answered-with-own-term",
    what: "a granted pre-vote carries the voter's term (etcd d4471b2)",
    text: "const term = granted ? message.term : raft.term;",
    becomes: "const term = raft.term;",
  },
  {
    name: "lost-window",
    what: "when all appends of a full window are lost, nobody notices (etcd #14633)",
    text: 'if (progress.match < raft.log.last.index || progress.mode.kind === "probe")',
    becomes: 'if (progress.next <= raft.log.last.index || progress.mode.kind === "probe")',
  },
  {
    name: "lost-snapshot",
    what: "a snapshot whose fate is not reported is waited for for ever",
    text: "if (progress.mode.ticks > raft.limits.snapshotTicksMax)",
    becomes: "if (false)",
  },
  {
    name: "window-unbounded",
    what: "the window of appends under way has no limit in messages",
    text: "return inflight.length < messagesMax && bytes < bytesMax;",
    becomes: "return bytes < bytesMax;",
  },
  {
    name: "older-term-unanswered",
    what: "a leader of an older term gets no answer from one who is ahead",
    text: "const { from: to } = message; switch (message.kind) {",
    becomes:
      'const { from: to } = message; if (["AppendEntries", "Heartbeat", "InstallSnapshot"].includes(message.kind)) return; switch (message.kind) {',
  },
  {
    name: "read-waits-for-the-removed",
    what: "a read whose round only a removed member could have answered waits for ever",
    text: "matchFollowers(raft, raft.role); releaseReads(raft, raft.role);",
    becomes: "matchFollowers(raft, raft.role);",
  },
  {
    name: "learner-never-stands",
    what: "a learner that has more of the log than who asks for its vote leaves the cluster without a leader",
    text: "isVoter(configuration, raft.id) || raft.isNeeded",
    becomes: "isVoter(configuration, raft.id)",
  },
  {
    name: "address-freed-early",
    what: "tasks of a node that is down count as gone, and their addresses as free, while their containers may run on",
    room: "manager/plan",
    text: "hasEnded(task) || context.node(task.NodeID) !== undefined) continue;",
    becomes:
      'hasEnded(task) || !["down", undefined].includes(context.node(task.NodeID)?.Status?.State)) continue;',
  },
  {
    name: "agent-goes-back",
    what: "a manager that is behind serves agents that know more than itself",
    room: "manager/dispatch",
    text: "if (known > index)",
    becomes: "if (false)",
  },
];

export function mutantOf(name: string): Mutant {
  const found = mutants.find((mutant) => mutant.name === name);
  if (found === undefined) throw new Error(`there is no mutant ${name}; --mutants lists them`);
  return found;
}

/** What seeds are run on: the sound program, or one with a bug. */
export interface Subject {
  readonly RaftCore: CoreClass;
  readonly runSeeds: typeof runSeeds;
  readonly isSwarm: boolean;
}

/** The program with a bug, from a changed copy of the built files in a folder of its own. */
export async function loadMutant(mutant: Mutant): Promise<Subject> {
  const built = fileURLToPath(new URL("../../../", import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), "tsswarm-mutant-"));
  const room = mutant.room ?? "manager/raft";
  const isSwarm = mutant.room !== undefined;
  try {
    // Above Raft: the simulation as well, and what it imports.
    const parts = isSwarm ? ["manager", "proto", "test/raft"] : ["manager/raft", "proto/kit"];
    for (const part of parts) cpSync(join(built, part), join(folder, part), { recursive: true });
    writeFileSync(join(folder, "package.json"), '{"type":"module"}');
    symlinkSync(join(built, "../node_modules"), join(folder, "node_modules"));
    plant(mutant, join(folder, room));
    const core: Pick<Subject, "RaftCore"> = await import(join(folder, "manager/raft/core.js"));
    const own: Pick<Subject, "runSeeds"> = isSwarm
      ? await import(join(folder, "test/raft/sim/seeds.js"))
      : { runSeeds };
    return { RaftCore: core.RaftCore, runSeeds: own.runSeeds, isSwarm };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function plant({ name, text, becomes }: Mutant, room: string): void {
  const pattern = patternOf(text);
  const places = readdirSync(room)
    .filter((file) => file.endsWith(".js"))
    .map((file) => join(room, file))
    .flatMap((path) => [...readFileSync(path, "utf8").matchAll(pattern)].map(() => path));
  const [path] = places;
  if (path === undefined || places.length > 1)
    throw new Error(
      `mutant ${name}: its text stands in ${room} ${places.length} times instead of once; bring the table up to date`,
    );
  const sound = readFileSync(path, "utf8");
  writeFileSync(
    path,
    sound.replace(pattern, () => becomes),
  );
}

/** The same words and signs in the same order, however they are laid out and whatever comments stand between. */
function patternOf(text: string): RegExp {
  const tokens = text.match(/\w+|[^\s\w]/g) ?? [];
  const escaped = tokens.map((token) => token.replace(/\W/, "\\$&"));
  return new RegExp(escaped.join("(?:\\s|//.*\\n)*"), "g");
}
