import assert from "node:assert/strict";
import { createServer } from "node:net";
import { test } from "node:test";
import { claimNetwork } from "../../../../agent/keeper/claim.ts";

const path = `\0tsswarm-claim-test-${process.pid}`;

test("who comes second is told who has the network, and gets it once that one has let go", async () => {
  const first = await claimNetwork("/run/one", path);
  await assert.rejects(claimNetwork("/run/two", path), {
    code: "conflict",
    message: new RegExp(
      `\\(process ${process.pid}, --exec-root /run/one\\) has this machine's network`,
    ),
  });
  await first.release();
  await (await claimNetwork("/run/two", path)).release();
});

test("a holder that says nothing is not waited for without end", async () => {
  const mute = createServer().listen(path);
  await assert.rejects(claimNetwork("/run/two", path), /it does not say which/);
  mute.close();
});
