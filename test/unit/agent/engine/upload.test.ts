import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { test } from "node:test";
import { digestOf } from "../../../../agent/engine/make-image.ts";
import { Registry } from "../../../../agent/engine/registry.ts";
import { Uploader } from "../../../../agent/engine/upload.ts";
import { parseReference } from "../../../../proto/kit/reference.ts";
import { realWorld, type World } from "../../../../proto/kit/world.ts";

const signal = new AbortController().signal;
const world: World = { ...realWorld, sleep: async () => {} };
const bytes = Buffer.alloc(5_000_000, "content ");
const blob = { mediaType: "x", digest: digestOf(bytes), size: bytes.length };
const source = async function* (offset: number) {
  for (let at = offset; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536);
};

/** Keeps what it got of an upload that broke off, or forgets it. */
async function registry(breaksAfter: readonly number[], forgets: boolean) {
  const state = {
    patches: [] as string[],
    received: Buffer.alloc(0),
    finished: "",
    uploads: 0,
    refused: 0,
  };
  const breaks = [...breaksAfter];
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? "/", "http://registry");
    if (request.headers.authorization !== "Basic dTpw") {
      state.refused++;
      request.resume();
      response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
      return;
    }
    const location = `/v2/app/blobs/uploads/${state.uploads}?state=${state.received.length}`;
    if (request.method === "POST") {
      state.uploads++;
      state.received = Buffer.alloc(0);
      response.writeHead(202, { location: `/v2/app/blobs/uploads/${state.uploads}` }).end();
    } else if (request.method === "GET") {
      if (forgets) response.writeHead(404).end();
      else response.writeHead(204, { location, range: `0-${state.received.length - 1}` }).end();
    } else if (request.method === "PATCH") {
      state.patches.push(String(request.headers["content-range"] ?? "all"));
      const limit = breaks.shift() ?? Number.POSITIVE_INFINITY;
      let got = 0;
      for await (const part of request as AsyncIterable<Buffer>) {
        got += part.length;
        state.received = Buffer.concat([state.received, part]);
        if (got >= limit) {
          request.destroy();
          return;
        }
      }
      response.writeHead(202, { location }).end();
    } else {
      state.finished = url.searchParams.get("digest") ?? "";
      response.writeHead(digestOf(state.received) === state.finished ? 201 : 400).end();
    }
  };
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { readonly port: number };
  const reference = parseReference(`127.0.0.1:${port}/app:1`);
  const auth = { username: "u", password: "p" };
  const options = { insecure: [], mirrors: [], world };
  const uploader = new Uploader(new Registry(options, auth), reference, world);
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { state, uploader, close };
}

test("an upload that breaks off goes on where the registry says it is", async () => {
  const { state, uploader, close } = await registry([1_000_000, 2_000_000], false);
  await uploader.upload(blob, source, signal);
  close();
  assert.equal(state.finished, blob.digest);
  assert.equal(state.uploads, 1);
  assert.equal(state.refused, 1);
  const [first = "", ...resumed] = state.patches;
  assert.equal(first, "all");
  assert.equal(resumed.length, 2);
  for (const range of resumed) assert.match(range, /^[1-9]\d*-4999999$/);
});

test("an upload of which the registry knows nothing any more starts over", async () => {
  const { state, uploader, close } = await registry([1_000_000], true);
  await uploader.upload(blob, source, signal);
  close();
  assert.equal(state.finished, blob.digest);
  assert.deepEqual([state.uploads, state.patches], [2, ["all", "all"]]);
});

test("an upload that always breaks off is given up", async () => {
  const { state, uploader, close } = await registry([1, 1, 1, 1, 1, 1, 1, 1], true);
  await assert.rejects(uploader.upload(blob, source, signal), { code: "unavailable" });
  close();
  assert.equal(state.patches.length, 5);
});
