// How a transaction changes the state: the same on every manager, from the entry alone.

import { assertThat } from "../../proto/kit/assert.ts";
import { claimsOf } from "./claims.ts";
import { Draft, Facts } from "./state.ts";
import type { Applied, Change, Kind, Objects, State } from "./types.ts";

/** What became of one transaction. A refusal's sentence is for the caller of the door. */
export type Outcome =
  | { readonly kind: "applied"; readonly changes: readonly Applied[] }
  | { readonly kind: "conflict"; readonly message: string };

/** The version of an object that this very entry has written: its index is not known before. */
const writtenInThisEntry = Number.MAX_SAFE_INTEGER;

/**
 * Applies all of the changes or, when one was computed from another version or takes a name that is taken, none.
 * `at` is the leader's time in RFC 3339, `index` the entry's.
 */
export function applyTransaction(
  draft: Draft,
  changes: readonly Change[],
  at: string,
  index: number,
): Outcome {
  const message = refusal(draft, changes, index);
  if (message !== null) return { kind: "conflict", message };
  return {
    kind: "applied",
    changes: changes.map((change) => applyChange(draft, change, at, index)),
  };
}

/**
 * The state as it will be when nothing interferes: for who decides on top of what is not written yet. The same state when
 * the changes would be refused.
 */
export function stateAfter(state: State, changes: readonly Change[], at: string): State {
  assertThat(state instanceof Facts, "a state comes from the store");
  const draft = new Draft(state);
  const outcome = applyTransaction(draft, changes, at, writtenInThisEntry);
  return outcome.kind === "applied" ? draft.finish(state.index) : state;
}

function refusal(draft: Draft, changes: readonly Change[], index: number): string | null {
  const seen = new Set<string>();
  const freed = new Set<string>();
  for (const change of changes) {
    const id = idOf(change);
    const key = `${change.kind}/${id}`;
    if (seen.has(key)) return `${key} is changed twice in one transaction`;
    seen.add(key);
    const there = draft.get(change.kind, id);
    const base = baseOf(change) === writtenInThisEntry ? index : baseOf(change);
    if ((there?.Version?.Index ?? 0) !== base)
      return there === undefined
        ? `update out of sequence: ${change.kind} ${id} is no longer there`
        : `update out of sequence: ${change.kind} ${id} has been changed meanwhile`;
    if (there !== undefined) for (const claim of claimsOf(change.kind, there)) freed.add(claim);
  }
  return claimTaken(draft, changes, freed);
}

/** `freed` is what the changed objects held before. */
function claimTaken(
  draft: Draft,
  changes: readonly Change[],
  freed: ReadonlySet<string>,
): string | null {
  const taken = new Set<string>();
  for (const change of changes) {
    if (change.op === "delete") continue;
    for (const claim of claimsOf(change.kind, change.object)) {
      const holder = draft.holderOf(claim);
      if (taken.has(claim) || (holder !== undefined && !freed.has(claim)))
        return sentence(claim, holder ?? "another object of the same transaction");
      taken.add(claim);
    }
  }
  return null;
}

/** Names are for users; what else is taken was given away twice, and is computed again. */
function sentence(claim: string, holder: string): string {
  const isName = /^\w+ name /.test(claim);
  return isName
    ? `name conflicts with an existing object: ${claim.replace(" name ", " ")} already exists`
    : `update out of sequence: ${claim} has been given to ${holder} meanwhile`;
}

function applyChange(draft: Draft, change: Change, at: string, index: number): Applied {
  const id = idOf(change);
  const before = draft.get(change.kind, id);
  if (change.op === "delete") {
    draft.set(change.kind, id, undefined, before);
    return { kind: change.kind, id, before } as Applied;
  }
  const after = stamped(change.kind, change.object, before, at, index);
  draft.set(change.kind, id, after, before);
  return (before === undefined
    ? { kind: change.kind, id, after }
    : { kind: change.kind, id, before, after }) as unknown as Applied;
}

function stamped<K extends Kind>(
  kind: K,
  object: Objects[K],
  before: Objects[K] | undefined,
  at: string,
  index: number,
): Objects[K] {
  const Version = { Index: index };
  if (kind === "revision") return { ...object, Version };
  const CreatedAt = before !== undefined && "CreatedAt" in before ? before.CreatedAt : at;
  const result = { ...object, Version, CreatedAt, UpdatedAt: at };
  return kind === "task" ? (withRunningAt(result as Objects["task"], at) as Objects[K]) : result;
}

function withRunningAt(task: Objects["task"], at: string): Objects["task"] {
  if (task.RunningAt !== undefined || task.Status?.State !== "running") return task;
  return { ...task, RunningAt: at };
}

export function idOf(change: Change): string {
  return change.op === "put" ? change.object.ID : change.id;
}

export function baseOf(change: Change): number {
  return change.op === "put" ? (change.object.Version?.Index ?? 0) : change.base;
}
