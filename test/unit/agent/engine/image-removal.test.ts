import assert from "node:assert/strict";
import { test } from "node:test";
import { type ImageUser, planRemoval } from "../../../../agent/engine/image-removal.ts";

const [one, two, other] = ["docker.io/library/a:1", "docker.io/library/a:2", "lab:5000/b:1"];
const digest = `docker.io/library/a@sha256:${"d".repeat(64)}`;
const running: ImageUser = { id: "r".repeat(64), isRunning: true };
const stopped: ImageUser = { id: "s".repeat(64), isRunning: false };
const row = { id: `sha256:${"1".repeat(64)}`, reference: "asked", users: [], isForced: false };

const rows = [
  ["one of two names", { ...row, name: one, names: [one, two] }, [[one], "named"]],
  ["the last name", { ...row, name: one, names: [one] }, [[one], "all"]],
  [
    "a digest goes with the last tag",
    { ...row, name: one, names: [one, digest] },
    [[one, digest], "all"],
  ],
  [
    "a digest stays with a tag left",
    { ...row, name: one, names: [one, two, digest] },
    [[one], "named"],
  ],
  ["by id with one name", { ...row, name: null, names: [one, digest] }, [[one, digest], "all"]],
  [
    "by id, forced",
    { ...row, name: null, names: [one, other], isForced: true },
    [[one, other], "all"],
  ],
  [
    "forced, of a stopped one",
    { ...row, name: one, names: [one], users: [stopped], isForced: true },
    [[one], "all"],
  ],
  [
    "forced, of a running one",
    { ...row, name: one, names: [one], users: [running], isForced: true },
    [[one], "nameless"],
  ],
] as const;

for (const [name, asked, [names, leaves]] of rows)
  test(`removing an image: ${name}`, () => {
    assert.deepEqual(planRemoval(asked), { names, leaves });
  });

const refusals = [
  [
    "several names by id",
    { ...row, name: null, names: [one, other] },
    /must be forced.*multiple repositories/,
  ],
  [
    "a running container, by id",
    { ...row, name: null, names: [one], users: [running], isForced: true },
    /cannot be forced.*running container rrrrrrrrrrrr$/,
  ],
  [
    "a stopped container, by id",
    { ...row, name: null, names: [one], users: [stopped] },
    /must be forced.*stopped container ssssssssssss$/,
  ],
  [
    "a container, by its last name",
    { ...row, name: one, names: [one], users: [stopped] },
    /unable to remove repository reference "asked" \(must force\) - container ssssssssssss is using its referenced image 111111111111$/,
  ],
] as const;

for (const [name, asked, sentence] of refusals)
  test(`an image is not removed: ${name}`, () => {
    assert.throws(() => planRemoval(asked), sentence);
  });
