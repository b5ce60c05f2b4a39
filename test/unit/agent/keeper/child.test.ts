import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Child } from "../../../../agent/keeper/child.ts";
import { silentLog } from "../../../../proto/kit/log.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tsswarm-child-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await delay(5);
}

/** Gone, or a zombie that its parent has not reaped yet. */
function hasEnded(pid: number): boolean {
  try {
    return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return true;
  }
}

function child(script: string): Child {
  const options = {
    name: "test",
    command: process.execPath,
    args: ["-e", script],
    recordPath: join(folder, "test.pid"),
  };
  return new Child(options, silentLog);
}

test("a child that ends is started again, until it is stopped", async () => {
  const supervised = child("process.exit(3)");
  supervised.start();
  await until(() => supervised.restarts >= 2);
  await supervised.stop();
  const { restarts } = supervised;
  assert.equal(supervised.pid, null);
  await delay(200);
  assert.equal(supervised.restarts, restarts);
});

test("a child that stops in order is waited for", async () => {
  const done = join(folder, "done");
  const ready = join(folder, "ready");
  const supervised = child(`
    process.stdin.resume();
    process.on("SIGTERM", () => setTimeout(() => {
      require("node:fs").writeFileSync(${JSON.stringify(done)}, "");
      process.exit(0);
    }, 50));
    require("node:fs").writeFileSync(${JSON.stringify(ready)}, "");
  `);
  supervised.start();
  await until(() => existsSync(ready));
  await supervised.stop();
  assert.ok(existsSync(done));
  assert.equal(supervised.restarts, 0);
  assert.equal(existsSync(join(folder, "test.pid")), false, "nothing is left on record");
});

test("a child of a killed keeper is gone before the next one starts", async () => {
  // As an earlier keeper would have left it: alive, and on record.
  const first = child("setInterval(() => {}, 1000)");
  first.start();
  await until(() => first.pid !== null && existsSync(join(folder, "test.pid")));
  const orphan = first.pid;
  const record = readFileSync(join(folder, "test.pid"), "utf8");
  assert.equal((JSON.parse(record) as { pid: number }).pid, orphan);
  setTimeout(() => void first.stop(), 300);
  const second = child("setInterval(() => {}, 1000)");
  second.start();
  await until(() => second.pid !== null);
  assert.ok(hasEnded(orphan ?? 0));
  await second.stop();
});

test("a record of a process that is somebody else's by now harms nobody", async () => {
  const record = { pid: process.pid, startTime: "1" };
  writeFileSync(join(folder, "test.pid"), JSON.stringify(record));
  const supervised = child("setInterval(() => {}, 1000)");
  supervised.start();
  await until(() => supervised.pid !== null);
  await supervised.stop();
});
