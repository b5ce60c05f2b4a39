// Compose files as YAML: read with Docker's habits, written as `docker stack config` does.

import { isNode, isScalar, Pair, parseDocument, Scalar, stringify, visit, YAMLMap } from "yaml";
import { isList, isMap, Mark, mapEntries, StackError, type Tree, type TreeMap } from "./tree.ts";

const fileBytesMax = 4 * 1024 * 1024;
const aliasesMax = 1000;

/** YAML 1.1's octal, which the modes of files are written in: 0440. */
const oldOctal = {
  default: true,
  tag: "tag:yaml.org,2002:int",
  test: /^0[0-7]+$/,
  resolve: (text: string) => Number.parseInt(text, 8),
};

/** One file; `{}` when it is empty. Throws a StackError that names the file and what is wrong in it. */
export function readYaml(text: string, path: string): TreeMap {
  if (text.length > fileBytesMax)
    throw new StackError(`${path} is larger than ${fileBytesMax} bytes`);
  const document = parseDocument(text, {
    merge: true,
    logLevel: "error",
    customTags: (tags) => [oldOctal, ...tags],
  });
  const [problem] = document.errors;
  if (problem !== undefined) throw new StackError(`${path}: ${problem.message.split("\n")[0]}`);
  visit(document, (_key, node) => {
    if (!isNode(node)) return undefined;
    if (isScalar(node)) keepDigits(node);
    const { tag } = node as { tag?: string };
    if (tag !== "!reset" && tag !== "!override") return undefined;
    delete (node as { tag?: string }).tag;
    const wrapped = new YAMLMap();
    wrapped.items.push(new Pair(new Scalar(tag), node));
    return wrapped;
  });
  const tree = marked(toJson(() => document.toJS({ maxAliasCount: aliasesMax }), path));
  if (tree === null) return {};
  if (!isMap(tree)) throw new StackError(`${path}: top-level object must be a mapping`);
  return tree;
}

/** A number that JavaScript cannot hold stays the text it was. */
function keepDigits(node: Scalar): void {
  const { value, source } = node;
  if (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value))
    node.value = source ?? String(value);
}

function toJson(convert: () => unknown, path: string): Tree {
  try {
    return (convert() ?? null) as Tree;
  } catch (error) {
    throw new StackError(`${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function marked(tree: Tree): Tree {
  if (isList(tree)) return tree.map(marked);
  if (!isMap(tree)) return tree;
  const [[key, value] = ["", null], ...others] = Object.entries(tree);
  if (others.length === 0 && key === "!reset") return new Mark("reset", null);
  if (others.length === 0 && key === "!override") return new Mark("override", marked(value));
  return mapEntries(tree, marked);
}

/** What is undefined is left out. */
export function writeYaml(value: unknown): string {
  return stringify(value, { aliasDuplicateObjects: false, lineWidth: 0, version: "1.1" });
}
