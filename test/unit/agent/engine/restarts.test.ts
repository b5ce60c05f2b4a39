import assert from "node:assert/strict";
import { test } from "node:test";
import type { RestartPolicy } from "../../../../agent/engine/container-types.ts";
import { isRestarted, isRevived, restartWaitMs } from "../../../../agent/engine/restarts.ts";

interface Row {
  readonly name: RestartPolicy["Name"];
  readonly retries?: number;
  readonly exit: number;
  readonly byHand?: boolean;
  readonly count?: number;
  readonly again: boolean;
  readonly atStart: boolean;
}
const rows: readonly Row[] = [
  { name: "no", exit: 1, again: false, atStart: false },
  { name: "always", exit: 0, again: true, atStart: true },
  { name: "always", exit: 0, byHand: true, again: false, atStart: true },
  { name: "unless-stopped", exit: 0, again: true, atStart: true },
  { name: "unless-stopped", exit: 137, byHand: true, again: false, atStart: false },
  { name: "on-failure", exit: 0, again: false, atStart: false },
  { name: "on-failure", exit: 1, again: true, atStart: true },
  { name: "on-failure", exit: 1, byHand: true, again: false, atStart: false },
  { name: "on-failure", retries: 2, exit: 1, count: 1, again: true, atStart: true },
  { name: "on-failure", retries: 2, exit: 1, count: 2, again: false, atStart: false },
];
for (const row of rows) {
  const { name, retries = 0, exit, byHand = false, count = 0 } = row;
  const by = byHand ? " by hand" : "";
  test(`${name}:${retries} after exit ${exit}${by}, restarted ${count} times`, () => {
    const ended = {
      exitCode: exit,
      local: {
        restart: { Name: name, MaximumRetryCount: retries },
        isStoppedByHand: byHand,
        restartCount: count,
      },
    };
    assert.equal(isRestarted(ended), row.again);
    assert.equal(isRevived(ended, true), row.atStart);
    assert.equal(isRevived(ended, false), false, "what never ran is not started");
  });
}

test("waits double from 100 ms to a minute, and begin anew after ten seconds of running", () => {
  const waits: number[] = [];
  for (let ms = 0; waits.length < 12; waits.push(ms)) ms = restartWaitMs(ms, 50);
  assert.deepEqual(waits.slice(0, 5), [100, 200, 400, 800, 1600]);
  assert.equal(waits.at(-1), 60_000);
  assert.equal(restartWaitMs(60_000, 10_000), 100);
});
