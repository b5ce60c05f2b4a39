import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ProcessHandle } from "../../../../agent/runtime/process-handle.ts";

/** The last part of a control group's path that this process, and so its children, are in. */
const group = readFileSync("/proc/self/cgroup", "utf8").split("\n")[0]?.split("/").at(-1) ?? "";

test("a signal by a handle reaches the process; once it has ended, nobody", async () => {
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  const ended = once(child, "exit");
  const handle = await ProcessHandle.open(child.pid ?? 0, group);
  assert.ok(handle !== null);
  assert.equal(handle.signal(0), true);
  assert.equal(handle.signal(15), true);
  assert.deepEqual(await ended, [null, "SIGTERM"]);
  assert.equal(handle.signal(15), false);
  handle[Symbol.dispose]();
});

test("there is no handle of a process of another control group, nor of one that has ended", async () => {
  assert.equal(await ProcessHandle.open(process.pid, "of-somebody-else"), null);
  const child = spawn("true", { stdio: "ignore" });
  await once(child, "exit");
  assert.equal(await ProcessHandle.open(child.pid ?? 0, group), null);
});
