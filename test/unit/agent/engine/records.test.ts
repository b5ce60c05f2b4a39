import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type ContainerFile, Records } from "../../../../agent/engine/records.ts";
import { silentLog } from "../../../../proto/kit/log.ts";

function record(id: string, name: string, isLocal = false): ContainerFile {
  const local = isLocal ? { local: { networkMode: "bridge" } } : {};
  // Only what records look at.
  return { format: 1, id, name, ...local } as unknown as ContainerFile;
}

async function folderFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "tsswarm-records-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

function opened(folder: string): Records {
  return new Records(join(folder, "disk"), join(folder, "memory"), silentLog);
}

/** The files below the folder in which the word stands. */
async function filesWith(folder: string, word: string): Promise<string[]> {
  const found: string[] = [];
  for (const each of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(each.parentPath, each.name);
    if (each.isFile() && (await readFile(path, "utf8")).includes(word)) found.push(path);
  }
  return found;
}

const names = (records: readonly ContainerFile[]) => records.map(({ name }) => name).sort();

test("records of tasks go to memory and come back; those made by hand stay on the disk", async (t) => {
  const folder = await folderFor(t);
  const disk = join(folder, "disk");
  const records = opened(folder);
  await records.load();
  for (const id of ["a", "b"]) await records.makeEtc(id, id === "a");
  await records.save(record("a", "hushed.1"));
  await records.save(record("b", "by-hand", true));
  assert.equal((await filesWith(disk, "hushed")).length, 1);

  assert.ok(records.keepTasks("memory"));
  assert.equal(records.keepTasks("memory"), false);
  for (const each of [record("a", "hushed.1"), record("c", "hushed.2")]) await records.save(each);
  await records.save(record("b", "by-hand", true));
  assert.deepEqual(await filesWith(disk, "hushed"), []);
  assert.equal((await filesWith(disk, "by-hand")).length, 1);
  assert.match(await records.makeEtc("c", true), /memory/);
  assert.match(await records.makeEtc("b", false), /disk/);

  const again = opened(folder);
  assert.deepEqual(names(await again.load()), ["by-hand", "hushed.1", "hushed.2"]);
  await again.save(record("a", "hushed.1"));
  assert.deepEqual(await filesWith(disk, "hushed"), [], "it stays where it is until it is told");
  again.keepTasks("disk");
  for (const each of [record("a", "hushed.1"), record("c", "hushed.2")]) await again.save(each);
  assert.deepEqual(await filesWith(join(folder, "memory"), "hushed"), []);
  await again.remove("a");
  assert.deepEqual(names(await opened(folder).load()), ["by-hand", "hushed.2"]);
});

test("of what was in memory a reboot leaves nothing, and its volumes are given up", async (t) => {
  const folder = await folderFor(t);
  const records = opened(folder);
  await records.load();
  records.keepTasks("memory");
  await records.makeEtc("a", false);
  await records.notePending("a", ["v1"]);
  await records.save(record("a", "hushed.1"));
  await rm(join(folder, "memory"), { recursive: true });
  const abandoned: string[] = [];
  const again = opened(folder);
  const left = await again.load(async (volumes) => void abandoned.push(...volumes));
  assert.deepEqual(left, []);
  assert.deepEqual(abandoned, ["v1"]);
  assert.deepEqual(await readdir(join(folder, "disk", "containers")), []);
});
