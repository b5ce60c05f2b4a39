// Our own command against an engine: run, build, images, volumes, copies, with Docker's exit codes.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { busyboxLayer, Ground } from "./engine-kit.ts";
import { Door, type Ran } from "./image-kit.ts";

const program = [process.execPath, fileURLToPath(new URL("../../cli/main.js", import.meta.url))];
const host = ["--network", "host"];
let ground: Ground;
let door: Door;

before(async () => {
  ground = await Ground.make("cli");
  const { engine } = await ground.open();
  door = await Door.open(ground, engine);
  const tar = busyboxLayer(ground.directory);
  const made = await attempt(["import", "-c", "ENV PATH=/bin", "-", "base:1"], tar);
  assert.match(made.stdout, /^sha256:[0-9a-f]{64}\n$/);
});

after(async () => {
  await door?.close();
  await ground?.remove();
});

function attempt(args: readonly string[], input?: string | Buffer): Promise<Ran> {
  return door.attempt(args, { program, ...(input === undefined ? {} : { input }) });
}

async function tsswarm(...args: readonly string[]): Promise<string> {
  const ran = await attempt(args);
  assert.equal(ran.code, 0, `${args.join(" ")}: ${ran.stderr}`);
  return ran.stdout.trimEnd();
}

/** What a container of the base image says that is gone afterwards. */
function inBase(options: readonly string[], ...command: readonly string[]): Promise<string> {
  return tsswarm("run", "--rm", ...host, ...options, "base:1", ...command);
}

/** The same, with the volume at /data. */
function onVolume(name: string, script: string): Promise<string> {
  return inBase(["-v", `${name}:/data`], "sh", "-c", script);
}

test("run gives the command's output and its exit code, or one of its own", async () => {
  const script = "echo out; echo err >&2; exit 7";
  const both = await attempt(["run", "--rm", ...host, "base:1", "sh", "-c", script]);
  assert.deepEqual(both, { code: 7, stdout: "out\n", stderr: "err\n" });
  const codes = [
    [127, ["base:1", "no-such-program"]],
    [126, ["base:1", "/etc/passwd"]],
    [125, ["--no-such-flag", "base:1"]],
    [125, ["--restart", "never", "base:1"]],
    [125, ["--rm", "--pull", "never", "nobody:1"]],
  ] as const;
  for (const [code, args] of codes)
    assert.equal(
      (await attempt(["run", ...(code === 125 ? [] : ["--rm"]), ...host, ...args])).code,
      code,
      args.join(" "),
    );
  const typed = await attempt(["run", "-i", "--rm", ...host, "base:1", "sort"], "b\na\n");
  assert.equal(typed.stdout, "a\nb\n");
  const options = "-e A=b -w /tmp -u 1000:1000 --read-only --tmpfs /t -l x=y".split(" ");
  const seen = await inBase(options, "sh", "-c", "echo $A; id -u; ls -d /t; echo $PWD");
  assert.equal(seen, "b\n1000\n/t\n/tmp");
});

test("containers are made, asked about and ended", async () => {
  const id = await tsswarm("run", "-d", "--name", "long", ...host, "base:1", "sleep", "1000");
  assert.match(id, /^[0-9a-f]{64}$/);
  assert.match(await tsswarm("container", "ls"), /long/);
  assert.match(await tsswarm("top", "long", "-o", "pid,comm"), /sleep/);
  assert.match(await tsswarm("stats", "--no-stream", "long"), /long .*%/);
  await tsswarm("exec", "long", "sh", "-c", "echo changed > /new");
  assert.match(await tsswarm("diff", "long"), /^A \/new$/m);
  await tsswarm("rename", "long", "longer");
  for (const verb of ["pause", "unpause"]) assert.equal(await tsswarm(verb, "longer"), "longer");
  assert.equal(await tsswarm("kill", "longer"), "longer");
  assert.equal(await tsswarm("wait", "longer"), "137");
  const sum = await tsswarm("commit", "-c", "CMD cat /new", "longer", "made:1");
  assert.match(sum, /^sha256:/);
  assert.equal(await tsswarm("run", "--rm", ...host, "made:1"), "changed");
  await tsswarm("rm", "longer");
  assert.equal((await attempt(["rm", "longer"])).code, 1);
  await tsswarm("rmi", "made:1");
});

