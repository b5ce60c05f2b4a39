// ${VARIABLE} in the values of a Compose file, in all its forms. Pure.

import { isList, isMap, mapEntries, StackError, type Tree, through } from "./tree.ts";

export type Lookup = (name: string) => string | undefined;

const depthMax = 20;
const name = /^[A-Za-z_][A-Za-z0-9_]*/;

export interface Interpolation {
  readonly lookup: Lookup;
  /** Hears the name of each variable that is not set and has no default; it stands for nothing. */
  readonly onUnset: (variable: string) => void;
}

/** Every string in the tree; keys stay as they are. Throws a StackError with the place in the file. */
export function interpolateTree(tree: Tree, how: Interpolation, path = ""): Tree {
  if (typeof tree === "string") return interpolate(tree, how, path);
  if (isList(tree)) return tree.map((item, i) => interpolateTree(item, how, `${path}[${i}]`));
  if (isMap(tree))
    return mapEntries(tree, (value, key) =>
      interpolateTree(value, how, path === "" ? key : `${path}.${key}`),
    );
  return through(tree, (value) => (value === tree ? value : interpolateTree(value, how, path)));
}

/**
 * $NAME, ${NAME}, ${NAME:-default}, ${NAME-default}, ${NAME:?message}, ${NAME?message}, ${NAME:+instead}, ${NAME+instead};
 * with the colon an empty value counts as none. What stands behind may hold variables itself. $$ is a dollar.
 */
export function interpolate(text: string, how: Interpolation, path: string): string {
  return new Reader(text, how, path).read();
}

class Reader {
  readonly #text: string;
  readonly #how: Interpolation;
  readonly #path: string;
  #at = 0;

  constructor(text: string, how: Interpolation, path: string) {
    this.#text = text;
    this.#how = how;
    this.#path = path;
  }

  read(): string {
    return this.#until(false, true, 0);
  }

  /** Up to the closing brace, or the end. `isLive`: what is read counts, so that only then variables are asked for. */
  #until(isBraced: boolean, isLive: boolean, depth: number): string {
    if (depth > depthMax) throw this.#invalid(`more than ${depthMax} variables in one another`);
    let result = "";
    while (this.#at < this.#text.length) {
      const character = this.#text[this.#at++] ?? "";
      if (isBraced && character === "}") return result;
      result += character === "$" ? this.#variable(isLive, depth) : character;
    }
    if (isBraced) throw this.#invalid("a closing brace is missing");
    return result;
  }

  #variable(isLive: boolean, depth: number): string {
    const next = this.#text[this.#at];
    if (next === "$") {
      this.#at++;
      return "$";
    }
    const isBraced = next === "{";
    if (isBraced) this.#at++;
    const variable = name.exec(this.#text.slice(this.#at))?.[0];
    if (variable === undefined) throw this.#invalid("a variable's name is expected after $");
    this.#at += variable.length;
    const value = isLive ? this.#how.lookup(variable) : "";
    if (!isBraced) return this.#plain(variable, value);
    const operator = /^(:?[-?+]|\})/.exec(this.#text.slice(this.#at))?.[0];
    if (operator === undefined)
      throw this.#invalid(`after ${variable} only -, ?, + or } may stand`);
    this.#at += operator.length;
    if (operator === "}") return this.#plain(variable, value);
    const isSet = value !== undefined && (value !== "" || !operator.startsWith(":"));
    return this.#operate(operator.at(-1) ?? "", variable, isSet ? value : null, isLive, depth);
  }

  #operate(
    operator: string,
    variable: string,
    value: string | null,
    isLive: boolean,
    depth: number,
  ): string {
    const isWanted = operator === "+" ? value !== null : value === null;
    const behind = this.#until(true, isLive && isWanted, depth + 1);
    if (operator === "+") return value === null ? "" : behind;
    if (value !== null) return value;
    if (operator === "-" || !isLive) return behind;
    throw new StackError(
      `${this.#path}: required variable ${variable} is missing a value${behind === "" ? "" : `: ${behind}`}`,
    );
  }

  #plain(variable: string, value: string | undefined): string {
    if (value === undefined) this.#how.onUnset(variable);
    return value ?? "";
  }

  #invalid(why: string): StackError {
    return new StackError(
      `${this.#path}: invalid interpolation "${this.#text}": ${why}. A dollar itself is written $$`,
    );
  }
}
