// The engine over a real containerd, a real registry and real containers.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import type { ContainerConfig, HostConfig } from "../../agent/engine/container-types.ts";
import type { OpenEngine } from "../../agent/engine/engine.ts";
import type { ContainerEvent } from "../../agent/engine/types.ts";
import type { Runtime } from "../../agent/runtime/types.ts";
import { busyboxLayer, Ground, pushImage, smallLayer, until } from "./engine-kit.ts";

const signal = new AbortController().signal;
let ground: Ground;
let runtime: Runtime;
let engine: OpenEngine;
let image = "";
let digest = "";
let names = 0;

before(async () => {
  ground = await Ground.make("engine");
  const { directory, registry } = ground;
  const layers = [
    { tar: busyboxLayer(directory), compression: "gzip" },
    { tar: smallLayer(directory, "second", "two"), compression: "zstd" },
    { tar: smallLayer(directory, "third", "three"), compression: "gzip" },
  ] as const;
  digest = await pushImage(registry.address, "tools/busybox:1", {
    layers,
    config: { Cmd: ["/bin/sleep", "1000"], Env: ["FROM=image", "PATH=/bin"], Labels: { a: "b" } },
    indexed: true,
  });
  image = `${registry.address}/tools/busybox:1`;
  ({ engine, runtime } = await ground.open());
});

after(() => ground?.remove());

function create(
  own: Partial<ContainerConfig> = {},
  host: HostConfig = {},
  name = `test-${++names}`,
): Promise<string> {
  return engine.create(
    { name, config: { Image: image, ...own }, host, networkNamespace: "", networks: {} },
    signal,
  );
}

async function output(id: string, tail = -1): Promise<string> {
  let text = "";
  const query = { stdout: true, stderr: true, follow: false, tail };
  for await (const records of engine.logs(id, query, signal))
    for (const { data } of records) text += data.toString();
  return text;
}

async function collect(stream: Readable | null): Promise<string> {
  let text = "";
  for await (const chunk of stream ?? []) text += String(chunk);
  return text;
}

async function runToEnd(
  command: readonly string[],
  own: Partial<ContainerConfig> = {},
  host: HostConfig = {},
): Promise<{ readonly exitCode: number; readonly text: string }> {
  const id = await create({ Cmd: command, ...own }, host);
  await engine.start(id);
  const { exitCode } = await engine.wait(id, signal);
  const text = await output(id);
  await engine.remove(id, { force: false, volumes: true });
  return { exitCode, text };
}

test("an image behind an index is pulled, with gzip and zstd layers, and shown", async () => {
  const lines: string[] = [];
  const pulled = await engine.pull(image, null, (line) => lines.push(line.status), signal);
  assert.equal(pulled.digest, digest);
  assert.equal(lines.filter((line) => line === "Pull complete").length, 3);
  const [summary] = await engine.images();
  assert.deepEqual(summary?.repoTags, [image]);
  assert.equal(summary?.id, pulled.id);
  assert.ok((summary?.size ?? 0) > 1_000_000);
  const inspected = await engine.inspectImage(image);
  assert.equal(inspected["Id"], pulled.id);
  await engine.pull(image, null, (line) => lines.push(line.status), signal);
  assert.match(lines.at(-1) ?? "", /up to date/);
  assert.equal((await engine.distribution(image, null, signal)).Descriptor.digest, digest);
});

test("a container runs its image's command, its output is logged, its exit code seen", async () => {
  const done = await runToEnd(["/bin/sh", "-c", "echo out; echo err >&2; cat /second; exit 7"]);
  assert.equal(done.exitCode, 7);
  assert.match(done.text, /^(out\nerr|err\nout)\ntwo$/);
});

test("events come in the order of a life", async () => {
  const stop = new AbortController();
  const seen: ContainerEvent["action"][] = [];
  const events = engine.events(stop.signal);
  const reading = (async () => {
    for await (const event of events) seen.push(event.action);
  })();
  await runToEnd(["/bin/true"]);
  stop.abort();
  await reading;
  assert.deepEqual(seen, ["create", "start", "die", "destroy"]);
});

