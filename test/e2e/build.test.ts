// docker build, commit and export with the unmodified docker command, on a real containerd.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { lstatSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import type { OpenEngine } from "../../agent/engine/engine.ts";
import type { Runtime } from "../../agent/runtime/types.ts";
import { busyboxLayer, Ground, until } from "./engine-kit.ts";
import { Door, type Ran } from "./image-kit.ts";

let ground: Ground;
let engine: OpenEngine;
let runtime: Runtime;
let door: Door;
let contexts = 0;

before(async () => {
  ground = await Ground.make("build");
  ({ engine, runtime } = await ground.open());
  door = await Door.open(ground, engine);
  await door.attempt(["import", "-c", "ENV PATH=/bin", "-c", 'CMD ["/bin/sh"]', "-", "base:1"], {
    input: busyboxLayer(ground.directory),
  });
});

after(async () => {
  await door?.close();
  await ground?.remove();
});

type Files = Readonly<Record<string, string | Buffer>>;

function contextOf(files: Files): string {
  const folder = join(ground.directory, `context-${++contexts}`);
  mkdirSync(folder);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
  return folder;
}

/** Steps have the host's network: this engine has none of its own. */
function build(folder: string, ...args: readonly string[]): Promise<Ran> {
  return door.attempt(["build", "--network", "host", ...args, folder]);
}

async function built(folder: string, ...args: readonly string[]): Promise<string> {
  const ran = await build(folder, ...args);
  assert.equal(ran.code, 0, `${ran.stdout}\n${ran.stderr}`);
  return ran.stdout;
}

async function run(image: string, ...command: readonly string[]): Promise<string> {
  const ran = await door.attempt(["run", "--rm", "--network", "host", image, ...command]);
  return `${ran.stdout}${ran.stderr}`.trimEnd();
}

test("every instruction does what it says, and the whole comes from the cache the second time", async () => {
  const folder = contextOf({
    Dockerfile: [
      "# a comment",
      "ARG BASE=base:1",
      "FROM $BASE AS first",
      "RUN busybox chmod 1777 /tmp",
      "ARG GREETING=hello",
      "ENV WHO=world \\",
      '    OTHER="a b"',
      "LABEL kind=test \"with blank\"='x y'",
      "WORKDIR /srv/deep",
      "COPY a.txt sub/ ./",
      'COPY ["b c.txt", "/with blank/"]',
      'RUN echo "$GREETING $WHO" > said && \\',
      "  # in between",
      "  id -u >> said",
      "RUN <<EOF",
      "echo one > /script",
      "echo two >> /script",
      "EOF",
      "COPY <<EOF /inline",
      "for $WHO",
      "EOF",
      'SHELL ["/bin/sh", "-ec"]',
      "USER app:extra",
      "EXPOSE 80 53/udp 9000-9001",
      "VOLUME /data /more",
      "STOPSIGNAL SIGINT",
      "HEALTHCHECK --interval=7s --retries=2 CMD true",
      "ONBUILD RUN echo triggered > /tmp/triggered",
      'ENTRYPOINT ["/bin/sh"]',
      'CMD ["-c", "cat said"]',
      "MAINTAINER somebody",
    ].join("\n"),
    "a.txt": "a\n",
    "sub/in.txt": "in\n",
    "b c.txt": "blank\n",
  });
  const first = await built(folder, "-t", "all:1", "--build-arg", "GREETING=hi", "--label", "l=m");
  assert.match(first, /^Step 1\/\d+ : FROM base:1 AS first$/m);
  assert.match(first, /^Successfully tagged all:1$/m);
  assert.equal(await run("all:1"), "hi world\n0");
  const ask =
    "cat /srv/deep/a.txt /srv/deep/in.txt '/with blank/b c.txt' /script /inline; id -u; id -g";
  assert.equal(await run("all:1", "-c", ask), "a\nin\nblank\none\ntwo\nfor world\n1000\n2000");
  const inspect = (format: string) => door.docker("inspect", "-f", format, "all:1");
  const config = JSON.parse(await inspect("{{json .Config}}"));
  assert.deepEqual(config.Env, ["PATH=/bin", "WHO=world", "OTHER=a b"]);
  assert.deepEqual(config.Labels, { kind: "test", "with blank": "x y", l: "m" });
  assert.deepEqual(Object.keys(config.ExposedPorts).sort(), [
    "53/udp",
    "80/tcp",
    "9000/tcp",
    "9001/tcp",
  ]);
  assert.deepEqual(
    [config.User, config.StopSignal, config.WorkingDir],
    ["app:extra", "SIGINT", "/srv/deep"],
  );
  assert.deepEqual(config.Healthcheck, { Test: ["CMD-SHELL", "true"], Interval: 7e9, Retries: 2 });
  assert.deepEqual(config.OnBuild, ["RUN echo triggered > /tmp/triggered"]);
  assert.equal(await inspect("{{.Author}}"), "somebody");
  const id = await inspect("{{.Id}}");
  const again = await built(folder, "-t", "all:2", "--build-arg", "GREETING=hi", "--label", "l=m");
  assert.doesNotMatch(again, /Running in/);
  assert.equal(await door.docker("inspect", "-f", "{{.Id}}", "all:2"), id);
  const other = await built(folder, "-q", "--build-arg", "GREETING=bye");
  assert.match(other, /^sha256:[0-9a-f]{64}\n$/);
  // The next image on top of it pulls its trigger.
  const child = contextOf({ Dockerfile: "FROM all:1\nUSER root\nENTRYPOINT []" });
  await built(child, "-t", "child:1");
  assert.equal(await run("child:1", "cat", "/tmp/triggered"), "triggered");
  await door.docker("rmi", "child:1");
});

