import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { test } from "node:test";
import type { RegistryAuth } from "../../../../agent/engine/image-types.ts";
import { parseChallenge, Registry } from "../../../../agent/engine/registry.ts";
import { parseReference } from "../../../../proto/kit/reference.ts";
import type { World } from "../../../../proto/kit/world.ts";

const world: World = {
  now: () => 1000,
  monotonic: () => 0,
  random: () => 0,
  sleep: async () => {},
};
const signal = new AbortController().signal;
const manifest = JSON.stringify({ mediaType: "application/vnd.oci.image.manifest.v1+json" });
const digestOf = (text: string) => `sha256:${createHash("sha256").update(text).digest("hex")}`;

type Answer = (request: IncomingMessage, response: ServerResponse, body: string) => void;

async function withServer(
  answer: Answer,
  run: (address: string, requests: string[]) => Promise<void>,
): Promise<void> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      requests.push(`${request.method} ${request.url}`);
      answer(request, response, body);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  try {
    await run(`127.0.0.1:${port}`, requests);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

function registry(auth: RegistryAuth | null = null): Registry {
  return new Registry({ insecure: [], mirrors: [], world }, auth);
}

test("a manifest comes with the digest of its bytes", () =>
  withServer(
    (_, response) => response.end(manifest),
    async (address, requests) => {
      const found = await registry().manifest(parseReference(`${address}/a/b:1`), signal);
      assert.equal(found.descriptor.digest, digestOf(manifest));
      assert.equal(found.descriptor.mediaType, "application/vnd.oci.image.manifest.v1+json");
      assert.deepEqual(requests, ["GET /v2/a/b/manifests/1"]);
    },
  ));

test("a manifest that is not what its digest says is refused", () =>
  withServer(
    (_, response) => response.end(manifest),
    async (address) => {
      const other = parseReference(`${address}/a@${digestOf("other")}`);
      await assert.rejects(registry().manifest(other, signal), /another manifest/);
    },
  ));

const tokens = [
  { name: "nobody's", auth: null, sent: "undefined " },
  {
    name: "a user's",
    auth: { username: "u", password: "p" },
    sent: `Basic ${Buffer.from("u:p").toString("base64")} `,
  },
  {
    name: "an identity token's",
    auth: { identitytoken: "secret" },
    sent: "undefined grant_type=refresh_token&refresh_token=secret&service=s&scope=repository%3Aa%3Apull&client_id=tsswarm",
  },
];
for (const row of tokens)
  test(`a bearer token is fetched with ${row.name} rights and used`, () => {
    let seen = "";
    return withServer(
      (request, response, body) => {
        if (request.url?.startsWith("/token") === true) {
          seen = `${request.headers.authorization} ${body}`;
          response.end(JSON.stringify({ token: "t", expires_in: 300 }));
        } else if (request.headers.authorization === "Bearer t") response.end(manifest);
        else {
          const realm = `http://${request.headers.host}/token`;
          response.setHeader("www-authenticate", `Bearer realm="${realm}",service="s"`);
          response.statusCode = 401;
          response.end();
        }
      },
      async (address, requests) => {
        const client = registry(row.auth);
        await client.manifest(parseReference(`${address}/a`), signal);
        await client.manifest(parseReference(`${address}/a`), signal);
        assert.equal(seen, row.sent);
        assert.equal(requests.filter((line) => line.includes("/token")).length, 1);
      },
    );
  });

test("a basic challenge is answered, and a wrong password is a plain sentence", () =>
  withServer(
    (request, response) => {
      const right = `Basic ${Buffer.from("u:p").toString("base64")}`;
      if (request.headers.authorization === right) response.end(manifest);
      else {
        response.setHeader("www-authenticate", 'Basic realm="r"');
        response.statusCode = 401;
        response.end();
      }
    },
    async (address) => {
      const reference = parseReference(`${address}/a`);
      await registry({ username: "u", password: "p" }).manifest(reference, signal);
      const wrong = registry({ username: "u", password: "x" });
      await assert.rejects(
        wrong.manifest(reference, signal),
        /refused the login of user u: .*log in again/,
      );
      await assert.rejects(registry().manifest(reference, signal), { code: "denied" });
    },
  ));

test("a blob goes on where the connection broke", () => {
  const content = "0123456789".repeat(1000);
  let calls = 0;
  return withServer(
    (request, response) => {
      calls++;
      const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
      response.statusCode = start > 0 ? 206 : 200;
      response.setHeader("content-length", content.length - start);
      if (calls < 3) {
        response.write(content.slice(start, start + 2000), () => response.destroy());
        return;
      }
      response.end(content.slice(start));
    },
    async (address) => {
      const blob = { mediaType: "", digest: digestOf(content), size: content.length };
      let text = "";
      for await (const chunk of registry().blob(parseReference(`${address}/a`), blob, 0, signal))
        text += Buffer.from(chunk).toString();
      assert.equal(text, content);
      assert.equal(calls, 3);
    },
  );
});

test("a registry without ranges is read again from the beginning, without doubling", () =>
  withServer(
    (_, response) => response.end("0123456789"),
    async (address) => {
      const blob = { mediaType: "", digest: digestOf(""), size: 10 };
      let text = "";
      for await (const chunk of registry().blob(parseReference(`${address}/a`), blob, 4, signal))
        text += Buffer.from(chunk).toString();
      assert.equal(text, "456789");
    },
  ));

test("an unwell registry is asked again, a missing image is not", () => {
  let calls = 0;
  return withServer(
    (request, response) => {
      calls++;
      response.statusCode = request.url?.includes("/gone/") === true ? 404 : calls < 3 ? 503 : 200;
      response.end(manifest);
    },
    async (address) => {
      await registry().manifest(parseReference(`${address}/a`), signal);
      assert.equal(calls, 3);
      const gone = registry().manifest(parseReference(`${address}/gone/x:2`), signal);
      await assert.rejects(gone, { code: "not_found", message: /gone\/x:2 not found/ });
      assert.equal(calls, 4);
    },
  );
});

test("challenges are read with quotes and without", () => {
  assert.deepEqual(
    parseChallenge('Bearer realm="https://a/t",service="s, x",scope=repository:a:pull'),
    {
      scheme: "bearer",
      parameters: { realm: "https://a/t", service: "s, x", scope: "repository:a:pull" },
    },
  );
  assert.deepEqual(parseChallenge(""), { scheme: "", parameters: {} });
});

test("a registry that does not speak TLS is told from one that does not answer", () =>
  withServer(
    (_, response) => response.end(manifest),
    async (address) => {
      // Written so, it is not known for a loopback address, which is spoken to without TLS.
      const wanted = parseReference(`${address.replace("127.0.0.1", "0.0.0.0")}/a/b:1`);
      await assert.rejects(
        registry().manifest(wanted, signal),
        /does not speak TLS.*"insecure-registries"/,
      );
    },
  ));
