import assert from "node:assert/strict";
import { test } from "node:test";
import { StepCache } from "../../../../agent/build/cache.ts";
import type { BuildGround } from "../../../../agent/build/ground.ts";
import type { BuiltImage } from "../../../../agent/build/types.ts";
import type { Runtime } from "../../../../agent/runtime/types.ts";

const minuteMs = 60_000;
const usedAt = "2026-01-01T00:00:00Z";

/** One step that was done before, on a layer that is here as `snapshots` says. */
function cacheOf(snapshots: readonly string[], usedMsAgo: number) {
  const put: string[] = [];
  const record = { name: "tsswarm-build@key", target: {}, updatedAt: usedAt };
  const config = { digest: "config" };
  const runtime = {
    image: async (name: string) => (name === record.name ? record : null),
    putImage: async (name: string) => put.push(name),
    hasSnapshot: async (name: string) => snapshots.includes(name),
    readBlob: async () => Buffer.from("{}"),
  } as unknown as Runtime;
  const ground = {
    runtime,
    images: {
      read: async () => ({
        ...{ id: "id", chainId: "chain", record, manifest: { config, layers: [] } },
        config: { diffIds: [] },
      }),
    },
    now: () => Date.parse(usedAt) + usedMsAgo,
  } as unknown as BuildGround;
  return { cache: new StepCache(ground, runtime), put };
}

for (const [usedMsAgo, puts] of [
  [minuteMs, 0],
  [11 * minuteMs, 1],
] as const)
  test(`a step used ${usedMsAgo / minuteMs} minutes ago is noted as used anew ${puts} times`, async () => {
    const { cache, put } = cacheOf(["chain"], usedMsAgo);
    assert.equal((await cache.find("key"))?.id, "id");
    assert.equal(put.length, puts);
  });

test("a step whose files are gone was not done", async () => {
  const { cache } = cacheOf([], 0);
  assert.equal(await cache.find("key"), null);
  assert.equal(await cache.find("another"), null);
});

test("nothing is built on a step that was pruned meanwhile", async () => {
  const { cache } = cacheOf([], 0);
  await assert.rejects(cache.hold({ chainId: "chain" } as BuiltImage), { code: "conflict" });
  await cache.hold({ chainId: "" } as BuiltImage);
});
