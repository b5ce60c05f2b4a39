// Majorities, computed apart from the product's own functions: what is judged does not judge itself.

import type { Configuration } from "../../../manager/raft/messages.ts";

export function hasQuorum(configuration: Configuration, isIn: (id: string) => boolean): boolean {
  const { voters, outgoing } = configuration;
  const halves = [voters, outgoing].filter((half) => half.length > 0);
  return halves.length > 0 && halves.every((half) => half.filter(isIn).length * 2 > half.length);
}

/** Whether each quorum of one shares a member with each quorum of the other. Tries all: members are few. */
export function quorumsMeet(a: Configuration, b: Configuration): boolean {
  const ids = [...new Set([...a.voters, ...a.outgoing, ...b.voters, ...b.outgoing])];
  for (let set = 0; set < 1 << ids.length; set++) {
    const isIn = (id: string) => ((set >> ids.indexOf(id)) & 1) === 1;
    if (hasQuorum(a, isIn) && hasQuorum(b, (id) => !isIn(id))) return false;
  }
  return true;
}

export function membersOf(configuration: Configuration): readonly string[] {
  const { voters, outgoing, learners, learnersNext } = configuration;
  return [...new Set([...voters, ...outgoing, ...learners, ...learnersNext])].sort();
}
