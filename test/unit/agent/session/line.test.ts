import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";
import { Line } from "../../../../agent/session/line.ts";
import { accepts, firstToAccept } from "../../../../agent/session/way.ts";
import type { Hello, ToAgent } from "../../../../proto/gen/types.ts";
import { realWorld, type World } from "../../../../proto/kit/world.ts";
import type { Client } from "../../../../proto/rpc-client.ts";

const word: ToAgent = {
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
const forever = new AbortController().signal;
/** The first word is looked for that often. */
const toldMs = 500;

/** Time that passes as fast as it is waited for. */
class FastWorld implements World {
  #now = 0;
  now = () => this.#now;
  monotonic = () => this.#now;
  random = () => 0.5;
  #sleepers: { readonly at: number; readonly wake: () => void }[] = [];

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const stop = () => reject(signal.reason);
      signal.addEventListener("abort", stop, { once: true });
      const wake = () => {
        signal.removeEventListener("abort", stop);
        resolve();
      };
      this.#sleepers.push({ at: this.#now + ms, wake });
      setImmediate(() => this.#pass());
    });
  }

  #pass(): void {
    this.#sleepers.sort((a, b) => a.at - b.at);
    const next = this.#sleepers.shift();
    if (next === undefined) return;
    this.#now = Math.max(this.#now, next.at);
    next.wake();
  }
}

/** A line to a manager that says one word and then nothing. When it broke, and why. */
async function runSilent(
  knocks: readonly boolean[],
  spreadMs = 0,
): Promise<{ readonly at: number; readonly why: string; readonly knocked: number }> {
  const world = new FastWorld();
  let knocked = 0;
  const duplex = async function* (_: string, __: unknown, { signal }: { signal: AbortSignal }) {
    yield word;
    await new Promise((_, reject) => signal.addEventListener("abort", reject, { once: true }));
  };
  const line = new Line({
    client: { duplex } as unknown as Client<"Dispatch">,
    hello: {} as Hello,
    firstAnswerMs: 800,
    unreachablePeers: () => [],
    knock: async () => knocks[Math.min(knocked++, knocks.length - 1)] ?? false,
    spreadMs: () => spreadMs,
    receive: async () => {},
    world,
  });
  const why = await line.run(forever).then(
    () => "",
    (error: unknown) => String(error),
  );
  return { at: world.monotonic(), why, knocked };
}

test("a silent manager whose host accepts connections is given its whole time", async () => {
  const { at, why, knocked } = await runSilent([true]);
  assert.match(why, /did not answer for 2500 ms/);
  assert.equal(at, toldMs + 2500);
  assert.ok(knocked >= 1);
});

test("a manager that cannot be reached is given up after the same time", async () => {
  const { at, why } = await runSilent([false]);
  assert.match(why, /did not answer for 2500 ms/);
  assert.equal(at, toldMs + 2500);
});

test("once the way is open again after a cut, the line is given up at once", async () => {
  const { at, why } = await runSilent([false, false, true]);
  assert.match(why, /the way to the manager was cut for a while/);
  assert.ok(at >= toldMs + 1500 && at < toldMs + 2500, `after ${at} ms`);
});

test("many nodes do not give up their lines at one moment", async () => {
  const [few, many] = [await runSilent([false, true]), await runSilent([false, true], 400)];
  assert.equal(many.at - few.at, 200);
});

test("of several managers the first to accept a connection is taken", async () => {
  const server = createServer((socket) => socket.destroy());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const bound = server.address();
  const address = `127.0.0.1:${typeof bound === "object" ? bound?.port : 0}`;
  // Port 1 of this machine refuses.
  const refusing = "127.0.0.1:1";
  assert.equal(await accepts(refusing, 5_000, forever), false);
  assert.equal(await firstToAccept([refusing, address], 30_000, realWorld, forever), address);
  server.close();
  assert.equal(await firstToAccept([refusing], 100, realWorld, forever), null);
  const gone = AbortSignal.abort();
  assert.equal(await firstToAccept([refusing], 30_000, realWorld, gone), null);
});
