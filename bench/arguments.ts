// The command line of `npm run bench`. Pure.

import { parseArgs } from "node:util";

export const runsMax = 100;

export interface Arguments {
  readonly help: boolean;
  readonly runs: number;
  /** The measurements to do, in their own order. */
  readonly measurements: readonly string[];
  /** Where every run's figures go; null for nowhere. */
  readonly jsonFile: string | null;
  readonly withPeer: boolean;
}

export class ArgumentError extends Error {
  override readonly name = "ArgumentError";
}

/** `known`: all measurements' names. `--only create` also means those that begin with `create-`. Throws ArgumentError. */
export function parseArguments(words: readonly string[], known: readonly string[]): Arguments {
  const values = parse(words);
  return {
    help: values.help === true,
    runs: parseRuns(values.runs ?? "3"),
    measurements: values.only === undefined ? known : choose(values.only, known),
    jsonFile: values.json ?? null,
    withPeer: values["with-peer"] === true,
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
      },
    }).values;
  } catch (error) {
    throw new ArgumentError(error instanceof Error ? error.message : String(error));
  }
}

function parseRuns(text: string): number {
  const runs = /^\d+$/.test(text) ? Number(text) : 0;
  if (runs < 1 || runs > runsMax)
    throw new ArgumentError(`--runs ${text}: a number from 1 to ${runsMax} is expected`);
  return runs;
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
