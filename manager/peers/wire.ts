// Raft's messages as protobuf objects and back. What comes in is checked here, once: inside, types and numbers are true.

import { root } from "../../proto/codec.ts";
import type { RaftConfiguration, RaftEntry, RaftMessage } from "../../proto/gen/types.ts";
import { unreachable } from "../../proto/kit/assert.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Configuration, Entry, Message, SnapshotMark } from "../raft/types.ts";

const { values: numberOf, valuesById: kindOf } = root.lookupEnum("tsswarm.RaftMessage.Kinds");

/** Sender and receiver are the stream's. Fields that the kind does not have are left out: they cost nothing then. */
export function toWire(message: Message): RaftMessage {
  return fieldsOf(message) as RaftMessage;
}

function fieldsOf(message: Message): Partial<RaftMessage> {
  const common = { Kind: numberOf[message.kind] ?? 0, Term: message.term };
  switch (message.kind) {
    case "RequestPreVote":
    case "RequestVote": {
      const { lastIndex: LastIndex, lastTerm: LastTerm, transfer: Transfer } = message;
      return { ...common, LastIndex, LastTerm, Transfer };
    }
    case "RequestPreVoteReply":
    case "RequestVoteReply":
      return { ...common, Granted: message.granted };
    case "AppendEntries":
      return {
        ...common,
        PrevIndex: message.prevIndex,
        PrevTerm: message.prevTerm,
        Entries: message.entries.map(entryToWire),
        Commit: message.commit,
        Stream: message.stream,
      };
    case "AppendEntriesReply": {
      const replied = { ...common, Stream: message.stream, Match: message.match };
      if (message.rejected === null) return replied;
      const { prevIndex: PrevIndex, hintIndex: HintIndex, hintTerm: HintTerm } = message.rejected;
      return { ...replied, Rejected: true, PrevIndex, HintIndex, HintTerm };
    }
    case "Heartbeat":
      return { ...common, Commit: message.commit, Sequence: message.sequence };
    case "HeartbeatReply":
      return { ...common, Sequence: message.sequence };
    case "InstallSnapshot": {
      const { index: Index, term: Term, configuration } = message.snapshot;
      const Snapshot = { Index, Term, Configuration: configurationToWire(configuration) };
      return { ...common, Snapshot, Stream: message.stream };
    }
    case "InstallSnapshotReply":
      return { ...common, Stream: message.stream, Match: message.match };
    case "TimeoutNow":
      return common;
    case "ReadIndex":
      return { ...common, ReadID: message.id };
    case "ReadIndexReply":
      return {
        ...common,
        ReadID: message.id,
        ...(message.index === null ? {} : { Index: message.index }),
      };
    default:
      return unreachable(message);
  }
}

/** Throws `invalid` for what no sender of ours makes. */
export function fromWire(wire: RaftMessage, from: string, to: string): Message {
  const envelope = { from, to, term: number(wire.Term) };
  const kind = kindOf[wire.Kind] as Message["kind"] | "None" | undefined;
  switch (kind) {
    case "RequestPreVote":
    case "RequestVote":
      return {
        ...envelope,
        kind,
        lastIndex: number(wire.LastIndex),
        lastTerm: number(wire.LastTerm),
        transfer: wire.Transfer,
      };
    case "RequestPreVoteReply":
    case "RequestVoteReply":
      return { ...envelope, kind, granted: wire.Granted };
    case "AppendEntries":
      return {
        ...envelope,
        kind,
        prevIndex: number(wire.PrevIndex),
        prevTerm: number(wire.PrevTerm),
        entries: entriesFromWire(wire),
        commit: number(wire.Commit),
        stream: number(wire.Stream),
      };
    case "AppendEntriesReply":
      return {
        ...envelope,
        kind,
        stream: number(wire.Stream),
        match: number(wire.Match),
        rejected: !wire.Rejected
          ? null
          : {
              prevIndex: number(wire.PrevIndex),
              hintIndex: number(wire.HintIndex),
              hintTerm: number(wire.HintTerm),
            },
      };
    case "Heartbeat":
      return {
        ...envelope,
        kind,
        commit: number(wire.Commit),
        sequence: number(wire.Sequence),
      };
    case "HeartbeatReply":
      return { ...envelope, kind, sequence: number(wire.Sequence) };
    case "InstallSnapshot":
      return {
        ...envelope,
        kind,
        snapshot: markFromWire(wire),
        stream: number(wire.Stream),
      };
    case "InstallSnapshotReply":
      return {
        ...envelope,
        kind,
        stream: number(wire.Stream),
        match: number(wire.Match),
      };
    case "TimeoutNow":
      return { ...envelope, kind };
    case "ReadIndex":
      return { ...envelope, kind, id: wire.ReadID };
    case "ReadIndexReply":
      return {
        ...envelope,
        kind,
        id: wire.ReadID,
        index: wire.Index === undefined ? null : number(wire.Index),
      };
    default:
      throw new SwarmError("invalid", "an unknown kind of Raft message: upgrade this manager");
  }
}

function entryToWire(entry: Entry): RaftEntry {
  const { index: Index, term: Term } = entry;
  if (entry.kind === "data") return { Index, Term, Data: entry.data };
  if (entry.kind === "noop") return { Index, Term };
  return { Index, Term, Configuration: configurationToWire(entry.configuration) };
}

function entriesFromWire(wire: RaftMessage): readonly Entry[] {
  const first = wire.PrevIndex + 1;
  return wire.Entries.map((entry, i) => {
    const place = { index: number(entry.Index), term: number(entry.Term) };
    if (place.index !== first + i)
      throw new SwarmError("invalid", "the entries of a Raft message do not follow each other");
    if (entry.Configuration !== undefined) {
      const configuration = configurationFromWire(entry.Configuration);
      return { ...place, kind: "configuration", configuration };
    }
    if (entry.Data === undefined) return { ...place, kind: "noop" };
    return { ...place, kind: "data", data: entry.Data };
  });
}

function markFromWire({ Snapshot }: RaftMessage): SnapshotMark {
  if (Snapshot?.Configuration === undefined)
    throw new SwarmError("invalid", "a snapshot does not say what it is");
  const configuration = configurationFromWire(Snapshot.Configuration);
  return { index: number(Snapshot.Index), term: number(Snapshot.Term), configuration };
}

function configurationToWire(configuration: Configuration): RaftConfiguration {
  const { voters, outgoing, learners, learnersNext } = configuration;
  return { Voters: voters, Outgoing: outgoing, Learners: learners, LearnersNext: learnersNext };
}

function configurationFromWire(wire: RaftConfiguration): Configuration {
  return {
    voters: wire.Voters,
    outgoing: wire.Outgoing,
    learners: wire.Learners,
    learnersNext: wire.LearnersNext,
  };
}

function number(value: number): number {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new SwarmError("invalid", `${value} is no index, term or number of a Raft message`);
  return value;
}
