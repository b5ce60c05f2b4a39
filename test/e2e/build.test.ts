// docker build, commit and export with the unmodified docker command, on a real containerd.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { rmSync, symlinkSync, writeFileSync } from "node:fs";
import http from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { BuildGround, succeeded } from "./build-kit.ts";
import { until } from "./engine-kit.ts";

let at: BuildGround;

before(async () => {
  at = await BuildGround.make("build");
});

after(async () => {
  await at?.remove();
});

async function built(folder: string, ...args: readonly string[]): Promise<string> {
  return succeeded(await at.build(folder, ...args)).stdout;
}

test("every instruction does what it says, and the whole comes from the cache the second time", async () => {
  const folder = at.contextOf({
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
  assert.equal(await at.run("all:1"), "hi world\n0");
  const ask =
    "cat /srv/deep/a.txt /srv/deep/in.txt '/with blank/b c.txt' /script /inline; id -u; id -g";
  assert.equal(await at.run("all:1", "-c", ask), "a\nin\nblank\none\ntwo\nfor world\n1000\n2000");
  const inspect = (format: string) => at.door.docker("inspect", "-f", format, "all:1");
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
  assert.equal(await at.door.docker("inspect", "-f", "{{.Id}}", "all:2"), id);
  const other = await built(folder, "-q", "--build-arg", "GREETING=bye");
  assert.match(other, /^sha256:[0-9a-f]{64}\n$/);
  // The next image on top of it pulls its trigger.
  const child = at.contextOf({ Dockerfile: "FROM all:1\nUSER root\nENTRYPOINT []" });
  await built(child, "-t", "child:1");
  assert.equal(await at.run("child:1", "cat", "/tmp/triggered"), "triggered");
  await at.door.docker("rmi", "child:1");
});

test("a layer holds what its step changed and nothing that was only mounted; a step that changes nothing makes none", async () => {
  const folder = at.contextOf({
    Dockerfile: "FROM base:1\nRUN echo x > /made\nRUN --mount=type=tmpfs,target=/gone/deep echo y",
  });
  await built(folder, "-t", "clean:1");
  const file = join(at.ground.directory, "clean.tar");
  await at.door.docker("save", "-o", file, "clean:1");
  const manifest = JSON.parse(execFileSync("tar", ["-xOf", file, "manifest.json"]).toString());
  const layers = manifest[0].Layers.slice(1).map((name: string) =>
    execFileSync("sh", ["-c", `tar -xOf ${file} ${name} | tar -tzf - | sort`]).toString(),
  );
  assert.deepEqual(layers, ["made\n"]);
  await at.door.docker("rmi", "clean:1");
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
  const folder = at.contextOf({ Dockerfile: dockerfile, input: "one\n", unused: "1" });
  await built(folder, "-t", "stages:1");
  assert.equal(
    await at
      .run("stages:1", "ls", "-ln", "/a/b/output")
      .then((line) => line.replace(/ +/g, " ").slice(0, 24)),
    "-rw-r----- 1 1000 2000 4",
  );
  assert.equal(
    await at.run("stages:1", "cat", "/a/b/output", "/seed", "/mounted"),
    "one\nfrom the image\none",
  );
  writeFileSync(join(folder, "unused"), "2");
  assert.doesNotMatch(await built(folder), /Running in/);
  writeFileSync(join(folder, "input"), "two\n");
  assert.match(await built(folder, "-t", "stages:1"), /Running in/);
  assert.equal(await at.run("stages:1", "cat", "/a/b/output"), "two");
  const failed = await at.build(folder, "--target", "broken");
  assert.equal(failed.code, 3);
  assert.match(failed.stderr, /The command '\/bin\/sh -c exit 3' returned a non-zero code: 3/);
  // It stays, for who wants to look at it.
  const [left] = at.engine.list();
  assert.equal(left?.state.ExitCode, 3);
  await at.engine.remove(left.id, { force: false, volumes: true });
  const unknown = await at.build(folder, "--target", "nobody");
  assert.match(unknown.stderr, /failed to reach build target nobody/);
  await at.door.docker("rmi", "stages:1");
});

test(".dockerignore leaves files out, and a missing file is said", async () => {
  const folder = at.contextOf({
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
    await at.run("ignored:1", "sh", "-c", "cat /list; ls /all/sub"),
    ".\n..\n.dockerignore\nDockerfile\nkeep.log\nsub\nopen",
  );
  writeFileSync(join(folder, "Dockerfile"), "FROM base:1\nCOPY x.log /");
  const missing = await at.build(folder);
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /x\.log: no such file or directory/);
  await at.door.docker("rmi", "ignored:1");
});

test("ADD unpacks archives, fetches addresses; links in image and context lead nowhere else", async () => {
  const folder = at.contextOf({ "tree/file": "packed\n" });
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
    await at.run("added:1", "sh", "-c", ask),
    "packed\nfetched\npacked\npacked\ntree.tar.gz",
  );
  assert.throws(() => execFileSync("ls", ["/tmp/through"], { stdio: "ignore" }));
  writeFileSync(join(folder, "Dockerfile"), "FROM base:1\nCOPY escape /escaped");
  const escaped = await at.build(folder);
  assert.match(escaped.stderr, /escape: no such file or directory/);
  server.close();
  server.closeAllConnections();
  await at.door.docker("rmi", "added:1");
});

test("RUN mounts: a cache stays between builds, a bound folder is read, --no-cache runs again", async () => {
  const folder = at.contextOf({
    Dockerfile: [
      "FROM base:1",
      "RUN --mount=type=cache,target=/cache --mount=type=bind,source=data,target=/bound \\",
      "  echo x >> /cache/times; cat /cache/times | busybox wc -l > /count; cat /bound/file >> /count",
    ].join("\n"),
    "data/file": "bound\n",
  });
  await built(folder, "-t", "cached:1");
  await built(folder, "-t", "cached:1", "--no-cache");
  assert.equal(await at.run("cached:1", "cat", "/count"), "2\nbound");
  assert.equal(
    await at.run("cached:1", "ls", "/cache").then((text) => /No such file/.test(text)),
    true,
  );
  const secret = at.contextOf({
    Dockerfile: "FROM base:1\nRUN --mount=type=secret,id=s,required=true cat /run/secrets/s",
  });
  assert.match((await at.build(secret)).stderr, /secret s: not found/);
  await at.door.docker("rmi", "cached:1");
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
    const ran = await at.build(at.contextOf({ Dockerfile: text }));
    assert.equal(ran.code, 1);
    assert.match(ran.stderr, sentence);
  }
});

