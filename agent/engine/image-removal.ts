// What removing an image comes to, by Docker's rules for names and use. Pure.

import { SwarmError } from "../../proto/kit/errors.ts";
import { familiarName, parseReference } from "../../proto/kit/reference.ts";

/** A container that was made from the image. */
export interface ImageUser {
  readonly id: string;
  readonly isRunning: boolean;
}

export interface Removal {
  /** Names of records that go. */
  readonly names: readonly string[];
  /** all: the image goes with them; nameless: it stays without a name; named: it has others. */
  readonly leaves: "all" | "nameless" | "named";
}

/**
 * `name`: the record that was asked for, or null when the image was asked for by its id. `names`: of all its records.
 * Throws `conflict` with Docker's sentences.
 */
export function planRemoval(asked: {
  readonly reference: string;
  readonly name: string | null;
  readonly id: string;
  readonly names: readonly string[];
  readonly users: readonly ImageUser[];
  readonly isForced: boolean;
}): Removal {
  const { reference, name, names, users, isForced, id } = asked;
  const running = users.find((user) => user.isRunning);
  if (name === null) {
    if (names.filter(isTag).length > 1 && !isForced)
      throw refused(reference, "must be forced", "image is referenced in multiple repositories");
    if (running !== undefined)
      throw refused(
        reference,
        "cannot be forced",
        `image is being used by running container ${short(running.id)}`,
      );
    const [user] = users;
    if (user !== undefined && !isForced)
      throw refused(
        reference,
        "must be forced",
        `image is being used by stopped container ${short(user.id)}`,
      );
    return { names, leaves: "all" };
  }
  const going = goingWith(name, names);
  if (going.length < names.length) return { names: going, leaves: "named" };
  const [user] = users;
  if (user !== undefined && !isForced)
    throw new SwarmError(
      "conflict",
      `conflict: unable to remove repository reference "${reference}" (must force) - container ${short(user.id)} is using its referenced image ${short(id.replace(/^sha256:/, ""))}`,
    );
  return { names: going, leaves: running === undefined ? "all" : "nameless" };
}

/** The names by digest go with the last tag of their repository. */
function goingWith(name: string, names: readonly string[]): readonly string[] {
  const repository = repositoryOf(name);
  const others = names.filter((other) => other !== name && repositoryOf(other) === repository);
  if (!isTag(name) || others.some(isTag)) return [name];
  return [name, ...others];
}

function isTag(name: string): boolean {
  return !name.includes("@");
}

function repositoryOf(name: string): string {
  return familiarName(parseReference(name));
}

function short(id: string): string {
  return id.slice(0, 12);
}

function refused(reference: string, how: string, why: string): SwarmError {
  return new SwarmError("conflict", `conflict: unable to delete ${reference} (${how}) - ${why}`);
}
