import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { createServer as createPlainServer, type Socket } from "node:net";
import { test } from "node:test";
import { Downloader } from "../../../../agent/engine/download.ts";
import { createRoot } from "../../../../manager/identity/ca.ts";

const signal = new AbortController().signal;
/** More than is read at a time. */
const large = randomBytes(3 * 1024 * 1024 + 7);

interface Listening {
  listen(port: number, host: string): unknown;
  once(event: "listening", run: () => void): unknown;
  address(): unknown;
  close(): unknown;
  closeAllConnections?(): void;
}

async function withServer(server: Listening, run: (host: string) => Promise<void>): Promise<void> {
  const listening = new Promise<void>((resolve) => server.once("listening", resolve));
  server.listen(0, "127.0.0.1");
  await listening;
  const { port } = server.address() as { port: number };
  try {
    await run(`127.0.0.1:${port}`);
  } finally {
    server.closeAllConnections?.();
    server.close();
  }
}

const withAnswers = (answer: RequestListener, run: (host: string) => Promise<void>) =>
  withServer(createServer(answer), run);

/** A server that says these words, whatever it is asked. */
const withWords = (words: string, run: (host: string) => Promise<void>) =>
  withServer(
    createPlainServer((socket: Socket) => {
      socket.on("error", () => {});
      socket.once("data", () => socket.end(words, "latin1"));
    }),
    run,
  );

async function bytesOf(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of body) {
    parts.push(Buffer.from(part));
    // As a slow reader: what comes meanwhile must not go over what is read.
    await new Promise((resolve) => setImmediate(resolve));
  }
  return Buffer.concat(parts);
}

const kinds: readonly (readonly [string, Record<string, string>])[] = [
  ["with its length", { "content-length": `${large.length}` }],
  ["in chunks", { "transfer-encoding": "chunked" }],
  ["until the connection is closed", { connection: "close" }],
];
for (const [name, fields] of kinds)
  test(`a body that comes ${name} arrives as it is`, () =>
    withAnswers(
      (_, response) => {
        response.useChunkedEncodingByDefault = false;
        response.writeHead(200, fields);
        for (let at = 0; at < large.length; at += 100_001)
          response.write(large.subarray(at, at + 100_001));
        response.end();
      },
      async (host) => {
        const downloader = new Downloader();
        const { response, body } = await downloader.get(`http://${host}/a`, {}, signal);
        for (const [key, value] of Object.entries(fields))
          assert.equal(response.headers.get(key), value);
        assert.deepEqual(await bytesOf(body), large);
        downloader.close();
      },
    ));

test("a connection is used again, also after a refusal, and another one taken where it was closed meanwhile", () => {
  const connections = new Set<unknown>();
  return withAnswers(
    (request, response) => {
      connections.add(request.socket);
      response.statusCode = request.url === "/b" ? 404 : 200;
      response.end(request.url);
      if (request.url === "/c") response.once("finish", () => request.socket.destroy());
    },
    async (host) => {
      const downloader = new Downloader();
      const get = async (path: string) => {
        const { response, body } = await downloader.get(`http://${host}${path}`, {}, signal);
        return response.ok ? (await bytesOf(body)).toString() : await response.text();
      };
      for (const path of ["/a", "/b", "/c"]) assert.equal(await get(path), path);
      assert.equal(connections.size, 1);
      assert.equal(await get("/d"), "/d");
      assert.equal(connections.size, 2);
      downloader.close();
    },
  );
});

test("a redirect is followed, and credentials do not come along to another host", () => {
  const seen: (string | undefined)[] = [];
  return withAnswers(
    (request, response) => {
      seen.push(request.headers.authorization);
      response.end("there");
    },
    (other) =>
      withAnswers(
        (request, response) => {
          seen.push(request.headers.authorization);
          const location = request.url === "/a" ? "/b" : `http://${other}/c`;
          response.writeHead(307, { location }).end("elsewhere");
        },
        async (host) => {
          const downloader = new Downloader();
          const fields = { authorization: "Bearer secret" };
          const { body } = await downloader.get(`http://${host}/a`, fields, signal);
          assert.equal((await bytesOf(body)).toString(), "there");
          assert.deepEqual(seen, ["Bearer secret", "Bearer secret", undefined]);
          downloader.close();
        },
      ),
  );
});

