import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";
import { writeBlob } from "../../../../agent/runtime/blobs.ts";
import { Calls } from "../../../../agent/runtime/calls.ts";
import { schema } from "../../../../proto/gen/containerd-schema.ts";
import { definitionOf } from "../../../../proto/rpc.ts";

const root = protobuf.Root.fromJSON(schema as unknown as protobuf.INamespace);
const definition = definitionOf(root.lookupService("containerd.services.content.v1.Content"));
const signal = new AbortController().signal;
const digestOf = (bytes: Uint8Array) =>
  `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

interface WriteRequest {
  readonly action: "STAT" | "WRITE" | "COMMIT";
  readonly ref: string;
  readonly total: number;
  readonly expected: string;
  readonly offset: number;
  readonly data: Uint8Array;
  readonly labels: Record<string, string>;
}

/** What containerd's content store does with what it is sent. */
class Store {
  readonly committed = new Map<string, Buffer>();
  readonly partial = new Map<string, Buffer>();
  readonly headers: ReturnType<grpc.Metadata["getMap"]>[] = [];
  readonly actions: string[] = [];
  /** Breaks the call off after so many messages. */
  messagesMax = Number.POSITIVE_INFINITY;

  write(call: grpc.ServerDuplexStream<WriteRequest, object>): void {
    let ref = "";
    this.headers.push(call.metadata.getMap());
    const fail = (code: grpc.status, details: string) =>
      call.emit("error", Object.assign(new Error(details), { code, details }));
    call.on("data", (message: WriteRequest) => {
      this.actions.push(message.action);
      if (this.actions.length > this.messagesMax) {
        fail(grpc.status.UNAVAILABLE, "going away");
        return;
      }
      ref ||= message.ref;
      if (this.committed.has(message.expected)) {
        fail(grpc.status.ALREADY_EXISTS, "exists – already");
        return;
      }
      let bytes = this.partial.get(ref) ?? Buffer.alloc(0);
      if (message.action !== "STAT") {
        assert.ok(message.offset === 0 || message.offset === bytes.length);
        bytes = Buffer.concat([bytes.subarray(0, message.offset), message.data]);
      }
      this.partial.set(ref, bytes);
      if (message.action === "COMMIT") {
        if (digestOf(bytes) !== message.expected || bytes.length !== message.total) {
          fail(grpc.status.FAILED_PRECONDITION, "unexpected commit digest");
          return;
        }
        this.committed.set(message.expected, bytes);
      }
      call.write({ action: message.action, offset: bytes.length });
    });
    call.on("end", () => call.end());
  }

  abort(call: { request: { ref: string } }, done: grpc.sendUnaryData<object>): void {
    this.partial.delete(call.request.ref);
    done(null, {});
  }
}

async function withStore(run: (store: Store, calls: Calls) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "blobs-"));
  const address = join(folder, "socket");
  const store = new Store();
  const server = new grpc.Server();
  const { Write, Abort } = definition as Record<string, grpc.MethodDefinition<unknown, unknown>>;
  assert.ok(Write !== undefined && Abort !== undefined);
  server.addService(
    { Write, Abort },
    {
      Write: (call: grpc.ServerDuplexStream<WriteRequest, object>) => store.write(call),
      Abort: (call: { request: { ref: string } }, done: grpc.sendUnaryData<object>) =>
        store.abort(call, done),
    },
  );
  await new Promise((resolve, reject) =>
    server.bindAsync(`unix:${address}`, grpc.ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve(null) : reject(error),
    ),
  );
  const calls = Calls.open(address, "here").with("containerd-lease", "mine");
  try {
    await run(store, calls);
  } finally {
    calls.close();
    server.forceShutdown();
    await rm(folder, { recursive: true });
  }
}

const blobOf = (bytes: Uint8Array) => ({ digest: digestOf(bytes), size: bytes.length, labels: {} });

/** One piece of memory, filled again for each part. */
function reusing(content: Uint8Array, partBytes: number) {
  const offsets: number[] = [];
  const buffer = new Uint8Array(partBytes);
  const source = async function* (offset: number) {
    offsets.push(offset);
    for (let at = offset; at < content.length; at += partBytes) {
      const part = content.subarray(at, at + partBytes);
      buffer.set(part);
      yield buffer.subarray(0, part.length);
      buffer.fill(0);
    }
  };
  return { source, offsets };
}

test("a blob goes into the store from memory that its source uses over and over", () =>
  withStore(async (store, calls) => {
    const content = randomBytes(5_000_000);
    const { source } = reusing(content, 300_000);
    await writeBlob(calls, blobOf(content), source, signal);
    assert.deepEqual(store.committed.get(digestOf(content)), content);
    const [headers] = store.headers;
    assert.equal(headers?.["containerd-namespace"], "here");
    assert.equal(headers?.["containerd-lease"], "mine");
  }));

test("what is in memory anyway goes in one message", () =>
  withStore(async (store, calls) => {
    const content = randomBytes(1_000);
    await writeBlob(calls, blobOf(content), content, signal);
    assert.deepEqual(store.committed.get(digestOf(content)), content);
    assert.deepEqual(store.actions, ["COMMIT"]);
  }));

test("what is there already is not asked for", () =>
  withStore(async (store, calls) => {
    const content = randomBytes(1_000);
    store.committed.set(digestOf(content), content);
    const { source, offsets } = reusing(content, 100);
    await writeBlob(calls, blobOf(content), source, signal);
    await writeBlob(calls, blobOf(content), content, signal);
    assert.deepEqual(offsets, []);
  }));

test("a write that was broken off goes on where it was", () =>
  withStore(async (store, calls) => {
    const content = randomBytes(2_000_000);
    const { source, offsets } = reusing(content, 500_000);
    store.messagesMax = 3;
    await assert.rejects(writeBlob(calls, blobOf(content), source, signal), {
      code: "unavailable",
      message: "going away",
    });
    store.messagesMax = Number.POSITIVE_INFINITY;
    await writeBlob(calls, blobOf(content), source, signal);
    assert.deepEqual(offsets, [0, 1_000_000]);
    assert.deepEqual(store.committed.get(digestOf(content)), content);
  }));

for (const [name, sent] of [
  ["other bytes", randomBytes(1_000)],
  ["more bytes", randomBytes(1_001)],
] as const)
  test(`${name} than the digest says are refused, and thrown away`, () =>
    withStore(async (store, calls) => {
      const { source } = reusing(sent, 400);
      const blob = blobOf(randomBytes(1_000));
      await assert.rejects(writeBlob(calls, blob, source, signal), { code: "invalid" });
      assert.equal(store.partial.size, 0);
      await assert.rejects(writeBlob(calls, blob, sent, signal), { code: "invalid" });
      assert.equal(store.committed.size, 0);
    }));

test("a source that ends early is asked again another time", () =>
  withStore(async (_, calls) => {
    const content = randomBytes(1_000);
    const { source } = reusing(content.subarray(0, 600), 400);
    await assert.rejects(writeBlob(calls, blobOf(content), source, signal), {
      code: "unavailable",
    });
  }));

test("an aborted write ends with the reason", () =>
  withStore(async (_, calls) => {
    const content = randomBytes(1_000);
    const stop = new AbortController();
    const source = async function* (offset: number) {
      yield content.subarray(offset, 500);
      stop.abort(new Error("enough"));
      yield content.subarray(500);
    };
    await assert.rejects(writeBlob(calls, blobOf(content), source, stop.signal), /enough/);
  }));

test("a store that is just being started is waited for", async () => {
  const folder = await mkdtemp(join(tmpdir(), "blobs-"));
  const calls = Calls.open(join(folder, "nobody"), "here");
  const stop = new AbortController();
  try {
    const written = writeBlob(calls, blobOf(Buffer.from("a")), Buffer.from("a"), stop.signal);
    const early = await Promise.race([
      written.catch(() => "ended"),
      new Promise((resolve) => setImmediate(resolve, "waits")),
    ]);
    assert.equal(early, "waits");
    stop.abort(new Error("enough"));
    await assert.rejects(written, /enough/);
  } finally {
    calls.close();
    await rm(folder, { recursive: true });
  }
});
