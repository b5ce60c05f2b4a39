// The cluster port of a real manager, called by everyone who should not.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { connect } from "node:tls";
import grpc from "@grpc/grpc-js";
import { newKeyAndCsr } from "../../../../agent/session/identity.ts";
import { openSession } from "../../../../agent/session/session.ts";
import { whoMayCall } from "../../../../manager/identity/access.ts";
import { createRoot, type RootKeyPair, signNode } from "../../../../manager/identity/ca.ts";
import { openStore } from "../../../../manager/store/store.ts";
import { decodeBackup, newBackupKey } from "../../../../proto/backup.ts";
import { codec } from "../../../../proto/codec.ts";
import type { NodeIdentity } from "../../../../proto/identity.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import { channelOptions, type ServiceName, serviceDefinition } from "../../../../proto/rpc.ts";
import { Client } from "../../../../proto/rpc-client.ts";
import { fromStatus } from "../../../../proto/rpc-status.ts";
import { contextOptions, type Identity, type Role, toManager } from "../../../../proto/tls.ts";
import { joined, sessionOptions } from "../nodes.ts";
import { sayHello } from "../peers/say-hello.ts";
import { configIn, init, RunningManager } from "../running.ts";
import { until } from "../small-cluster.ts";

const forever = new AbortController().signal;
const served: readonly ServiceName[] = ["Join", "Dispatch", "Managers", "Raft", "Control"];
const day = 24 * 60 * 60 * 1000;

let folder = "";
let manager: RunningManager;
let address = "";
let clusterId = "";
let tokens = { Worker: "", Manager: "" };
let root: RootKeyPair;
let worker: NodeIdentity;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tsswarm-test-"));
  manager = new RunningManager(configIn(folder));
  await manager.ready();
  const made = await init(manager);
  address = made.Managers[0] ?? "";
  clusterId = made.ClusterID;
  tokens = (await manager.control.unary("GetCluster", {})).JoinTokens ?? tokens;
  root = await rootOfBackup();
  worker = await newNode("w1");
});