test("stop sends the signal, waits, then kills", async () => {
  const polite = await create({
    Cmd: ["/bin/sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done"],
  });
  await engine.start(polite);
  await until("it listens", async () => (await output(polite)) !== "");
  await engine.stop(polite, 10_000, signal);
  assert.equal(engine.inspect(polite).state.ExitCode, 3);
  assert.match(await output(polite), /bye/);
  const deaf = await create({
    Cmd: ["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"],
  });
  await engine.start(deaf);
  await until("it listens", async () => (await output(deaf)) !== "");
  await engine.stop(deaf, 200, signal);
  assert.equal(engine.inspect(deaf).state.ExitCode, 137);
  await engine.start(polite);
  assert.equal(engine.inspect(polite).state.Status, "running");
  await assert.rejects(engine.remove(polite, { force: false, volumes: false }), /is running/);
  await engine.remove(polite, { force: true, volumes: false });
  await engine.remove(deaf, { force: true, volumes: false });
  assert.throws(() => engine.inspect(polite), /No such container/);
});

test("containers survive the agent, and what ended meanwhile is found out", async () => {
  const Healthcheck = { Test: ["CMD", "/bin/true"], Interval: 100e6 };
  const lasting = await create({ Healthcheck });
  const short = await create({ Cmd: ["/bin/sh", "-c", "sleep 5; echo late; exit 5"] });
  const forgotten = await create();
  await engine.start(lasting);
  await engine.start(short);
  await engine.start(forgotten);
  const { Pid } = engine.inspect(lasting).state;
  await engine.close();
  await runtime.kill(forgotten, "", 9, false);
  rmSync(join(ground.directory, "data/containers", forgotten), { recursive: true });
  await until("the short one has ended", async () => {
    const found = await runtime.process(short, "");
    return found?.status === "stopped";
  });
  runtime.close();
  ({ engine, runtime } = await ground.open());
  assert.equal(engine.inspect(lasting).state.Pid, Pid);
  assert.equal(engine.inspect(lasting).state.Status, "running");
  const probed = engine.inspect(lasting).state.Health?.Log.at(-1)?.Start;
  await until("it is probed again", () => {
    return engine.inspect(lasting).state.Health?.Log.at(-1)?.Start !== probed;
  });
  assert.deepEqual(await engine.wait(short, signal), { exitCode: 5 });
  assert.equal(await output(short), "late\n");
  assert.equal(await runtime.process(forgotten, ""), null);
  await engine.remove(short, { force: false, volumes: false });
  await engine.stop(lasting, 100, signal);
  await engine.remove(lasting, { force: false, volumes: false });
});

test("containers and their waits survive containerd", async () => {
  const id = await create({ Cmd: ["/bin/sh", "-c", "echo one; sleep 2; echo two; exit 9"] });
  await engine.start(id);
  const { Pid } = engine.inspect(id).state;
  const waiting = engine.wait(id, signal);
  await ground.containerd.crash();
  assert.equal((await runtime.process(id, ""))?.pid, Pid);
  assert.deepEqual(await waiting, { exitCode: 9 });
  assert.equal(await output(id), "one\ntwo\n");
  await engine.remove(id, { force: false, volumes: false });
});

test("from create to running takes about as long as runc needs", async () => {
  const times: number[] = [];
  for (let i = 0; i < 10; i++) {
    const before = performance.now();
    const id = await create();
    await engine.start(id);
    times.push(performance.now() - before);
    await engine.remove(id, { force: true, volumes: false });
  }
  times.sort((a, b) => a - b);
  console.log(`create to running: ${times.map((t) => Math.round(t)).join(" ")} ms`);
  assert.ok((times[5] ?? 0) < 10_000);
});

test("the files in /etc are ours", async () => {
  const { text } = await runToEnd(["/bin/cat", "/etc/hostname", "/etc/hosts"], { Hostname: "box" });
  assert.match(text, /^box\n/);
  assert.match(text, /127\.0\.0\.1\tlocalhost/);
  assert.equal(readFileSync("/etc/hostname", "utf8").includes("box"), false);
});