test("a layer holds what its step changed and nothing that was only mounted; a step that changes nothing makes none", async () => {
  const folder = contextOf({
    Dockerfile: "FROM base:1\nRUN echo x > /made\nRUN --mount=type=tmpfs,target=/gone/deep echo y",
  });
  await built(folder, "-t", "clean:1");
  const file = join(ground.directory, "clean.tar");
  await door.docker("save", "-o", file, "clean:1");
  const manifest = JSON.parse(execFileSync("tar", ["-xOf", file, "manifest.json"]).toString());
  const layers = manifest[0].Layers.slice(1).map((name: string) =>
    execFileSync("sh", ["-c", `tar -xOf ${file} ${name} | tar -tzf - | sort`]).toString(),
  );
  assert.deepEqual(layers, ["made\n"]);
  await door.docker("rmi", "clean:1");
});

test("stages: only what the target needs is built, files are taken from others, content decides", async () => {
  const dockerfile = [
    "FROM base:1 AS source",
    "COPY input /input",
    "RUN cat /input > /output && echo noise $(cat /nonce 2>/dev/null)",
    "FROM base:1 AS broken",
    "RUN exit 3",
    "FROM scratch AS bare",
    "COPY --from=source --chown=1000:2000 --chmod=640 /output /a/b/output",
    "FROM base:1",
    "COPY --from=bare / /",
    "COPY --from=base:1 /data/seed /seed",
    "RUN --mount=type=bind,from=source,target=/from cat /from/output > /mounted",
  ].join("\n");
  const folder = contextOf({ Dockerfile: dockerfile, input: "one\n", unused: "1" });
  await built(folder, "-t", "stages:1");
  assert.equal(
    await run("stages:1", "ls", "-ln", "/a/b/output").then((line) =>
      line.replace(/ +/g, " ").slice(0, 24),
    ),
    "-rw-r----- 1 1000 2000 4",
  );
  assert.equal(
    await run("stages:1", "cat", "/a/b/output", "/seed", "/mounted"),
    "one\nfrom the image\none",
  );
  writeFileSync(join(folder, "unused"), "2");
  assert.doesNotMatch(await built(folder), /Running in/);
  writeFileSync(join(folder, "input"), "two\n");
  assert.match(await built(folder, "-t", "stages:1"), /Running in/);
  assert.equal(await run("stages:1", "cat", "/a/b/output"), "two");
  const failed = await build(folder, "--target", "broken");
  assert.equal(failed.code, 3);
  assert.match(failed.stderr, /The command '\/bin\/sh -c exit 3' returned a non-zero code: 3/);
  // It stays, for who wants to look at it.
  const [left] = engine.list();
  assert.equal(left?.state.ExitCode, 3);
  await engine.remove(left.id, { force: false, volumes: true });
  const unknown = await build(folder, "--target", "nobody");
  assert.match(unknown.stderr, /failed to reach build target nobody/);
  await door.docker("rmi", "stages:1");
});

