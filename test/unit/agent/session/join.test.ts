import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { stat } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { type JoinOptions, joinCluster } from "../../../../agent/session/join.ts";
import { renewCertificate } from "../../../../agent/session/renew.ts";
import { createRoot } from "../../../../manager/identity/ca.ts";
import { readIdentity } from "../../../../proto/identity.ts";
import { certifiedNode } from "../../../../proto/tls.ts";
import { makeToken, parseToken } from "../../../../proto/token.ts";
import { joinOptions } from "../../manager/nodes.ts";
import { type SmallCluster, smallCluster } from "../../manager/small-cluster.ts";

const forever = new AbortController().signal;

function options(cluster: SmallCluster, more: Partial<JoinOptions> = {}): Promise<JoinOptions> {
  return joinOptions({
    directory: join(cluster.folder, "identity"),
    remotes: [cluster.address],
    token: cluster.tokens.Worker,
    description: { Hostname: "h2" },
    routes: ["192.168.7.0/24"],
    ...more,
  });
}

test("a machine with the worker's token becomes a node, with its object and certificate from one commit", async () => {
  await using cluster = await smallCluster();
  const identity = await joinCluster(await options(cluster), forever);
  assert.equal(identity.role, "worker");
  assert.equal(identity.index, 2);
  const node = cluster.store.state.table("node").get(identity.nodeId);
  assert.equal(node?.Index, 2);
  assert.equal(node?.Spec?.Role, "worker");
  assert.equal(node?.Spec?.Availability, "active");
  assert.equal(node?.Description?.Hostname, "h2");
  assert.equal(node?.DataPathAddr, "127.0.0.1");
  assert.deepEqual(node?.Routes, ["192.168.7.0/24"]);
  assert.equal(cluster.store.state.cluster?.NextNodeIndex, 3);
  assert.equal(cluster.store.state.cluster?.Version?.Index, node?.Version?.Index);
  const der = new X509Certificate(identity.certificate).raw;
  const { nodeId, role, clusterId } = certifiedNode(der) ?? {};
  assert.deepEqual(
    { nodeId, role, clusterId },
    { nodeId: identity.nodeId, role: "worker", clusterId: cluster.store.state.cluster?.ID },
  );
});

test("the identity's files are readable by their owner only, and read back as they were written", async () => {
  await using cluster = await smallCluster();
  const identity = await joinCluster(await options(cluster), forever);
  const folder = join(cluster.folder, "identity");
  assert.deepEqual(await readIdentity(folder), identity);
  for (const name of ["key.pem", "certificate.pem", "root.pem", "node.json"])
    assert.equal((await stat(join(folder, name))).mode & 0o777, 0o600, name);
});

test("the manager's token makes a manager, and a node has its next certificate for the role it should have", async () => {
  await using cluster = await smallCluster();
  const wanted = await options(cluster, { token: cluster.tokens.Manager });
  const identity = await joinCluster(wanted, forever);
  assert.equal(identity.role, "manager");
  const node = cluster.store.state.table("node").get(identity.nodeId);
  assert.equal(node?.Spec?.Role, "manager");
  assert.equal(node?.ManagerStatus, undefined, "it has not said yet where it is");

  const folder = join(cluster.folder, "identity");
  const setRole = async (Role: string, isInRaft: boolean) => {
    const node = cluster.store.state.table("node").get(identity.nodeId);
    assert.ok(node?.Spec !== undefined);
    const { ManagerStatus: _, ...rest } = node;
    const ManagerStatus = {
      Leader: false,
      Reachability: "reachable",
      Addr: "h:1",
      FeatureLevel: 1,
    };
    const object = {
      ...rest,
      Spec: { ...node.Spec, Role },
      ...(isInRaft ? { ManagerStatus } : {}),
    };
    await cluster.store.write([{ op: "put", kind: "node", object }], forever);
  };
  await setRole("worker", true);
  const demoted = await renewCertificate(folder, identity, forever);
  assert.equal(demoted.role, "manager", "Raft still counts on it");
  await setRole("worker", false);
  const worker = await renewCertificate(folder, demoted, forever);
  assert.equal(worker.role, "worker");
  assert.equal(worker.key, identity.key);
  assert.deepEqual(await readIdentity(folder), worker);
  const ofManager = new X509Certificate(identity.certificate);
  const ofWorker = new X509Certificate(worker.certificate);
  assert.match(ofManager.subject, /OU=swarm-manager/);
  assert.match(ofWorker.subject, /OU=swarm-worker/);
  assert.equal(ofWorker.subjectAltName, `DNS:${identity.nodeId}`);
});

test("a certificate of a node that was removed is not renewed", async () => {
  await using cluster = await smallCluster();
  const identity = await joinCluster(await options(cluster), forever);
  const node = cluster.store.state.table("node").get(identity.nodeId);
  const base = node?.Version?.Index ?? 0;
  await cluster.store.write([{ op: "delete", kind: "node", id: identity.nodeId, base }], forever);
  await assert.rejects(
    renewCertificate(join(cluster.folder, "identity"), identity, forever),
    /not part of this swarm/,
  );
});

