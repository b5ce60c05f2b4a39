import assert from "node:assert/strict";
import { appendFile, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { SavedFile } from "../../../../agent/session/saved.ts";
import type { Wanted } from "../../../../agent/session/types.ts";
import { fold } from "../../../../agent/session/wanted.ts";
import type { Assignment, ToAgent } from "../../../../proto/gen/types.ts";

async function inFolder(run: (path: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "tsswarm-test-"));
  try {
    await run(join(folder, "agent", "wanted.pb"));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function message(version: number, more: Partial<ToAgent>): ToAgent {
  return {
    Version: `s-${version}`,
    Complete: false,
    Set: [],
    Remove: [],
    Logs: [],
    CloseLogs: [],
    Tunnels: [],
    Beat: false,
    Packed: [],
    ...more,
  };
}

function peer(NodeID: string, Hostname = NodeID): Assignment {
  return {
    Key: { Kind: "peer", ID: NodeID },
    Peer: { NodeID, Hostname, Index: 1, DataPathAddr: "10.0.0.1" },
  };
}

const messages = [
  message(1, { Complete: true, Set: [peer("a"), peer("b")] }),
  message(2, { Set: [peer("c")], Remove: [{ Kind: "peer", ID: "a" }] }),
  message(3, { Set: [peer("b", "renamed")], Remove: [{ Kind: "unheard-of", ID: "x" }] }),
];

async function saveAll(file: SavedFile): Promise<Wanted> {
  let wanted: Wanted | null = null;
  for (const one of messages) {
    wanted = fold(wanted, one);
    await file.save(wanted, one);
  }
  assert.ok(wanted !== null);
  return wanted;
}

test("a complete message and its deltas read back as what they came to, unconfirmed", async () => {
  await inFolder(async (path) => {
    const file = new SavedFile(path, "boot-1");
    const wanted = await saveAll(file);
    await file.close();
    const loaded = await new SavedFile(path, "boot-2").load();
    assert.deepEqual(loaded.wanted, { ...wanted, confirmed: false });
    assert.deepEqual([...wanted.peers.keys()].sort(), ["b", "c"]);
    assert.equal(wanted.peers.get("b")?.Hostname, "renamed");
    assert.equal(loaded.bootId, "boot-1");
    assert.equal((await stat(path)).mode & 0o777, 0o600);
  });
});

test("a record that a crash cut off is passed over", async () => {
  await inFolder(async (path) => {
    const file = new SavedFile(path, "boot-1");
    const wanted = await saveAll(file);
    await file.close();
    for (const torn of [Buffer.from([0, 0]), Buffer.from([0, 0, 1, 0, 9, 9])]) {
      await appendFile(path, torn);
      assert.equal((await new SavedFile(path, "").load()).wanted?.version, wanted.version);
    }
  });
});

test("a file that many deltas went into stays small", async () => {
  await inFolder(async (path) => {
    const file = new SavedFile(path, "boot-1");
    let wanted = await saveAll(file);
    for (let n = 4; n < 3_000; n++) {
      const one = message(n, { Set: [peer("b", `name-${n}`)] });
      wanted = fold(wanted, one);
      await file.save(wanted, one);
    }
    assert.ok((await stat(path)).size < 100 * 1024);
    const loaded = await new SavedFile(path, "").load();
    assert.equal(loaded.wanted?.peers.get("b")?.Hostname, "name-2999");
    await file.close();
  });
});

test("without a file nothing is wanted, and a damaged one is refused", async () => {
  await inFolder(async (path) => {
    assert.equal((await new SavedFile(path, "").load()).wanted, null);
    const file = new SavedFile(path, "boot-1");
    await saveAll(file);
    await file.close();
    await appendFile(path, Buffer.from([0, 0, 0, 2, 0xff, 0xff]));
    await assert.rejects(new SavedFile(path, "").load(), { code: "invalid" });
  });
});
