import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { BuildEvent } from "../../../../agent/build/events.ts";
import type { BuildGround } from "../../../../agent/build/ground.ts";
import { type RunParts, runStep } from "../../../../agent/build/run.ts";
import type { BuiltImage, RunMount, Step } from "../../../../agent/build/types.ts";

const folder = mkdtempSync(join(tmpdir(), "tsswarm-run-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const secret = { type: "secret", id: "key", env: "KEY", target: "" } as RunMount;
const { signal } = new AbortController();

/** A step whose command ends with 3; what became of its container. */
async function failed(keepsFailed: boolean, mounts: readonly RunMount[] = []) {
  const told: BuildEvent[] = [];
  const removed: string[] = [];
  const engine = {
    create: async () => "c1",
    attach: async () => ({ stdin: null, stdout: null, stderr: null, close: () => {} }),
    start: async () => {},
    wait: async () => ({ exitCode: 3 }),
    remove: async (id: string) => void removed.push(id),
    kill: async () => {},
  };
  const parts = {
    ground: { engine, memory: folder } as unknown as BuildGround,
    ...{ scratch: folder, network: "", host: {}, keepsFailed, args: new Map() },
    secret: async () => Buffer.from("hidden"),
    tell: (event: BuildEvent) => void told.push(event),
  } as unknown as RunParts;
  const step = { do: "run", command: ["false"], shown: "false", mounts, network: "", script: "" };
  const before = { id: "sha256:1" } as BuiltImage;
  await assert.rejects(
    runStep(step as Extract<Step, { do: "run" }>, before, parts, signal),
    /The command 'false' returned a non-zero code: 3/,
  );
  assert.deepEqual(readdirSync(folder), []);
  return { removed, isTold: told.some((event) => event.tell === "removed") };
}

test("the container of a command that fails stays for who asked for that", async () => {
  assert.deepEqual(await failed(true), { removed: [], isTold: false });
  assert.deepEqual(await failed(false), { removed: ["c1"], isTold: true });
});

test("no container stays that has a secret in its environment", async () => {
  assert.deepEqual(await failed(true, [secret]), { removed: ["c1"], isTold: true });
});
