import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import { test } from "node:test";
import { chainIds, Images } from "../../../../agent/engine/images.ts";
import { ownPlatform } from "../../../../agent/engine/manifest.ts";
import { Puller } from "../../../../agent/engine/pull.ts";
import type {
  BlobSource,
  Descriptor,
  ImageRecord,
  Runtime,
} from "../../../../agent/runtime/types.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import type { World } from "../../../../proto/kit/world.ts";

const world: World = { now: () => 0, monotonic: () => 0, random: () => 0, sleep: async () => {} };
const signal = new AbortController().signal;
const digestOf = (text: string) => `sha256:${createHash("sha256").update(text).digest("hex")}`;

/** Blobs, snapshots and images in memory. */
class FakeRuntime {
  readonly snapshotter = "fake";
  readonly blobs = new Map<string, { text: string; labels: Record<string, string> }>();
  readonly snapshotsMade: string[] = [];
  readonly named = new Map<string, ImageRecord>();
  readonly #locked = new Set<string>();

  asRuntime(): Runtime {
    return this as unknown as Runtime;
  }
  underLease<T>(_: string, run: (leased: Runtime) => Promise<T>): Promise<T> {
    return run(this.asRuntime());
  }
  async blobSize(digest: string): Promise<number | null> {
    return this.blobs.get(digest)?.text.length ?? null;
  }
  async readBlob(digest: string): Promise<Buffer> {
    const blob = this.blobs.get(digest);
    if (blob === undefined) throw new SwarmError("not_found", digest);
    return Buffer.from(blob.text);
  }
  async writeBlob(
    blob: { digest: string; labels: Record<string, string> },
    source: BlobSource | Uint8Array,
    stop: AbortSignal,
  ): Promise<void> {
    if (this.blobs.has(blob.digest)) return;
    // As containerd does.
    if (this.#locked.has(blob.digest))
      throw new SwarmError("unavailable", `ref ${blob.digest} locked`);
    this.#locked.add(blob.digest);
    try {
      await new Promise((resolve) => setImmediate(resolve));
      let text = "";
      const parts = source instanceof Uint8Array ? [source] : source(0, stop);
      for await (const chunk of parts) text += Buffer.from(chunk).toString();
      if (digestOf(text) !== blob.digest) throw new SwarmError("invalid", "wrong digest");
      this.blobs.set(blob.digest, { text, labels: { ...blob.labels } });
    } finally {
      this.#locked.delete(blob.digest);
    }
  }
  async labelBlob(digest: string, labels: Record<string, string>): Promise<void> {
    Object.assign(this.blobs.get(digest)?.labels ?? {}, labels);
  }
  async blobLabels(digest: string): Promise<Record<string, string> | null> {
    return this.blobs.get(digest)?.labels ?? null;
  }
  async image(name: string): Promise<ImageRecord | null> {
    return this.named.get(name) ?? null;
  }
  async deleteImage(name: string): Promise<void> {
    if (!this.named.delete(name)) throw new SwarmError("not_found", name);
  }
  async hasSnapshot(name: string): Promise<boolean> {
    return this.snapshotsMade.includes(name);
  }
  async applyLayer(layer: { parent: string; name: string }): Promise<void> {
    assert.ok(layer.parent === "" || this.snapshotsMade.includes(layer.parent), "parents first");
    this.snapshotsMade.push(layer.name);
  }
  async images(): Promise<readonly ImageRecord[]> {
    return [...this.named.values()];
  }
  async putImage(name: string, target: Descriptor): Promise<void> {
    this.named.set(name, { name, target, labels: {}, updatedAt: "" });
  }
}

interface Registry {
  readonly address: string;
  readonly chain: readonly string[];
  readonly requests: Map<string, number>;
  /** Blob requests not answered yet, when `hold` is set. */
  readonly held: { readonly digest: string; readonly answer: () => void }[];
  hold: boolean;
  onHeld: () => void;
}

async function withRegistry(
  layerCount: number,
  run: (registry: Registry) => Promise<void>,
): Promise<void> {
  const { architecture } = ownPlatform(process.arch);
  const texts = Array.from({ length: layerCount }, (_, i) => `layer ${i}`);
  const diffIds = texts.map((text) => digestOf(`unpacked ${text}`));
  const config = JSON.stringify({ architecture, os: "linux", rootfs: { diff_ids: diffIds } });
  const describe = (text: string) => ({
    mediaType: "x",
    digest: digestOf(text),
    size: text.length,
  });
  const manifest = JSON.stringify({
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: describe(config),
    layers: texts.map(describe),
  });
  const contents = new Map([config, ...texts].map((text) => [digestOf(text), text]));
  const registry: { -readonly [K in keyof Registry]: Registry[K] } = {
    address: "",
    chain: chainIds(diffIds),
    requests: new Map(),
    held: [],
    hold: false,
    onHeld: () => {},
  };
  const server = createServer((request, response: ServerResponse) => {
    const url = request.url ?? "";
    registry.requests.set(url, (registry.requests.get(url) ?? 0) + 1);
    const digest = url.split("/").at(-1) ?? "";
    const body = url.includes("/manifests/") ? manifest : contents.get(digest);
    const answer = () => {
      response.statusCode = body === undefined ? 404 : 200;
      response.end(body ?? "");
    };
    if (!registry.hold || url.includes("/manifests/") || body === config) {
      answer();
      return;
    }
    registry.held.push({ digest, answer });
    registry.onHeld();
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  registry.address = `127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
  try {
    await run(registry);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

function pullerFor(runtime: FakeRuntime, itsWorld = world): Puller {
  const images = new Images(runtime.asRuntime());
  return new Puller(runtime.asRuntime(), images, { insecure: [], mirrors: [], world: itsWorld });
}

test("layers are unpacked from the bottom up, and labels say what belongs together", () =>
  withRegistry(5, async (registry) => {
    const runtime = new FakeRuntime();
    const lines: string[] = [];
    const pulled = await pullerFor(runtime).pull(
      `${registry.address}/a:1`,
      null,
      (line) => lines.push(line.status),
      signal,
    );
    assert.deepEqual(runtime.snapshotsMade, registry.chain);
    assert.equal(lines.filter((line) => line === "Pull complete").length, 5);
    const top = runtime.blobs.get(pulled.digest)?.labels ?? {};
    assert.equal(Object.keys(top).filter((key) => key.includes("content.l.")).length, 5);
    assert.deepEqual(runtime.blobs.get(pulled.id)?.labels, {
      "containerd.io/gc.ref.snapshot.fake": registry.chain.at(-1),
    });
    assert.deepEqual([...runtime.named.keys()], [`${registry.address}/a:1`]);
  }));

test("no more than three layers are fetched at once", () =>
  withRegistry(8, async (registry) => {
    const runtime = new FakeRuntime();
    registry.hold = true;
    let most = 0;
    let answered = 0;
    registry.onHeld = () => {
      most = Math.max(most, registry.held.length);
      if (registry.held.length < Math.min(3, 8 - answered)) return;
      // A fourth, which must not come, has its chance before one of the three is answered.
      setImmediate(() => {
        for (const { answer } of registry.held.splice(0, 8 - answered <= 3 ? 3 : 1)) {
          answered++;
          answer();
        }
      });
    };
    await pullerFor(runtime).pull(`${registry.address}/a:1`, null, () => {}, signal);
    assert.equal(most, 3);
    assert.deepEqual(runtime.snapshotsMade, registry.chain);
  }));

test("two pulls of one image write each blob once, and fetch each layer once", () =>
  withRegistry(4, async (registry) => {
    const runtime = new FakeRuntime();
    const hasty: World = { ...world, sleep: () => Promise.reject(new Error("had to wait")) };
    const puller = pullerFor(runtime, hasty);
    const pull = (tag: string) =>
      puller.pull(`${registry.address}/a:${tag}`, null, () => {}, signal);
    await Promise.all([pull("1"), pull("2")]);
    const blobs = [...registry.requests].filter(([url]) => url.includes("/blobs/"));
    assert.ok(blobs.every(([, count]) => count === 1));
    assert.equal(runtime.named.size, 2);
    await pull("3");
    assert.equal(runtime.snapshotsMade.length, 4);
  }));

test("a layer that cannot be had ends the pull, names no image, and leaves the rest alone", () =>
  withRegistry(3, async (registry) => {
    const runtime = new FakeRuntime();
    registry.hold = true;
    registry.onHeld = () => {
      for (const { answer } of registry.held.splice(0)) answer();
    };
    const spoil = runtime.writeBlob.bind(runtime);
    let writes = 0;
    runtime.writeBlob = async (blob, source, stop) => {
      if (++writes === 4) throw new SwarmError("invalid", "the disk is full");
      return spoil(blob, source, stop);
    };
    const pulling = pullerFor(runtime).pull(`${registry.address}/a:1`, null, () => {}, signal);
    await assert.rejects(pulling, /the disk is full/);
    assert.equal(runtime.named.size, 0);
    assert.ok(runtime.snapshotsMade.length < 3);
  }));

test("an aborted pull stops", () =>
  withRegistry(2, async (registry) => {
    const runtime = new FakeRuntime();
    registry.hold = true;
    const stop = new AbortController();
    registry.onHeld = () => stop.abort(new SwarmError("cancelled", "the user went away"));
    const pulling = pullerFor(runtime).pull(`${registry.address}/a:1`, null, () => {}, stop.signal);
    await assert.rejects(pulling, /went away/);
    assert.equal(runtime.named.size, 0);
  }));

test("a runtime that is away for a moment does not fail the pull", () =>
  withRegistry(2, async (registry) => {
    const runtime = new FakeRuntime();
    const right = runtime.writeBlob.bind(runtime);
    let failures = 0;
    runtime.writeBlob = async (blob, source, stop) => {
      if (runtime.blobs.size >= 1 && failures++ < 3) throw new SwarmError("unavailable", "gone");
      return right(blob, source, stop);
    };
    await pullerFor(runtime).pull(`${registry.address}/a:1`, null, () => {}, signal);
    assert.equal(runtime.named.size, 1);
  }));
