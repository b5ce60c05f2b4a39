// Bad input at the cluster's door: tokens, requests, certificates, frames. Each is answered, nothing stops, nothing grows.
// TSSWARM_FUZZ=100 does a hundred times as much.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect as connectPlainly } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { newKeyAndCsr } from "../../../../agent/session/identity.ts";
import { createRoot, readRoot, signNode } from "../../../../manager/identity/ca.ts";
import { codec } from "../../../../proto/codec.ts";
import type { NodeIdentity } from "../../../../proto/identity.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import { type ServiceName, serviceDefinition } from "../../../../proto/rpc.ts";
import { Client } from "../../../../proto/rpc-client.ts";
import { contextOptions, toManager, toStranger } from "../../../../proto/tls.ts";
import { makeToken, parseToken } from "../../../../proto/token.ts";
import { joined } from "../nodes.ts";
import { configIn, init, RunningManager } from "../running.ts";

const times = Number(process.env["TSSWARM_FUZZ"] ?? "1");
const seed = Number(process.env["TSSWARM_FUZZ_SEED"] ?? `${Date.now() % 1_000_000}`);
const callMsMax = 20_000;
/** What has to be loaded and cached once, and what the collector has not looked at yet. */
const growthBytesMax = 150 * 1024 * 1024;

let state = seed;
/** 0 … below − 1 (mulberry32). */
function chance(below: number): number {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
}

function garbage(bytesMax: number): Buffer {
  return Buffer.from(Array.from({ length: chance(bytesMax) }, () => chance(256)));
}

/** A little of it changed, cut, doubled, or put elsewhere. */
function mutated(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  for (let i = 0; i <= chance(4); i++) {
    const at = chance(Math.max(1, copy.length));
    if (copy.length > 0)
      copy[at] = chance(3) === 0 ? (copy[at] ?? 0) ^ (1 << chance(8)) : chance(256);
  }
  switch (chance(4)) {
    case 0:
      return copy.subarray(0, chance(copy.length + 1));
    case 1:
      return Buffer.concat([copy, garbage(64)]);
    case 2:
      return Buffer.concat([copy.subarray(chance(copy.length + 1)), copy]);
    default:
      return copy;
  }
}

/** PEM whose DER is mutated, or whose text is. */
function mutatedPem(pem: string): string {
  if (chance(3) === 0) return mutated(Buffer.from(pem)).toString("latin1");
  const label = /-----BEGIN ([^-]+)-----/.exec(pem)?.[1] ?? "";
  const der = Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ""), "base64");
  return `-----BEGIN ${label}-----\n${mutated(der).toString("base64")}\n-----END ${label}-----\n`;
}

let folder = "";
let manager: RunningManager;
let address = "";
let worker: NodeIdentity;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tsswarm-test-"));
  manager = new RunningManager(configIn(folder));
  await manager.ready();
  address = (await init(manager)).Managers[0] ?? "";
  const { JoinTokens } = await manager.control.unary("GetCluster", {});
  worker = await joined({
    directory: join(folder, "worker"),
    remotes: [address],
    token: JoinTokens?.Worker ?? "",
  });
});

