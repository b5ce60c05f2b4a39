// Which images of tasks go, and what is left alone.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { collect, type KnownImage, type TaskImage } from "../../../agent/collect.ts";
import { ImageCollector } from "../../../agent/collector.ts";
import type { Engine } from "../../../agent/engine/types.ts";
import { parseDaemonConfig } from "../../../proto/config.ts";
import { SwarmError } from "../../../proto/kit/errors.ts";
import { silentLog } from "../../../proto/kit/log.ts";

const gigabyte = 1e9;
const hour = 3_600_000;
const limits = { ageMsMax: 168 * hour, ageMsMin: 120_000, percentHigh: 85, percentLow: 80 };
const now = 1_000 * hour;

function image(id: string, more: Partial<KnownImage> = {}): KnownImage {
  return { id, bytes: gigabyte, tags: [], isUsed: false, ...more };
}

/** Pulled for tasks, and not used for so many hours. */
function ofTasks(hours: Readonly<Record<string, number>>, tags: readonly string[] = []) {
  return new Map<string, TaskImage>(
    Object.entries(hours).map(([id, ago]) => [id, { usedAt: now - ago * hour, tags }]),
  );
}

const three = [image("a"), image("b"), image("c")];
const roomy = { bytes: 100 * gigabyte, freeBytes: 50 * gigabyte };

const rows = [
  {
    name: "with room on the disk only what is old goes",
    images: three,
    known: ofTasks({ a: 200, b: 100, c: 1 }),
    disk: roomy,
    gone: ["a age"],
  },
  {
    name: "at 84 % nothing goes that is not old",
    images: three,
    known: ofTasks({ a: 20, b: 10, c: 1 }),
    disk: { bytes: 100 * gigabyte, freeBytes: 16 * gigabyte },
    gone: [],
  },
  {
    name: "from 85 % on the longest unused go, until it is at 80 %",
    images: [...three, image("d"), image("e"), image("f"), image("g")],
    known: ofTasks({ a: 20, b: 10, c: 5, d: 4, e: 3, f: 2, g: 1 }),
    disk: { bytes: 100 * gigabyte, freeBytes: 15 * gigabyte },
    gone: ["a disk", "b disk", "c disk", "d disk", "e disk"],
  },
  {
    name: "what was used just now stays, however full the disk is",
    images: three,
    known: ofTasks({ a: 20, b: 0.02, c: 0.04 }),
    disk: { bytes: 100 * gigabyte, freeBytes: 0 },
    gone: ["a disk", "c disk"],
  },
  {
    name: "what a container is made of, what somebody pulled and what somebody tagged stays",
    images: [image("a", { isUsed: true }), image("b"), image("c", { tags: ["mine:1"] })],
    known: ofTasks({ a: 500, c: 500 }),
    disk: { bytes: 100 * gigabyte, freeBytes: 0 },
    gone: [],
  },
  {
    name: "a tag that a task pulled it by does not keep it",
    images: [image("a", { tags: ["web:1"] })],
    known: ofTasks({ a: 500 }, ["web:1"]),
    disk: roomy,
    gone: ["a age"],
  },
];
for (const { name, images, known, disk, gone } of rows)
  test(name, () => {
    const going = collect(images, known, disk, limits, now);
    assert.deepEqual(
      going.map(({ id, why }) => `${id} ${why}`),
      gone,
    );
  });

/** Images by name; each is its own id. */
class Shelf {
  readonly names = new Set<string>();
  readonly used = new Set<string>();
  readonly told: string[] = [];
  readonly list = () => [...this.used].map((imageId) => ({ imageId })) as never;
  readonly images: Engine["images"] = async () =>
    [...this.names].map((id) => ({
      ...{
        id,
        parent: "",
        repoTags: [id],
        repoDigests: [],
        created: "",
        size: gigabyte,
        layers: [],
        labels: {},
      },
    }));
  readonly inspectImage: Engine["inspectImage"] = async (name) => {
    if (!this.names.has(name)) throw new SwarmError("not_found", `No such image: ${name}`);
    return { Id: name, RepoTags: [name] };
  };
  readonly pull: Engine["pull"] = async (name) => void this.names.add(name) as never;
  readonly removeImage: Engine["removeImage"] = async (name) => {
    if (this.used.has(name)) throw new SwarmError("conflict", "in use");
    this.names.delete(name);
    return [{ Deleted: name }];
  };
  readonly tell: Engine["tell"] = ({ action, id, attributes }) =>
    void this.told.push(`${action} ${id} ${attributes["why"]}`);
}

test("a task's image goes a week after its last use, also when the agent was restarted meanwhile; events tell", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tsswarm-collector-"));
  const engine = new Shelf();
  let clock = now;
  const open = () =>
    ImageCollector.open({
      engine,
      config: parseDaemonConfig({ "data-root": folder }, "test"),
      world: { now: () => clock, sleep: async () => {} },
      log: silentLog,
      disk: async () => roomy,
    });
  try {
    const { signal } = new AbortController();
    const first = await open();
    engine.names.add("mine:1");
    for (const name of ["web:1", "web:2", "mine:1"]) await first.pull(name, null, () => {}, signal);
    engine.used.add("web:1");
    clock += 160 * hour;
    await first.look();
    assert.deepEqual(await first.state().then(({ images, bytes }) => [images, bytes]), [
      1,
      gigabyte,
    ]);
    engine.used.clear();
    clock += 100 * hour;
    const second = await open();
    await second.look();
    assert.deepEqual([...engine.names].sort(), ["mine:1", "web:1"]);
    clock += 100 * hour;
    await second.look();
    assert.deepEqual([...engine.names], ["mine:1"]);
    assert.deepEqual(engine.told, ["collect web:2 age", "collect web:1 age"]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
