// `npm test`, after setup and lint: the unit tests, then the end-to-end tests: those that need a lab on two labs side by side, the others
// beside them. Nothing is left of the labs, whatever happens. `node dist/test/run.js unit` or `… e2e` runs one of the two.

import { spawn } from "node:child_process";
import { setMaxListeners } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { pipeline } from "node:stream/promises";
import { run as runTests } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";
import { nameOfLab } from "../deploy/lab/names.ts";
import { changedSince, machineState } from "./e2e/harness.ts";

const built = fileURLToPath(new URL(".", import.meta.url));
const program = fileURLToPath(new URL("../cli/main.js", import.meta.url));
/** Of one file: Node's limit counts for all of its tests together. On a busy machine they take several times as long. */
const fileMsMax = 480_000;
const own = process.env["TSSWARM_LAB"] ?? "";
/** As TSSWARM_LAB names them. Most of the tests' time is waiting: two fit into two cores. */
const labs = [own, `${own}2`];
/** They take longest: begun first, they leave no core and no lab waiting at the end. */
const longest = [
  ...["managers", "peers", "sim", "node", "revive", "tcp", "main", "service-create-flags", "disk"],
  ...["first-light", "certificates", "stack", "agent-away", "no-drop"],
];

function testFiles(folder: string): readonly string[] {
  return readdirSync(join(built, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".test.js") && hasSource(join(folder, name)))
    .map((name) => join(built, folder, name))
    .sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

/** A build leaves what was made of files that are gone since. */
function hasSource(name: string): boolean {
  return existsSync(join(built, "../../test", name.replace(/\.js$/, ".ts")));
}

function rank(file: string): number {
  const place = longest.indexOf(basename(file, ".test.js"));
  return place === -1 ? longest.length : place;
}

interface Ran {
  readonly code: number;
  /** What it printed; others run beside it, so it is shown as a whole. */
  readonly said: string;
}

function run(lab: string, ...args: readonly string[]): Promise<Ran> {
  const child = spawn(process.execPath, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, TSSWARM_LAB: lab },
  });
  const said: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (bytes: Buffer) => said.push(bytes));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code: code ?? 1, said: Buffer.concat(said).toString() }));
  });
}

/** Ctrl-C reaches the children too: what runs is ended, nothing more is begun, and the labs are taken down. */
const interrupted = new AbortController();
/** Sums of what Node says at the end of each file: tests, pass, fail … */
const counts = new Map<string, number>();
const failed: string[] = [];

async function unitTests(): Promise<void> {
  const files = testFiles("unit");
  // Most of their time is the start of processes, some wait: more than two cores' worth fills the gaps.
  const { signal } = interrupted;
  setMaxListeners(0, signal);
  const events = runTests({ files, concurrency: 4, timeout: fileMsMax, signal });
  let failures = 0;
  events.on("test:fail", () => {
    failures += 1;
  });
  await pipeline(events.compose(new spec()), process.stdout, { end: false });
  if (failures > 0) failed.push("unit tests");
}

async function runFile(file: string, lab: string): Promise<void> {
  const started = performance.now();
  const args = ["--test", "--test-reporter=spec", "--test-timeout", String(fileMsMax), file];
  const { code, said } = await run(lab, ...args);
  if (code !== 0) failed.push(relative(built, file));
  const count = (_: string, kind: string, number: string) => {
    counts.set(kind, (counts.get(kind) ?? 0) + Number(number));
    return "";
  };
  const text = said
    .replaceAll(/^ℹ (tests|pass|fail|cancelled|skipped) (\d+)\n/gm, count)
    .replaceAll(/^ℹ (suites|todo|duration_ms) .*\n/gm, "");
  const seconds = Math.round((performance.now() - started) / 1000);
  process.stdout.write(`${relative(built, file)}, ${seconds} s:\n${text}`);
}

/** One after the other; whoever else takes from the same files leaves the rest. */
async function runInTurn(files: IterableIterator<string>, lab: string): Promise<void> {
  for (const file of files) {
    if (interrupted.signal.aborted) return;
    await runFile(file, lab);
  }
}

/** A fresh lab is up while `test` runs. */
async function withLab(lab: string, test: () => Promise<void>): Promise<void> {
  try {
    if (await labCommand(lab, "up")) await test();
  } finally {
    if (isThere(lab)) await labCommand(lab, "down");
  }
}

/** Whether it succeeded. */
async function labCommand(lab: string, verb: "up" | "down"): Promise<boolean> {
  const { code, said } = await run(lab, program, "lab", verb);
  if (code === 0) return true;
  failed.push(`lab ${verb} of ${nameOfLab(lab)}:\n${said}`);
  return false;
}

function isThere(lab: string): boolean {
  return existsSync(`/run/${nameOfLab(lab)}`);
}

async function endToEnd(): Promise<void> {
  for (const lab of labs.filter(isThere)) {
    console.log(`A lab is here already, ${nameOfLab(lab)}; the tests need a fresh one.`);
    await labCommand(lab, "down");
  }
  const places = labs.map(nameOfLab);
  const before = await machineState(places);
  await endToEndTests();
  const changes = await changedSince(before, places);
  if (changes.length > 0) failed.push(`the labs have left something:\n${changes.join("\n")}`);
  console.log([...counts].map(([kind, count]) => `${kind} ${count}`).join(", "));
}

async function endToEndTests(): Promise<void> {
  const files = testFiles("e2e");
  const ofTheLab = (file: string) => file.endsWith("/lab.test.js");
  const needsLab = (file: string) => /\bwithLab\b/.test(readFileSync(file, "utf8"));
  const alone = files.filter((file) => !needsLab(file) && !ofTheLab(file));
  await runInTurn(files.filter(ofTheLab).values(), own);
  const queue = files.filter(needsLab).values();
  await Promise.all([
    ...labs.map((lab) => withLab(lab, () => runInTurn(queue, lab))),
    runInTurn(alone.values(), own),
  ]);
}

for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => interrupted.abort());
const [asked] = process.argv.slice(2);
if (asked !== "e2e") await unitTests();
if (asked !== "unit" && !interrupted.signal.aborted) await endToEnd();
if (failed.length > 0) console.error(`Failed: ${failed.join(", ")}`);
process.exitCode = failed.length > 0 || interrupted.signal.aborted ? 1 : 0;