test("a token with the right digest and a wrong secret is denied, and ten of them block the address", async () => {
  await using cluster = await smallCluster();
  const root = cluster.store.state.cluster?.RootCA?.Certificate ?? "";
  const wrong = async () =>
    joinCluster(await options(cluster, { token: makeToken(root) }), forever);
  for (let n = 0; n < 10; n++) await assert.rejects(wrong(), { code: "denied" });
  await assert.rejects(wrong(), { code: "exhausted", message: /too many wrong join tokens/ });
  await assert.rejects(joinCluster(await options(cluster), forever), { code: "exhausted" });
  assert.equal(cluster.store.state.table("node").size, 1);
});

test("a token of another cluster is not sent to this one", async () => {
  await using cluster = await smallCluster();
  const other = await createRoot(Date.now());
  const token = makeToken(other.certificate);
  await assert.rejects(joinCluster(await options(cluster, { token }), forever), {
    code: "denied",
    message: /different digest/,
  });
});

test("what is no token is refused without asking anyone, and without being repeated", async () => {
  await using cluster = await smallCluster();
  const joining = joinCluster(await options(cluster, { token: "SWMTKN-1-secret" }), forever);
  await assert.rejects(joining, (error: Error) => !error.message.includes("secret"));
});

test("a join that is tried again is the same node", async () => {
  await using cluster = await smallCluster();
  const wanted = await options(cluster);
  const [first, second] = await Promise.all([
    joinCluster(wanted, forever),
    joinCluster({ ...wanted, directory: join(cluster.folder, "again") }, forever),
  ]);
  assert.equal(second.nodeId, first.nodeId);
  assert.equal(second.index, first.index);
  assert.equal(cluster.store.state.table("node").size, 2);
});

test("with the key of a node that is at work, or for another role, or of a removed manager, nobody joins", async () => {
  await using cluster = await smallCluster();
  const wanted = await options(cluster);
  const { nodeId } = await joinCluster(wanted, forever);
  const asManager = { ...wanted, token: cluster.tokens.Manager };
  await assert.rejects(joinCluster(asManager, forever), { code: "precondition" });
  const node = cluster.store.state.table("node").get(nodeId);
  assert.ok(node !== undefined);
  const object = { ...node, Status: { State: "ready", Message: "", Addr: "127.0.0.1" } };
  await cluster.store.write([{ op: "put", kind: "node", object }], forever);
  const another = { code: "precondition", message: /new one/ };
  await assert.rejects(joinCluster(wanted, forever), another);
  assert.equal(cluster.store.state.table("node").size, 2);
  const known = cluster.store.state.cluster;
  assert.ok(known !== undefined);
  const RemovedManagers = [{ ID: nodeId, Until: "2100-01-01T00:00:00Z" }];
  const base = cluster.store.state.table("node").get(nodeId)?.Version?.Index ?? 0;
  await cluster.store.write(
    [
      { op: "delete", kind: "node", id: nodeId, base },
      { op: "put", kind: "cluster", object: { ...known, RemovedManagers } },
    ],
    forever,
  );
  await assert.rejects(joinCluster(wanted, forever), another);
  assert.equal(cluster.store.state.table("node").size, 1);
});

test("a manager that can not be reached is named", async () => {
  await using cluster = await smallCluster();
  await assert.rejects(joinCluster(await options(cluster, { remotes: ["127.0.0.1:1"] }), forever), {
    code: "unavailable",
    message: /127\.0\.0\.1:1: .*ECONNREFUSED/,
  });
});

test("the next manager is asked when one can not be reached", async () => {
  await using cluster = await smallCluster();
  const identity = await joinCluster(
    await options(cluster, { remotes: ["127.0.0.1:1", cluster.address] }),
    forever,
  );
  assert.equal(identity.managers[0], cluster.address);
});

test("something else that answers at the address is not taken for a manager", async () => {
  await using cluster = await smallCluster();
  const server = createServer((socket) => socket.end("SSH-2.0-no\r\n"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" ? address?.port : 0;
  try {
    await assert.rejects(
      joinCluster(await options(cluster, { remotes: [`127.0.0.1:${port}`] }), forever),
      { code: "unavailable" },
    );
  } finally {
    server.close();
  }
});

test("twenty machines that join at once get twenty numbers", async () => {
  await using cluster = await smallCluster();
  const joined = await Promise.all(
    Array.from({ length: 20 }, async (_, n) =>
      joinCluster(
        await options(cluster, { directory: join(cluster.folder, `node-${n}`) }),
        forever,
      ),
    ),
  );
  const numbers = joined.map(({ index }) => index).sort((a, b) => a - b);
  assert.deepEqual(
    numbers,
    Array.from({ length: 20 }, (_, n) => n + 2),
  );
});

test("a token has Swarm's shape", () => {
  const root = createRoot(Date.now());
  return root.then(({ certificate }) => {
    const token = makeToken(certificate);
    assert.match(token, /^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$/);
    assert.equal(parseToken(token).digest, parseToken(makeToken(certificate)).digest);
    assert.notEqual(parseToken(token).secret, parseToken(makeToken(certificate)).secret);
  });
});
