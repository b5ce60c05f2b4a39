import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { Exchange } from "../../../../agent/buildkit/calls.ts";
import { receiveInto } from "../../../../agent/buildkit/folder.ts";
import { packets } from "../../../../agent/buildkit/messages.ts";
import { sendFolder } from "../../../../agent/buildkit/send.ts";
import { Queue } from "../../../../proto/kit/queue.ts";

const home = mkdtempSync(join(tmpdir(), "folder-"));
after(() => rmSync(home, { recursive: true }));
let folders = 0;

function newFolder(): string {
  const folder = join(home, `${++folders}`);
  mkdirSync(folder);
  return folder;
}

/** Two ends of a call. */
function callBetween(): readonly [Exchange, Exchange] {
  const queues = [new Queue<Buffer>(100_000), new Queue<Buffer>(100_000)] as const;
  const end = (from: 0 | 1, to: 0 | 1): Exchange => ({
    write: (message) => {
      queues[to].push(message);
      return true;
    },
    drained: async () => {},
    end: () => queues[to].end(),
    messages: () => queues[from],
    close: () => {
      for (const queue of queues) queue.end();
    },
  });
  return [end(0, 1), end(1, 0)];
}

async function copied(source: string, target: string) {
  const [here, there] = callBetween();
  const ends = [
    sendFolder(source, there, () => {}).finally(() => there.end()),
    receiveInto(target, "the context", here, () => {}),
  ] as const;
  const [, transfer] = await Promise.all(ends);
  return transfer;
}

/** Names with all that is kept of each. */
function seen(root: string, folder = ""): readonly string[] {
  return readdirSync(join(root, folder))
    .sort()
    .flatMap((name) => {
      const path = join(folder, name);
      const place = join(root, path);
      const facts = lstatSync(place);
      const mode = facts.isSymbolicLink() ? "" : (facts.mode & 0o7777).toString(8);
      const time = Math.round(facts.mtimeMs);
      if (facts.isDirectory()) return [`${path}/ ${mode} ${time}`, ...seen(root, path)];
      const content = facts.isSymbolicLink() ? `-> ${readlinkSync(place)}` : readFileSync(place);
      return [`${path} ${mode} ${time} ${content}`];
    });
}

function tree(): string {
  const source = newFolder();
  mkdirSync(join(source, "a/deep"), { recursive: true });
  writeFileSync(join(source, "a/deep/file"), "deep");
  writeFileSync(join(source, "a-file"), "sorts before what is in a");
  writeFileSync(join(source, "empty"), "");
  writeFileSync(join(source, "big"), Buffer.alloc(2_500_000, "big"));
  writeFileSync(join(source, "run.sh"), "#!", { mode: 0o755 });
  chmodSync(join(source, "run.sh"), 0o4755);
  symlinkSync("../../outside", join(source, "a/link"));
  symlinkSync("a", join(source, "to-a"));
  utimesSync(join(source, "a"), 1_000_000_000, 1_000_000_000.123);
  writeFileSync(join(source, "ünï"), "named");
  return source;
}

test("a folder comes to be as the sender's", async () => {
  const [source, target] = [tree(), newFolder()];
  assert.deepEqual(await copied(source, target), { files: 6, bytes: 2_500_000 + 4 + 25 + 2 + 5 });
  assert.deepEqual(seen(target), seen(source));
});

test("what is there already is not asked for again", async () => {
  const [source, target] = [tree(), newFolder()];
  await copied(source, target);
  assert.deepEqual(await copied(source, target), { files: 0, bytes: 0 });
  chmodSync(join(source, "a-file"), 0o600);
  assert.deepEqual(await copied(source, target), { files: 0, bytes: 0 });
  writeFileSync(join(source, "a-file"), "changed");
  assert.deepEqual(await copied(source, target), { files: 1, bytes: 7 });
  assert.deepEqual(seen(target), seen(source));
});

test("what has gone goes, and what has become something else is replaced", async () => {
  const [source, target] = [tree(), newFolder()];
  await copied(source, target);
  rmSync(join(source, "a"), { recursive: true });
  writeFileSync(join(source, "a"), "a file now");
  for (const name of ["empty", "to-a", "big"]) rmSync(join(source, name));
  mkdirSync(join(source, "empty"));
  writeFileSync(join(source, "to-a"), "no link now");
  symlinkSync("elsewhere", join(source, "big"));
  await copied(source, target);
  assert.deepEqual(seen(target), seen(source));
});

test("no link that is there leads what comes elsewhere", async () => {
  const [source, target, outside] = [newFolder(), newFolder(), newFolder()];
  mkdirSync(join(source, "dir"));
  writeFileSync(join(source, "dir/file"), "x");
  writeFileSync(join(source, "file"), "y");
  symlinkSync(outside, join(target, "dir"));
  symlinkSync(join(outside, "file"), join(target, "file"));
  await copied(source, target);
  assert.deepEqual(readdirSync(outside), []);
  assert.deepEqual(seen(target), seen(source));
});

test("a file that was broken off in the middle is sent anew", async () => {
  const [source, target] = [tree(), newFolder()];
  await copied(source, target);
  writeFileSync(join(target, "big"), Buffer.alloc(2_500_000, "bad"));
  assert.deepEqual(await copied(source, target), { files: 1, bytes: 2_500_000 });
  assert.deepEqual(seen(target), seen(source));
});

test("two names of one file are two files", async () => {
  const [source, target] = [newFolder(), newFolder()];
  writeFileSync(join(source, "one"), "same");
  linkSync(join(source, "one"), join(source, "two"));
  await copied(source, target);
  assert.equal(readFileSync(join(target, "two"), "utf8"), "same");
});

test("a hostile sender writes nothing outside, and the call is over", async () => {
  const target = newFolder();
  const stat = {
    path: "../escaped",
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: 0,
    modTime: 0,
    linkname: "",
  };
  const [here, there] = callBetween();
  there.write(packets.encode({ type: "PACKET_STAT", stat }));
  await assert.rejects(
    receiveInto(target, "the context", here, () => {}),
    { code: "invalid" },
  );
  assert.deepEqual(readdirSync(target), []);
});

test("what cannot be written ends the transfer with why", async () => {
  const [source, target] = [tree(), newFolder()];
  const [here, there] = callBetween();
  // As if it had been taken away meanwhile: at once, however much is being written into it.
  const received = receiveInto(target, "the context", here, () => {
    if (existsSync(target)) renameSync(target, join(newFolder(), "elsewhere"));
  });
  const sent = sendFolder(source, there, () => {}).finally(() => there.end());
  sent.catch(() => {});
  await assert.rejects(received, { code: "ENOENT" });
});

test("a sender whose file cannot be read says so, and so does a receiver that cannot write", async () => {
  const [here, there] = callBetween();
  const refused = receiveInto(newFolder(), "the context", here, () => {});
  there.write(packets.encode({ type: "PACKET_ERR", data: Buffer.from("permission denied") }));
  await assert.rejects(refused, /the context cannot be read: permission denied/);
  const [near, far] = callBetween();
  const sent = sendFolder(tree(), near, () => {});
  far.write(packets.encode({ type: "PACKET_ERR", data: Buffer.from("disk full") }));
  await assert.rejects(sent, /cannot take the result: disk full/);
});
