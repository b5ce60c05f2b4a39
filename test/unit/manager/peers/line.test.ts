import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { Line, type LineEvents } from "../../../../manager/peers/line.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";

const frameBytesMax = 100;
const soonMs = 20;
const deaf: LineEvents = { frame: () => {}, broken: () => {} };

async function pair(t: TestContext): Promise<readonly [Socket, Socket]> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const near = connect(port, "127.0.0.1");
  const [far] = (await once(server, "connection")) as [Socket];
  t.after(() => {
    near.destroy();
    far.destroy();
    server.close();
  });
  return [near, far];
}

test("a line whose other end gives no sign of life is ended", async (t) => {
  const [near, far] = await pair(t);
  far.resume();
  const line = new Line(near, frameBytesMax, deaf);
  line.ping(soonMs);
  await line.ended;
});

test("a line whose other end answers goes on", async (t) => {
  const [near, far] = await pair(t);
  const other: Line = new Line(far, frameBytesMax, {
    ...deaf,
    frame: () => other.giveSign(),
  });
  let signs = 0;
  const enough = new Promise<string>((resolve) => {
    const line = new Line(near, frameBytesMax, {
      ...deaf,
      frame: () => {
        signs += 1;
        if (signs === 10) resolve("answered");
      },
    });
    line.ping(soonMs);
    void line.ended.then(() => resolve("ended"));
  });
  assert.equal(await enough, "answered");
});

test("a line whose other end asks nothing any more is ended by who expects that", async (t) => {
  const [near, far] = await pair(t);
  const line = new Line(near, frameBytesMax, deaf);
  line.expectWithin(soonMs);
  far.resume();
  await line.ended;
});

test("what comes after a broken frame is not looked at, and what is said of it arrives", async (t) => {
  const [near, far] = await pair(t);
  const heard: string[] = [];
  const line: Line = new Line(far, frameBytesMax, {
    frame: (bytes) => {
      heard.push(bytes.toString());
      if (bytes.toString() === "bad") throw new SwarmError("invalid", "bad");
    },
    broken: (error) => {
      line.send(Buffer.from(String(error)));
      line.finish();
    },
  });
  const told: string[] = [];
  const caller = new Line(near, frameBytesMax, {
    ...deaf,
    frame: (bytes) => void told.push(bytes.toString()),
  });
  for (const text of ["good", "bad", "late"]) caller.send(Buffer.from(text));
  await caller.ended;
  assert.deepEqual(heard, ["good", "bad"]);
  assert.deepEqual(told, ["SwarmError: bad"]);
});
