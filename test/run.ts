// `npm test`, after setup and lint: the unit tests, then the end-to-end tests on one lab, which is taken down whatever happens.

import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runFolder } from "../deploy/lab/names.ts";

const built = fileURLToPath(new URL(".", import.meta.url));
const program = fileURLToPath(new URL("../cli/main.js", import.meta.url));
const testMsMax = 240_000;

function testFiles(folder: string): readonly string[] {
  return readdirSync(join(built, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".test.js"))
    .map((name) => join(built, folder, name))
    .sort();
}

/** The child has our standard streams; its exit code. Ctrl-C reaches it as well, so that we live to clean up. */
function run(...args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: "inherit" });
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 1));
  });
}

async function withLab(test: () => Promise<number>): Promise<number> {
  if (existsSync(runFolder)) {
    console.log("A lab is here already; the tests need a fresh one.");
    await run(program, "lab", "down");
  }
  try {
    const code = await run(program, "lab", "up");
    return code === 0 ? await test() : code;
  } finally {
    if (existsSync(runFolder)) await run(program, "lab", "down");
  }
}

process.on("SIGINT", () => {});
process.on("SIGTERM", () => {});
const limits = ["--test-reporter=spec", "--test-timeout", String(testMsMax)];
console.log("Unit tests:");
let code = await run("--test", ...limits, ...testFiles("unit"));
console.log("End-to-end tests:");
// One after the other: they share the lab.
code ||= await withLab(() => run("--test", "--test-concurrency=1", ...limits, ...testFiles("e2e")));
process.exitCode = code;
