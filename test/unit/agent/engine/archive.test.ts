import assert from "node:assert/strict";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { afterEach, beforeEach, test } from "node:test";
import { gzipSync } from "node:zlib";
import { extract, type Header, pack } from "tar-stream";
import { readPath, statPath, writePath } from "../../../../agent/engine/archive.ts";
import { asSwarmError } from "../../../../proto/kit/errors.ts";

let base = "";
let root = "";
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "tsswarm-archive-"));
  root = join(base, "root");
  mkdirSync(join(root, "dir/sub"), { recursive: true });
  writeFileSync(join(root, "dir/sub/file"), "hello\n", { mode: 0o640 });
  symlinkSync("/dir/sub", join(root, "link"));
  symlinkSync("/outside", join(root, "evil"));
  mkdirSync(join(base, "outside"));
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

async function tarOf(entries: readonly (readonly [Partial<Header>, string])[]): Promise<Buffer> {
  const tar = pack();
  const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
  for (const [header, content] of entries) tar.entry({ name: "x", uid, gid, ...header }, content);
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function write(path: string, tar: Buffer, keepsKinds = false): Promise<void> {
  await writePath(root, path, Readable.from([tar]).pipe(new PassThrough()), { keepsKinds });
}

test("a file's facts, in Go's words, and where a link leads inside the container", async () => {
  const file = await statPath(root, "/link/file");
  assert.deepEqual([file.name, file.size, file.mode], ["file", 6, 0o640]);
  const link = await statPath(root, "/link");
  assert.deepEqual([link.linkTarget, link.mode >= 2 ** 27], ["/dir/sub", true]);
  assert.equal((await statPath(root, "/dir")).mode >= 2 ** 31, true);
  await assert.rejects(statPath(root, "/nope"), { code: "not_found" });
});

test("a folder comes out as a tar that begins with its name", async () => {
  const entries = extract();
  const names: string[] = [];
  entries.on("entry", (header, stream, next) => {
    names.push(header.name);
    stream.resume();
    next();
  });
  const out = await readPath(root, "/dir", new AbortController().signal);
  await new Promise<void>((resolve) => out.pipe(entries).once("finish", () => resolve()));
  assert.deepEqual(names, ["dir/", "dir/sub/", "dir/sub/file"]);
});

test("files, folders and links go in with their modes, also from gzip", async () => {
  const tar = await tarOf([
    [{ name: "new/", type: "directory", mode: 0o700 }, ""],
    [{ name: "new/script", mode: 0o755 }, "#!"],
    [{ name: "new/to", type: "symlink", linkname: "script" }, ""],
  ]);
  for (const bytes of [tar, gzipSync(tar)]) {
    await write("/dir", bytes);
    assert.equal(readFileSync(join(root, "dir/new/script"), "utf8"), "#!");
    assert.equal(lstatSync(join(root, "dir/new/script")).mode & 0o777, 0o755);
    assert.equal(lstatSync(join(root, "dir/new")).mode & 0o777, 0o700);
    assert.equal(readlinkSync(join(root, "dir/new/to")), "script");
  }
});

test("nothing is written outside, whatever names and links say", async () => {
  const rows: readonly (readonly [string, Partial<Header>])[] = [
    ["/", { name: "../../outside/a" }],
    ["/", { name: "evil/b" }],
    ["/../../outside", { name: "c" }],
    ["/evil", { name: "d" }],
  ];
  for (const [path, header] of rows)
    await write(path, await tarOf([[header, "x"]])).catch(() => {});
  for (const name of ["a", "b", "c", "d"])
    assert.equal(existsSync(join(base, "outside", name)), false, name);
  assert.equal(existsSync(join(root, "outside/b")), true, "the container's own /outside");
});

test("what cannot be is refused in words", async () => {
  const file = await tarOf([[{ name: "sub" }, "x"]]);
  await assert.rejects(write("/nope", file), { code: "not_found" });
  await assert.rejects(write("/dir/sub/file", file), /extraction point is not a directory/);
  const sentence = /cannot overwrite directory \/dir\/sub/;
  await assert.rejects(write("/dir", file, true), { code: "conflict", message: sentence });
  await assert.rejects(write("/dir", Buffer.alloc(2048, 120)), (error) => {
    return asSwarmError(error).code === "invalid" && /is no tar/.test(asSwarmError(error).message);
  });
  const pipe = await tarOf([[{ name: "p", type: "fifo" }, ""]]);
  await assert.rejects(write("/dir", pipe), { code: "unsupported" });
});

test("a root that is itself a link, as that of a running container, is a folder", async () => {
  const running = join(base, "running");
  symlinkSync(root, running);
  const facts = await statPath(running, "/");
  assert.deepEqual([facts.name, facts.linkTarget], ["/", ""]);
  const tar = await tarOf([[{ name: "into-root" }, "here"]]);
  await writePath(running, "/", Readable.from([tar]), { keepsKinds: false });
  assert.equal(readFileSync(join(root, "into-root"), "utf8"), "here");
});
