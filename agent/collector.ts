// Images that were pulled for tasks: remembered, and collected when nothing uses them any more.

import { statfs } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { DaemonConfig } from "../proto/config.ts";
import { readOrNull, writePrivately } from "../proto/identity.ts";
import { messageOf } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import {
  type CollectLimits,
  collect,
  type Disk,
  type KnownImage,
  percentOf,
  type TaskImage,
  unused,
} from "./collect.ts";
import type { Engine } from "./engine/types.ts";

const lookEveryMs = 5 * 60_000;
const firstLookMs = 60_000;
const imagesMax = 10_000;
const fileName = "task-images.json";
const file = z.record(z.string(), z.object({ usedAt: z.number(), tags: z.array(z.string()) }));

export type CollectedEngine = Pick<
  Engine,
  "images" | "inspectImage" | "pull" | "removeImage" | "list" | "tell"
>;

/** What `system df` shows of it. */
export interface CollectState {
  /** Images of tasks that nothing uses now, and their bytes. */
  readonly images: number;
  readonly bytes: number;
  readonly diskPercent: number;
  readonly limits: CollectLimits;
}

export interface CollectorOptions {
  readonly engine: CollectedEngine;
  readonly config: Pick<DaemonConfig, "data-root" | "image-collection">;
  readonly world: Pick<World, "now" | "sleep">;
  readonly log: Log;
  /** For tests: of the file system that holds the images. */
  readonly disk?: () => Promise<Disk>;
}

export class ImageCollector {
  readonly #options: CollectorOptions;
  readonly #path: string;
  readonly #limits: CollectLimits;
  readonly #ofTasks = new Map<string, TaskImage>();

  static async open(options: CollectorOptions): Promise<ImageCollector> {
    const collector = new ImageCollector(options);
    await collector.#load();
    return collector;
  }

  private constructor(options: CollectorOptions) {
    this.#options = options;
    this.#path = join(options.config["data-root"], "agent", fileName);
    this.#limits = limitsOf(options.config["image-collection"]);
  }

  /** As the engine's, for a task: what was not here before may be collected later. */
  readonly pull: Engine["pull"] = async (reference, auth, report, signal, ...more) => {
    const { engine } = this.#options;
    const wasHere = await engine.inspectImage(reference).then(
      () => true,
      () => false,
    );
    const pulled = await engine.pull(reference, auth, report, signal, ...more);
    if (!wasHere) await this.#note(reference);
    return pulled;
  };

  /** Looks every five minutes until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { world, log } = this.#options;
    for (let waitMs = firstLookMs; ; waitMs = lookEveryMs) {
      await world.sleep(waitMs, signal).catch(() => {});
      if (signal.aborted) return;
      await this.look().catch((error: unknown) =>
        log.warn({ error: messageOf(error) }, "images could not be collected"),
      );
    }
  }

  async state(): Promise<CollectState> {
    const free = unused(await this.#images(), this.#ofTasks);
    return {
      images: free.length,
      bytes: free.reduce((sum, { bytes }) => sum + bytes, 0),
      diskPercent: percentOf(await this.#disk()),
      limits: this.#limits,
    };
  }

  /** Once: notes what is used, and removes what may go. */
  async look(): Promise<void> {
    const { world, log, engine, config } = this.#options;
    const images = await this.#images();
    await this.#refresh(images);
    if (!config["image-collection"].enabled) return;
    const disk = await this.#disk();
    const going = collect(images, this.#ofTasks, disk, this.#limits, world.now());
    for (const { id, bytes, why } of going) {
      try {
        const tags = images.find((image) => image.id === id)?.tags ?? [];
        for (const name of tags.length > 0 ? tags : [id]) await engine.removeImage(name, false);
        this.#ofTasks.delete(id);
        log.info({ image: id, bytes, why }, "an image no task uses any more was collected");
        engine.tell({ kind: "image", action: "collect", id, attributes: { name: id, why } });
      } catch (error) {
        log.warn({ image: id, error: messageOf(error) }, "an unused image cannot be removed");
      }
    }
    if (going.length > 0) await this.#save();
  }

  async #images(): Promise<readonly KnownImage[]> {
    const { engine } = this.#options;
    const used = new Set(engine.list().map(({ imageId }) => imageId));
    return (await engine.images()).map(({ id, size, repoTags }) => ({
      ...{ id, bytes: size, tags: repoTags, isUsed: used.has(id) },
    }));
  }

  async #disk(): Promise<Disk> {
    if (this.#options.disk !== undefined) return this.#options.disk();
    const found = await statfs(this.#options.config["data-root"]);
    // What is kept back for root counts as used, as df has it.
    const used = (found.blocks - found.bfree) * found.bsize;
    const freeBytes = found.bavail * found.bsize;
    return { bytes: used + freeBytes, freeBytes };
  }

  async #note(reference: string): Promise<void> {
    const { engine, world } = this.#options;
    const { Id, RepoTags } = await engine.inspectImage(reference);
    if (typeof Id !== "string" || this.#ofTasks.size >= imagesMax) return;
    const tags = Array.isArray(RepoTags) ? RepoTags.map(String) : [];
    this.#ofTasks.set(Id, { usedAt: world.now(), tags });
    await this.#save();
  }

  async #refresh(images: readonly KnownImage[]): Promise<void> {
    const here = new Map(images.map((image) => [image.id, image]));
    const now = this.#options.world.now();
    for (const [id, known] of this.#ofTasks) {
      const image = here.get(id);
      if (image === undefined) this.#ofTasks.delete(id);
      else if (image.isUsed) this.#ofTasks.set(id, { ...known, usedAt: now });
    }
    await this.#save();
  }

  async #load(): Promise<void> {
    const text = await readOrNull(this.#path);
    if (text === null) return;
    try {
      for (const [id, known] of Object.entries(file.parse(JSON.parse(text))))
        this.#ofTasks.set(id, known);
    } catch (error) {
      // Then they all count as somebody's own.
      this.#options.log.warn({ file: this.#path, error: messageOf(error) }, "unreadable");
    }
  }

  async #save(): Promise<void> {
    const sorted = [...this.#ofTasks].sort(([a], [b]) => (a < b ? -1 : 1));
    await writePrivately(this.#path, `${JSON.stringify(Object.fromEntries(sorted))}\n`);
  }
}

function limitsOf(config: DaemonConfig["image-collection"]): CollectLimits {
  return {
    ageMsMax: config["max-age-hours"] * 3_600_000,
    ageMsMin: config["min-age-minutes"] * 60_000,
    percentHigh: config["high-percent"],
    percentLow: config["low-percent"],
  };
}