test("cp copies files and folders both ways", async () => {
  const folder = join(ground.directory, "copies");
  mkdirSync(join(folder, "tree"), { recursive: true });
  writeFileSync(join(folder, "tree/file"), "from here\n");
  await tsswarm("create", "--name", "box", ...host, "base:1", "true");
  await tsswarm("cp", join(folder, "tree"), "box:/data");
  await tsswarm("cp", join(folder, "tree/file"), "box:/data/renamed");
  await tsswarm("cp", `${join(folder, "tree")}/.`, "box:/data/tree");
  await tsswarm("cp", "box:/data/renamed", join(folder, "back"));
  assert.equal(readFileSync(join(folder, "back"), "utf8"), "from here\n");
  await tsswarm("cp", "box:/data", join(folder, "all"));
  assert.equal(readFileSync(join(folder, "all/tree/file"), "utf8"), "from here\n");
  assert.equal(readFileSync(join(folder, "all/seed"), "utf8"), "from the image\n");
  await tsswarm("cp", "box:/data/.", folder);
  assert.equal(readFileSync(join(folder, "seed"), "utf8"), "from the image\n");
  await tsswarm("rm", "box");
});

test("build, with a secret; push, pull, save and load", async () => {
  const folder = join(ground.directory, "context");
  mkdirSync(join(folder, "big"), { recursive: true });
  writeFileSync(join(folder, "big/left-out"), "x".repeat(1_000_000));
  writeFileSync(join(folder, ".dockerignore"), "big\n");
  writeFileSync(join(folder, "secret.txt"), "hush");
  writeFileSync(
    join(folder, "Dockerfile"),
    "FROM base:1\nARG WHO\nRUN --mount=type=secret,id=s wc -c < /run/secrets/s > /count\nCOPY . /all\nCMD cat /count && ls /all\n",
  );
  const name = `${ground.registry.address}/ours:1`;
  const args = [
    "build",
    "-t",
    name,
    "--secret",
    `id=s,src=${join(folder, "secret.txt")}`,
    ...host,
    folder,
  ];
  assert.match(await tsswarm(...args), /Successfully tagged/);
  assert.equal(await tsswarm("run", "--rm", ...host, name), "4\nDockerfile\nsecret.txt");
  const started = Date.now();
  assert.doesNotMatch(await tsswarm(...args), /Running in/);
  assert.ok(Date.now() - started < 30_000);
  writeFileSync(join(folder, "Dockerfile"), "FROM base:1\nRUN exit 9");
  assert.equal((await attempt(["build", ...host, folder])).code, 9);
  assert.match(await tsswarm("push", name), /1: digest: sha256:/);
  const file = join(ground.directory, "ours.tar");
  await tsswarm("save", "-o", file, name);
  await tsswarm("rmi", name);
  await tsswarm("pull", name);
  await tsswarm("image", "rm", name);
  assert.match(await tsswarm("load", "-i", file), /Loaded image: .*ours:1/);
  assert.match(await tsswarm("history", name), /RUN .*wc -c/);
  assert.match(await tsswarm("images"), /ours +1/);
  await tsswarm("image", "rm", name);
  assert.match(await tsswarm("builder", "prune", "-f"), /Total reclaimed space/);
});

test("volumes: options, backup and restore, prune", async () => {
  assert.equal(await tsswarm("volume", "create", "--label", "a=b", "kept"), "kept");
  await onVolume("kept", "echo two > /data/more");
  const file = join(ground.directory, "kept.tar");
  await tsswarm("volume", "backup", "kept", file);
  await onVolume("kept", "rm /data/seed; echo x > /data/later");
  await tsswarm("volume", "restore", "kept", file);
  const files = await onVolume("kept", "cd /data; ls; cat seed more");
  assert.equal(files, "more\nseed\nfrom the image\ntwo");
  await tsswarm(
    "volume",
    "create",
    "-o",
    "type=tmpfs",
    "-o",
    "device=tmpfs",
    "-o",
    "o=size=2m,uid=1000",
    "memory",
  );
  const memory = await inBase(["-v", "memory:/m"], "busybox", "df", "/m");
  assert.match(memory, /tmpfs +2048 /);
  assert.match(await tsswarm("volume", "ls"), /local +memory/);
  const sub = ["--mount", "type=volume,source=kept,target=/only,volume-subpath=sub"];
  const missing = await attempt(["run", "--rm", ...host, ...sub, "base:1", "true"]);
  assert.match(missing.stderr, /sub.*(no such|does not exist)/i);
  await onVolume("kept", "busybox mkdir /data/sub; echo s > /data/sub/s");
  assert.equal(await inBase(sub, "cat", "/only/s"), "s");
  await tsswarm("create", "--name", "first", "-v", "kept:/data", ...host, "base:1", "true");
  const shared = await inBase(
    ["--volumes-from", "first:ro"],
    "sh",
    "-c",
    "cat /data/more; touch /data/x 2>&1 || busybox touch /data/x 2>&1 || true",
  );
  assert.match(shared, /^two\n(.|\n)*Read-only/);
  await tsswarm("rm", "first");
  await tsswarm("volume", "prune", "-a", "-f");
  assert.equal(await tsswarm("volume", "ls", "-q"), "");
});