after(async () => {
  await manager[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** With its key, which nothing but a backup gives away. */
async function rootOfBackup(): Promise<RootKeyPair> {
  const parts: Uint8Array[] = [];
  const backupKey = newBackupKey();
  for await (const { Data } of manager.control.download("Backup", { Key: backupKey }))
    parts.push(Data);
  const { header, pieces } = await decodeBackup(Buffer.concat(parts), backupKey);
  const refuse = () => Promise.reject(new Error("nothing is written here"));
  const { store, machine } = openStore({ propose: refuse, now: () => 0, signal: forever });
  machine.restore(header.index, pieces);
  const { Certificate = "", Key = new Uint8Array() } = store.state.cluster?.RootCA ?? {};
  return { certificate: Certificate, key: Key };
}

function newNode(name: string, token = tokens.Worker): Promise<NodeIdentity> {
  return joined({ directory: join(folder, name), remotes: [address], token });
}

async function signed(
  by: RootKeyPair,
  role: Role,
  nodeId: string,
  now = Date.now(),
): Promise<Identity> {
  const { key, csr } = await newKeyAndCsr();
  const certificate = await signNode(by, csr, { nodeId, role, clusterId }, now, 30 * day);
  return { key, certificate, rootCA: root.certificate };
}

/** One that has signed itself. */
async function selfSigned(): Promise<Identity> {
  const own = await createRoot(Date.now());
  const key = Buffer.from(own.key).toString("base64");
  return {
    certificate: own.certificate,
    key: `-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----\n`,
    rootCA: root.certificate,
  };
}

/** Calls it with nothing in its hands. Fulfilled with what it is refused with, or "let in". */
async function call(
  service: ServiceName,
  method: string,
  identity: Identity | null,
): Promise<SwarmError | "let in"> {
  const shape = serviceDefinition(service)[method];
  assert.ok(shape !== undefined);
  const own =
    identity === null
      ? { ca: root.certificate, minVersion: "TLSv1.3" as const }
      : contextOptions(identity);
  const { createSecureContext } = await import("node:tls");
  const credentials = grpc.credentials.createFromSecureContext(createSecureContext(own), {
    checkServerIdentity: () => undefined,
  });
  const client = new grpc.Client(address, credentials, {
    ...channelOptions,
    "grpc.ssl_target_name_override": "swarm-manager",
  });
  try {
    return await new Promise((resolve) => {
      const empty = Buffer.alloc(0);
      const options = { deadline: Date.now() + 10_000 };
      const stream = client.makeBidiStreamRequest(
        shape.path,
        () => empty,
        (bytes: Buffer) => bytes,
        new grpc.Metadata(),
        options,
      );
      stream.on("data", () => resolve("let in"));
      stream.on("error", (error) => resolve(fromStatus(error)));
      stream.on("status", (status) => {
        if (status.code === grpc.status.OK) resolve("let in");
      });
      stream.write(empty);
      stream.end();
    });
  } finally {
    client.close();
  }
}

/** Every RPC that the port serves and that is not for anyone. */
function guarded(): readonly (readonly [ServiceName, string])[] {
  return served.flatMap((service) =>
    Object.keys(serviceDefinition(service))
      .filter((method) => whoMayCall(service, method) !== "anyone")
      .map((method) => [service, method] as const),
  );
}

async function refusedEverywhere(
  identity: Identity | null,
  code: string,
  sentence: RegExp,
  which = guarded(),
): Promise<void> {
  for (const [service, method] of which) {
    const answer = await call(service, method, identity);
    assert.ok(answer !== "let in", `${service}.${method}`);
    assert.equal(answer.code, code, `${service}.${method}: ${answer.message}`);
    assert.match(answer.message, sentence);
  }
}

const managersOnly = () =>
  guarded().filter(([service, method]) => whoMayCall(service, method) !== "node");

test("a worker is refused at every RPC of managers", async () => {
  assert.ok(managersOnly().length >= 25);
  await refusedEverywhere(worker, "denied", /only managers of this cluster/, managersOnly());
});

test("a worker whose certificate says manager is one only when the store says so", async () => {
  const posing = await signed(root, "manager", worker.nodeId);
  const which = managersOnly().filter(([service]) => service !== "Raft");
  await refusedEverywhere(posing, "denied", /only managers of this cluster/, which);
  const raft = managersOnly().filter(([service]) => service === "Raft");
  await refusedEverywhere(posing, "invalid", /begins with/, raft);
});

test("who shows no certificate is refused at every RPC but those that join", async () => {
  await refusedEverywhere(null, "unauthenticated", /a node's certificate is needed here/);
});

test("an expired certificate is refused everywhere, with what to do", async () => {
  const old = await signed(root, "manager", worker.nodeId, Date.now() - 31 * day);
  await refusedEverywhere(old, "unauthenticated", /has expired: run `tsswarm swarm leave/);
});

test("a certificate that begins later is refused everywhere", async () => {
  const early = await signed(root, "manager", worker.nodeId, Date.now() + 2 * day);
  await refusedEverywhere(early, "unauthenticated", /not valid yet: the clocks/);
});

test("another CA's certificate and a self-signed one are refused everywhere", async () => {
  const other = await signed(await createRoot(Date.now()), "manager", worker.nodeId);
  await refusedEverywhere(other, "unauthenticated", /not signed by this cluster's root/);
  await refusedEverywhere(
    await selfSigned(),
    "unauthenticated",
    /not signed by this cluster's root/,
  );
});

test("a node that nobody knows is refused, and so is one of another cluster", async () => {
  const unknown = await signed(root, "manager", "nobody0000000000000000000");
  const known = guarded().filter(([service]) => service !== "Raft");
  await refusedEverywhere(unknown, "denied", /is not part of this swarm/, known);
  const { key, csr } = await newKeyAndCsr();
  const node = { nodeId: worker.nodeId, role: "manager", clusterId: "another" } as const;
  const certificate = await signNode(root, csr, node, Date.now());
  const elsewhere = { key, certificate, rootCA: root.certificate };
  await refusedEverywhere(elsewhere, "denied", /another cluster/);
});

test("a manager can not speak for another one", async () => {
  const { Items } = await manager.control.unary("ListNodes", { Filters: {}, Status: false });
  const one = Items.find(({ ManagerStatus }) => ManagerStatus !== undefined)?.ID ?? "";
  const identity = await signed(root, "manager", one);
  const Hello = { ClusterID: clusterId, Epoch: 1, From: worker.nodeId, To: one, Address: "" };
  await assert.rejects(sayHello(address, identity, Hello), {
    code: "denied",
    message: /can not speak for/,
  });
});

test("a lane of Raft's messages is for managers, and needs a certificate that counts", async () => {
  const Hello = { ClusterID: clusterId, Epoch: 1, From: worker.nodeId, To: "", Address: "" };
  await assert.rejects(sayHello(address, worker, Hello), {
    code: "denied",
    message: /only managers of this cluster/,
  });
  const old = await signed(root, "manager", worker.nodeId, Date.now() - 31 * day);
  await assert.rejects(sayHello(address, old, Hello), {
    code: "unauthenticated",
    message: /has expired/,
  });
});

test("a node's role is what the manager gives: a renewal makes no manager of a worker", async () => {
  const posing = await signed(root, "manager", worker.nodeId);
  const client = new Client("Join", address, toManager(posing, clusterId));
  const { csr } = await newKeyAndCsr();
  assert.equal((await client.unary("RenewCertificate", { CSR: csr })).Role, "worker");
  client.close();
});

test("a removed node's session ends at once, and its certificate counts no more though it has not ended", async () => {
  const gone = await newNode("w2");
  const directory = join(folder, "w2");
  const session = await openSession(sessionOptions(gone, directory));
  try {
    await until("connected", () => session.connected());
    // A connection of its own on which nothing happens.
    const standing = new Client("Dispatch", address, toManager(gone, clusterId));
    let ended = false;
    const messages = (async function* () {
      yield { SubscriptionID: "none", Lines: [], Close: false, Err: "" };
      await new Promise(() => {});
    })();
    void standing
      .upload("PublishLogs", messages)
      .catch(() => {})
      .finally(() => {
        ended = true;
      });
    await manager.control.unary("RemoveNode", { ID: gone.nodeId, Force: true });
    await until("the session has ended", () => !session.connected());
    await until("the other connection has ended", () => ended);
    await until("told", () => session.refused() !== "");
    assert.match(session.refused(), /was removed from the swarm|is not part of this swarm/);
    standing.close();
  } finally {
    await session.close("test");
  }
  const workers = guarded().filter(([service, method]) => whoMayCall(service, method) === "node");
  await refusedEverywhere(gone, "denied", /is not part of this swarm/, workers);
});

test("a removed manager is refused by Raft too", async () => {
  // Promoted, with its certificate for that, then demoted and removed.
  const once = await newNode("m2", tokens.Manager);
  const client = new Client("Dispatch", address, toManager(once, clusterId));
  const hello = codec("FromAgent").parse({ Hello: { BootID: "boot", DataPathAddr: "127.0.0.1" } });
  const messages = client.duplex(
    "Session",
    (async function* () {
      yield hello;
      await new Promise(() => {});
    })(),
  );
  for await (const _ of messages) break;
  client.close();
  const ID = once.nodeId;
  const Role = "worker";
  const find = () => manager.control.unary("GetNode", { ID, InsertDefaults: false });
  for (;;) {
    const { Version, Spec, Certificate } = await find();
    if (Certificate?.WasManager !== true) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      continue;
    }
    const worker = { Name: "", Labels: {}, Availability: "active", ...Spec, Role };
    try {
      await manager.control.unary("UpdateNode", { ID, Version: Version?.Index ?? 0, Spec: worker });
      break;
    } catch (error) {
      if (!(error instanceof SwarmError) || !/out of sequence/.test(error.message)) throw error;
    }
  }
  await manager.control.unary("RemoveNode", { ID, Force: true });
  await refusedEverywhere(once, "denied", /is not part of this swarm/);
  assert.match((await newNode("w3")).nodeId, /./);
});

test("tokens that are truncated, changed or rotated away let nobody in", async () => {
  const { csr } = await newKeyAndCsr();
  const issue = async (Token: string) => {
    const client = new Client("Join", address, toManager(worker, clusterId));
    try {
      const request = codec("IssueCertificateRequest").parse({ Token, CSR: csr });
      return await client.unary("IssueCertificate", request);
    } finally {
      client.close();
    }
  };
  const refused = { code: "denied", message: /a valid join token is necessary/ };
  for (const wrong of ["", tokens.Worker.slice(0, -1), `${tokens.Worker}0`, "SWMTKN-1-a-b"])
    await assert.rejects(issue(wrong), refused);
  const cluster = await manager.control.unary("GetCluster", {});
  await manager.control.unary("UpdateCluster", {
    Version: cluster.Version?.Index ?? 0,
    RotateWorkerToken: true,
    RotateManagerToken: true,
    RotateManagerUnlockKey: false,
  });
  for (const old of Object.values(tokens)) await assert.rejects(issue(old), refused);
});

test("TLS 1.2 is refused by the port itself", async () => {
  const [host = "", port = ""] = address.split(":");
  const failure = await new Promise<Error | null>((resolve) => {
    const socket = connect({
      host,
      port: Number(port),
      rejectUnauthorized: false,
      maxVersion: "TLSv1.2",
    });
    socket.once("secureConnect", () => resolve(null)).once("error", resolve);
  });
  assert.match(String(failure), /protocol version/);
});
