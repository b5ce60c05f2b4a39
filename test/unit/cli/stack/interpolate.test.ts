// Variables in Compose files and files of variables.

import assert from "node:assert/strict";
import { test } from "node:test";
import { readEnvFile } from "../../../../cli/stack/dotenv.ts";
import { interpolate } from "../../../../cli/stack/interpolate.ts";

const set: Readonly<Record<string, string>> = { FOO: "foo", EMPTY: "", BAR: "bar" };

function how(unset: string[] = []) {
  return { lookup: (name: string) => set[name], onUnset: (name: string) => unset.push(name) };
}

const rows: readonly (readonly [text: string, result: string | RegExp])[] = [
  ["plain", "plain"],
  ["$FOO", "foo"],
  ["a${FOO}b", "afoob"],
  ["$FOO$BAR", "foobar"],
  ["$FOO-x", "foo-x"],
  ["$$FOO $${FOO}", "$FOO ${FOO}"],
  ["${FOO:-x}", "foo"],
  ["${EMPTY:-x}", "x"],
  ["${EMPTY-x}", ""],
  ["${NONE-x}", "x"],
  ["${NONE:-}", ""],
  ["${NONE:-a:b/c-d?e}", "a:b/c-d?e"],
  ["${NONE:-${FOO}}", "foo"],
  ["${NONE:-${NONE2:-${BAR}!}}", "bar!"],
  ["${FOO:-${NONE:?never asked}}", "foo"],
  ["${FOO:+set}", "set"],
  ["${FOO+set}", "set"],
  ["${EMPTY:+set}", ""],
  ["${EMPTY+set}", "set"],
  ["${NONE:+set}", ""],
  ["${NONE+${FOO}}", ""],
  ["${FOO:+${BAR}}", "bar"],
  ["${FOO:?needed}", "foo"],
  ["${EMPTY?needed}", ""],
  ["${EMPTY:?is needed}", /at: required variable EMPTY is missing a value: is needed/],
  ["${NONE?}", /at: required variable NONE is missing a value$/],
  ["${NONE:?say ${FOO}}", /is missing a value: say foo/],
  ["${NONE", /closing brace is missing|may stand/],
  ["${}", /a variable's name is expected/],
  ["${FOO!x}", /only -, \?, \+ or } may stand/],
  ["a $ b", /a variable's name is expected after \$/],
  ["$1", /a variable's name is expected/],
];

for (const [text, result] of rows)
  test(`"${text}" becomes ${result}`, () => {
    if (typeof result === "string") assert.equal(interpolate(text, how(), "at"), result);
    else assert.throws(() => interpolate(text, how(), "at"), result);
  });

test("a variable that is not set and has no default is told of, once it counts", () => {
  const unset: string[] = [];
  assert.equal(interpolate("${NONE} $NO ${FOO:-$NEVER} ${NONE:-x}", how(unset), "at"), "  foo x");
  assert.deepEqual(unset, ["NONE", "NO"]);
});

const files: readonly {
  readonly name: string;
  readonly text: string;
  readonly format?: "raw";
  readonly is: Readonly<Record<string, string | null>>;
}[] = [
  { name: "comments and blank lines say nothing", text: "# a\n\n  # b\nA=1\n", is: { A: "1" } },
  { name: "export may stand before a name", text: "export A=1\nexport B", is: { A: "1", B: null } },
  {
    name: "what follows a space and # is a comment",
    text: "A=1 # one\nB=a#b\nC= # x",
    is: { A: "1", B: "a#b", C: "" },
  },
  { name: "single quotes keep everything", text: "A='$FOO # \\n'", is: { A: "$FOO # \\n" } },
  {
    name: "double quotes know line ends and variables",
    text: 'A="x\\n$FOO \\$FOO \\" #"',
    is: { A: 'x\nfoo $FOO " #' },
  },
  { name: "quotes hold several lines", text: 'A="one\ntwo"\nB=3', is: { A: "one\ntwo", B: "3" } },
  {
    name: "lines above may be named",
    text: "A=1\nB=${A}2\nC=${NONE:-$B}",
    is: { A: "1", B: "12", C: "12" },
  },
  { name: "a colon stands for an equals sign", text: "A: 1", is: { A: "1" } },
  {
    name: "a name alone has no value, an equals sign an empty one",
    text: "A\nB=",
    is: { A: null, B: "" },
  },
  { name: "carriage returns are none", text: "A=1\r\nB=2\r\n", is: { A: "1", B: "2" } },
  {
    name: "raw files keep quotes and dollars",
    text: "A='$FOO' # x",
    format: "raw",
    is: { A: "'$FOO' # x" },
  },
];

for (const { name, text, format, is } of files)
  test(`in a file of variables ${name}`, () => {
    const found = readEnvFile(text, "/e", how(), format);
    assert.deepEqual(Object.fromEntries(found), is);
  });

test("a line that is no assignment is named with its file and number", () => {
  assert.throws(
    () => readEnvFile("A=1\nwhat is this", "/e", how()),
    /^StackError: \/e:2: NAME=value/,
  );
  assert.throws(() => readEnvFile('A="x', "/e", how()), /\/e:1: the closing " is missing/);
});
