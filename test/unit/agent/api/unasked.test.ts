import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { test } from "node:test";
import { type FakeDaemon, startFakeDaemon } from "./fakes.ts";

/** Sends the parts one by one, each when the one before was taken; then says that nothing follows. Gives all that comes back. */
async function sent(daemon: FakeDaemon, parts: readonly string[]): Promise<string> {
  const socket = connect(daemon.socket);
  socket.setNoDelay(true);
  await once(socket, "connect");
  for (const part of parts) await new Promise((resolve) => socket.write(part, resolve));
  socket.end();
  return received(socket);
}

async function received(socket: Socket): Promise<string> {
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  return text;
}

async function execOf(daemon: FakeDaemon, changes: object): Promise<string> {
  const { id } = daemon.engine.add("box");
  const body = { Cmd: ["cat"], AttachStdout: true, ...changes };
  const made = await daemon.ask("POST", `/containers/${id}/exec`, body);
  return made.json.Id;
}

const startOf = (id: string, body = "{}") =>
  `POST /v1.24/exec/${id}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

test("who sends input behind the start of an exec is heard without asking for an upgrade", async () => {
  await using daemon = await startFakeDaemon(true);
  const id = await execOf(daemon, { AttachStdin: true });
  const answer = await sent(daemon, [`${startOf(id)}typed\n`]);
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/);
  assert.doesNotMatch(answer, /upgrade/i);
  assert.ok(answer.endsWith("\r\n\r\n\u0001\0\0\0\0\0\0\u0006typed\n"));
});

test("and so is who attaches with input, however the request's head is cut", async () => {
  await using daemon = await startFakeDaemon(true);
  daemon.engine.add("box", { OpenStdin: true, Tty: true });
  const answer = await sent(daemon, [
    "PO",
    "ST /v1.24/containers/box/attach?stream=true&stdin=true&stdout=true HTTP/1.1\r\nHo",
    "st: x\r\nContent-Length: 0\r\n\r",
    "\ntyped\n",
  ]);
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n.*\r\n\r\ntyped\n$/s);
});

test("all others stay with HTTP: no input, another node's container, a request that is none of those", async () => {
  await using daemon = await startFakeDaemon(true);
  const id = await execOf(daemon, { AttachStdin: false });
  assert.match(await sent(daemon, [startOf(id)]), /\r\nTransfer-Encoding: chunked\r\n/i);
  const nobody =
    "POST /containers/nobody/attach?stdin=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
  assert.match(await sent(daemon, [nobody]), /^HTTP\/1\.1 404 .*No such container: nobody/s);
  const ping = "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";
  assert.equal((await sent(daemon, [ping + ping])).match(/HTTP\/1\.1 200 OK/g)?.length, 2);
  assert.match(await sent(daemon, ["POST\r\n\r\n"]), /^HTTP\/1\.1 400 /);
  assert.equal(await sent(daemon, []), "");
});

test("an upgrade that was asked for is answered as one", async () => {
  await using daemon = await startFakeDaemon(true);
  const id = await execOf(daemon, { AttachStdin: true });
  const asking = startOf(id).replace("Host", "Connection: Upgrade\r\nUpgrade: tcp\r\nHost");
  assert.match(await sent(daemon, [`${asking}typed\n`]), /^HTTP\/1\.1 101 UPGRADED\r\n/);
});
