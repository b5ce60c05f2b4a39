// What a command loads before it can start.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { DockerCommand } from "../../../cli/command.ts";
import type { Doors } from "../../../cli/doors.ts";
import { families } from "../../../cli/families.ts";

const main = fileURLToPath(new URL("../../../cli/main.js", import.meta.url));
const saysBuiltins =
  "data:text/javascript,process.on('exit',()=>console.error('%5B'+process.moduleLoadList.join()+'%5D'))";

interface Loaded {
  /** Our own files, from dist on. */
  readonly own: readonly string[];
  readonly packages: ReadonlySet<string>;
  readonly builtins: ReadonlySet<string>;
}

/** The files that V8 has compiled in a run of the program. */
function loadedBy(args: readonly string[]): Loaded {
  const folder = mkdtempSync(join(tmpdir(), "tsswarm-loaded-"));
  try {
    const script = `${process.execPath} --import "$0" "$@" 2>&1 || true`;
    const said = execFileSync("sh", ["-c", script, saysBuiltins, main, ...args], {
      encoding: "utf8",
      env: { PATH: process.env["PATH"], HOME: folder, NODE_V8_COVERAGE: folder },
    });
    const [, builtins = ""] = /\[(.*)\]\s*$/s.exec(said) ?? [];
    assert.match(builtins, /NativeModule http\b/, said);
    const urls = readdirSync(folder)
      .filter((name) => name.endsWith(".json"))
      .flatMap((name) => {
        const { result } = JSON.parse(readFileSync(join(folder, name), "utf8")) as {
          readonly result: readonly { readonly url: string }[];
        };
        return result.map(({ url }) => url);
      });
    const packageOf = (url: string) =>
      /\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url)?.[1] ?? "";
    return {
      own: urls.filter(
        (url) => packageOf(url) === "" && /\/dist\/(cli|proto|agent|manager)\//.test(url),
      ),
      packages: new Set(urls.map(packageOf).filter((name) => name !== "")),
      builtins: new Set(builtins.split(",").map((name) => name.replace("NativeModule ", ""))),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const nobody = ["-H", "unix:///nobody-listens-here"];
const rows = [
  { line: ["--version"], ownMax: 26 },
  { line: ["version"], ownMax: 26 },
  { line: ["ps"] },
  { line: ["service", "ls"] },
  { line: ["image", "ls"] },
  { line: ["stack", "ls"] },
];
for (const { line, ownMax = Infinity } of rows)
  test(`tsswarm ${line.join(" ")} loads no more than it needs`, () => {
    const { own, packages, builtins } = loadedBy([...nobody, ...line]);
    assert.deepEqual([...packages], ["commander"]);
    assert.ok(own.length > 5 && own.length <= ownMax, `${own.length}: ${own.join("\n")}`);
    const heavy = own.filter(
      (url) => !/\/dist\/(cli|proto\/kit|proto)\/[^/]+$|\/cli\/stack\//.test(url),
    );
    assert.deepEqual(heavy, [], "of the daemon nothing is loaded");
    assert.ok(!builtins.has("https") && !builtins.has("tls"), "TLS is for hosts that ask for it");
  });

test("every command is found by its first word, and so brings just its own family", async () => {
  const seen = new Set<string>();
  for (const { words, add } of families) {
    const program = new DockerCommand("tsswarm").enablePositionalOptions();
    await add({ program, open: () => assert.fail(), doors: {} as Doors, result: { code: 0 } });
    const names = program.commands.flatMap((each) => [each.name(), ...each.aliases()]);
    assert.deepEqual([...words].sort(), names.sort());
    for (const word of words) assert.ok(!seen.has(word), `${word} is in two families`);
    for (const word of words) seen.add(word);
  }
});

/** -c is the program's --context before the command's word, and behind it whatever the command means by it. */
const own = [
  ["import", "-c", "ENV A=b", "-", "base:1"],
  ["commit", "-c", "CMD sh", "box", "base:1"],
  ["run", "-c", "2", "base:1"],
  ["exec", "web", "sh", "-c", "exit 7"],
  ["service", "exec", "web.1", "sh", "-c", "exit 7"],
];
for (const line of own)
  test(`tsswarm ${line.slice(0, 2).join(" ")} is given what follows its word`, () => {
    const { status, stderr } = spawnSync(process.execPath, [main, ...nobody, ...line], {
      encoding: "utf8",
      input: "",
    });
    assert.notEqual(status, 0);
    assert.match(stderr, /^Cannot connect to the tsswarm daemon at unix:\/\/\/nobody-listens-here/);
  });
