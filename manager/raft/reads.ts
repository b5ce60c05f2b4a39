// Linearizable reads (thesis §6.4): a leader's rounds of heartbeats, and what others ask it.

import { quorumValue } from "./configuration.ts";
import {
  type Accepted,
  type ReadIndex,
  type ReadIndexReply,
  type Refused,
  refuse,
} from "./messages.ts";
import type { Leadership, PendingRead, RaftState } from "./state.ts";

export function read(raft: RaftState, id: string): Accepted | Refused {
  const role = raft.role;
  if (role.kind === "leader") {
    if (role.transfer !== null)
      return refuse("transferring", `leadership is being handed to ${role.transfer.to}`);
    if (role.reads.length >= raft.limits.readsMax)
      return refuse("exhausted", "too many reads wait");
    role.reads.push({ id, from: null, sequence: null, index: 0 });
    return { ok: true };
  }
  if (raft.leader === null) return raft.refuseWithoutLeadership();
  if (raft.asked.size >= raft.limits.readsMax) return refuse("exhausted", "too many reads wait");
  if (raft.asked.has(id)) return refuse("invalid", `read ${id} is under way already`);
  raft.asked.set(id, { ticks: 0 });
  raft.send({ kind: "ReadIndex", to: raft.leader, id });
  return { ok: true };
}

/** A leader that does not answer what it was asked fails the read. */
export function tickReads(raft: RaftState): void {
  for (const [id, asked] of raft.asked) {
    asked.ticks += 1;
    if (asked.ticks > 2 * raft.limits.electionTicks)
      failAsked(raft, id, "the leader did not answer");
  }
}

export function onReadIndex(raft: RaftState, message: ReadIndex): void {
  const role = raft.role;
  const { id, from } = message;
  if (role.kind !== "leader" || role.transfer !== null || role.reads.length >= raft.limits.readsMax)
    raft.send({ kind: "ReadIndexReply", to: from, id, index: null });
  else role.reads.push({ id, from, sequence: null, index: 0 });
}

export function onReadIndexReply(raft: RaftState, message: ReadIndexReply): void {
  if (message.from !== raft.leader || !raft.asked.has(message.id)) {
    raft.dropped += 1;
    return;
  }
  if (message.index === null) failAsked(raft, message.id, "the leader could not confirm the read");
  else {
    raft.asked.delete(message.id);
    raft.readsReady.push({ id: message.id, index: message.index });
  }
}

export function releaseReads(raft: RaftState, role: Leadership): void {
  if (role.reads.length === 0) return;
  const acknowledgedOf = (id: string) =>
    id === raft.id ? role.sequence : (role.followers.get(id)?.acknowledged ?? 0);
  const reached = quorumValue(raft.configuration, acknowledgedOf);
  const isReady = (read: PendingRead) => read.sequence !== null && read.sequence <= reached;
  for (const { id, from, index } of role.reads.filter(isReady)) {
    if (from === null) raft.readsReady.push({ id, index });
    else raft.send({ kind: "ReadIndexReply", to: from, id, index });
  }
  role.reads = role.reads.filter((read) => !isReady(read));
}

export function failReads(raft: RaftState, role: Leadership, reason: string): void {
  for (const { id, from } of role.reads) {
    if (from === null) raft.readsFailed.push({ id, reason });
    else raft.send({ kind: "ReadIndexReply", to: from, id, index: null });
  }
  role.reads = [];
}

export function failAsked(raft: RaftState, id: string, reason: string): void {
  raft.asked.delete(id);
  raft.readsFailed.push({ id, reason });
}