test("an exec has its own streams, environment, user and exit code", async () => {
  const id = await create({ Env: ["OWN=container"] });
  await engine.start(id);
  const outputs = { attachStdout: true, attachStderr: true };
  const plain = { ...outputs, workingDir: "", privileged: false, detachKeys: "" };
  const execId = await engine.createExec(id, {
    ...plain,
    cmd: ["/bin/sh", "-c", "echo $FROM $OWN $MINE; id -u; id -G; echo err >&2; cat; exit 4"],
    env: ["MINE=exec"],
    user: "app",
    tty: false,
    attachStdin: true,
  });
  const streams = await engine.startExec(execId, signal);
  assert.equal(engine.inspectExec(execId).running, true);
  streams.stdin?.end("from stdin");
  const [out, err, code] = await Promise.all([
    collect(streams.stdout),
    collect(streams.stderr),
    streams.exited,
  ]);
  assert.equal(out, "image container exec\n1000\n1000 2000\nfrom stdin");
  assert.equal(err, "err\n");
  assert.equal(code, 4);
  assert.equal(engine.inspectExec(execId).exitCode, 4);
  const terminal = await engine.createExec(id, {
    ...plain,
    cmd: ["/bin/sh", "-c", "read line; echo got $line; /bin/busybox stty size"],
    env: [],
    user: "",
    tty: true,
    attachStdin: true,
  });
  const shell = await engine.startExec(terminal, signal);
  await engine.resizeExec(terminal, 33, 101);
  shell.stdin?.write("words\n");
  const text = await collect(shell.stdout);
  assert.match(text, /got words\r\n33 101\r\n/);
  assert.equal(await shell.exited, 0);
  const missing = await engine.createExec(id, {
    ...plain,
    cmd: ["/nothing"],
    env: [],
    user: "",
    tty: false,
    attachStdin: false,
  });
  await assert.rejects(engine.startExec(missing, signal), /no such file/);
  await engine.remove(id, { force: true, volumes: true });
  assert.throws(() => engine.inspectExec(execId), /No such exec/);
});

test("health is checked by exec and shown", async () => {
  const ns = 1e6;
  const id = await create({
    Healthcheck: {
      Test: ["CMD-SHELL", "cat /tmp/ok"],
      Interval: 150 * ns,
      Timeout: 2000 * ns,
      Retries: 2,
    },
  });
  const stop = new AbortController();
  const seen: string[] = [];
  const events = engine.events(stop.signal);
  const reading = (async () => {
    for await (const event of events)
      if (event.action === "health_status") seen.push(event.container.state.Health?.Status ?? "");
  })();
  await engine.start(id);
  await until("it is unhealthy", () => engine.inspect(id).state.Health?.Status === "unhealthy");
  const plain = { env: [], user: "", workingDir: "", tty: false };
  const more = { privileged: false, detachKeys: "" };
  const repair = await engine.createExec(id, {
    ...plain,
    ...more,
    cmd: ["/bin/sh", "-c", "echo ok > /tmp/ok"],
    attachStdin: false,
    attachStdout: false,
    attachStderr: false,
  });
  assert.equal(await (await engine.startExec(repair, signal)).exited, 0);
  await until("it is healthy", () => engine.inspect(id).state.Health?.Status === "healthy");
  // An event comes a turn later than what it tells of.
  await until("both changes are told", () => seen.length >= 2);
  assert.deepEqual(seen, ["unhealthy", "healthy"]);
  assert.equal(engine.inspect(id).state.Health?.Log.at(-1)?.Output, "ok\n");
  stop.abort();
  await reading;
  await engine.remove(id, { force: true, volumes: true });
});

test("volumes are made and filled on first use, binds and tmpfs are mounted", async () => {
  const mount = (Type: string, Source: string, Target: string, ReadOnly = false) => ({
    Type,
    Source,
    Target,
    ReadOnly,
    Consistency: "",
  });
  const Mounts = [
    mount("volume", "kept", "/data"),
    mount("bind", ground.directory, "/host", true),
    mount("tmpfs", "", "/scratch"),
  ];
  const first = await runToEnd(
    [
      "/bin/sh",
      "-c",
      "cat /data/seed; echo new > /data/new; echo x > /host/x; echo y > /scratch/y",
    ],
    {},
    { Mounts },
  );
  assert.match(first.text, /from the image/);
  assert.match(first.text, /Read-only file system/);
  const second = await runToEnd(["/bin/cat", "/data/new"], {}, { Mounts });
  assert.equal(second.text, "new\n");
  assert.equal(
    readFileSync(join(ground.directory, "data/volumes/kept/_data/new"), "utf8"),
    "new\n",
  );
  const nowhere = { Mounts: [mount("bind", "/nowhere", "/x")] };
  await assert.rejects(create({}, nowhere), /bind source path does not exist: \/nowhere/);
  assert.equal((await runtime.snapshots()).filter((s) => s.isActive).length, 0);
});

