// An external CA that speaks cfssl's API, with a root of its own key; the cluster has only its certificate.

import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { createServer, type Server } from "node:https";
import { test } from "node:test";
import { newKeyAndCsr } from "../../../../agent/session/identity.ts";
import { newCluster } from "../../../../manager/identity/bootstrap.ts";
import { createRoot, type RootKeyPair, signNode } from "../../../../manager/identity/ca.ts";
import type { SignRequest } from "../../../../manager/identity/external.ts";
import { certify } from "../../../../manager/identity/issue.ts";
import { codec } from "../../../../proto/codec.ts";
import type { Cluster } from "../../../../proto/gen/types.ts";
import { realWorld } from "../../../../proto/kit/world.ts";
import {
  certifiedNode,
  type Identity,
  isSignedBy,
  leafOf,
  type Role,
} from "../../../../proto/tls.ts";

const forever = new AbortController().signal;

interface External extends AsyncDisposable {
  readonly url: string;
  readonly asked: SignRequest[];
  /** Common names of the managers that came. */
  readonly callers: string[];
}

type Answer = (asked: SignRequest) => Promise<{ status?: number; body: string }>;

async function externalCa(root: RootKeyPair, answer: Answer): Promise<External> {
  const { key, csr } = await newKeyAndCsr();
  const node = { nodeId: "localhost", role: "manager", clusterId: "ca" } as const;
  const cert = await signNode(root, csr, node, Date.now());
  const asked: SignRequest[] = [];
  const callers: string[] = [];
  const settings = { key, cert, ca: root.certificate, requestCert: true, rejectUnauthorized: true };
  const server: Server = createServer(settings, (request, response) => {
    const socket = request.socket as unknown as import("node:tls").TLSSocket;
    callers.push(certifiedNode(socket.getPeerCertificate().raw)?.nodeId ?? "nobody");
    let text = "";
    request.on("data", (part) => {
      text += part;
    });
    request.on("end", () => {
      const sign = JSON.parse(text) as SignRequest;
      asked.push(sign);
      void answer(sign).then(({ status = 200, body }) => {
        response.writeHead(status, { "content-type": "application/json" }).end(body);
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    url: `https://localhost:${port}/api/v1/cfssl/sign`,
    asked,
    callers,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const said = (certificate: string) =>
  JSON.stringify({ success: true, result: { certificate }, errors: [], messages: [] });

/** Signs what it is asked. */
const signing =
  (root: RootKeyPair): Answer =>
  async ({ certificate_request, subject }) => {
    const [{ OU, O } = { OU: "", O: "" }] = subject.names;
    const role = OU.replace("swarm-", "") as Role;
    const node = { nodeId: subject.CN, role, clusterId: O };
    return { body: said(await signNode(root, certificate_request, node, Date.now())) };
  };

async function clusterWith(
  root: RootKeyPair,
  urls: readonly string[],
): Promise<{ cluster: Cluster; own: Identity }> {
  const { csr, key } = await newKeyAndCsr();
  const secret = createPrivateKey({ key: Buffer.from(root.key), format: "der", type: "pkcs8" });
  const pem = secret.export({ type: "pkcs8", format: "pem" });
  const made = await newCluster(
    codec("InitRequest").parse({
      CSR: csr,
      AdvertiseAddr: "127.0.0.1:2377",
      Spec: {
        CAConfig: {
          SigningCACert: root.certificate,
          SigningCAKey: pem,
          ExternalCAs: urls.map((URL) => ({ Protocol: "cfssl", URL })),
        },
      },
    }),
    Date.now(),
  );
  const { RootCA = assert.fail() } = made.cluster;
  // From here on only the external CA has it.
  const cluster = { ...made.cluster, RootCA: { ...RootCA, Key: new Uint8Array() } };
  return { cluster, own: { ...made.identity, key } };
}

test("a request goes to the external CA, in cfssl's words and with the manager's certificate", async () => {
  const root = await createRoot(Date.now());
  await using external = await externalCa(root, signing(root));
  // The first does not answer: the next one is asked.
  const { cluster, own } = await clusterWith(root, ["https://localhost:9/sign", external.url]);
  const { csr } = await newKeyAndCsr();
  const subject = { nodeId: "w1", role: "worker" } as const;
  const options = { world: realWorld, own: () => own };
  const certificate = await certify(options, cluster, csr, subject, forever);
  const seen = certifiedNode(leafOf(certificate));
  assert.equal(seen?.nodeId, "w1");
  assert.equal(seen?.role, "worker");
  assert.ok(isSignedBy(leafOf(certificate), root.certificate));
  assert.deepEqual(external.asked, [
    {
      certificate_request: csr,
      hosts: ["w1", "swarm-worker"],
      subject: { CN: "w1", names: [{ OU: "swarm-worker", O: cluster.ID }] },
    },
  ]);
  assert.deepEqual(external.callers, [certifiedNode(leafOf(own.certificate))?.nodeId]);
});

test("what an external CA signs is used only when it is what was asked for", async () => {
  const root = await createRoot(Date.now());
  const other = await createRoot(Date.now());
  const { csr: foreign } = await newKeyAndCsr();
  const sign =
    (by: RootKeyPair, change: Partial<SignRequest>): Answer =>
    (asked) =>
      signing(by)({ ...asked, ...change });
  const rows: readonly (readonly [Answer, RegExp])[] = [
    [sign(other, {}), /by another root/],
    [sign(root, { certificate_request: foreign }), /for another key/],
    [
      (asked) =>
        signing(root)({
          ...asked,
          subject: { CN: "w1", names: [{ OU: "swarm-manager", O: "c" }] },
        }),
      /for another subject/,
    ],
    [
      async () => ({ body: '{"success":false,"errors":[{"code":1,"message":"not today"}]}' }),
      /not today/,
    ],
    [async () => ({ body: "<html>" }), /something else than cfssl's API/],
    [async () => ({ body: "x".repeat(1024 * 1024) }), /too long/],
  ];
  for (const [answer, message] of rows) {
    await using external = await externalCa(root, answer);
    const { cluster, own } = await clusterWith(root, [external.url]);
    const { csr } = await newKeyAndCsr();
    const options = { world: realWorld, own: () => own };
    const asked = certify(options, cluster, csr, { nodeId: "w1", role: "worker" }, forever);
    await assert.rejects(asked, { code: "unavailable", message });
  }
});

test("an external CA that shows a certificate of nobody we know is told nothing", async () => {
  const root = await createRoot(Date.now());
  const impostor = await createRoot(Date.now());
  await using external = await externalCa(impostor, signing(root));
  const { cluster, own } = await clusterWith(root, [external.url]);
  const { csr } = await newKeyAndCsr();
  const options = { world: realWorld, own: () => own };
  await assert.rejects(certify(options, cluster, csr, { nodeId: "w1", role: "worker" }, forever), {
    code: "unavailable",
    message: /self-signed|unable to|signature|certificate/i,
  });
  assert.deepEqual(external.asked, []);
  assert.ok(new X509Certificate(root.certificate).ca);
});
