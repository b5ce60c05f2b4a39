import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import grpc from "@grpc/grpc-js";
import { CarryingClient } from "../../../proto/carrier.ts";
import { serveCalls } from "../../../proto/carry.ts";
import { SwarmError } from "../../../proto/kit/errors.ts";
import { type Caller, type Handlers, serve } from "../../../proto/rpc-server.ts";
import { fateOf } from "../../../proto/rpc-status.ts";

type Ask = Handlers<"Join">["GetRootCA"];

interface Place {
  readonly client: CarryingClient<"Join">;
  readonly server: grpc.Server;
  /** Streams of calls that were opened. */
  streams(): number;
}

/** A Join service on a unix socket that may be called on one stream, and a client that does. */
async function connected(
  handle: Ask,
  run: (place: Place) => Promise<void>,
  doesCarry = true,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "tsswarm-test-"));
  let streams = 0;
  const server = new grpc.Server({
    interceptors: [
      (method, call) => {
        if (method.path.endsWith("/Carry")) streams += 1;
        return new grpc.ServerInterceptingCall(call);
      },
    ],
  });
  const handlers: Handlers<"Join"> = {
    GetRootCA: handle,
    IssueCertificate: () => Promise.reject(new Error("not asked here")),
    RenewCertificate: async () => ({ Certificate: "" }) as never,
  };
  serve(server, "Join", handlers, (_service, method) => {
    if (method === "RenewCertificate") throw new SwarmError("denied", "not by you");
    return undefined;
  });
  if (doesCarry) serveCalls(server, () => undefined);
  const target = `unix:${join(folder, "rpc.sock")}`;
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(target, grpc.ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    ),
  );
  const client = new CarryingClient("Join", target, grpc.credentials.createInsecure());
  try {
    await run({ client, server, streams: () => streams });
  } finally {
    client.close();
    server.forceShutdown();
    await rm(folder, { recursive: true, force: true });
  }
}

const named = (name: string) => ({ metadata: { name } });

test("calls that are made together share a stream, and each gets its own answer", async () => {
  const answer: Ask = async (_request, caller) => ({
    Certificate: `for ${caller.metadata["name"]} at ${caller.address !== ""}`,
  });
  await connected(answer, async ({ client, streams }) => {
    const names = Array.from({ length: 100 }, (_, i) => `caller ${i}`);
    const answers = await Promise.all(
      names.map((name) => client.unary("GetRootCA", {}, named(name))),
    );
    assert.deepEqual(
      answers.map(({ Certificate }) => Certificate),
      names.map((name) => `for ${name} at true`),
    );
    assert.equal(streams(), 1);
  });
});

test("an answer that is ready does not wait for one that is not", async () => {
  let release = () => {};
  const slow = new Promise<void>((resolve) => {
    release = resolve;
  });
  const answer: Ask = async (_request, caller) => {
    if (caller.metadata["name"] === "slow") await slow;
    return { Certificate: "done" };
  };
  await connected(answer, async ({ client }) => {
    const first = client.unary("GetRootCA", {}, named("slow"));
    await client.unary("GetRootCA", {}, named("quick"));
    release();
    assert.equal((await first).Certificate, "done");
  });
});

test("an error keeps its code and sentence, and counts as answered", async () => {
  const answer: Ask = async () => {
    throw new SwarmError("not_found", "the sentence: ünïcode");
  };
  await connected(answer, async ({ client }) => {
    const error = await client.unary("GetRootCA", {}).catch((caught: unknown) => caught);
    assert.ok(error instanceof SwarmError);
    assert.equal(error.code, "not_found");
    assert.equal(error.message, "the sentence: ünïcode");
    assert.equal(fateOf(error), "answered");
  });
});

test("each call is let in by its own service", async () => {
  const answer: Ask = async () => ({ Certificate: "let in" });
  await connected(answer, async ({ client }) => {
    const refused = client.unary("RenewCertificate", { CSR: "" } as never);
    const other = client.unary("GetRootCA", {});
    await assert.rejects(refused, { code: "denied", message: "not by you" });
    assert.equal((await other).Certificate, "let in");
  });
});

test("a caller that gives up is told so at once, and the handler hears it", async () => {
  const asked: Caller[] = [];
  let gone = () => {};
  const isGone = new Promise<void>((resolve) => {
    gone = resolve;
  });
  const answer: Ask = (_request, caller) => {
    asked.push(caller);
    caller.signal.addEventListener("abort", gone, { once: true });
    return new Promise(() => {});
  };
  await connected(answer, async ({ client }) => {
    const giveUp = new AbortController();
    const { signal } = giveUp;
    const call = client.unary("GetRootCA", {}, { signal }).catch((caught: unknown) => caught);
    while (asked.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    giveUp.abort();
    const error = await call;
    assert.ok(error instanceof SwarmError);
    assert.equal(error.code, "cancelled");
    assert.equal(fateOf(error), "unknown");
    await isGone;
  });
});

test("a call that takes too long has an unknown outcome", async () => {
  await connected(
    () => new Promise(() => {}),
    async ({ client }) => {
      await assert.rejects(client.unary("GetRootCA", {}, { timeoutMs: 20 }), {
        code: "unknown_outcome",
      });
    },
  );
});

test("what a handler says behind its answer comes along", async () => {
  const answer: Ask = async (_request, caller) => {
    caller.trailer?.set("said", "behind");
    return { Certificate: "" };
  };
  await connected(answer, async ({ client }) => {
    const heard: unknown[] = [];
    await client.unary("GetRootCA", {}, { heard: (trailer) => heard.push(trailer["said"]) });
    assert.deepEqual(heard, ["behind"]);
  });
});

test("when the stream breaks the outcome of what it carried is unknown, and nobody there means nothing was sent", async () => {
  let isAsked = () => {};
  const asked = new Promise<void>((resolve) => {
    isAsked = resolve;
  });
  const answer: Ask = () => {
    isAsked();
    return new Promise(() => {});
  };
  await connected(answer, async ({ client, server }) => {
    const call = client.unary("GetRootCA", {}).catch((caught: unknown) => caught);
    await asked;
    server.forceShutdown();
    const error = await call;
    assert.ok(error instanceof SwarmError);
    assert.equal(fateOf(error), "unknown");
    const again = await client.unary("GetRootCA", {}).catch((caught: unknown) => caught);
    assert.ok(again instanceof SwarmError);
    assert.equal(again.code, "unavailable");
    assert.equal(fateOf(again), "unsent");
  });
});

test("a server of an older version is asked call by call", async () => {
  const answer: Ask = async () => ({ Certificate: "the old way" });
  const run = async ({ client }: Place) => {
    const answers = await Promise.all([0, 1].map(() => client.unary("GetRootCA", {})));
    assert.deepEqual(
      answers.map(({ Certificate }) => Certificate),
      ["the old way", "the old way"],
    );
    assert.equal((await client.unary("GetRootCA", {})).Certificate, "the old way");
  };
  await connected(answer, run, false);
});

test("a method that is not there is refused, the others are answered", async () => {
  const answer: Ask = async () => ({ Certificate: "there" });
  await connected(answer, async ({ client }) => {
    const stranger = client as unknown as CarryingClient<"Control">;
    await assert.rejects(stranger.unary("GetCluster", {}));
    assert.equal((await client.unary("GetRootCA", {})).Certificate, "there");
  });
});
