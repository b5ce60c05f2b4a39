import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import grpc from "@grpc/grpc-js";
import type { FromAgent, LogLine, PublishLogsMessage, ToAgent } from "../../../proto/gen/types.ts";
import { SwarmError } from "../../../proto/kit/errors.ts";
import { Queue } from "../../../proto/kit/queue.ts";
import { Client } from "../../../proto/rpc-client.ts";
import { type Caller, type Handlers, serve } from "../../../proto/rpc-server.ts";

const beat: ToAgent = {
  Version: "",
  Complete: false,
  Set: [],
  Remove: [],
  Logs: [],
  CloseLogs: [],
  Tunnels: [],
  Beat: true,
  Packed: [],
};
const nothing: FromAgent = { Tasks: [] };

/** A Dispatch service on a unix socket, and a client of it. */
const everyone = () => undefined;

async function connected(
  handlers: Partial<Handlers<"Dispatch">>,
  run: (client: Client<"Dispatch">) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "tsswarm-test-"));
  const server = new grpc.Server();
  serve(
    server,
    "Dispatch",
    {
      Session: async function* () {},
      PublishLogs: async () => ({}),
      Tunnel: async function* () {},
      Attach: async () => Promise.reject(new Error("nobody attaches here")),
      Detach: async () => ({}),
      ...handlers,
    },
    everyone,
  );
  const target = `unix:${join(folder, "rpc.sock")}`;
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(target, grpc.ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    ),
  );
  const client = new Client("Dispatch", target, grpc.credentials.createInsecure());
  try {
    await run(client);
  } finally {
    client.close();
    server.forceShutdown();
    await rm(folder, { recursive: true, force: true });
  }
}

