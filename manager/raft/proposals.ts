// What a leader is asked to append, and the limits within which it does.

import { changed, isJoint, type MembersChange, membersOf } from "./configuration.ts";
import { dangerOf, noteConfigurations } from "./members.ts";
import { type Configuration, type Entry, type Proposed, type Refused, refuse } from "./messages.ts";
import type { RaftState } from "./state.ts";

export function propose(raft: RaftState, data: Uint8Array): Proposed | Refused {
  const role = raft.role;
  if (role.kind !== "leader") return raft.refuseWithoutLeadership();
  if (role.transfer !== null)
    return refuse("transferring", `leadership is being handed to ${role.transfer.to}`);
  if (data.length > raft.limits.proposalBytesMax)
    return refuse(
      "too_large",
      `an entry holds at most ${raft.limits.proposalBytesMax} bytes, this has ${data.length}`,
    );
  const uncommittedBytes = raft.log.bytes(raft.commit, raft.log.last.index);
  if (
    raft.log.last.index - raft.commit >= raft.limits.uncommittedEntriesMax ||
    (data.length > 0 &&
      uncommittedBytes > 0 &&
      uncommittedBytes + data.length > raft.limits.uncommittedBytesMax)
  )
    return refuse("exhausted", "too much waits to be committed");
  if (raft.log.bytes(raft.log.base.index, raft.log.last.index) > raft.limits.logBytesMax)
    return refuse("exhausted", "the log grows faster than snapshots are taken");
  if (raft.commit - raft.applied > raft.limits.applyGapMax)
    return refuse("exhausted", "too much waits to be applied");
  return appendOwn(raft, { kind: "data", data });
}

export function changeMembers(raft: RaftState, change: MembersChange): Proposed | Refused {
  const role = raft.role;
  if (role.kind !== "leader") return raft.refuseWithoutLeadership();
  if (role.transfer !== null)
    return refuse("transferring", `leadership is being handed to ${role.transfer.to}`);
  const current = raft.current;
  if (current.index > raft.commit || isJoint(current.configuration))
    return refuse("not_ready", "another change of members is not finished");
  if (!raft.hasCommittedInTerm)
    return refuse("not_ready", "the leader has not committed in its own term yet");
  const next = changed(current.configuration, change);
  if ("ok" in next) return next;
  if (membersOf(next).length > raft.limits.membersMax)
    return refuse("exhausted", `a cluster has at most ${raft.limits.membersMax} members`);
  const danger = raft.limits.strictMembers ? dangerOf(raft, role, next) : null;
  if (danger !== null) return refuse("not_ready", danger);
  return appendOwn(raft, { kind: "configuration", configuration: next });
}

export function appendOwn(
  raft: RaftState,
  payload:
    | { readonly kind: "noop" }
    | { readonly kind: "data"; readonly data: Uint8Array }
    | { readonly kind: "configuration"; readonly configuration: Configuration },
): Proposed {
  const index = raft.log.last.index + 1;
  const entry: Entry = { index, term: raft.term, ...payload };
  raft.log.append([entry]);
  noteConfigurations(raft, [entry]);
  return { ok: true, index, term: raft.term };
}
