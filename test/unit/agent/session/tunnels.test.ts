// Tunnels from a manager to an agent, over the agent's own calls and real TLS.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { openSession } from "../../../../agent/session/session.ts";
import { Tunnels } from "../../../../manager/dispatch/tunnels.ts";
import type { TunnelData } from "../../../../proto/gen/types.ts";
import { realWorld } from "../../../../proto/kit/world.ts";
import { tunnelStream } from "../../../../proto/tunnel.ts";
import { joinedTo, sessionOptions } from "../../manager/nodes.ts";
import { type SmallCluster, smallCluster, until } from "../../manager/small-cluster.ts";

const forever = new AbortController().signal;
const megabyte = 1024 * 1024;

/** A node in session whose tunnels go to `serve`; to be closed. */
async function node(cluster: SmallCluster, serve: (stream: Duplex) => void) {
  const identity = await joinedTo(cluster);
  const session = await openSession(sessionOptions(identity, join(cluster.folder, "h2")));
  session.onTunnel(serve);
  await until("the session stands", () => session.wanted !== null && session.connected());
  return { id: identity.nodeId, session };
}

function dial(cluster: SmallCluster, nodeId: string): Duplex {
  return tunnelStream(nodeId, (said, signal) => cluster.tunnels.ask(said, signal));
}

test("all that either end says arrives, and an end may end before the other", async () => {
  await using cluster = await smallCluster();
  const { id, session } = await node(cluster, (stream) => stream.pipe(stream));
  const sent = randomBytes(20 * megabyte);
  const stream = dial(cluster, id);
  stream.end(sent);
  const hash = createHash("sha256");
  for await (const chunk of stream as AsyncIterable<Buffer>) hash.update(chunk);
  assert.equal(hash.digest("hex"), createHash("sha256").update(sent).digest("hex"));
  await session.close("test");
});

test("who reads slowly slows the writer, and small talk is not delayed by another tunnel's", async () => {
  await using cluster = await smallCluster();
  let taken = 0;
  const chunk = Buffer.alloc(64 * 1024);
  const { id, session } = await node(cluster, (stream) => {
    stream.once("data", (first: Buffer) => {
      if (first.toString() !== "flood") return void stream.end(first);
      const pour = () => {
        do taken += chunk.length;
        while (stream.write(chunk));
      };
      stream.on("drain", pour);
      pour();
    });
  });
  const flooded = dial(cluster, id);
  flooded.write("flood");
  await once(flooded, "readable");
  const before = taken;
  for (let round = 0; round < 10; round++) {
    const other = dial(cluster, id);
    other.end(`hello ${round}`);
    assert.equal(await text(other), `hello ${round}`);
  }
  assert.ok(taken < 16 * megabyte, `${before} then ${taken} bytes were taken unread`);
  flooded.destroy();
  await session.close("test");
});

test("when the asker goes away the node's end is closed", async () => {
  await using cluster = await smallCluster();
  let serve: (stream: Duplex) => void = () => {};
  const served = new Promise<Duplex>((resolve) => {
    serve = resolve;
  });
  const { id, session } = await node(cluster, serve);
  const stream = dial(cluster, id);
  stream.write("hello");
  const end = await served;
  await once(end, "readable");
  const closed = new Promise<void>((resolve) => end.once("close", resolve));
  stream.destroy();
  await closed;
  await session.close("test");
});

test("when the node goes away the asker hears that the way broke off", async () => {
  await using cluster = await smallCluster();
  const { id, session } = await node(cluster, (stream) => {
    stream.once("data", () => stream.write("begun"));
  });
  const stream = dial(cluster, id);
  stream.write("hello");
  await once(stream, "readable");
  const failed = once(stream, "error") as Promise<[Error]>;
  await session.close("test");
  stream.resume();
  const [error] = await failed;
  assert.match(error.message, /broke off/);
});

test("a node without a session can not be reached, and says so by its name", async () => {
  await using cluster = await smallCluster();
  const { id, session } = await node(cluster, (stream) => stream.destroy());
  await session.close("test");
  await until("the session has ended", () => {
    try {
      cluster.lead.summon(id, { ID: "x", Manager: "" });
      return false;
    } catch {
      return true;
    }
  });
  const [error] = (await once(dial(cluster, id), "error")) as [Error];
  assert.match(error.message, /^node h2 is not connected to any manager now$/);
});

test("only the node that is wanted can answer, and once", async () => {
  const asked: string[] = [];
  const tunnels = new Tunnels({
    address: "10.0.0.1:2377",
    summon: async (_node, { ID }) => void asked.push(ID),
    nameOf: (nodeId) => nodeId,
    world: realWorld,
  });
  async function* saying(To: string, words: string): AsyncGenerator<TunnelData> {
    yield { To, Data: Buffer.from(words), End: false };
    yield { To: "", Data: Buffer.alloc(0), End: true };
  }
  const heard = text(
    tunnelStream("n1", (said, signal) => tunnels.ask(said, signal)).end("from the asker"),
  );
  await until("the node was asked", () => asked.length === 1);
  const [id = ""] = asked;
  const refused = async (nodeId: string) => {
    for await (const _ of tunnels.answer(nodeId, saying(id, "from a thief"), forever));
  };
  await assert.rejects(refused("n2"), { code: "not_found" });
  let said = "";
  for await (const { Data } of tunnels.answer("n1", saying(id, "from the node"), forever))
    said += Buffer.from(Data).toString();
  assert.equal(said, "from the asker");
  assert.equal(await heard, "from the node");
  await assert.rejects(refused("n1"), { code: "not_found" });
});
