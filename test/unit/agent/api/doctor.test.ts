import assert from "node:assert/strict";
import { test } from "node:test";
import { startFakeDaemon } from "./fakes.ts";

test("the doctor's findings are served, with and without repair", async () => {
  await using daemon = await startFakeDaemon(true);
  const finding = { What: "route", Where: "R", Wanted: "A", Actual: "", Sentence: "R lacks A" };
  daemon.findings.push({ ...finding, Repaired: false });
  for (const [method, path, Repaired] of [
    ["GET", "/v1.50/tsswarm/doctor", false],
    ["POST", "/tsswarm/doctor/repair", true],
  ] as const) {
    const { status, json } = await daemon.ask(method, path);
    assert.equal(status, 200);
    assert.equal(json.LocalNodeState, "active");
    assert.deepEqual(json.Findings, [{ ...finding, Repaired }]);
  }
});
