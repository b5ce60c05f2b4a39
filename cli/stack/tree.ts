// A Compose file as it was written: maps, lists and scalars, before anything is known of what they mean.

export type Tree = string | number | boolean | null | Mark | TreeList | TreeMap;
export type TreeList = readonly Tree[];
export interface TreeMap {
  readonly [key: string]: Tree;
}

/** What `!reset` and `!override` stand before: a merge forgets, or replaces, what was there. */
export class Mark {
  readonly kind: "reset" | "override";
  readonly value: Tree;
  constructor(kind: "reset" | "override", value: Tree) {
    this.kind = kind;
    this.value = value;
  }
}

/** The file, or what it refers to, is wrong: the sentence names the place in it. */
export class StackError extends Error {
  override readonly name = "StackError";
}

export function isMap(tree: unknown): tree is TreeMap {
  return (
    typeof tree === "object" && tree !== null && !Array.isArray(tree) && !(tree instanceof Mark)
  );
}

export function isList(tree: unknown): tree is TreeList {
  return Array.isArray(tree);
}

/** The map there, `{}` where nothing is. Throws when something else is there. */
export function mapAt(tree: Tree | undefined, path: string): TreeMap {
  if (tree === undefined || tree === null) return {};
  if (isMap(tree)) return tree;
  throw new StackError(`${path} must be a mapping`);
}

export function listAt(tree: Tree | undefined, path: string): TreeList {
  if (tree === undefined || tree === null) return [];
  if (isList(tree)) return tree;
  throw new StackError(`${path} must be a list`);
}

export function textAt(tree: Tree | undefined, path: string): string {
  if (typeof tree === "string" || typeof tree === "number" || typeof tree === "boolean")
    return String(tree);
  throw new StackError(`${path} must be a string`);
}

/** Every entry through `change`; those that come out undefined are left out. */
export function mapEntries(
  map: TreeMap,
  change: (value: Tree, key: string) => Tree | undefined,
): TreeMap {
  const result: [string, Tree][] = [];
  for (const [key, value] of Object.entries(map)) {
    const changed = change(value, key);
    if (changed !== undefined) result.push([key, changed]);
  }
  return Object.fromEntries(result);
}

/** Through marks: what they mean stays, what they hold is changed. */
export function through(tree: Tree, change: (value: Tree) => Tree): Tree {
  return tree instanceof Mark ? new Mark(tree.kind, change(tree.value)) : change(tree);
}
