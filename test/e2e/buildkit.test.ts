// docker build by the session protocol of clients that have BuildKit's inside, on a real containerd.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { lstatSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { BuildGround, succeeded } from "./build-kit.ts";
import { until } from "./engine-kit.ts";
import type { Ran } from "./image-kit.ts";

let at: BuildGround;

before(async () => {
  at = await BuildGround.make("buildkit");
});

after(async () => {
  await at?.remove();
});

/** The last docker command with BuildKit's client inside, which is Debian 12's; null where there is none. */
const withBuildKit = ["docker", "/usr/bin/docker"].find((program) => {
  const { stdout } = spawnSync(program, ["--version"]);
  return /^Docker version (19|20)\./.test(stdout?.toString() ?? "");
});
const sessions = { skip: withBuildKit === undefined && "no docker command from before 23 is here" };

function buildBySession(
  folder: string,
  args: readonly string[],
  options: { readonly input?: Buffer } = {},
): Promise<Ran> {
  return at.door.attempt(["build", "--network", "host", "--progress", "plain", ...args, folder], {
    ...options,
    program: [withBuildKit ?? ""],
    environment: { DOCKER_BUILDKIT: "1" },
  });
}

async function builtBySession(folder: string, ...args: readonly string[]): Promise<string> {
  return succeeded(await buildBySession(folder, args)).stderr;
}