async function* endless(): AsyncGenerator<FromAgent, void, void> {
  for (;;) {
    yield nothing;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test("messages go both ways, and both sides see the other's end", async () => {
  const seen: number[] = [];
  await connected(
    {
      Session: async function* (requests) {
        for await (const request of requests) {
          seen.push(request.Tasks.length);
          yield { ...beat, Version: String(seen.length) };
        }
        yield { ...beat, Version: "last" };
      },
    },
    async (client) => {
      const requests = (async function* () {
        yield nothing;
        yield { Tasks: [{ ID: "t" }] };
      })();
      const versions: string[] = [];
      for await (const answer of client.duplex("Session", requests)) versions.push(answer.Version);
      assert.deepEqual(versions, ["1", "2", "last"]);
      assert.deepEqual(seen, [0, 1]);
    },
  );
});

test("a server whose answers end although requests were read to their end still sends its status", async () => {
  await connected(
    {
      Session: async function* (requests) {
        const out = new Queue<ToAgent>(10);
        out.push(beat);
        void (async () => {
          for await (const _ of requests);
          out.end();
        })();
        yield* out;
      },
    },
    async (client) => {
      const requests = new Queue<FromAgent>(10);
      let answers = 0;
      for await (const _ of client.duplex("Session", requests)) {
        answers += 1;
        requests.end();
      }
      assert.equal(answers, 1);
    },
  );
});

for (const code of ["not_found", "exhausted", "no_leader", "denied", "unknown_outcome"] as const)
  test(`an error of a handler keeps its code and sentence: ${code}`, async () => {
    await connected(
      {
        Session: async function* () {
          yield beat;
          throw new SwarmError(code, "the sentence: ünïcode");
        },
        PublishLogs: async () => {
          throw new SwarmError(code, "the other sentence");
        },
      },
      async (client) => {
        const reading = (async () => {
          for await (const _ of client.duplex("Session", endless()));
        })();
        await assert.rejects(reading, { code, message: "the sentence: ünïcode" });
        const none = (async function* (): AsyncGenerator<PublishLogsMessage, void, void> {})();
        await assert.rejects(client.upload("PublishLogs", none), {
          code,
          message: "the other sentence",
        });
      },
    );
  });

test("a caller that goes away aborts the handler's signal", async () => {
  let caller: Caller | null = null;
  let hasEnded = false;
  await connected(
    {
      Session: async function* (_requests, who) {
        caller = who;
        try {
          yield* new Queue<ToAgent>(1, who.signal);
        } finally {
          hasEnded = true;
        }
      },
    },
    async (client) => {
      const stop = new AbortController();
      const reading = (async () => {
        for await (const _ of client.duplex("Session", endless(), { signal: stop.signal }));
      })();
      while (caller === null) await new Promise((resolve) => setImmediate(resolve));
      stop.abort();
      await assert.rejects(reading, { code: "cancelled" });
      while (!hasEnded) await new Promise((resolve) => setImmediate(resolve));
    },
  );
});

test("a reader that stops reading cancels the call", async () => {
  let isAborted = false;
  await connected(
    {
      Session: async function* (_requests, who) {
        who.signal.addEventListener("abort", () => {
          isAborted = true;
        });
        for (let n = 0; n < 1_000_000 && !who.signal.aborted; n++) yield beat;
      },
    },
    async (client) => {
      for await (const _ of client.duplex("Session", endless())) break;
      while (!isAborted) await new Promise((resolve) => setImmediate(resolve));
    },
  );
});

test("a fast sender waits for a slow reader instead of filling memory", async () => {
  const line: LogLine = {
    TaskID: "t",
    NodeID: "n",
    ServiceID: "s",
    Time: "",
    Stream: "stdout",
    Data: Buffer.alloc(64 * 1024),
  };
  let sent = 0;
  let read = 0;
  let release: () => void = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const total = 400;
  await connected(
    {
      PublishLogs: async (messages) => {
        for await (const _ of messages) {
          await gate;
          read += 1;
        }
        return {};
      },
    },
    async (client) => {
      const messages = (async function* () {
        for (; sent < total; sent++)
          yield { SubscriptionID: "1", Lines: [line], Close: false, Err: "" };
      })();
      const uploading = client.upload("PublishLogs", messages);
      let before = -1;
      // Until the sender stands still.
      while (before !== sent || sent === 0) {
        before = sent;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      assert.ok(sent < total / 2, `${sent} of ${total} were sent to a reader that does not read`);
      release();
      await uploading;
      assert.equal(read, total);
    },
  );
});

test("nobody there is unavailable, and a call that takes too long has an unknown outcome", async () => {
  const gone = new Client("Local", "unix:/nonexistent.sock", grpc.credentials.createInsecure());
  await assert.rejects(gone.unary("Status", {}), { code: "unavailable" });
  gone.close();
  await connected({ PublishLogs: () => new Promise(() => {}) }, async (client) => {
    const none = (async function* (): AsyncGenerator<PublishLogsMessage, void, void> {})();
    await assert.rejects(client.upload("PublishLogs", none, { timeoutMs: 50 }), {
      code: "unknown_outcome",
    });
  });
});

test("a caller's IPv6 address has brackets, so that its port can be told from it", async (context) => {
  const server = new grpc.Server();
  let address = "";
  serve(
    server,
    "Join",
    {
      GetRootCA: async (_request, caller) => {
        address = caller.address;
        return { Certificate: "" };
      },
      IssueCertificate: () => Promise.reject(new Error("not asked here")),
      RenewCertificate: () => Promise.reject(new Error("not asked here")),
    },
    everyone,
  );
  const port = await new Promise<number | null>((resolve) =>
    server.bindAsync("[::1]:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      resolve(error === null ? bound : null),
    ),
  );
  if (port === null) return context.skip("no IPv6 here");
  const client = new Client("Join", `[::1]:${port}`, grpc.credentials.createInsecure());
  await client.unary("GetRootCA", {});
  client.close();
  server.forceShutdown();
  assert.match(address, /^\[::1\]:\d+$/);
});

test("errors of a client that was told whom it asks name that one", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tsswarm-test-"));
  const target = `unix:${join(folder, "rpc.sock")}`;
  const ask = (timeoutMs: number) => {
    const client = new Client("Join", target, grpc.credentials.createInsecure(), {}, "the other");
    return client.unary("GetRootCA", {}, { timeoutMs }).finally(() => client.close());
  };
  const message = /^the other does not answer; .* try again$/;
  await assert.rejects(ask(5_000), { code: "unavailable", message });
  let asked = () => {};
  const server = new grpc.Server();
  serve(
    server,
    "Join",
    {
      GetRootCA: () => {
        asked();
        return new Promise(() => {});
      },
      IssueCertificate: () => Promise.reject(new Error("not asked here")),
      RenewCertificate: () => Promise.reject(new Error("not asked here")),
    },
    everyone,
  );
  await new Promise<void>((resolve) =>
    server.bindAsync(target, grpc.ServerCredentials.createInsecure(), () => resolve()),
  );
  await assert.rejects(ask(50), {
    code: "unknown_outcome",
    message: /^the other took too long, and may have done what was asked/,
  });
  const isAsked = new Promise<void>((resolve) => {
    asked = resolve;
  });
  const cut = assert.rejects(ask(5_000), {
    code: "unavailable",
    message: /^the other went away, and may have done what was asked/,
  });
  await isAsked;
  server.forceShutdown();
  await cut;
  await rm(folder, { recursive: true, force: true });
});
