import assert from "node:assert/strict";
import { test } from "node:test";
import { goMode, kindOf, permissionsOf } from "../../../../agent/buildkit/modes.ts";
import { Receipt } from "../../../../agent/buildkit/receipt.ts";
import type { Packet, Stat } from "../../../../proto/gen/buildkit-types.ts";

const none = new Uint8Array();
const folderMode = 0x8000_01ed;

function stat(path: string, more: Partial<Stat> = {}): Packet {
  const facts = { path, mode: 0o644, uid: 0, gid: 0, size: 0, modTime: 0, linkname: "", ...more };
  return { type: "PACKET_STAT", stat: facts, ID: 0, data: none };
}

function data(ID: number, text: string): Packet {
  return { type: "PACKET_DATA", ID, data: Buffer.from(text) };
}

const last: Packet = { type: "PACKET_STAT", ID: 0, data: none };

test("a tree is named, its files are asked for and come", () => {
  const receipt = new Receipt("the context");
  const placed = receipt.take(stat("a", { size: 5, modTime: 1_500_000_000 }));
  assert.deepEqual(placed, {
    do: "place",
    entry: {
      ...{ id: 0, path: "a", kind: "file", permissions: 0o644 },
      ...{ size: 5, modified: 1500, target: "" },
    },
  });
  receipt.take(stat("dir", { mode: folderMode }));
  const link = receipt.take(stat("dir/link", { mode: 0x0800_01ff, linkname: "../../x" }));
  assert.equal(link.do === "place" && link.entry.kind, "link");
  receipt.want(0);
  assert.deepEqual(receipt.take(last), { do: "listed" });
  assert.equal(receipt.isWhole, false);
  assert.equal(receipt.take(data(0, "hello")).do, "write");
  assert.deepEqual(receipt.take(data(0, "")), { do: "close", id: 0 });
  assert.equal(receipt.isWhole, true);
  assert.equal(receipt.bytes, 5);
  assert.ok(receipt.has("dir/link") && !receipt.has("link"));
  assert.equal(receipt.take({ type: "PACKET_FIN", ID: 0, data: none }).do, "end");
});

test("a tree without files is whole when it has been named", () => {
  const receipt = new Receipt("the context");
  receipt.take(last);
  assert.ok(receipt.isWhole);
});

for (const path of ["", "/a", "../a", "a/../b", "./a", "a//b", "a/", ".", "..", "a\0b"])
  test(`a file called ${JSON.stringify(path)} is refused`, () => {
    const receipt = new Receipt("the context");
    receipt.take(stat("a", { mode: folderMode }));
    assert.throws(() => receipt.take(stat(path)), { code: "invalid" });
  });

test("nothing lies in what is a link, a file or was never named", () => {
  const receipt = new Receipt("the context");
  receipt.take(stat("link", { mode: 0x0800_01ff, linkname: "/etc" }));
  receipt.take(stat("file"));
  for (const path of ["link/x", "file/x", "unnamed/x"])
    assert.throws(() => receipt.take(stat(path)), { code: "invalid" });
});

test("a name comes once, and none after the last", () => {
  const receipt = new Receipt("the context");
  receipt.take(stat("a"));
  assert.throws(() => receipt.take(stat("a")), /names a twice/);
  receipt.take(last);
  assert.throws(() => receipt.take(stat("b")), { code: "invalid" });
  assert.throws(() => receipt.take(last), { code: "invalid" });
});

test("bytes that nobody has asked for, or that go on after their end, are refused", () => {
  const receipt = new Receipt("the context");
  receipt.take(stat("a"));
  assert.throws(() => receipt.take(data(0, "x")), /which nobody has asked for/);
  receipt.want(0);
  receipt.take(data(0, ""));
  assert.throws(() => receipt.take(data(0, "x")), { code: "invalid" });
});

test("so many files do not come at once", () => {
  const receipt = new Receipt("the context");
  for (let id = 0; id < 65; id++) {
    receipt.take(stat(`f${id}`));
    receipt.want(id);
  }
  for (let id = 0; id < 64; id++) receipt.take(data(id, "x"));
  assert.throws(() => receipt.take(data(64, "x")), { code: "invalid" });
});

test("what the sender says is wrong is told with whose it is", () => {
  const error: Packet = { type: "PACKET_ERR", ID: 0, data: Buffer.from("no permission") };
  assert.throws(() => new Receipt("the context").take(error), {
    code: "unavailable",
    message: "the context cannot be read: no permission",
  });
});

test("Go's file modes and the kernel's are the same thing in other bits", () => {
  for (const kind of ["file", "folder", "link"] as const)
    for (const permissions of [0, 0o644, 0o4755, 0o2755, 0o1777, 0o7777]) {
      const mode = goMode(kind, permissions);
      assert.deepEqual([kindOf(mode), permissionsOf(mode)], [kind, permissions]);
    }
  // A device, a pipe, a socket.
  for (const mode of [0x0400_01b6, 0x0420_01b6, 0x0200_01b6, 0x0100_01b6])
    assert.equal(kindOf(mode), "other");
});
