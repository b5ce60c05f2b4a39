import assert from "node:assert/strict";
import { test } from "node:test";
import { hostOf, newNode } from "../../../../manager/identity/join.ts";
import { Throttle } from "../../../../manager/identity/throttle.ts";
import { codec } from "../../../../proto/codec.ts";
import { isSameToken } from "../../../../proto/token.ts";

test("ten wrong tokens block an address until they are a minute old, and only that address", () => {
  const throttle = new Throttle();
  for (let n = 0; n < 10; n++) {
    assert.equal(throttle.isBlocked("10.0.0.9", n), false);
    throttle.wrong("10.0.0.9", n);
  }
  assert.ok(throttle.isBlocked("10.0.0.9", 100));
  assert.equal(throttle.isBlocked("10.0.0.8", 100), false);
  assert.equal(throttle.isBlocked("10.0.0.9", 60_001), false);
});

test("an empty token is never the right one", () => {
  assert.equal(isSameToken("", ""), false);
  assert.equal(isSameToken("a", "a"), true);
  assert.equal(isSameToken("a", "b"), false);
});

const hosts = [
  ["10.0.0.1:2377", "10.0.0.1"],
  ["10.0.0.1", "10.0.0.1"],
  ["[fd00::1]:2377", "fd00::1"],
  ["fd00::1", "fd00::1"],
  ["::ffff:10.0.0.1:40000", "10.0.0.1"],
  ["", ""],
] as const;
for (const [address, host] of hosts)
  test(`the host of ${JSON.stringify(address)} is ${JSON.stringify(host)}`, () => {
    assert.equal(hostOf(address), host);
  });

test("when all node numbers have been given out, nobody joins any more", () => {
  const cluster = codec("Cluster").parse({ ID: "c", NextNodeIndex: 65_536 });
  const request = { AdvertiseAddr: "", DataPathAddr: "", Availability: "", Routes: [] };
  assert.throws(
    () => newNode(cluster, { nodeId: "n", role: "worker", request, callerHost: "10.0.0.2" }),
    { code: "exhausted" },
  );
});
