// One Compose file over another, both in long forms, by the rules of the Compose specification. Pure.

import { isList, isMap, Mark, mapEntries, type Tree, type TreeList, type TreeMap } from "./tree.ts";

/** Lists that the later file replaces instead of adding to. */
const replaced = new Set(["command", "entrypoint", "healthcheck.test"]);

/** By what two items of a list are the same: the later one is merged into the earlier. */
const identities: Readonly<Record<string, (item: TreeMap) => string>> = {
  ports: ({ host_ip, target, published, protocol }) =>
    JSON.stringify([host_ip ?? "", `${target}`, `${published ?? ""}`, protocol ?? "tcp"]),
  volumes: ({ target }) => `${target}`,
  secrets: ({ source, target }) => `${target ?? source}`,
  configs: ({ source, target }) => `${target ?? source}`,
  devices: ({ source, target }) => `${target ?? source}`,
  env_file: ({ path }) => `${path}`,
};

/** Whole files. The top's own `!reset` and `!override` are obeyed; nothing of them is left. */
export function mergeFiles(files: readonly TreeMap[]): TreeMap {
  const merged: Record<string, Tree> = {};
  for (const file of files)
    for (const [section, value] of Object.entries(file)) {
      const below = merged[section];
      const result =
        section === "services" && isMap(value)
          ? mergeServices(isMap(below) ? below : {}, value)
          : mergeTree(below, value, "");
      if (result === undefined) delete merged[section];
      else merged[section] = result;
    }
  return merged;
}

function mergeServices(under: TreeMap, over: TreeMap): TreeMap {
  const merged: Record<string, Tree> = { ...under };
  for (const [name, value] of Object.entries(over)) {
    const result = mergeTree(merged[name], value, "");
    if (result === undefined) delete merged[name];
    else merged[name] = result;
  }
  return merged;
}

/** One service over another, as `extends` has it. */
export function mergeService(under: TreeMap, over: TreeMap): TreeMap {
  return mergeMaps(under, over, "");
}

/** `path`: inside a service, "" outside. Undefined: nothing is left there. */
function mergeTree(under: Tree | undefined, over: Tree, path: string): Tree | undefined {
  if (over instanceof Mark) return over.kind === "reset" ? undefined : unmarked(over.value);
  if (over === null) return under === undefined ? null : under;
  if (isMap(over)) {
    if (path === "logging" && isMap(under) && differs(under["driver"], over["driver"]))
      return unmarked(over);
    return mergeMaps(isMap(under) ? under : {}, over, path);
  }
  if (isList(over) && isList(under) && !replaced.has(path)) return mergeLists(under, over, path);
  return unmarked(over);
}

function mergeMaps(under: TreeMap, over: TreeMap, path: string): TreeMap {
  const merged: Record<string, Tree> = { ...under };
  for (const [key, value] of Object.entries(over)) {
    const result = mergeTree(merged[key], value, path === "" ? key : `${path}.${key}`);
    if (result === undefined) delete merged[key];
    else merged[key] = result;
  }
  return merged;
}

function mergeLists(under: TreeList, over: TreeList, path: string): TreeList {
  const identity = Object.hasOwn(identities, path) ? identities[path] : undefined;
  const merged = [...under];
  for (const item of over) {
    const at = merged.findIndex((each) => {
      if (isMap(each) && isMap(item)) return identity?.(each) === (identity?.(item) ?? null);
      return each === item;
    });
    const before = merged[at];
    if (before === undefined) merged.push(unmarked(item) ?? null);
    else if (isMap(before) && isMap(item)) merged[at] = mergeMaps(before, item, "-");
  }
  return merged;
}

function differs(a: Tree | undefined, b: Tree | undefined): boolean {
  return a !== undefined && b !== undefined && a !== b;
}

/** Marks mean nothing where there is nothing below them. */
function unmarked(tree: Tree): Tree | undefined {
  if (tree instanceof Mark) return tree.kind === "reset" ? undefined : unmarked(tree.value);
  if (isMap(tree)) return mapEntries(tree, unmarked);
  if (isList(tree)) return tree.map(unmarked).filter((item): item is Tree => item !== undefined);
  return tree;
}