test("users, limits and confinement are what Docker gives", async () => {
  const user = await runToEnd(["/bin/sh", "-c", "id -u; id -g; id -G; echo $HOME"], {
    User: "app",
  });
  assert.equal(user.text, "1000\n1000\n1000 2000\n/\n");
  const confined = await runToEnd(
    ["/bin/sh", "-c", "cat /proc/self/status; /bin/busybox mount -t tmpfs x /tmp; echo $?"],
    {},
    { Memory: 32 * 1024 * 1024, PidsLimit: 20, NanoCpus: 5e8, CapDrop: ["NET_RAW"] },
  );
  assert.match(confined.text, /CapEff:\t00000000a80405fb|CapEff:\t00000000a80425fb/);
  assert.match(confined.text, /Seccomp:\t2/);
  assert.match(confined.text, /\n1\n/);
  const strange = await create({ User: "nobody-here" });
  await assert.rejects(engine.start(strange), /unable to find user nobody-here/);
  await engine.remove(strange, { force: false, volumes: true });
  const id = await create({ Cmd: ["/no/such/program"] });
  await assert.rejects(engine.start(id), /no such file/);
  assert.equal(engine.inspect(id).state.ExitCode, 127);
  assert.notEqual(engine.inspect(id).state.Error, "");
  await engine.remove(id, { force: false, volumes: true });
});

test("a container with a terminal, one that cannot write its root, one on the host's network", async () => {
  const id = await create({
    Cmd: ["/bin/sh", "-c", "test -t 1 && echo terminal $TERM"],
    Tty: true,
  });
  await engine.start(id);
  await engine.wait(id, signal);
  assert.equal(await output(id), "terminal xterm\r\n");
  await engine.remove(id, { force: false, volumes: true });
  const fixed = await runToEnd(["/bin/sh", "-c", "echo x > /x"], {}, { ReadonlyRootfs: true });
  assert.match(fixed.text, /Read-only file system/);
  const { text } = await runToEnd(["/bin/cat", "/etc/hostname", "/proc/sys/kernel/hostname"]);
  assert.equal(text, `${hostname()}\n${hostname()}\n`);
});

test("too much memory ends with OOMKilled", async () => {
  const id = await create(
    { Cmd: ["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=128M", "count=1"] },
    { Memory: 16 * 1024 * 1024, MemorySwap: 16 * 1024 * 1024 },
  );
  await engine.start(id);
  assert.equal((await engine.wait(id, signal)).exitCode, 137);
  await until("it is known", () => engine.inspect(id).state.OOMKilled);
  await engine.remove(id, { force: false, volumes: true });
});

test("a process that dies of too much memory is known while its container goes on", async () => {
  const id = await create(
    { Cmd: ["/bin/sh", "-c", "dd if=/dev/zero of=/dev/null bs=128M count=1; sleep 1000"] },
    { Memory: 16 * 1024 * 1024, MemorySwap: 16 * 1024 * 1024 },
  );
  await engine.start(id);
  await until("it is known", () => engine.inspect(id).state.OOMKilled);
  assert.equal(engine.inspect(id).state.Status, "running");
  await engine.remove(id, { force: true, volumes: true });
});

test("logs can be followed to the end, and cut from the tail", async () => {
  const id = await create({
    Cmd: ["/bin/sh", "-c", "for i in $(seq 5); do echo $i; sleep 0.1; done"],
  });
  await engine.start(id);
  let text = "";
  const query = { stdout: true, stderr: true, follow: true, tail: -1 };
  for await (const records of engine.logs(id, query, signal))
    for (const { data } of records) text += data.toString();
  assert.equal(text, "1\n2\n3\n4\n5\n");
  assert.equal(await output(id, 2), "4\n5\n");
  assert.equal(await output(id, 0), "");
  await engine.remove(id, { force: false, volumes: true });
});