after(async () => {
  await manager[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function refusesWith(codes: readonly string[], work: () => unknown): Promise<void> {
  try {
    await work();
  } catch (error) {
    assert.ok(error instanceof SwarmError, `seed ${seed}: ${String(error)}`);
    assert.ok(codes.includes(error.code), `seed ${seed}: ${error.code} ${error.message}`);
  }
}

test("tokens, requests and certificates that are damaged are refused with a sentence", async (t) => {
  t.diagnostic(`seed ${seed}`);
  const now = Date.now();
  const root = await createRoot(now);
  const { csr } = await newKeyAndCsr();
  const token = makeToken(root.certificate);
  const node = { nodeId: "n", role: "worker", clusterId: "c" } as const;
  for (let i = 0; i < 400 * times; i++) {
    await refusesWith(["invalid"], () =>
      parseToken(mutated(Buffer.from(token)).toString("latin1")),
    );
    await refusesWith(["invalid"], () => signNode(root, mutatedPem(csr), node, now));
    await refusesWith(["invalid"], () => readRoot(mutatedPem(root.certificate), "", now));
  }
});

/** What a gRPC body begins with: whether it is compressed, and its length. */
function framed(body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  if (chance(10) === 0) head[0] = chance(3);
  head.writeUInt32BE(chance(10) === 0 ? chance(2 ** 31) : body.length, 1);
  return Buffer.concat([head, body]);
}

const nothing = {
  GetRootCA: Buffer.alloc(0),
  RenewCertificate: codec("RenewCertificateRequest").encode({ CSR: "x" }),
  Session: codec("FromAgent").encode(
    codec("FromAgent").parse({ Hello: { BootID: "b", DataPathAddr: "10.0.0.1" } }),
  ),
} as Readonly<Record<string, Buffer>>;

/** The gRPC status, or how the stream ended: what matters is that it does. */
function send(
  session: ClientHttp2Session,
  path: string,
  body: Buffer,
  more: Readonly<Record<string, string>> = {},
): Promise<string> {
  return new Promise((resolve) => {
    const headers = {
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
      ...more,
    };
    const stream = session.request(headers);
    const timer = setTimeout(() => resolve("hangs"), callMsMax);
    const finish = (how: string) => {
      clearTimeout(timer);
      resolve(how);
    };
    stream.on("response", (got) => {
      if (got["grpc-status"] !== undefined) finish(`${got["grpc-status"]}`);
    });
    stream.on("trailers", (got) => finish(`${got["grpc-status"]}`));
    stream.on("error", () => {});
    stream.on("close", () => finish("closed"));
    stream.resume();
    stream.end(body);
  });
}

async function withSession(
  identity: NodeIdentity | null,
  work: (session: ClientHttp2Session) => Promise<void>,
): Promise<void> {
  const own = identity === null ? {} : contextOptions(identity);
  const session = connectHttp2(`https://${address}`, { ...own, rejectUnauthorized: false });
  session.on("error", () => {});
  await work(session);
  session.destroy();
}

for (const who of ["a stranger", "a worker"] as const)
  test(`whatever ${who} sends as a request is answered`, async (t) => {
    t.diagnostic(`seed ${seed}`);
    const services: readonly ServiceName[] = ["Join", "Dispatch", "Managers", "Raft", "Control"];
    const paths = services.flatMap((name) =>
      Object.values(serviceDefinition(name)).map(({ path }) => path),
    );
    const before = process.memoryUsage().rss;
    const statuses = new Map<string, number>();
    for (let round = 0; round < 5 * times; round++)
      await withSession(who === "a worker" ? worker : null, async (session) => {
        for (let i = 0; i < 120; i++) {
          const path =
            chance(20) === 0
              ? `/${garbage(20).toString("hex")}`
              : (paths[chance(paths.length)] ?? "");
          const known = nothing[path.split("/").at(-1) ?? ""];
          const body = chance(2) === 0 && known !== undefined ? mutated(known) : garbage(400);
          // A session that stays open is no hang: its stream is ended by us.
          const status = await send(session, path, framed(body));
          assert.notEqual(status, "hangs", `seed ${seed}: ${path} ${body.toString("hex")}`);
          assert.notEqual(status, "2", `seed ${seed}: ${path}`);
          statuses.set(status, (statuses.get(status) ?? 0) + 1);
        }
      });
    t.diagnostic(JSON.stringify(Object.fromEntries(statuses)));
    const client = new Client("Join", address, toStranger());
    assert.match((await client.unary("GetRootCA", {})).Certificate, /BEGIN CERTIFICATE/);
    client.close();
    const grown = process.memoryUsage().rss - before;
    assert.ok(grown < growthBytesMax, `${grown} bytes more`);
  });

test("headers and messages that are too long are refused, and so are more calls than anyone needs", async () => {
  const path = "/tsswarm.Dispatch/Detach";
  await withSession(worker, async (session) => {
    const status = await send(session, path, framed(Buffer.alloc(0)), {
      "x-long": "x".repeat(200_000),
    });
    assert.ok(status !== "0" && status !== "hangs", status);
  });
  await withSession(worker, async (session) => {
    const head = Buffer.from([0, 0x01, 0x10, 0, 0]);
    const body = Buffer.concat([head, Buffer.alloc(17 * 1024 * 1024)]);
    // Its stream may be over before the status is read.
    assert.ok(["8", "closed"].includes(await send(session, path, body)));
  });
  await withSession(worker, async (session) => {
    await new Promise<void>((resolve) => session.once("remoteSettings", () => resolve()));
    assert.equal(session.remoteSettings.maxConcurrentStreams, 1_024);
  });
});

test("bytes that are no TLS, and frames that are no HTTP/2, end only their own connection", async (t) => {
  t.diagnostic(`seed ${seed}`);
  const [host = "", port = ""] = address.split(":");
  for (let i = 0; i < 40 * times; i++) {
    const raw = connectPlainly(Number(port), host);
    const bytes =
      chance(2) === 0 ? garbage(600) : mutated(Buffer.from("16030100a5010000a10303", "hex"));
    const over = new Promise<void>((resolve) => raw.once("close", () => resolve()));
    raw.on("error", () => {});
    raw.resume();
    raw.end(bytes);
    await over;
  }
  const { connect } = await import("node:tls");
  for (let i = 0; i < 40 * times; i++) {
    const socket = connect({
      host,
      port: Number(port),
      rejectUnauthorized: false,
      ALPNProtocols: ["h2"],
    });
    socket.on("error", () => {});
    socket.resume();
    const over = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    await new Promise<void>((resolve) => socket.once("secureConnect", () => resolve()));
    const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    socket.end(chance(3) === 0 ? garbage(300) : Buffer.concat([preface, garbage(300)]));
    await over;
  }
  const client = new Client("Dispatch", address, toManager(worker, worker.clusterId));
  await client.unary("Detach", { TaskIDs: ["nothing"] });
  client.close();
});
