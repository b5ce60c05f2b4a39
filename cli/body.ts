// JSON bodies: objects of which anything may be absent, and what is worth sending of them.

/** A JSON body: everything may be absent. */
export type Body<T> = T extends readonly (infer E)[]
  ? readonly Body<E>[]
  : T extends object
    ? { readonly [K in keyof T]?: Body<T[K]> | undefined }
    : T;

/** Without what is undefined, empty lists, and objects in which nothing is left but those the API needs to see. */
export function prune<T>(value: T): T {
  return (pruned(value, "") ?? {}) as T;
}

const meaningfulWhenEmpty = new Set([
  "Autoscale",
  "Binpack",
  "HostConfig",
  "Global",
  "GlobalJob",
  "Rebalance",
  "Replicated",
  "ReplicatedJob",
  "Schedule",
]);

function pruned(value: unknown, key: string): unknown {
  if (Array.isArray(value))
    return value.length === 0 ? undefined : value.map((item) => pruned(item, "") ?? {});
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value)
    .map(([name, item]) => [name, pruned(item, name)] as const)
    .filter(([, item]) => item !== undefined);
  if (entries.length === 0 && !meaningfulWhenEmpty.has(key)) return undefined;
  return Object.fromEntries(entries);
}

/** Without what was not given. */
export function given<T extends object>(values: T): Given<T> {
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== undefined),
  ) as Given<T>;
}

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> };
