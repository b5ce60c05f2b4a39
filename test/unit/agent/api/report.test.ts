import assert from "node:assert/strict";
import { test } from "node:test";
import { startFakeDaemon } from "./fakes.ts";

test("a report is answered as the tar it is", async () => {
  await using daemon = await startFakeDaemon(false);
  const { status, headers, text } = await daemon.ask("GET", "/tsswarm/report");
  assert.equal(status, 200);
  assert.equal(headers["content-type"], "application/x-tar");
  assert.equal(text, "a report");
});
