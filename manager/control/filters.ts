// Docker's list filters: each name's values are alternatives, different names all have to hold.

import type { ListRequest } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";

/** Whether an object passes one value of one filter. */
export type Matchers<T> = Readonly<Record<string, (object: T, value: string) => boolean>>;

/** Throws `invalid` for a filter the kind does not have. */
export function filterBy<T>(
  filters: ListRequest["Filters"],
  matchers: Matchers<T>,
): (object: T) => boolean {
  const tests: ((object: T) => boolean)[] = [];
  for (const [name, { Values: values }] of Object.entries(filters)) {
    const matches = Object.hasOwn(matchers, name) ? matchers[name] : undefined;
    if (matches === undefined) throw new SwarmError("invalid", `invalid filter '${name}'`);
    if (values.length === 0) continue;
    // Labels are conditions, not alternatives.
    if (name === "label" || name === "node.label")
      tests.push((object) => values.every((value) => matches(object, value)));
    else tests.push((object) => values.some((value) => matches(object, value)));
  }
  return (object) => tests.every((test) => test(object));
}

/** `key` or `key=value`. */
export function hasLabel(
  labels: Readonly<Record<string, string>> | undefined,
  wanted: string,
): boolean {
  const at = wanted.indexOf("=");
  const key = at < 0 ? wanted : wanted.slice(0, at);
  if (labels === undefined || !Object.hasOwn(labels, key)) return false;
  return at < 0 || labels[key] === wanted.slice(at + 1);
}

export function checkValue(filter: string, value: string, allowed: readonly string[]): void {
  if (!allowed.includes(value))
    throw new SwarmError("invalid", `invalid filter '${filter}=${value}'`);
}

/** "true", "1" … as Docker reads booleans. */
export function truth(filter: string, value: string): boolean {
  if (["true", "1", "t", "T", "TRUE", "True"].includes(value)) return true;
  if (["false", "0", "f", "F", "FALSE", "False"].includes(value)) return false;
  throw new SwarmError("invalid", `invalid filter '${filter}=${value}'`);
}
