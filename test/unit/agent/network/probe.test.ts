// When a peer that does not answer is said to be silent.

import assert from "node:assert/strict";
import { test } from "node:test";
import { runProbe } from "../../../../agent/network/probe.ts";
import { openLog } from "../../../../proto/kit/log.ts";
import { Clock } from "../../clock.ts";

const roundMs = 10_000;

test("a peer's silence counts from the second time on that it is asked", async () => {
  const clock = new Clock();
  const end = new AbortController();
  let peers = ["old", "deaf"];
  let silent = ["deaf"];
  const reports: (readonly string[])[] = [];
  const targets = () => ({
    namespace: "",
    mtu: 1450,
    peers: peers.map((nodeId) => ({ nodeId, address: "" })),
  });
  const ask = async () => silent;
  const log = openLog("test", "error");
  const report = (ids: readonly string[]) => reports.push(ids);
  const running = runProbe(targets, report, { world: clock, log, ask }, end.signal);
  const round = async (count: number) => {
    await clock.until(count * roundMs);
    return reports.at(-1);
  };
  assert.deepEqual(await round(1), []);
  assert.deepEqual(await round(2), ["deaf"]);
  peers = ["old", "deaf", "new"];
  silent = ["deaf", "new"];
  assert.deepEqual(await round(3), ["deaf"]);
  assert.deepEqual(await round(4), ["deaf", "new"]);
  silent = [];
  assert.deepEqual(await round(5), []);
  end.abort("over");
  await running.catch((reason) => assert.equal(reason, "over"));
});
