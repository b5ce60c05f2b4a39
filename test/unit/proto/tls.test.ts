import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "node:tls";
import grpc from "@grpc/grpc-js";
import { newKeyAndCsr } from "../../../agent/session/identity.ts";
import { createRoot, type RootKeyPair, signNode } from "../../../manager/identity/ca.ts";
import { Client } from "../../../proto/rpc-client.ts";
import { serve } from "../../../proto/rpc-server.ts";
import {
  type CertifiedNode,
  certifiedNode,
  type Identity,
  ServerTls,
  toManager,
  toManagerWithoutIdentity,
  toStranger,
} from "../../../proto/tls.ts";

const day = 24 * 60 * 60 * 1000;

async function identity(
  root: RootKeyPair,
  node: CertifiedNode,
  now = Date.now(),
): Promise<Identity> {
  const { key, csr } = await newKeyAndCsr();
  const certificate = await signNode(root, csr, node, now);
  return { key, certificate, rootCA: root.certificate };
}

const manager: CertifiedNode = { nodeId: "m1", role: "manager", clusterId: "c1" };
const worker: CertifiedNode = { nodeId: "w1", role: "worker", clusterId: "c1" };

/** A server that answers who it thinks the caller is. */
async function serving(server: Identity, run: (address: string) => Promise<void>): Promise<void> {
  const grpcServer = new grpc.Server();
  serve(
    grpcServer,
    "Join",
    {
      GetRootCA: async (_request, caller) => {
        const node = caller.certificate === null ? null : certifiedNode(caller.certificate);
        return { Certificate: node === null ? "nobody" : `${node.role} ${node.nodeId}` };
      },
      IssueCertificate: async () => {
        throw new Error("not asked here");
      },
      RenewCertificate: async () => {
        throw new Error("not asked here");
      },
    },
    () => undefined,
  );
  const port = await new Promise<number>((resolve, reject) =>
    grpcServer.bindAsync("127.0.0.1:0", new ServerTls(server), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  try {
    await run(`127.0.0.1:${port}`);
  } finally {
    grpcServer.forceShutdown();
  }
}

async function ask(address: string, credentials: grpc.ChannelCredentials): Promise<string> {
  const client = new Client("Join", address, credentials);
  try {
    return (await client.unary("GetRootCA", {}, { timeoutMs: 3_000 })).Certificate;
  } finally {
    client.close();
  }
}

test("both ends know each other by their certificates", async () => {
  const root = await createRoot(Date.now());
  const caller = await identity(root, worker);
  await serving(await identity(root, manager), async (address) => {
    assert.equal(await ask(address, toManager(caller, "c1")), "worker w1");
    assert.equal(await ask(address, toManagerWithoutIdentity(root.certificate)), "nobody");
    assert.equal(await ask(address, toStranger()), "nobody");
  });
});

test("a certificate of another root is nobody's, and so is one that has expired", async () => {
  const [root, other] = [await createRoot(Date.now()), await createRoot(Date.now())];
  const stranger = await identity(other, manager);
  const expired = await identity(root, worker, Date.now() - 91 * day);
  await serving(await identity(root, manager), async (address) => {
    const believing = { ...stranger, rootCA: root.certificate };
    assert.equal(await ask(address, toManager(believing, "c1")), "nobody");
    assert.equal(await ask(address, toManager(expired, "c1")), "nobody");
  });
});

const refused = [
  { name: "a worker that poses as a manager", node: worker, isOtherRoot: false },
  {
    name: "a manager of another cluster",
    node: { ...manager, clusterId: "c2" },
    isOtherRoot: false,
  },
  { name: "a manager of another root", node: manager, isOtherRoot: true },
];
for (const row of refused)
  test(`a caller refuses ${row.name}`, async () => {
    const root = await createRoot(Date.now());
    const server = await identity(row.isOtherRoot ? await createRoot(Date.now()) : root, row.node);
    const caller = await identity(root, worker);
    await serving(server, async (address) => {
      await assert.rejects(ask(address, toManager(caller, "c1")), { code: "unavailable" });
    });
  });

test("nothing older than TLS 1.3 is spoken", async () => {
  const root = await createRoot(Date.now());
  await serving(await identity(root, manager), async (address) => {
    const port = Number(address.split(":")[1]);
    const failure = await new Promise<Error | null>((resolve) => {
      const socket = connect({
        host: "127.0.0.1",
        port,
        servername: "swarm-manager",
        rejectUnauthorized: false,
        maxVersion: "TLSv1.2",
      });
      socket.once("secureConnect", () => resolve(null)).once("error", resolve);
    });
    assert.match(String(failure), /protocol version/);
  });
});

test("a node's certificate says its id, role and cluster, lasts 90 days and began an hour ago", async () => {
  const root = await createRoot(Date.now());
  const now = Date.now();
  const { certificate } = await identity(root, worker, now);
  const { X509Certificate } = await import("node:crypto");
  const parsed = new X509Certificate(certificate);
  const { nodeId, role, clusterId } = certifiedNode(parsed.raw) ?? {};
  assert.deepEqual({ nodeId, role, clusterId }, worker);
  assert.equal(parsed.subjectAltName, "DNS:w1");
  assert.ok(parsed.checkIssued(new X509Certificate(root.certificate)));
  const seconds = (text: string) => Math.floor(Date.parse(text) / 1000);
  assert.equal(seconds(parsed.validFrom), Math.floor((now - day / 24) / 1000));
  assert.equal(seconds(parsed.validTo), Math.floor((now + 90 * day) / 1000));
});

test("a damaged request is refused", async () => {
  const root = await createRoot(Date.now());
  const { csr } = await newKeyAndCsr();
  for (const wrong of ["", "no PEM", flipped(csr)])
    await assert.rejects(signNode(root, wrong, worker, Date.now()), { code: "invalid" });
});

/** One bit of its signature turned over. */
function flipped(pem: string): string {
  const [, begin = "", base64 = "", end = ""] = /^(-+[^-]+-+)([^-]+)(-+[^-]+-+)/.exec(pem) ?? [];
  const der = Buffer.from(base64, "base64");
  const last = der.length - 1;
  der[last] = (der[last] ?? 0) ^ 1;
  return `${begin}\n${der.toString("base64")}\n${end}\n`;
}
