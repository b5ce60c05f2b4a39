import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { test } from "node:test";
import { type Header, pack } from "tar-stream";
import { openContext } from "../../../../agent/build/context.ts";
import { findSources, hashSource } from "../../../../agent/build/files.ts";
import { ignoring } from "../../../../proto/kit/patterns.ts";

const { signal } = new AbortController();
type Entry = readonly [name: string, content: string, headers?: Partial<Header>];

const folder = (name: string, mode = 0o755): Entry => [name, "", { type: "directory", mode }];
const link = (name: string, linkname: string): Entry => [name, "", { type: "symlink", linkname }];
const plain: readonly Entry[] = [
  folder("./", 0o755),
  ["Dockerfile", "FROM scratch\n"],
  folder("src/", 0o750),
  ["src/b.js", "b".repeat(700_000), { mode: 0o600, uid: 7, gid: 8, uname: "other" }],
  ["src/a.js", "", { mode: 0o4755 }],
  folder("src/deep"),
  [`src/deep/${"long-".repeat(40)}name`, "long"],
  link("src/deep/up", "../a.js"),
  ["same.js", "", { type: "link", linkname: "src/b.js" }],
  ["é.txt", "é"],
];

async function withContext(
  entries: readonly Entry[],
  run: (context: Awaited<ReturnType<typeof openContext>>) => Promise<void>,
): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), "tsswarm-index-"));
  const tar = pack();
  for (const [name, content, headers] of entries) tar.entry({ name, ...headers }, content);
  tar.finalize();
  const bytes = await buffer(tar);
  // In parts of odd sizes, as a socket brings them.
  const parts = Array.from({ length: Math.ceil(bytes.length / 3_331) }, (_, at) =>
    bytes.subarray(at * 3_331, (at + 1) * 3_331),
  );
  try {
    await run(await openContext(Readable.from(parts), scratch, ["Dockerfile"], signal));
  } finally {
    await rm(scratch, { recursive: true });
  }
}

for (const [patterns, ignored] of [
  [["."], ""],
  [["/"], "src/deep\n!src/deep/up\n"],
  [["src"], ""],
  [["src/"], "**/a.js"],
  [["src/b.js"], ""],
  [["same.js", "é.txt"], ""],
  [["*.js"], ""],
  [["s*"], "same.js"],
  [["src/*/u?"], ""],
  [["**/*.js"], ""],
] as const)
  test(`${patterns.join(", ")} without ${JSON.stringify(ignored)}: the archive tells what its files would`, () =>
    withContext(plain, async ({ index, folder: unpacked }) => {
      const isLeft = ignoring(ignored);
      const root = await unpacked();
      const hashes: string[] = [];
      for (const pattern of patterns)
        for (const source of await findSources(root, pattern, isLeft))
          hashes.push(await hashSource(source, isLeft));
      assert.ok(hashes.length > 0);
      assert.equal(index?.hash(patterns, isLeft), hashes.join());
    }));

test("a change of a file's content, name or mode shows, a change of its time or owner does not", async () => {
  const hashes: (string | null | undefined)[] = [];
  const change = { content: "x", name: "src/c", mode: 0o600 };
  for (const { name, content, mode, uid } of [
    { name: "src/a", content: "y", mode: 0o644, uid: 0 },
    { name: "src/a", content: "y", mode: 0o644, uid: 5 },
    { name: "src/a", content: change.content, mode: 0o644, uid: 0 },
    { name: change.name, content: "y", mode: 0o644, uid: 0 },
    { name: "src/a", content: "y", mode: change.mode, uid: 0 },
  ]) {
    const entry: Entry = [name, content, { mode, uid, mtime: new Date(hashes.length * 1e6) }];
    await withContext([folder("src"), entry], async ({ index }) => {
      hashes.push(index?.hash(["src"], () => false));
    });
  }
  assert.equal(hashes[0], hashes[1]);
  assert.equal(new Set(hashes).size, 4);
});

test("the text of what is wanted is there without a file", () =>
  withContext(plain, async ({ index }) => {
    assert.equal(index?.text("Dockerfile"), "FROM scratch\n");
    assert.equal(index?.text("src/a.js"), null);
    assert.equal(index?.has(".dockerignore"), false);
  }));

test("what is not in it, or behind a link, is left to the files", () =>
  withContext([...plain, link("way", "src")], async ({ index }) => {
    for (const pattern of ["nothing", "way", "way/a.js", "../src", "*.nothing"])
      assert.equal(
        index?.hash([pattern], () => false) ?? null,
        pattern === "../src" ? index?.hash(["src"], () => false) : null,
      );
    assert.equal(
      index?.hash(["src"], (path) => path === "src"),
      null,
    );
  }));

const unclear: readonly (readonly [string, readonly Entry[]])[] = [
  [
    "the same name twice",
    [
      ["a", "1"],
      ["a", "2"],
    ],
  ],
  ["a file in a folder that is not named", [["a/b", "1"]]],
  ["a file below a link", [folder("b"), link("a", "b"), ["a/c", "1"]]],
  ["a pipe", [["a", "", { type: "fifo" }]]],
];
for (const [name, entries] of unclear)
  test(`${name}: it takes the files to know`, () =>
    withContext(entries, async ({ index }) => assert.equal(index, null)));
