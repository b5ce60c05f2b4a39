import assert from "node:assert/strict";
import { test } from "node:test";
import { Shared } from "../../../agent/shared.ts";

const forever = new AbortController().signal;
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Work that ends when it is told to, and counts how often it began and was aborted. */
class Work {
  begun = 0;
  aborted = 0;
  readonly #ends: ((error: Error | null) => void)[] = [];

  readonly run = (signal: AbortSignal): Promise<void> => {
    this.begun++;
    return new Promise<void>((resolve, reject) => {
      this.#ends.push((error) => (error === null ? resolve() : reject(error)));
      signal.addEventListener("abort", () => {
        this.aborted++;
        reject(signal.reason);
      });
    });
  };

  end(error: Error | null = null): void {
    this.#ends.shift()?.(error);
  }
}

test("who asks together shares the work, who asks while it is under way shares the next", async () => {
  const shared = new Shared();
  const work = new Work();
  const first = [shared.run("a", work.run, forever), shared.run("a", work.run, forever)];
  await turn();
  assert.equal(work.begun, 1);
  const second = [shared.run("a", work.run, forever), shared.run("a", work.run, forever)];
  const other = shared.run("b", work.run, forever);
  await turn();
  assert.equal(work.begun, 2, "another key waits for nobody");
  work.end();
  await Promise.all(first);
  await turn();
  assert.equal(work.begun, 3);
  work.end();
  work.end();
  await Promise.all([...second, other]);
  const third = shared.run("a", work.run, forever);
  await turn();
  assert.equal(work.begun, 4);
  work.end();
  await third;
});

test("a failure is everybody's who waited for it, and not of those who come after", async () => {
  const shared = new Shared();
  const work = new Work();
  const both = [shared.run("a", work.run, forever), shared.run("a", work.run, forever)];
  await turn();
  const later = shared.run("a", work.run, forever);
  work.end(new Error("no luck"));
  for (const one of both) await assert.rejects(one, /no luck/);
  await turn();
  work.end();
  await later;
});

test("who gives up waiting stops nobody else; work that nobody waits for is aborted", async () => {
  const shared = new Shared();
  const work = new Work();
  const [leaves, stays] = [new AbortController(), new AbortController()];
  const one = shared.run("a", work.run, leaves.signal);
  const two = shared.run("a", work.run, stays.signal);
  await turn();
  leaves.abort(new Error("gone"));
  await assert.rejects(one, /gone/);
  assert.equal(work.aborted, 0);
  const next = shared.run("a", work.run, stays.signal);
  stays.abort(new Error("gone too"));
  await assert.rejects(two, /gone too/);
  await assert.rejects(next, /gone too/);
  await turn();
  assert.equal(work.aborted, 1);
  assert.equal(work.begun, 1, "what nobody waits for does not begin");
  const again = shared.run("a", work.run, forever);
  await turn();
  work.end();
  work.end();
  await again;
});
