import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { test } from "node:test";
import { HeldPorts, portKey } from "../../../../agent/network/ports.ts";
import type { Port } from "../../../../agent/network/published.ts";
import { errnoOf } from "../../../../proto/kit/errors.ts";

const hosts = { 4: "127.0.0.1", 6: "::1" } as const;

async function listening(host: string, port = 0): Promise<Server> {
  const server = createServer();
  server.listen({ host, port, exclusive: true });
  await once(server, "listening");
  return server;
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

async function closed(server: Server): Promise<void> {
  server.close();
  await once(server, "close");
}

/** One that nobody has just now. */
async function freePort(family: 4 | 6): Promise<Port> {
  const server = await listening(hosts[family]);
  const port = { protocol: "tcp", port: portOf(server), family, hostIP: hosts[family] };
  await closed(server);
  return port;
}

async function errorOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "none",
    (error: unknown) => errnoOf(error),
  );
}

for (const family of [4, 6] as const)
  test(`a held port is nobody else's, and refuses at once (IPv${family})`, async () => {
    const held = new HeldPorts();
    const port = await freePort(family);
    assert.equal((await held.hold([port])).size, 0);
    const client = connect(port.port, port.hostIP);
    assert.equal(await errorOf(once(client, "connect")), "ECONNREFUSED");
    assert.equal(await errorOf(listening(port.hostIP, port.port)), "EADDRINUSE");
    await held.hold([]);
    await closed(await listening(port.hostIP, port.port));
  });

test("a port that a program has cannot be held, and the program is named", async () => {
  const held = new HeldPorts();
  const server = await listening(hosts[4]);
  const port: Port = { protocol: "tcp", port: portOf(server), family: 4, hostIP: hosts[4] };
  const error = (await held.hold([port])).get(portKey(port));
  assert.equal(error?.code, "conflict");
  assert.match(error?.message ?? "", new RegExp(`process ${process.pid}\\) on this node uses it`));
  await closed(server);
  assert.equal((await held.hold([port])).size, 0);
  held.release();
});

test("a port whose last program left connections that are not quite over is held all the same", async () => {
  const held = new HeldPorts();
  const server = await listening(hosts[4]);
  const port: Port = { protocol: "tcp", port: portOf(server), family: 4, hostIP: hosts[4] };
  // Whoever ends a connection first keeps what is left of it.
  server.on("connection", (socket) => socket.end());
  const client = connect(port.port, port.hostIP).resume();
  await once(client, "close");
  await closed(server);
  assert.equal((await held.hold([port])).size, 0);
  assert.equal(await errorOf(listening(port.hostIP, port.port)), "EADDRINUSE");
  held.release();
});

test("an address that this node has not is told", async () => {
  const elsewhere: Port = { protocol: "tcp", port: 8080, family: 4, hostIP: "192.0.2.1" };
  const error = (await new HeldPorts().hold([elsewhere])).get(portKey(elsewhere));
  assert.equal(error?.code, "not_found");
});