test("a build that is interrupted leaves no container, mount or snapshot", async () => {
  const before = (await at.runtime.snapshots()).length;
  const folder = at.contextOf({ Dockerfile: "FROM base:1\nRUN echo waiting; sleep 1000" });
  const { child, output } = at.door.spawn(["build", "--network", "host", folder]);
  child.stdin?.end();
  await at.untilStepRuns();
  child.kill("SIGINT");
  await output;
  await at.untilNoContainer();
  await until(
    "its snapshots are gone",
    async () => (await at.runtime.snapshots()).length <= before,
  );
  const mounts = execFileSync("cat", ["/proc/self/mounts"]).toString();
  assert.ok(!mounts.includes(`${at.ground.directory}/data/scratch`));
});

test("docker commit and export", async () => {
  await at.door.docker(
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
  const id = await at.door.docker(
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
  assert.equal(await at.door.docker("inspect", "-f", "{{.Id}}", "committed:1"), id);
  assert.equal(await at.run("committed:1"), "done");
  assert.equal(await at.run("committed:1", "sh", "-c", "echo $X; ls /data"), "y");
  assert.equal(
    await at.door.docker("inspect", "-f", "{{.Comment}} {{.Author}} {{.Parent}}", "committed:1"),
    `by hand me ${await at.door.docker("inspect", "-f", "{{.Id}}", "base:1")}`,
  );
  const file = join(at.ground.directory, "exported.tar");
  await at.door.docker("export", "-o", file, "work");
  const names = execFileSync("tar", ["-tf", file]).toString().split("\n");
  assert.ok(names.includes("./result") && !names.includes("./data/seed"));
  await at.door.docker("rm", "work");
  await at.door.docker("rmi", "committed:1");
});

test("docker builder prune forgets all steps, and what was copied is found again", async () => {
  const folder = at.contextOf({
    Dockerfile:
      "FROM base:1 AS made\nRUN echo made > /made\nFROM base:1\nCOPY --from=made /made /copied",
  });
  await built(folder, "-t", "pruned:1");
  assert.doesNotMatch(await built(folder, "-t", "pruned:1"), /Running in/);
  assert.match(await at.door.docker("builder", "prune", "-af"), /Total/);
  const steps = (await at.runtime.images()).filter(({ name }) => name.startsWith("tsswarm-build@"));
  assert.deepEqual(steps, []);
  assert.match(await built(folder), /Running in/);
  assert.equal(await at.run("pruned:1", "cat", "/copied"), "made");
  assert.match(
    await at.door.docker("inspect", "-f", "{{.Config.Env}}", "pruned:1"),
    /PATH=.*\/bin/,
  );
  rmSync(folder, { recursive: true });
});
