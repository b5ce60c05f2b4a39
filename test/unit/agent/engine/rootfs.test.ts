import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { insideRoot, looksIn, readInside } from "../../../../agent/engine/rootfs.ts";

const root = mkdtempSync(join(tmpdir(), "rootfs-"));

before(() => {
  mkdirSync(join(root, "usr/etc"), { recursive: true });
  writeFileSync(join(root, "usr/etc/passwd"), "inside");
  symlinkSync("/usr/etc", join(root, "etc"));
  symlinkSync("../../../../../../etc/hostname", join(root, "escape"));
  symlinkSync("loop", join(root, "loop"));
});
after(() => rmSync(root, { recursive: true }));

const rows = [
  { path: "/etc/passwd", expected: "usr/etc/passwd" },
  { path: "/escape", expected: "usr/etc/hostname" },
  { path: "../../../x", expected: "x" },
  { path: "/not/there", expected: "not/there" },
  { path: "/", expected: "" },
];
for (const row of rows)
  test(`${row.path} in a container is ${row.expected} of its root`, async () => {
    assert.equal(await insideRoot(root, row.path), join(root, row.expected));
  });

test("a loop of links ends", async () => {
  await assert.rejects(insideRoot(root, "/loop"), /too many symbolic links/);
});

test("a file is read inside, one that is not there is empty", async () => {
  assert.equal(await readInside(root, "/etc/passwd"), "inside");
  assert.equal(await readInside(root, "/escape"), "");
});

test("the looks a killed engine left mounted are found, and nothing else", () => {
  const mount = (path: string) => `31 24 0:27 / ${path} rw,relatime - overlay overlay rw`;
  const mountinfo = [
    mount("/data/containers/ab12/look-x1"),
    mount("/data/containers/my\\040host/look-x2"),
    mount("/data/containers/ab12/volume"),
    mount("/data/containers-of-others/ab12/look-x3"),
    mount("/"),
    "",
  ].join("\n");
  assert.deepEqual(looksIn(mountinfo, "/data/containers"), [
    "/data/containers/ab12/look-x1",
    "/data/containers/my host/look-x2",
  ]);
});
