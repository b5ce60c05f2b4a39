import assert from "node:assert/strict";
import { connect as connectPlainly, type Socket } from "node:net";
import { test } from "node:test";
import { connect, type TLSSocket } from "node:tls";
import grpc from "@grpc/grpc-js";
import { newKeyAndCsr } from "../../../agent/session/identity.ts";
import { createRoot, type RootKeyPair, signNode } from "../../../manager/identity/ca.ts";
import { ClusterPort, type PortLimits } from "../../../manager/port.ts";
import { silentLog } from "../../../proto/kit/log.ts";
import { realWorld } from "../../../proto/kit/world.ts";
import { contextOptions, type Identity } from "../../../proto/tls.ts";

const limits: PortLimits = {
  strangerMsMax: 600,
  strangerBytesMax: 64 * 1024,
  handshakeMsMax: 300,
  goodbyeMs: 10,
};

async function identityOf(root: RootKeyPair, nodeId: string): Promise<Identity> {
  const { key, csr } = await newKeyAndCsr();
  const node = { nodeId, role: "manager", clusterId: "c" } as const;
  return {
    key,
    certificate: await signNode(root, csr, node, Date.now()),
    rootCA: root.certificate,
  };
}

async function opened(
  run: (at: {
    port: ClusterPort;
    number: number;
    own: Identity;
    root: RootKeyPair;
  }) => Promise<void>,
): Promise<void> {
  const root = await createRoot(Date.now());
  const own = await identityOf(root, "m1");
  const isKnown = () => true;
  const port = new ClusterPort({
    identity: own,
    isKnown,
    world: realWorld,
    log: silentLog,
    limits,
  });
  const server = new grpc.Server();
  const number = await port.listen(server, "127.0.0.1:0", (socket) => socket.destroy());
  try {
    await run({ port, number, own, root });
  } finally {
    port.close();
    server.forceShutdown();
  }
}

function closed(socket: Socket): Promise<void> {
  socket.on("error", () => {});
  socket.resume();
  return new Promise((resolve) => socket.once("close", () => resolve()));
}

function secured(number: number, identity: Identity | null): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const own = identity === null ? {} : contextOptions(identity);
    const socket = connect({
      ...own,
      port: number,
      rejectUnauthorized: false,
      ALPNProtocols: ["h2"],
    });
    socket.once("secureConnect", () => resolve(socket)).once("error", reject);
  });
}

test("who says nothing, or half a handshake, is sent away soon", async () => {
  await opened(async ({ number }) => {
    const silent = connectPlainly(number, "127.0.0.1");
    const slow = connectPlainly(number, "127.0.0.1", () => slow.write(Buffer.from([0x16, 3, 1])));
    const plain = connectPlainly(number, "127.0.0.1", () => plain.write("GET / HTTP/1.1\r\n\r\n"));
    await Promise.all([closed(silent), closed(slow), closed(plain)]);
  });
});

test("who shows no certificate has its time and its bytes, who shows one stays", async () => {
  await opened(async ({ number, own }) => {
    const member = await secured(number, own);
    let isGone = false;
    void closed(member).then(() => {
      isGone = true;
    });
    const idle = await secured(number, null);
    await closed(idle);
    const greedy = await secured(number, null);
    const over = closed(greedy);
    const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // An empty SETTINGS frame, then frames of a type that nobody knows, which are read and thrown away.
    greedy.write(Buffer.concat([Buffer.from(preface), Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])]));
    const unknown = Buffer.concat([
      Buffer.from([0, 0x40, 0, 0xee, 0, 0, 0, 0, 0]),
      Buffer.alloc(0x4000),
    ]);
    for (let i = 0; i < 8; i++) greedy.write(unknown);
    await over;
    assert.equal(isGone, false);
    member.destroy();
  });
});

test("an ended connection is over for both, and whoever follows it is told", async () => {
  await opened(async ({ port, number, own }) => {
    const member = await secured(number, own);
    const name = `127.0.0.1:${member.localPort}`;
    let told = false;
    const isThere = port.follow(name, () => {
      told = true;
    });
    assert.equal(isThere, true);
    const over = closed(member);
    port.end(name);
    await over;
    while (!told) await new Promise((resolve) => setTimeout(resolve, 2));
    assert.equal(
      port.follow(name, () => {}),
      false,
    );
  });
});

test("after a renewal new connections meet the new certificate, and open ones stay", async () => {
  await opened(async ({ port, number, own, root }) => {
    const before = await secured(number, own);
    port.renew(await identityOf(root, "m2"));
    const after = await secured(number, own);
    assert.match(String(before.getPeerCertificate().subject.CN), /^m1$/);
    assert.match(String(after.getPeerCertificate().subject.CN), /^m2$/);
    assert.equal(before.destroyed, false);
    before.destroy();
    after.destroy();
  });
});
