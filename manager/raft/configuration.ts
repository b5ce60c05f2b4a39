// Who votes: majorities, joint majorities and changes of members, computed the plain way over small sorted lists.

import { type Configuration, type Refused, refuse } from "./messages.ts";

export const emptyConfiguration: Configuration = {
  voters: [],
  outgoing: [],
  learners: [],
  learnersNext: [],
};

/**
 * What shall become of members: `voters` are added or promoted, `learners` added or demoted, `remove`d ones leave.
 * An id stands in one list only.
 */
export interface MembersChange {
  readonly voters?: readonly string[];
  readonly learners?: readonly string[];
  readonly remove?: readonly string[];
}

export function configurationOf(
  voters: readonly string[],
  learners: readonly string[] = [],
): Configuration {
  return { voters: sorted(voters), outgoing: [], learners: sorted(learners), learnersNext: [] };
}

export function isJoint(configuration: Configuration): boolean {
  return configuration.outgoing.length > 0;
}

export function isVoter(configuration: Configuration, id: string): boolean {
  return configuration.voters.includes(id) || configuration.outgoing.includes(id);
}

/** Everyone with a vote, in either half. */
export function votersOf(configuration: Configuration): readonly string[] {
  return sorted([...configuration.voters, ...configuration.outgoing]);
}

/** Everyone the leader replicates to. */
export function membersOf(configuration: Configuration): readonly string[] {
  return sorted([
    ...configuration.voters,
    ...configuration.outgoing,
    ...configuration.learners,
    ...configuration.learnersNext,
  ]);
}

/** The highest value that a majority (of both halves) has reached. */
export function quorumValue(
  configuration: Configuration,
  reachedBy: (id: string) => number,
): number {
  if (configuration.voters.length === 0) return 0;
  const incoming = majorityValue(configuration.voters, reachedBy);
  if (!isJoint(configuration)) return incoming;
  return Math.min(incoming, majorityValue(configuration.outgoing, reachedBy));
}

function majorityValue(voters: readonly string[], reachedBy: (id: string) => number): number {
  const values = voters.map(reachedBy).sort((a, b) => b - a);
  return values[Math.floor(voters.length / 2)] ?? 0;
}

export type Tally = "won" | "lost" | "pending";

/** How an election stands; a vote of one who is no voter does not count. */
export function tally(configuration: Configuration, votes: ReadonlyMap<string, boolean>): Tally {
  const halves = [configuration.voters, configuration.outgoing].filter((half) => half.length > 0);
  const results = halves.map((half) => tallyHalf(half, votes));
  if (results.includes("lost") || results.length === 0) return "lost";
  return results.includes("pending") ? "pending" : "won";
}

function tallyHalf(voters: readonly string[], votes: ReadonlyMap<string, boolean>): Tally {
  const quorum = Math.floor(voters.length / 2) + 1;
  const granted = voters.filter((id) => votes.get(id) === true).length;
  const refused = voters.filter((id) => votes.get(id) === false).length;
  if (granted >= quorum) return "won";
  return voters.length - refused < quorum ? "lost" : "pending";
}

/**
 * The configuration to append for a change. One that adds or removes at most one voter is a single step; others are joint
 * (thesis §4.3). Refuses what makes no sense or leaves no voter.
 */
export function changed(from: Configuration, change: MembersChange): Configuration | Refused {
  const voters = change.voters ?? [];
  const learners = change.learners ?? [];
  const remove = change.remove ?? [];
  const named = [...voters, ...learners, ...remove];
  if (named.length === 0) return refuse("invalid", "the change names no member");
  if (new Set(named).size !== named.length || named.includes(""))
    return refuse("invalid", "the change names a member twice or by an empty id");
  const members = membersOf(from);
  const stranger = remove.find((id) => !members.includes(id));
  if (stranger !== undefined)
    return refuse("invalid", `${stranger} is not a member and cannot be removed`);
  const stays = (id: string) => !named.includes(id);
  const nextVoters = sorted([...from.voters.filter(stays), ...voters]);
  const nextLearners = sorted([...from.learners.filter(stays), ...learners]);
  if (nextVoters.length === 0) return refuse("invalid", "the change would leave no voter");
  if (same(nextVoters, from.voters) && same(nextLearners, from.learners))
    return refuse("invalid", "the change changes nothing");
  const difference =
    nextVoters.filter((id) => !from.voters.includes(id)).length +
    from.voters.filter((id) => !nextVoters.includes(id)).length;
  if (difference <= 1)
    return { voters: nextVoters, outgoing: [], learners: nextLearners, learnersNext: [] };
  return {
    voters: nextVoters,
    outgoing: from.voters,
    learners: nextLearners.filter((id) => !from.voters.includes(id)),
    learnersNext: nextLearners.filter((id) => from.voters.includes(id)),
  };
}

/** The second half of a joint change. */
export function left(joint: Configuration): Configuration {
  return configurationOf(joint.voters, [...joint.learners, ...joint.learnersNext]);
}

function sorted(ids: readonly string[]): readonly string[] {
  return [...new Set(ids)].sort();
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i]);
}
