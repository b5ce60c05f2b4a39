import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import {
  createNamespace,
  errnoName,
  inNamespace,
  isNamespace,
  removeNamespace,
  tcpListenerIn,
  udpSocketIn,
} from "../../../../proto/kit/netns.ts";

const isRoot = process.getuid?.() === 0;
const skip = isRoot ? false : "needs root";
const directory = mkdtempSync(join(tmpdir(), "netns-"));
after(() => rmSync(directory, { recursive: true, force: true }));

const current = () => readlinkSync("/proc/thread-self/ns/net");

test("a new namespace is entered and left, and its maker stays where it was", { skip }, () => {
  const path = join(directory, "one");
  const home = current();
  createNamespace(path);
  try {
    assert.equal(current(), home);
    assert.equal(isNamespace(path), true);
    const inside = inNamespace(path, () => ({ name: current(), links: networkInterfaces() }));
    assert.notEqual(inside.name, home);
    assert.deepEqual(inside.links, {});
    assert.equal(current(), home);
    assert.throws(() => createNamespace(path), /already a namespace/);
  } finally {
    removeNamespace(path);
  }
  assert.equal(isNamespace(path), false);
  removeNamespace(path);
});

test("work that throws leaves the namespace too, and work that waits is refused", { skip }, () => {
  const path = join(directory, "two");
  const home = current();
  createNamespace(path);
  try {
    assert.throws(
      () =>
        inNamespace(path, () => {
          throw new Error("broken");
        }),
      /broken/,
    );
    assert.throws(() => inNamespace(path, async () => {}), /must be synchronous/);
    assert.equal(current(), home);
  } finally {
    removeNamespace(path);
  }
});

test("a path that holds no namespace is named", { skip }, () => {
  const path = join(directory, "plain");
  assert.throws(() => inNamespace(path, () => 1), { code: "not_found" });
  writeFileSync(path, "");
  assert.throws(() => inNamespace(path, () => 1), /cannot enter the network namespace .*EINVAL/);
  removeNamespace(path);
});

test("sockets bound in a namespace serve there and leave the host's ports free", {
  skip,
}, async () => {
  const path = join(directory, "three");
  createNamespace(path);
  try {
    const datagrams = createSocket("udp4");
    datagrams.bind({ fd: udpSocketIn(path, "0.0.0.0", 4053) });
    if (!isBound(datagrams)) await once(datagrams, "listening");
    assert.equal(datagrams.address().port, 4053);
    assert.throws(() => udpSocketIn(path, "0.0.0.0", 4053), /cannot bind UDP .*EADDRINUSE/);

    const server = createServer();
    server.listen({ fd: tcpListenerIn(path, "0.0.0.0", 4053) });
    await once(server, "listening");
    assert.throws(() => tcpListenerIn(path, "0.0.0.0", 4053), { code: "conflict" });
    const closed = once(server, "close");
    server.close();
    datagrams.close();
    await closed;
  } finally {
    removeNamespace(path);
  }
});

test("errno numbers have their names", () => {
  assert.equal(errnoName(2), "ENOENT");
  assert.equal(errnoName(98), "EADDRINUSE");
  assert.equal(errnoName(99_999), "errno 99999");
});

function isBound(socket: ReturnType<typeof createSocket>): boolean {
  try {
    socket.address();
    return true;
  } catch {
    return false;
  }
}