test("a keeper that was restarted is told again whose output to follow", async () => {
  const id = await create({
    Cmd: ["/bin/sh", "-c", "for i in $(seq 20); do echo $i; sleep 0.05; done"],
  });
  await engine.start(id);
  await ground.keeper.restart();
  await engine.wait(id, signal);
  const lines = (await output(id)).trim().split("\n");
  assert.deepEqual(
    lines,
    Array.from({ length: 20 }, (_, i) => String(i + 1)),
  );
  assert.deepEqual(ground.keeper.followed, []);
  await engine.remove(id, { force: false, volumes: true });
});

test("a layer that is not what its digest says is refused, and right again when the registry is", async () => {
  const name = `${ground.registry.address}/tools/broken:1`;
  const tar = smallLayer(ground.directory, "broken", "right");
  await pushImage(ground.registry.address, "tools/broken:1", {
    layers: [{ tar, compression: "gzip" }],
    config: {},
  });
  const hash = createHash("sha256").update(gzipSync(tar)).digest("hex");
  const file = join(
    ground.directory,
    "registry/registry/docker/registry/v2/blobs/sha256",
    hash.slice(0, 2),
    hash,
    "data",
  );
  const right = readFileSync(file);
  const wrong = Buffer.from(right);
  wrong.writeUInt8(wrong.readUInt8(40) ^ 1, 40);
  writeFileSync(file, wrong);
  await assert.rejects(
    engine.pull(name, null, () => {}, signal),
    /something else/,
  );
  assert.ok((await engine.images()).every((found) => !found.repoTags.includes(name)));
  writeFileSync(file, right);
  await engine.pull(name, null, () => {}, signal);
  await engine.removeImage(name, false);
});

test("images that share layers, and names of one image, are pulled at once", async () => {
  const { directory, registry } = ground;
  const big = (name: string) => ({
    tar: smallLayer(directory, name, randomBytes(3 << 20).toString("base64")),
    compression: "gzip" as const,
  });
  const shared = [
    { tar: busyboxLayer(directory), compression: "gzip" as const },
    big("shared-1"),
    big("shared-2"),
  ];
  const references: string[] = [];
  for (const name of ["left", "right"]) {
    const own = { tar: smallLayer(directory, `${name}-own`, name), compression: "gzip" } as const;
    const made = { layers: [...shared, own], config: { Cmd: ["/bin/cat", `/${name}-own`] } };
    for (const tag of ["1", "2"]) {
      await pushImage(registry.address, `shared/${name}:${tag}`, made);
      references.push(`${registry.address}/shared/${name}:${tag}`);
    }
  }
  const twice = [...references, ...references];
  await Promise.all(twice.map((one) => engine.pull(one, null, () => {}, signal)));
  for (const reference of references) {
    const done = await runToEnd([], { Image: reference, Cmd: null });
    assert.equal(done.text, /left|right/.exec(reference)?.[0]);
  }
  for (const reference of references) await engine.removeImage(reference, false);
});

test("many containers at once all run", async () => {
  const started = performance.now();
  const ids = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const id = await create();
      await engine.start(id);
      return id;
    }),
  );
  console.log(`20 containers at once: ${Math.round(performance.now() - started)} ms`);
  assert.ok(ids.every((id) => engine.inspect(id).state.Status === "running"));
  await Promise.all(ids.map((id) => engine.remove(id, { force: true, volumes: true })));
});

test("removing the last name of an image lets containerd collect it", async () => {
  const id = await create();
  await assert.rejects(engine.removeImage(image, false), /is using its referenced image/);
  await engine.remove(id, { force: false, volumes: true });
  const removed = await engine.removeImage(image, false);
  assert.deepEqual(Object.keys(removed.at(-1) ?? {}), ["Deleted"]);
  assert.deepEqual(await engine.images(), []);
  await until("the layers are gone", async () => (await runtime.snapshots()).length === 0);
  await assert.rejects(create(), /No such image/);
});
