import assert from "node:assert/strict";
import { test } from "node:test";
import { execFailure, startFailure } from "../../../../agent/engine/failures.ts";
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

test("a container whose user its image does not know fails at its start in just these words, and by no fault of the request", () => {
  const words = "unable to find user nobody2: no matching entries in passwd file";
  const { exitCode, error } = startFailure("container web", new SwarmError("invalid", words));
  assert.deepEqual([exitCode, error.code, error.message], [128, "internal", words]);
});

const inOtherWords = [
  {
    words: "executable file `nosuch` not found in $PATH: No such file or directory: unknown",
    expected:
      'unable to start container process: exec: "nosuch": executable file not found in $PATH: unknown',
    exitCode: 127,
  },
  {
    words: "executable file `/no/such` not found: No such file or directory",
    expected:
      'unable to start container process: exec: "/no/such": stat /no/such: no such file or directory',
    exitCode: 127,
  },
  {
    words: "open executable: Permission denied: unknown",
    expected: "unable to start container process: exec: permission denied: unknown",
    exitCode: 126,
  },
  {
    words: "open executable: Operation not permitted: unknown",
    expected: "unable to start container process: exec: permission denied: unknown",
    exitCode: 126,
  },
  {
    words: "chdir `/nowhere`: No such file or directory: unknown",
    expected: "chdir `/nowhere`: no such file or directory: unknown",
    exitCode: 127,
  },
];
for (const { words, expected, exitCode } of inOtherWords)
  test(`crun's "${words}" is said in runc's words`, () => {
    const failure = execFailure(new SwarmError("internal", words));
    assert.deepEqual([failure.exitCode, failure.error.message], [exitCode, expected]);
  });
