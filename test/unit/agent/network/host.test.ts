import assert from "node:assert/strict";
import { test } from "node:test";
import { hastenNeighbours, overlayMtu } from "../../../../agent/network/host.ts";

test("an overlay on a loopback address is as wide as one on a usual card, whatever loopback takes", () => {
  for (const address of ["127.0.0.1", "127.1.2.3"]) {
    assert.equal(overlayMtu(address), 1450);
    hastenNeighbours(address);
  }
});

test("an address that no device has is named, with what to do", () => {
  assert.throws(() => overlayMtu("192.0.2.77"), {
    code: "precondition",
    message: /no device of this node has the data path address 192\.0\.2\.77: set --advertise-addr/,
  });
});
