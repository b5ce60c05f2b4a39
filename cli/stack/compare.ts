// What differs between two bodies that may be written differently and mean the same. Pure.

/** A place in the body, and what stands there in each; undefined: nothing. */
export interface Difference {
  readonly path: string;
  readonly from: unknown;
  readonly to: unknown;
}

type Json = Readonly<Record<string, unknown>>;

/** What the API takes for said when nothing is. */
const defaults: Readonly<Record<string, unknown>> = {
  "EndpointSpec.Mode": "vip",
  "Mode.Replicated.Replicas": 1,
  "Mode.ReplicatedJob.MaxConcurrent": 1,
  "Mode.ReplicatedJob.TotalCompletions": 1,
  "TaskTemplate.ContainerSpec.Isolation": "default",
  "TaskTemplate.ContainerSpec.StopGracePeriod": 10e9,
  "TaskTemplate.ContainerSpec.DNSConfig": undefined,
  "TaskTemplate.RestartPolicy.Condition": "any",
  "TaskTemplate.RestartPolicy.Delay": 5e9,
  "TaskTemplate.Runtime": "container",
  "EndpointSpec.Ports[].Protocol": "tcp",
  "EndpointSpec.Ports[].PublishMode": "ingress",
  "UpdateConfig.Parallelism": 1,
  "UpdateConfig.Order": "stop-first",
  "UpdateConfig.Monitor": 5e9,
  "RollbackConfig.Parallelism": 1,
  "RollbackConfig.Order": "stop-first",
  "RollbackConfig.Monitor": 5e9,
};

/** Where zero is something else than nothing. */
const telling =
  /(Replicas|Parallelism|TotalCompletions|MaxConcurrent|RestartPolicy\.Delay|Monitor|StopGracePeriod)$/;

/** The body without what says nothing or the default. */
export function essence(body: unknown): Json {
  return (bare(body, "") ?? {}) as Json;
}

function bare(value: unknown, path: string): unknown {
  if (value === null || value === "" || value === false) return undefined;
  if (value === 0 && !telling.test(path)) return undefined;
  if (Object.hasOwn(defaults, path) && defaults[path] === value) return undefined;
  if (Array.isArray(value))
    return value.length === 0 ? undefined : value.map((item) => bare(item, `${path}[]`));
  if (typeof value !== "object") return value;
  const entries = Object.entries(value as Json)
    .map(([key, item]) => [key, bare(item, path === "" ? key : `${path}.${key}`)] as const)
    .filter(([, item]) => item !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return entries.length === 0 && !/^Mode\.\w+$/.test(path)
    ? undefined
    : Object.fromEntries(entries);
}

/** Both are compared as what they mean. In the order of the paths; lists differ by the items that only one has. */
export function differences(from: unknown, to: unknown): readonly Difference[] {
  return compare(essence(from), essence(to), "");
}

function compare(from: unknown, to: unknown, path: string): readonly Difference[] {
  if (JSON.stringify(from) === JSON.stringify(to)) return [];
  if (Array.isArray(from) && Array.isArray(to)) return compareLists(from, to, path);
  if (!isObject(from) || !isObject(to)) {
    // A whole object that comes or goes is shown by its fields.
    if (isObject(to) && from === undefined) return compare({}, to, path);
    if (isObject(from) && to === undefined) return compare(from, {}, path);
    return [{ path, from, to }];
  }
  const keys = [...new Set([...Object.keys(from), ...Object.keys(to)])].sort();
  const found = keys.flatMap((key) =>
    compare(from[key], to[key], path === "" ? key : `${path}.${key}`),
  );
  return found.length > 0 ? found : [{ path, from, to }];
}

function compareLists(from: readonly unknown[], to: readonly unknown[], path: string) {
  const [before, after] = [from, to].map((list) => list.map((item) => JSON.stringify(item)));
  const gone = from.filter((_, i) => after?.includes(before?.[i] ?? "") === false);
  const come = to.filter((_, i) => before?.includes(after?.[i] ?? "") === false);
  if (gone.length === 0 && come.length === 0) return [{ path, from, to }];
  return [
    ...gone.map((item) => ({ path: `${path}[]`, from: item, to: undefined })),
    ...come.map((item) => ({ path: `${path}[]`, from: undefined, to: item })),
  ];
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
