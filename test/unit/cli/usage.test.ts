// Wrong use of the command line: what is said, and the exit code.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { explain } from "../../../cli/command.ts";
import type { Doors } from "../../../cli/doors.ts";
import { buildProgram } from "../../../cli/program.ts";
import { runCommand } from "./fake.ts";

const main = fileURLToPath(new URL("../../../cli/main.js", import.meta.url));
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
    says: "'tsswarm service create' requires the argument IMAGE\nUsage: tsswarm service create [OPTIONS] IMAGE [COMMAND] [ARG...]\nSee 'tsswarm service create --help'.\n",
  },
  { line: "service", code: 0, says: /^Usage: tsswarm service COMMAND\n/ },
  {
    line: "service create --replicas many web",
    code: 125,
    says: `invalid argument "many" for "--replicas" flag: invalid number "many"\nSee 'tsswarm service create --help'.\n`,
  },
  {
    line: "service rm",
    code: 1,
    says: "'tsswarm service rm' requires the argument SERVICE\nUsage: tsswarm service rm SERVICE [SERVICE...]\nSee 'tsswarm service rm --help'.\n",
  },
  {
    line: "service update --publish-add 99999:80 web",
    code: 125,
    says: /^invalid argument "99999:80" for "--publish-add" flag: invalid port "99999": .*\nSee /,
  },
  {
    line: "node update --availability up h1",
    code: 125,
    says: /^invalid argument "up" for "--availability" flag: .*active, pause, drain.*\nSee /,
  },
  {
    line: "run --memory lots web",
    code: 125,
    says: /^invalid argument "lots" for "-m, --memory" flag: invalid size: 'lots': .*\nSee 'tsswarm run --help'/,
  },
  {
    line: "run -p 80:x web",
    code: 125,
    says: /^invalid argument "80:x" for "-p, --publish" flag: .*\nSee 'tsswarm run --help'/,
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

test("a file that cannot be read is named as Docker's client names it", () => {
  let text = "";
  const missing = Object.assign(new Error("ENOENT: no such file or directory, open '/none'"), {
    code: "ENOENT",
  });
  assert.equal(
    explain(missing, (part) => {
      text += part;
    }),
    1,
  );
  assert.equal(text, "open /none: no such file or directory\n");
});

for (const line of ["load -i /none", "import /none web", "volume restore data /none"])
  test(`tsswarm ${line} asks the daemon for nothing`, async () => {
    const { code, err, asked } = await runCommand(line.split(" "));
    assert.equal(code, 1);
    assert.equal(err, "open /none: no such file or directory\n");
    assert.deepEqual(asked, []);
  });

test("what cannot be read any further is told, not that the connection broke", async () => {
  const { code, err } = await runCommand(["load", "-i", "/"]);
  assert.equal(code, 1);
  assert.match(err, /is a directory|illegal operation on a directory/);
});

const silent = [
  { line: ["login"], says: /non TTY device: give --username/ },
  { line: ["volume", "prune"], says: /WARNING![\s\S]*operation canceled/ },
];
for (const { line, says } of silent)
  test(`tsswarm ${line.join(" ")} ends when nobody can be asked`, () => {
    const { status, stderr } = spawnSync(
      process.execPath,
      [main, "-H", "unix:///nobody-listens-here", ...line],
      { stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" },
    );
    assert.match(stderr, says);
    assert.equal(status, 1);
  });
