// The command line of `npm run bench`. Pure.

import { parseArgs } from "node:util";

export const runsMax = 100;
export const agentsMax = 10_000;

export interface Arguments {
  readonly help: boolean;
  readonly runs: number;
  /** The measurements to do, in their own order. */
  readonly measurements: readonly string[];
  /** Where every run's figures go; null for nowhere. */
  readonly jsonFile: string | null;
  readonly withPeer: boolean;
  /** Of `agents-2000`. */
  readonly agents: number;
}

export class ArgumentError extends Error {
  override readonly name = "ArgumentError";
}

/**
 * `known`: all measurements' names, `rare` those that are only done when they are named. `--only create` also means those that
 * begin with `create-`. Throws ArgumentError.
 */
export function parseArguments(
  words: readonly string[],
  known: readonly string[],
  rare: readonly string[] = [],
): Arguments {
  const values = parse(words);
  return {
    help: values.help === true,
    runs: parseCount("runs", values.runs ?? "3", runsMax),
    measurements: values.only === undefined ? known : choose(values.only, [...known, ...rare]),
    jsonFile: values.json ?? null,
    withPeer: values["with-peer"] === true,
    agents: parseCount("agents", values.agents ?? "2000", agentsMax),
  };
}

function parse(words: readonly string[]) {
  try {
    return parseArgs({
      args: [...words],
      options: {
        help: { type: "boolean", short: "h" },
        only: { type: "string", multiple: true },
        runs: { type: "string" },
        json: { type: "string" },
        "with-peer": { type: "boolean" },
        agents: { type: "string" },
      },
    }).values;
  } catch (error) {
    throw new ArgumentError(error instanceof Error ? error.message : String(error));
  }
}

function parseCount(option: string, text: string, max: number): number {
  const count = /^\d+$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > max)
    throw new ArgumentError(`--${option} ${text}: a number from 1 to ${max} is expected`);
  return count;
}

function choose(lists: readonly string[], known: readonly string[]): readonly string[] {
  const wanted = lists.flatMap((list) => list.split(",")).filter((name) => name !== "");
  const isMeant = (name: string, by: string) => name === by || name.startsWith(`${by}-`);
  const unknown = wanted.find((by) => !known.some((name) => isMeant(name, by)));
  if (unknown !== undefined)
    throw new ArgumentError(`--only ${unknown}: known are ${known.join(", ")}`);
  if (wanted.length === 0) throw new ArgumentError("--only: a measurement's name is expected");
  return known.filter((name) => wanted.some((by) => isMeant(name, by)));
}
