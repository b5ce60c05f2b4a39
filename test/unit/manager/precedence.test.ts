import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("../../../manager/precedence.js", import.meta.url));
const isRoot = process.getuid?.() === 0;

/** Prints, when it has taken precedence, what of each of its threads and of its session the kernel says. */
const script = `
  import { existsSync, readdirSync, readFileSync } from "node:fs";
  import { getPriority } from "node:os";
  import { Worker } from "node:worker_threads";
  import { takePrecedence } from ${JSON.stringify(program)};
  const warnings = [];
  await takePrecedence({ warn: (_fields, message) => warnings.push(message) });
  const worker = new Worker("setInterval(() => {}, 1000)", { eval: true });
  await new Promise((resolve) => worker.once("online", resolve));
  const threads = readdirSync("/proc/self/task").map((id) => getPriority(Number(id)));
  const isWeighed = existsSync("/proc/self/autogroup");
  const session = isWeighed ? readFileSync("/proc/self/autogroup", "utf8") : "";
  console.log(JSON.stringify({ threads, session, warnings }));
  process.exit();
`;

interface Report {
  readonly threads: readonly number[];
  readonly session: string;
  readonly warnings: readonly string[];
}

async function report(ownSession: boolean): Promise<Report> {
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
    detached: ownSession,
  });
  let text = "";
  for await (const chunk of child.stdout) text += chunk;
  return JSON.parse(text) as Report;
}

test("all threads of the manager, also later ones, go before other processes, and so does its session", {
  skip: !isRoot && "needs root",
}, async () => {
  const { threads, session, warnings } = await report(true);
  assert.deepEqual(warnings, []);
  assert.deepEqual(new Set(threads), new Set([-10]));
  if (existsSync("/proc/self/autogroup")) assert.match(session, /nice -10/);
});

test("a session that is not the manager's own keeps its weight", {
  skip: !isRoot && "needs root",
}, async () => {
  const { threads, session } = await report(false);
  assert.deepEqual(new Set(threads), new Set([-10]));
  assert.doesNotMatch(session, /nice -10/);
});
