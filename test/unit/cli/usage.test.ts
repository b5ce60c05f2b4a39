// Wrong use of the command line: what is said, and the exit code.

import assert from "node:assert/strict";
import { test } from "node:test";
import { explain } from "../../../cli/command.ts";
import type { Doors } from "../../../cli/doors.ts";
import { buildProgram } from "../../../cli/program.ts";

const never = () => Promise.reject(new Error("not in this test"));
const doors: Doors = {
  daemon: never,
  agent: never,
  manager: never,
  lab: never,
  labCommands: never,
};

const rows = [
  {
    line: "service create --wrong x",
    code: 125,
    says: "unknown flag: --wrong\nSee 'tsswarm service create --help'.\n",
  },
  {
    line: "service ls --filter",
    code: 125,
    says: "flag needs an argument: -f, --filter <filter>\nSee 'tsswarm service ls --help'.\n",
  },
  {
    line: "service frob",
    code: 1,
    says: "unknown command 'frob'\nSee 'tsswarm service --help'.\n",
  },
  { line: "frob", code: 1, says: "unknown command 'frob'\nSee 'tsswarm --help'.\n" },
  {
    line: "service create",
    code: 1,
    says: "requires the argument IMAGE\nSee 'tsswarm service create --help'.\n",
  },
  {
    line: "service create --replicas many web",
    code: 125,
    says: /^invalid .*"many".*\n$/,
  },
];
for (const { line, code, says } of rows)
  test(`tsswarm ${line} ends with ${code} and says why`, async () => {
    let text = "";
    const write = (part: string) => {
      text += part;
    };
    const program = await buildProgram(doors, never as never, { code: 0 }, { writeErr: write });
    const error: unknown = await program
      .parseAsync(line.split(" "), { from: "user" })
      .catch((reason: unknown) => reason);
    assert.equal(explain(error, write), code);
    if (says instanceof RegExp) assert.match(text, says);
    else assert.equal(text, says);
  });