test(
  "a client of BuildKit is asked for what the build needs, and shows how it goes",
  sessions,
  async () => {
    const folder = at.contextOf({
      Dockerfile: [
        "FROM base:1 AS made",
        "COPY sub/ *.txt /files/",
        "RUN --mount=type=secret,id=word cat /run/secrets/word > /said && echo spoken",
        "FROM base:1",
        "ENV A=b",
        "COPY --from=made /said /files /",
        "COPY . /all/",
      ].join("\n"),
      ".dockerignore": "*.log\nDockerfile\n",
      "a.txt": "a\n",
      "ä.txt": "umlaut\n",
      "sub/deep/b.txt": "b\n",
      "big.bin": Buffer.alloc(3_000_000, 7),
      "left.log": "never",
    });
    symlinkSync("a.txt", join(folder, "link"));
    const word = join(at.ground.directory, "word");
    writeFileSync(word, "hush");
    const args = ["-t", "session:1", "--secret", `id=word,src=${word}`, "--iidfile", `${word}.id`];
    const first = await builtBySession(folder, ...args);
    for (const line of [
      /^#\d+ \[internal\] load build definition from Dockerfile$/m,
      /^#\d+ \[internal\] load build context$/m,
      /^#\d+ \[made 1\/3\] FROM base:1$/m,
      /^#\d+ \[made 3\/3\] RUN --mount=type=secret,id=word cat/m,
      /^#\d+ [\d.]+ spoken$/m,
      /^#\d+ \[stage-1 3\/3\] COPY \. \/all\/$/m,
      /^#\d+ naming to session:1 done$/m,
    ])
      assert.match(first, line);
    assert.doesNotMatch(first, /CACHED/);
    const ask =
      "cd /all; ls -A | busybox grep -v '[?][?].txt'; cat link sub/deep/b.txt ä.txt /said; busybox wc -c < big.bin";
    assert.deepEqual((await at.run("session:1", "sh", "-c", ask)).split(/\s+/), [
      ...[".dockerignore", "a.txt", "big.bin", "link", "sub"],
      ...["a", "b", "umlaut", "hush3000000"],
    ]);
    const id = await at.door.docker("inspect", "-f", "{{.Id}}", "session:1");
    assert.equal(readFileSync(`${word}.id`, "utf8"), id);
    // What has been sent and done is not sent or done again, and is the first builder's as well.
    const again = await builtBySession(folder, ...args);
    assert.match(again, /COPY \. \/all\/\n(#.*\n)*#\d+ CACHED/);
    assert.doesNotMatch(again, /context: \d+(\.\d+)?MB/);
    assert.equal(await at.door.docker("inspect", "-f", "{{.Id}}", "session:1"), id);
    succeeded(await at.build(folder, "-t", "session:2"));
    assert.equal(await at.door.docker("inspect", "-f", "{{.Id}}", "session:2"), id);
    // Changed, gone, and new.
    writeFileSync(join(folder, "a.txt"), "changed\n");
    rmSync(join(folder, "sub"), { recursive: true });
    writeFileSync(join(folder, "sub"), "now a file");
    await builtBySession(folder, ...args);
    assert.equal(await at.run("session:1", "cat", "/all/link", "/all/sub"), "changed\nnow a file");
    await at.door.docker("rmi", "session:1", "session:2");
  },
);

test("a client of BuildKit says why a build has failed", sessions, async () => {
  const failed = await buildBySession(
    at.contextOf({ Dockerfile: "FROM base:1\nRUN echo before; nothing-called-so" }),
    [],
  );
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /^#\d+ ERROR: The command .* returned a non-zero code: 127$/m);
  assert.match(failed.stderr, /^#\d+ [\d.]+ before$/m);
  assert.match(failed.stderr, /^#\d+ [\d.]+ .*nothing-called-so: not found$/m);
  const wrong = await buildBySession(at.contextOf({ Dockerfile: "FROM base:1\nBOGUS x" }), []);
  assert.match(wrong.stderr, /line 2: unknown instruction: BOGUS/);
  const missing = await buildBySession(
    at.contextOf({
      Dockerfile: "FROM base:1\nCOPY x.log /",
      ".dockerignore": "*.log",
      "x.log": "",
    }),
    [],
  );
  assert.match(missing.stderr, /x\.log: no such file or directory/);
  const secret = await buildBySession(
    at.contextOf({ Dockerfile: "FROM base:1\nRUN --mount=type=secret,id=s,required=true true" }),
    [],
  );
  assert.match(secret.stderr, /secret s: not found/);
});

test(
  "a client of BuildKit may send a tar, ask for the id alone, or go away",
  sessions,
  async () => {
    const folder = at.contextOf({ Dockerfile: "FROM base:1\nCOPY x /", x: "tarred" });
    const input = execFileSync("tar", ["-c", "-C", folder, "."]);
    succeeded(await buildBySession("-", ["-t", "tarred:1"], { input }));
    assert.equal(await at.run("tarred:1", "cat", "/x"), "tarred");
    const quiet = await buildBySession(folder, ["-q"]);
    assert.match(quiet.stdout, /^sha256:[0-9a-f]{64}\n$/);
    assert.equal(quiet.stdout.trim(), await at.door.docker("inspect", "-f", "{{.Id}}", "tarred:1"));
    const before = (await at.runtime.snapshots()).length;
    for (const signal of ["SIGINT", "SIGKILL"] as const) {
      const endless = at.contextOf({ Dockerfile: "FROM base:1\nRUN echo waiting; sleep 1000" });
      const { child, output } = at.door.spawn(["build", "--network", "host", endless], {
        program: [withBuildKit ?? ""],
        environment: { DOCKER_BUILDKIT: "1" },
      });
      child.stdin?.end();
      await at.untilStepRuns();
      child.kill(signal);
      assert.notEqual((await output).code, 0);
      await at.untilNoContainer();
    }
    await until(
      "its snapshots are gone",
      async () => (await at.runtime.snapshots()).length <= before,
    );
    await at.door.docker("rmi", "tarred:1");
  },
);

test("a client of BuildKit may have the image's files as a folder or a tar", sessions, async () => {
  const folder = at.contextOf({
    Dockerfile: "FROM scratch\nCOPY --chmod=640 x /deep/x\nCOPY tree/ /",
    x: "in x",
    "tree/y": Buffer.alloc(200_000, "y"),
  });
  symlinkSync("deep/x", join(folder, "tree/link"));
  const before = await at.door.docker("images", "-qa");
  const out = join(at.ground.directory, "out");
  const log = await builtBySession(folder, "-o", out);
  assert.match(log, /^#\d+ exporting to client$/m);
  assert.equal(readFileSync(join(out, "link"), "utf8"), "in x");
  assert.equal(readFileSync(join(out, "y")).length, 200_000);
  assert.equal(lstatSync(join(out, "deep/x")).mode & 0o777, 0o640);
  await builtBySession(folder, "-o", `type=tar,dest=${out}.tar`);
  const names = execFileSync("tar", ["-tf", `${out}.tar`]).toString();
  assert.equal(names, "deep/\ndeep/x\nlink\ny\n");
  assert.equal(await at.door.docker("images", "-qa"), before);
  const oci = await buildBySession(folder, ["-o", "type=oci,dest=x"]);
  assert.match(oci.stderr, /type=oci is not available/);
});

test("a client of BuildKit lends its ssh agent to a step", sessions, async () => {
  // Answers who asks for its keys that it has none.
  const asked = new Set<string>();
  const agent = net.createServer((connection) =>
    connection.once("data", (data) => {
      asked.add(data.toString("hex"));
      connection.end(Buffer.from("000000050c00000000", "hex"));
    }),
  );
  const socket = join(at.ground.directory, "agent.sock");
  await new Promise<void>((resolve) => agent.listen(socket, resolve));
  const program = "/usr/bin/ssh-add";
  const libraries = execFileSync("ldd", [program]).toString().match(/\/\S+/g) ?? [];
  const files = [program, ...libraries].map((path) => [`root${path}`, readFileSync(path)] as const);
  const step =
    "RUN --mount=type=ssh,required=true test -S $SSH_AUTH_SOCK && ssh-add -l; echo code $?";
  const folder = at.contextOf({
    Dockerfile: `FROM base:1\nENV PATH=/bin:/usr/bin\nCOPY --chmod=755 root/ /\n${step}`,
    ...Object.fromEntries(files),
  });
  const without = await buildBySession(folder, []);
  assert.match(without.stderr, /ssh agent default: not found/);
  const shown = await builtBySession(folder, "--ssh", `default=${socket}`);
  assert.match(shown, /The agent has no identities/);
  assert.deepEqual([...asked], ["000000010b"]);
  agent.close();
});
