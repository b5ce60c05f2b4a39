import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, test } from "node:test";
import { BuildKit } from "../../../../agent/buildkit/buildkit.ts";
import { KeptContexts } from "../../../../agent/buildkit/contexts.ts";

const home = mkdtempSync(join(tmpdir(), "contexts-"));
after(() => rmSync(home, { recursive: true }));
const never = new AbortController().signal;
const day = 24 * 60 * 60_000;
let directories = 0;

function kept() {
  const directory = join(home, `${++directories}`);
  const clock = { now: Date.now() };
  return { directory, clock, contexts: new KeptContexts(directory, () => clock.now) };
}

test("a context is there again for the next build, for one at a time", async () => {
  const { contexts } = kept();
  const first = await contexts.take("folder");
  assert.ok(first !== null);
  writeFileSync(join(first.folder, "x"), "");
  assert.equal(await contexts.take("folder"), null);
  await first.release();
  const second = await contexts.take("folder");
  assert.deepEqual(readdirSync(second?.folder ?? ""), ["x"]);
});

test("a client that does not say which folder it is has none kept", async () => {
  assert.equal(await kept().contexts.take(""), null);
});

test("those used last are kept, and none for more than a week", async () => {
  const { contexts, clock, directory } = kept();
  for (let at = 0; at < 20; at++) {
    clock.now += 60_000;
    await (await contexts.take(`folder ${at}`))?.release();
  }
  assert.equal(readdirSync(directory).length, 16);
  clock.now += 8 * day;
  await (await contexts.take("folder 0"))?.release();
  assert.equal(readdirSync(directory).length, 1);
});

test("pruning leaves what a build has", async () => {
  const { contexts, directory } = kept();
  await (await contexts.take("one"))?.release();
  const two = await contexts.take("two");
  await contexts.prune();
  assert.deepEqual(
    readdirSync(directory).map((name) => join(directory, name)),
    [two?.folder],
  );
});

function buildKit(): BuildKit {
  return new BuildKit(join(home, "none"), Date.now);
}

test("a tar and the build that needs it meet, whichever comes first", async () => {
  for (const isTarFirst of [true, false]) {
    const kit = buildKit();
    const bring = () => kit.bring("id", Readable.from(["the tar"]), never);
    const build = () =>
      kit.withUpload("id", never, async (body) => (await body.toArray()).join(""));
    const both = isTarFirst ? [bring(), build()] : [build(), bring()];
    const [first, second] = await Promise.all(both);
    assert.equal(isTarFirst ? second : first, "the tar");
  }
});

test("a tar that the build does not read to its end is let go with the build", async () => {
  const kit = buildKit();
  const brought = kit.bring("id", new Readable({ read() {} }), never);
  const built = kit.withUpload("id", never, async () => {
    throw new Error("the Dockerfile is wrong");
  });
  await assert.rejects(built, /the Dockerfile is wrong/);
  await brought;
});

test("a build is cancelled by its id, which is its own while it runs", async () => {
  const kit = buildKit();
  const untilCancelled = (signal: AbortSignal) =>
    new Promise<void>((_, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason), { once: true }),
    );
  const built = kit.running("id", untilCancelled);
  await assert.rejects(kit.running("id", untilCancelled), { code: "conflict" });
  kit.cancel("another");
  kit.cancel("id");
  await assert.rejects(built, { code: "cancelled" });
  assert.equal(await kit.running("id", async () => "again"), "again");
});
