import assert from "node:assert/strict";
import { test } from "node:test";
import { ArgumentError, parseArguments } from "../../../bench/arguments.ts";

const known = ["cli", "create-1", "create-1-overlay", "create-10", "dns", "dns-scale"];

test("without arguments: everything, three times, no file, no peer", () => {
  assert.deepEqual(parseArguments([], known), {
    help: false,
    runs: 3,
    measurements: known,
    jsonFile: null,
    withPeer: false,
    agents: 2000,
  });
});

test("what is rare is done when it is named", () => {
  assert.deepEqual(parseArguments([], known, ["agents-2000"]).measurements, known);
  const words = ["--only", "agents", "--agents", "200"];
  const { measurements, agents } = parseArguments(words, known, ["agents-2000"]);
  assert.deepEqual({ measurements, agents }, { measurements: ["agents-2000"], agents: 200 });
});

const choices: readonly { only: readonly string[]; measurements: readonly string[] }[] = [
  { only: ["--only", "cli"], measurements: ["cli"] },
  { only: ["--only", "dns,cli"], measurements: ["cli", "dns", "dns-scale"] },
  { only: ["--only", "dns-scale", "--only=cli"], measurements: ["cli", "dns-scale"] },
  { only: ["--only", "create-1"], measurements: ["create-1", "create-1-overlay"] },
  { only: ["--only", "create"], measurements: ["create-1", "create-1-overlay", "create-10"] },
];
for (const { only, measurements } of choices)
  test(`${only.join(" ")} means ${measurements.join(", ")}`, () =>
    assert.deepEqual(parseArguments(only, known).measurements, measurements));

test("runs, file and peer are taken as they are said", () => {
  const said = ["--runs", "5", "--json", "f.json", "--with-peer"];
  const { runs, jsonFile, withPeer } = parseArguments(said, known);
  assert.deepEqual({ runs, jsonFile, withPeer }, { runs: 5, jsonFile: "f.json", withPeer: true });
});

for (const words of [
  ["--only", "nothing"],
  ["--only", ","],
  ["--runs", "0"],
  ["--runs", "101"],
  ["--runs", "many"],
  ["--agents", "0"],
  ["--fast"],
  ["create"],
])
  test(`${words.join(" ")} is refused with a sentence`, () =>
    assert.throws(() => parseArguments(words, known), ArgumentError));
