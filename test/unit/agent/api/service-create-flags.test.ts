// Every flag of `docker service create`: what the docker command asks for is what inspect shows, and tsswarm's own command asks for the same.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { casesOf } from "../../data.ts";
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

/** The one thing that is filled in. */
function withReplicas(spec: Json): Json {
  const mode = spec["Mode"] as Json;
  const { Replicated } = mode as { Replicated?: Json };
  if (Replicated === undefined) return spec;
  return { ...spec, Mode: { Replicated: { Replicas: 1, ...Replicated } } };
}

for (const [i, { name, flags }] of casesOf<Flagged>(
  "agent/api/service-create-flags.yaml",
).entries())
  test(`docker service create with ${name} is kept as asked, and tsswarm asks for the same`, {
    skip,
  }, async () => {
    const words = wordsOf(flags).map((word) => (word === "ENVFILE" ? recorder.envFile : word));
    const args = [...always, "--name", `c${i}`, ...words, image, "serve", "--port", "80"];
    const ran = await docker("service", "create", ...args);
    assert.equal(ran.code, 0, ran.stderr);
    const wanted = withReplicas(await asked());
    assert.deepEqual(comparable(await stored(`c${i}`)), comparable(wanted));
    await docker("service", "rm", `c${i}`);
    const own = await tsswarm("service", "create", ...args);
    assert.equal(own.code, 0, own.stderr);
    const same = await stored(`c${i}`);
    assert.deepEqual(
      comparable(withoutAction(same, words)),
      comparable(withoutAction(wanted, words)),
    );
    await docker("service", "rm", `c${i}`);
  });

interface Refused {
  readonly flags: readonly string[];
  /** A pattern of the answer. */
  readonly why: string;
}
for (const { flags, why } of casesOf<Refused>("agent/api/service-refused-flags.yaml"))
  test(`docker service create ${flags.join(" ")} is refused`, { skip }, async () => {
    const args = [...always, "--name", "refused", ...wordsOf(flags), image];
    const ran = await docker("service", "create", ...args);
    assert.notEqual(ran.code, 0);
    assert.match(ran.stderr, new RegExp(why));
  });