test(".dockerignore leaves files out, and a missing file is said", async () => {
  const folder = contextOf({
    Dockerfile: "FROM base:1\nCOPY . /all/\nRUN cd /all && ls -a | sort > /list",
    ".dockerignore": "*.log\n!keep.log\n**/secret\nnode_modules\n",
    "x.log": "",
    "keep.log": "",
    "sub/secret": "",
    "sub/open": "",
    "node_modules/m/i.js": "",
  });
  await built(folder, "-t", "ignored:1");
  assert.equal(
    await run("ignored:1", "sh", "-c", "cat /list; ls /all/sub"),
    ".\n..\n.dockerignore\nDockerfile\nkeep.log\nsub\nopen",
  );
  writeFileSync(join(folder, "Dockerfile"), "FROM base:1\nCOPY x.log /");
  const missing = await build(folder);
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /x\.log: no such file or directory/);
  await door.docker("rmi", "ignored:1");
});

test("ADD unpacks archives, fetches addresses; links in image and context lead nowhere else", async () => {
  const folder = contextOf({ "tree/file": "packed\n" });
  execFileSync("tar", ["-czf", join(folder, "tree.tar.gz"), "-C", join(folder, "tree"), "."]);
  const server = http.createServer((_request, response) => response.end("fetched\n"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { readonly port: number };
  symlinkSync("/etc/hostname", join(folder, "escape"));
  writeFileSync(
    join(folder, "Dockerfile"),
    [
      "FROM base:1",
      "ADD tree.tar.gz /unpacked/",
      "COPY tree.tar.gz /plain/",
      `ADD http://127.0.0.1:${port}/page.txt /pages/`,
      "RUN ln -s /tmp /link && ln -s ../../../../../../../../tmp /up",
      "COPY tree/file /link/through",
      "COPY tree/ /up/",
    ].join("\n"),
  );
  await built(folder, "-t", "added:1");
  const ask = "cat /unpacked/file /pages/page.txt /tmp/through /tmp/file; ls /plain";
  assert.equal(
    await run("added:1", "sh", "-c", ask),
    "packed\nfetched\npacked\npacked\ntree.tar.gz",
  );
  assert.throws(() => execFileSync("ls", ["/tmp/through"], { stdio: "ignore" }));
  writeFileSync(join(folder, "Dockerfile"), "FROM base:1\nCOPY escape /escaped");
  const escaped = await build(folder);
  assert.match(escaped.stderr, /escape: no such file or directory/);
  server.close();
  server.closeAllConnections();
  await door.docker("rmi", "added:1");
});

test("RUN mounts: a cache stays between builds, a bound folder is read, --no-cache runs again", async () => {
  const folder = contextOf({
    Dockerfile: [
      "FROM base:1",
      "RUN --mount=type=cache,target=/cache --mount=type=bind,source=data,target=/bound \\",
      "  echo x >> /cache/times; cat /cache/times | busybox wc -l > /count; cat /bound/file >> /count",
    ].join("\n"),
    "data/file": "bound\n",
  });
  await built(folder, "-t", "cached:1");
  await built(folder, "-t", "cached:1", "--no-cache");
  assert.equal(await run("cached:1", "cat", "/count"), "2\nbound");
  assert.equal(
    await run("cached:1", "ls", "/cache").then((text) => /No such file/.test(text)),
    true,
  );
  const secret = contextOf({
    Dockerfile: "FROM base:1\nRUN --mount=type=secret,id=s,required=true cat /run/secrets/s",
  });
  assert.match((await build(secret)).stderr, /secret s: not found/);
  await door.docker("rmi", "cached:1");
});

test("a wrong Dockerfile is refused with its line, before anything runs", async () => {
  const rows = [
    ["FROM base:1\nBOGUS x", /line 2: unknown instruction: BOGUS/],
    ["RUN true", /line 1: no build stage in current context/],
    ["FROM base:1\nCOPY onlyone", /line 2: COPY requires at least two arguments/],
    ["FROM base:1\nENV", /line 2: ENV requires at least one argument/],
    ["FROM nobody/here-at-all@sha256:12", /invalid reference format/],
  ] as const;
  for (const [text, sentence] of rows) {
    const ran = await build(contextOf({ Dockerfile: text }));
    assert.equal(ran.code, 1);
    assert.match(ran.stderr, sentence);
  }
});

test("a build that is interrupted leaves no container, mount or snapshot", async () => {
  const before = (await runtime.snapshots()).length;
  const folder = contextOf({ Dockerfile: "FROM base:1\nRUN echo waiting; sleep 1000" });
  const { child, output } = door.spawn(["build", "--network", "host", folder]);
  child.stdin?.end();
  await until("the step runs", () => engine.list().some(({ state }) => state.Status === "running"));
  child.kill("SIGINT");
  await output;
  await until("its container is gone", () => engine.list().length === 0);
  await until("its snapshots are gone", async () => (await runtime.snapshots()).length <= before);
  const mounts = execFileSync("cat", ["/proc/self/mounts"]).toString();
  assert.ok(!mounts.includes(`${ground.directory}/data/scratch`));
});

test("docker commit and export", async () => {
  await door.docker(
    "run",
    "--name",
    "work",
    "--network",
    "host",
    "base:1",
    "sh",
    "-c",
    "echo done > /result; rm /data/seed",
  );
  const id = await door.docker(
    "commit",
    "-m",
    "by hand",
    "-a",
    "me",
    "-c",
    "CMD cat /result",
    "-c",
    "ENV X=y",
    "work",
    "committed:1",
  );
  assert.equal(await door.docker("inspect", "-f", "{{.Id}}", "committed:1"), id);
  assert.equal(await run("committed:1"), "done");
  assert.equal(await run("committed:1", "sh", "-c", "echo $X; ls /data"), "y");
  assert.equal(
    await door.docker("inspect", "-f", "{{.Comment}} {{.Author}} {{.Parent}}", "committed:1"),
    `by hand me ${await door.docker("inspect", "-f", "{{.Id}}", "base:1")}`,
  );
  const file = join(ground.directory, "exported.tar");
  await door.docker("export", "-o", file, "work");
  const names = execFileSync("tar", ["-tf", file]).toString().split("\n");
  assert.ok(names.includes("./result") && !names.includes("./data/seed"));
  await door.docker("rm", "work");
  await door.docker("rmi", "committed:1");
});

test("docker builder prune forgets all steps, and what was copied is found again", async () => {
  const folder = contextOf({
    Dockerfile:
      "FROM base:1 AS made\nRUN echo made > /made\nFROM base:1\nCOPY --from=made /made /copied",
  });
  await built(folder, "-t", "pruned:1");
  assert.doesNotMatch(await built(folder, "-t", "pruned:1"), /Running in/);
  assert.match(await door.docker("builder", "prune", "-af"), /Total/);
  const steps = (await runtime.images()).filter(({ name }) => name.startsWith("tsswarm-build@"));
  assert.deepEqual(steps, []);
  assert.match(await built(folder), /Running in/);
  assert.equal(await run("pruned:1", "cat", "/copied"), "made");
  assert.match(await door.docker("inspect", "-f", "{{.Config.Env}}", "pruned:1"), /PATH=.*\/bin/);
  rmSync(folder, { recursive: true });
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
  return door.attempt(["build", "--network", "host", "--progress", "plain", ...args, folder], {
    ...options,
    program: [withBuildKit ?? ""],
    environment: { DOCKER_BUILDKIT: "1" },
  });
}

async function builtBySession(folder: string, ...args: readonly string[]): Promise<string> {
  const ran = await buildBySession(folder, args);
  assert.equal(ran.code, 0, `${ran.stdout}\n${ran.stderr}`);
  return ran.stderr;
}

test(
  "a client of BuildKit is asked for what the build needs, and shows how it goes",
  sessions,
  async () => {
    const folder = contextOf({
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
    const word = join(ground.directory, "word");
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
    assert.deepEqual((await run("session:1", "sh", "-c", ask)).split(/\s+/), [
      ...[".dockerignore", "a.txt", "big.bin", "link", "sub"],
      ...["a", "b", "umlaut", "hush3000000"],
    ]);
    const id = await door.docker("inspect", "-f", "{{.Id}}", "session:1");
    assert.equal(readFileSync(`${word}.id`, "utf8"), id);
    // What has been sent and done is not sent or done again, and is the first builder's as well.
    const again = await builtBySession(folder, ...args);
    assert.match(again, /COPY \. \/all\/\n(#.*\n)*#\d+ CACHED/);
    assert.doesNotMatch(again, /context: \d+(\.\d+)?MB/);
    assert.equal(await door.docker("inspect", "-f", "{{.Id}}", "session:1"), id);
    const secret = await build(folder, "-t", "session:2");
    assert.equal(secret.code, 0, secret.stderr);
    assert.equal(await door.docker("inspect", "-f", "{{.Id}}", "session:2"), id);
    // Changed, gone, and new.
    writeFileSync(join(folder, "a.txt"), "changed\n");
    rmSync(join(folder, "sub"), { recursive: true });
    writeFileSync(join(folder, "sub"), "now a file");
    await builtBySession(folder, ...args);
    assert.equal(await run("session:1", "cat", "/all/link", "/all/sub"), "changed\nnow a file");
    await door.docker("rmi", "session:1", "session:2");
  },
);

test("a client of BuildKit says why a build has failed", sessions, async () => {
  const failed = await buildBySession(
    contextOf({ Dockerfile: "FROM base:1\nRUN echo before; nothing-called-so" }),
    [],
  );
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /^#\d+ ERROR: The command .* returned a non-zero code: 127$/m);
  assert.match(failed.stderr, /^#\d+ [\d.]+ before$/m);
  assert.match(failed.stderr, /^#\d+ [\d.]+ .*nothing-called-so: not found$/m);
  const wrong = await buildBySession(contextOf({ Dockerfile: "FROM base:1\nBOGUS x" }), []);
  assert.match(wrong.stderr, /line 2: unknown instruction: BOGUS/);
  const missing = await buildBySession(
    contextOf({ Dockerfile: "FROM base:1\nCOPY x.log /", ".dockerignore": "*.log", "x.log": "" }),
    [],
  );
  assert.match(missing.stderr, /x\.log: no such file or directory/);
  const secret = await buildBySession(
    contextOf({ Dockerfile: "FROM base:1\nRUN --mount=type=secret,id=s,required=true true" }),
    [],
  );
  assert.match(secret.stderr, /secret s: not found/);
});

test(
  "a client of BuildKit may send a tar, ask for the id alone, or go away",
  sessions,
  async () => {
    const folder = contextOf({ Dockerfile: "FROM base:1\nCOPY x /", x: "tarred" });
    const input = execFileSync("tar", ["-c", "-C", folder, "."]);
    const sent = await buildBySession("-", ["-t", "tarred:1"], { input });
    assert.equal(sent.code, 0, sent.stderr);
    assert.equal(await run("tarred:1", "cat", "/x"), "tarred");
    const quiet = await buildBySession(folder, ["-q"]);
    assert.match(quiet.stdout, /^sha256:[0-9a-f]{64}\n$/);
    assert.equal(quiet.stdout.trim(), await door.docker("inspect", "-f", "{{.Id}}", "tarred:1"));
    const before = (await runtime.snapshots()).length;
    for (const signal of ["SIGINT", "SIGKILL"] as const) {
      const endless = contextOf({ Dockerfile: "FROM base:1\nRUN echo waiting; sleep 1000" });
      const { child, output } = door.spawn(["build", "--network", "host", endless], {
        program: [withBuildKit ?? ""],
        environment: { DOCKER_BUILDKIT: "1" },
      });
      child.stdin?.end();
      await until("the step runs", () =>
        engine.list().some(({ state }) => state.Status === "running"),
      );
      child.kill(signal);
      assert.notEqual((await output).code, 0);
      await until("its container is gone", () => engine.list().length === 0);
    }
    await until("its snapshots are gone", async () => (await runtime.snapshots()).length <= before);
    await door.docker("rmi", "tarred:1");
  },
);

test("a client of BuildKit may have the image's files as a folder or a tar", sessions, async () => {
  const folder = contextOf({
    Dockerfile: "FROM scratch\nCOPY --chmod=640 x /deep/x\nCOPY tree/ /",
    x: "in x",
    "tree/y": Buffer.alloc(200_000, "y"),
  });
  symlinkSync("deep/x", join(folder, "tree/link"));
  const before = await door.docker("images", "-qa");
  const out = join(ground.directory, "out");
  const log = await builtBySession(folder, "-o", out);
  assert.match(log, /^#\d+ exporting to client$/m);
  assert.equal(readFileSync(join(out, "link"), "utf8"), "in x");
  assert.equal(readFileSync(join(out, "y")).length, 200_000);
  assert.equal(lstatSync(join(out, "deep/x")).mode & 0o777, 0o640);
  await builtBySession(folder, "-o", `type=tar,dest=${out}.tar`);
  const names = execFileSync("tar", ["-tf", `${out}.tar`]).toString();
  assert.equal(names, "deep/\ndeep/x\nlink\ny\n");
  assert.equal(await door.docker("images", "-qa"), before);
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
  const socket = join(ground.directory, "agent.sock");
  await new Promise<void>((resolve) => agent.listen(socket, resolve));
  const program = "/usr/bin/ssh-add";
  const libraries = execFileSync("ldd", [program]).toString().match(/\/\S+/g) ?? [];
  const files = [program, ...libraries].map((path) => [`root${path}`, readFileSync(path)] as const);
  const step =
    "RUN --mount=type=ssh,required=true test -S $SSH_AUTH_SOCK && ssh-add -l; echo code $?";
  const folder = contextOf({
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