test("who redirects to itself is not followed for ever", () =>
  withAnswers(
    (request, response) => response.writeHead(302, { location: request.url ?? "" }).end(),
    async (host) => {
      const downloader = new Downloader();
      await assert.rejects(downloader.get(`http://${host}/a`, {}, signal), /redirects without end/);
      downloader.close();
    },
  ));

test("a large body that breaks off is not taken for a whole one", () =>
  withAnswers(
    (_, response) => {
      response.writeHead(200, { "content-length": large.length });
      response.write(large.subarray(0, large.length - 7), () => response.destroy());
    },
    async (host) => {
      const downloader = new Downloader();
      const { body } = await downloader.get(`http://${host}/a`, {}, signal);
      await assert.rejects(bytesOf(body), { code: "unavailable", message: /in the middle/ });
      downloader.close();
    },
  ));

const broken = [
  ["a body shorter than it says", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123"],
  ["a chunk that breaks off", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n123"],
  ["a chunk without a size", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n"],
  ["a length that is none", "HTTP/1.1 200 OK\r\ncontent-length: a\r\n\r\n"],
  ["another protocol", "SSH-2.0-x\r\n\r\n"],
  ["a head without end", `HTTP/1.1 200 OK\r\na: ${"x".repeat(100_000)}\r\n\r\n`],
  ["a status there is not", "HTTP/1.1 700 Yes\r\ncontent-length: 0\r\n\r\n"],
  ["nothing", ""],
] as const;
for (const [name, words] of broken)
  test(`${name} is an error of the moment`, () =>
    withWords(words, async (host) => {
      const downloader = new Downloader();
      const whole = async () =>
        bytesOf((await downloader.get(`http://${host}/a`, {}, signal)).body);
      await assert.rejects(whole(), { code: "unavailable" });
    }));

test("what is said before the answer is passed over, and parts of lines wait for the rest", () =>
  withServer(
    createPlainServer((socket: Socket) => {
      socket.once("data", async () => {
        for (const words of ["HTTP/1.1 103 Early\r\n", "\r\nHTTP/1.1 2", "00 OK\r", "\ncontent-"])
          await new Promise((resolve) => socket.write(words, resolve));
        socket.end("length: 2\r\n\r\nhi");
      });
    }),
    async (host) => {
      const downloader = new Downloader();
      const { body } = await downloader.get(`http://${host}/a`, {}, signal);
      assert.equal((await bytesOf(body)).toString(), "hi");
      downloader.close();
    },
  ));

test("an answer without a body is one too", () =>
  withAnswers(
    (_, response) => response.writeHead(304).end(),
    async (host) => {
      const downloader = new Downloader();
      const { response } = await downloader.get(`http://${host}/a`, {}, signal);
      assert.deepEqual([response.status, await response.text()], [304, ""]);
      downloader.close();
    },
  ));

test("an aborted transfer ends at once, with the reason", () =>
  withAnswers(
    (_, response) => response.writeHead(200, { "content-length": 10 }).write("12345"),
    async (host) => {
      const stop = new AbortController();
      const { body } = await new Downloader().get(`http://${host}/a`, {}, stop.signal);
      await assert.rejects(
        (async () => {
          for await (const part of body) {
            assert.equal(part.length, 5);
            stop.abort(new Error("enough"));
          }
        })(),
        /enough/,
      );
    },
  ));

test("over TLS a body arrives as it is too, from whom one trusts and from nobody else", async () => {
  const { certificate: cert, key: bytes } = await createRoot(Date.now());
  const key = `-----BEGIN PRIVATE KEY-----\n${Buffer.from(bytes).toString("base64")}\n-----END PRIVATE KEY-----\n`;
  await withServer(
    createSecureServer({ key, cert }, (_, response) => response.end(large)),
    async (host) => {
      const downloader = new Downloader();
      const get = () => downloader.get(`https://${host}/a`, {}, signal);
      await assert.rejects(get(), /certificate/);
      process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0";
      try {
        assert.deepEqual(await bytesOf((await get()).body), large);
      } finally {
        delete process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
        downloader.close();
      }
    },
  );
});

test("nobody listens there: the error says so", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  await assert.rejects(new Downloader().get(`http://127.0.0.1:${port}/`, {}, signal), {
    code: "ECONNREFUSED",
  });
});
