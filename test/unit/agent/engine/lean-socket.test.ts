import assert from "node:assert/strict";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { LeanSocket, leanAgents } from "../../../../agent/engine/lean-socket.ts";

test("what came stays as it is until more is asked for", async () => {
  const bytes = Buffer.alloc(4 * 1024 * 1024, 7);
  const server = createServer((_, response) => response.end(bytes));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const { plain } = leanAgents();
  try {
    let wake = () => {};
    const parts: Buffer[] = [];
    const socket = await new Promise<LeanSocket>((resolve, reject) => {
      const asking = request({ host: "127.0.0.1", port, agent: plain }, (answer) => {
        const line: unknown = answer.socket;
        assert.ok(line instanceof LeanSocket);
        line.hold();
        answer.on("data", (part: Buffer) => {
          parts.push(part);
          wake();
        });
        resolve(line);
      });
      asking.on("error", reject);
      asking.end();
    });
    let read = 0;
    let reads = 0;
    while (read < bytes.length) {
      const came = parts.splice(0);
      if (came.length === 0) {
        const next = new Promise<void>((resolve) => {
          wake = resolve;
        });
        socket.more();
        reads += 1;
        await next;
        continue;
      }
      // Long enough for a connection that is not held to read on.
      await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
      assert.equal(parts.length, 0, "nothing comes that was not asked for");
      for (const part of came) {
        assert.ok(part.every((byte) => byte === 7));
        read += part.length;
        part.fill(0);
      }
    }
    assert.equal(read, bytes.length);
    assert.ok(reads > 1);
  } finally {
    plain.destroy();
    server.closeAllConnections();
    server.close();
  }
});
