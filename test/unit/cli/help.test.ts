// What the program says about itself: examples, completion, settings.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Command } from "commander";
import { readConfig } from "../../../cli/daemon.ts";
import type { Doors } from "../../../cli/doors.ts";
import { buildProgram } from "../../../cli/program.ts";
import { labProgram } from "../../../deploy/lab/main.ts";

const never = () => Promise.reject(new Error("not in this test"));

function program(write: (text: string) => void = () => {}): Promise<Command> {
  const doors: Doors = {
    daemon: never,
    agent: never,
    manager: never,
    lab: never,
    labCommands: async () => labProgram({ code: 0 }),
  };
  const connect = () => {
    throw new Error("not in this test");
  };
  return buildProgram(doors, connect, { code: 0 }, { writeOut: write });
}

function leaves(command: Command): readonly Command[] {
  const below = command.createHelp().visibleCommands(command);
  const own = below.filter((each) => each.name() !== "help" && each.name() !== "lab");
  return own.length === 0 ? [command] : own.flatMap(leaves);
}

function helpOf(command: Command): string {
  let text = "";
  command.configureOutput({
    writeOut: (part) => {
      text += part;
    },
  });
  command.outputHelp();
  return text;
}

test("every command's help ends with an example", async () => {
  const all = [...leaves(await program()), ...leaves(labProgram({ code: 0 }))];
  assert.ok(all.length > 40, `only ${all.length} commands were found`);
  const lacking = all.filter((each) => !/\nExamples?:\n {2}\S/.test(helpOf(each)));
  assert.deepEqual(
    lacking.map((each) => each.name()),
    [],
  );
});

const completions = [
  { line: ["tsswarm", "serv"], words: "service" },
  { line: ["tsswarm", "-H", "unix:///x", "service", "sc"], words: "scale" },
  {
    line: ["tsswarm", "service", "create", "--name", "web", "--replicas-"],
    words: "--replicas-max-per-node",
  },
  { line: ["tsswarm", "service", "ps", "web", "--no-t"], words: "--no-trunc" },
  { line: ["tsswarm", "lab", "power-o"], words: "power-off power-on" },
  { line: ["tsswarm", "lab", "up", "--ho"], words: "--hosts" },
];

test("the script for bash completes what follows options, their values and operands", async () => {
  let script = "";
  const whole = await program((text) => {
    script += text;
  });
  await whole.parseAsync(["completion", "bash"], { from: "user" });
  const ask = `COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tsswarm; echo "\${COMPREPLY[*]}"`;
  for (const { line, words } of completions)
    assert.equal(
      execFileSync("bash", ["-c", `${script}\n${ask}`, "bash", ...line], { encoding: "utf8" }),
      `${words}\n`,
    );
});

test("a wrong setting is said to be the file's or the flags', wherever it is", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tsswarm-config-"));
  const configFile = join(folder, "daemon.json");
  try {
    writeFileSync(configFile, '{"data-rot": "/x"}');
    await assert.rejects(readConfig({ configFile }), /daemon\.json: .*"data-rot"/);
    writeFileSync(configFile, '{"log-level": "warn"}');
    await assert.rejects(
      readConfig({ configFile, mtu: "x" }),
      /^SwarmError: the flags: mtu: a number/,
    );
    assert.equal((await readConfig({ configFile, mtu: "1400" }))["log-level"], "warn");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
