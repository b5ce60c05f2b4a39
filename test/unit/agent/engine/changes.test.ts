import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { listChanges } from "../../../../agent/engine/changes.ts";

test("what was added and what was changed, with the folders on the way", async () => {
  const base = mkdtempSync(join(tmpdir(), "tsswarm-changes-"));
  try {
    for (const folder of ["low/etc", "lower/usr", "up/etc", "up/new"])
      mkdirSync(join(base, folder), { recursive: true });
    writeFileSync(join(base, "low/etc/old"), "1");
    writeFileSync(join(base, "up/etc/old"), "2");
    // Made for what is mounted there.
    writeFileSync(join(base, "up/etc/hosts"), "");
    writeFileSync(join(base, "up/new/file"), "3");
    const lower = `lowerdir=${join(base, "lower")}:${join(base, "low")}`;
    const options = [`upperdir=${join(base, "up")}`, lower, "workdir=/w"];
    assert.deepEqual(await listChanges([{ type: "overlay", source: "overlay", options }]), [
      { Path: "/etc", Kind: 0 },
      { Path: "/etc/old", Kind: 0 },
      { Path: "/new", Kind: 1 },
      { Path: "/new/file", Kind: 1 },
    ]);
    const bind = [{ type: "bind", source: base, options: ["rbind"] }];
    await assert.rejects(listChanges(bind), { code: "unsupported" });
  } finally {
    rmSync(base, { recursive: true });
  }
});
