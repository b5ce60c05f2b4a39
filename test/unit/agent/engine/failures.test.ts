import assert from "node:assert/strict";
import { test } from "node:test";
import { execFailure } from "../../../../agent/engine/failures.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";

const cases = [
  { words: 'exec: "nosuch": executable file not found in $PATH', exitCode: 127 },
  { words: 'exec: "/etc": permission denied', exitCode: 126 },
  { words: "unable to find user nobody2: no matching entries in passwd file", exitCode: 126 },
  { words: "something else", exitCode: 128 },
];
for (const { words, exitCode } of cases)
  test(`an exec that fails with "${words}" ends with ${exitCode} and says just that`, () => {
    const failure = execFailure(new SwarmError("internal", words));
    assert.deepEqual([failure.exitCode, failure.error.message], [exitCode, words]);
  });
