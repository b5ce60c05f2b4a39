// Every flag of `docker service update`: what the docker command asks for is what inspect shows, and tsswarm's own command asks for the same.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { parse } from "yaml";
import { dataText } from "../../data.ts";
import {
  always,
  comparable,
  type Flagged,
  image,
  type Json,
  skip,
  startRecorder,
  withoutAction,
  wordsOf,
} from "./service-flags.ts";

const recorder = await startRecorder();
const { docker, tsswarm, asked, stored } = recorder;
after(() => recorder[Symbol.asyncDispose]());

interface Cases {
  readonly base: readonly string[];
  readonly changes: readonly Flagged[];
}
const { base, changes }: Cases = parse(dataText("agent/api/service-update-flags.yaml"));

for (const [i, { name, flags }] of changes.entries())
  test(`docker service update of ${name} is kept as asked, and tsswarm asks for the same`, {
    skip,
  }, async () => {
    const words = wordsOf(flags);
    const create = ["service", "create", ...always, "--name", `u${i}`, ...wordsOf(base), image];
    const update = ["service", "update", ...always, ...words, `u${i}`];
    const specs: Json[] = [];
    for (const command of [docker, tsswarm]) {
      const created = await docker(...create);
      assert.equal(created.code, 0, created.stderr);
      const ran = await command(...update);
      assert.equal(ran.code, 0, ran.stderr);
      specs.push(await stored(`u${i}`));
      assert.deepEqual(comparable(specs.at(-1) ?? {}), comparable(await asked()));
      await docker("service", "rm", `u${i}`);
    }
    const [theirs = {}, own = {}] = specs;
    assert.deepEqual(
      comparable(withoutAction(own, words)),
      comparable(withoutAction(theirs, words)),
    );
  });
