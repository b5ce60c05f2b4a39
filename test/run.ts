// `npm test`, after setup and lint: the unit tests, then the end-to-end tests on one lab, which is taken down whatever happens.

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runFolder } from "../deploy/lab/names.ts";
import { changedSince, machineState } from "./e2e/harness.ts";

const built = fileURLToPath(new URL(".", import.meta.url));
const program = fileURLToPath(new URL("../cli/main.js", import.meta.url));
/** Of one file: Node's limit counts for all of its tests together. On a busy machine they take several times as long. */
const fileMsMax = 900_000;

function testFiles(folder: string): readonly string[] {
  return readdirSync(join(built, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".test.js"))
    .map((name) => join(built, folder, name))
    .sort();
}

/** The child has our standard streams; its exit code. Ctrl-C reaches it as well, so that we live to clean up. */
function run(...args: readonly string[]): Promise<number> {
  return ended(spawn(process.execPath, args, { stdio: "inherit" }));
}

/** The same, but what it prints comes at its end, so as not to stand among the lines of what runs beside it. */
async function runBeside(...args: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  const said: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (bytes: Buffer) => said.push(bytes));
  const code = await ended(child);
  process.stdout.write(Buffer.concat(said));
  return code;
}

function ended(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 1));
  });
}

/** The lab is up while `test` runs; afterwards the machine has to be as it was. */
async function withLab(test: () => Promise<number>): Promise<number> {
  const before = await machineState();
  let code = 1;
  try {
    code = await run(program, "lab", "up");
    code ||= await test();
  } finally {
    if (existsSync(runFolder)) {
      const downCode = await run(program, "lab", "down");
      code ||= downCode;
    }
  }
  const changes = await changedSince(before);
  if (changes.length > 0) console.error(`The lab has left something:\n${changes.join("\n")}`);
  return changes.length > 0 ? 1 : code;
}

process.on("SIGINT", () => {});
process.on("SIGTERM", () => {});
const limits = ["--test-reporter=spec", "--test-timeout", String(fileMsMax)];
const ofTheLab = (name: string) => name.endsWith("/lab.test.js");
/** An engine or namespaces of their own on this machine. */
const withoutLab = (name: string) =>
  /\/(build|engine|images|keeper|network|reach)[^/]*$/.test(name);
if (existsSync(runFolder)) {
  console.log("A lab is here already; the tests need a fresh one.");
  await run(program, "lab", "down");
}
console.log("Unit tests:");
// Most of their time is the start of processes: one more than two cores' worth fills the gaps.
const unit = await run("--test", "--test-concurrency=3", ...limits, ...testFiles("unit"));
console.log("End-to-end tests of the lab itself:");
const lab = await run("--test", ...limits, ...testFiles("e2e").filter(ofTheLab));
console.log("End-to-end tests on one lab, and beside them, printed last, those that need none:");
const others = testFiles("e2e").filter((name) => !ofTheLab(name));
const alone = others.filter(withoutLab);
const whole = await withLab(async () => {
  // One after the other: they share the lab; and those that need none are enough for the second core.
  const inTurn = ["--test", "--test-concurrency=1", ...limits];
  const codes = await Promise.all([
    run(...inTurn, ...others.filter((name) => !withoutLab(name))),
    runBeside(...inTurn, ...alone),
  ]);
  return Math.max(...codes);
});
process.exitCode = unit || lab || whole;
