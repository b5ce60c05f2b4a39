// Containers of one host, made by hand with the unmodified docker command: run, attach, networks, ports, restarts.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { machine, socketOf } from "../../deploy/lab/names.ts";
import { attempt, attemptDocker, docker, lab, until, withLab } from "./harness.ts";

const host = "h1";
const image = "registry.lab:5000/busybox";
const msMax = 30_000;
const network = "run-back";
const [meeting, closed, linking] = ["run-meet", "run-shut", "run-link"] as const;

let down: () => Promise<void> = async () => {};

before(async () => {
  down = await withLab();
  await docker(host, "pull", "-q", image);
});

after(async () => {
  for (const each of [host, "h3"]) {
    const left = (await docker(each, "ps", "-aq", "--filter", "label=run-test")).split("\n");
    for (const id of left) if (id !== "") await attemptDocker(each, "rm", "-f", "-v", id);
  }
  await attemptDocker(host, "service", "rm", "run-svc");
  for (const each of [network, meeting, closed, linking])
    await attemptDocker(host, "network", "rm", each);
  await attemptDocker(host, "volume", "rm", "run-data");
  await down();
});

function run(...args: readonly string[]) {
  return attemptDocker(host, "run", "--label", "run-test", ...args);
}

/** In the background; its id. */
async function start(name: string, ...args: readonly string[]): Promise<string> {
  return docker(host, "run", "-d", "--label", "run-test", "--name", name, ...args);
}

async function inspect(name: string, format: string): Promise<string> {
  return docker(host, "inspect", "-f", format, name);
}

/** The docker command with something on its standard input. */
async function typed(input: string, ...args: readonly string[]): Promise<string> {
  const child = spawn("docker", ["-H", `unix://${socketOf(machine(host))}`, ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stdin.end(input);
  await new Promise((resolve) => child.once("close", resolve));
  return output;
}

test("docker run gives the command's output and exit code, and --rm leaves nothing", async () => {
  const both = await run("--rm", image, "sh", "-c", "echo out; echo err >&2; exit 7");
  assert.deepEqual(both, { code: 7, stdout: "out\n", stderr: "err\n" });
  const codes = [
    [127, /executable file not found in \$PATH/, "no-such-program"],
    [126, /permission denied/, "/etc/passwd"],
  ] as const;
  for (const [code, sentence, program] of codes) {
    const ran = await run("--rm", image, program);
    assert.match(ran.stderr, sentence);
    assert.equal(ran.code, code);
  }
  const refused = await run("--rm", "--network", "container:nobody", image, "true");
  assert.match(refused.stderr, /No such container: nobody/);
  assert.equal(refused.code, 125);
  assert.equal(await docker(host, "ps", "-aq", "--filter", "label=run-test"), "");
});

test("shared memory is of those who are let in, and a user nobody knows is told at the start", async () => {
  await start("run-donor", "--ipc", "shareable", image, "sleep", "60");
  const joined = await run(
    "--ipc",
    "container:run-donor",
    image,
    "sh",
    "-c",
    "echo hi > /dev/shm/x",
  );
  assert.equal(joined.code, 0, joined.stderr);
  assert.equal(await docker(host, "exec", "run-donor", "cat", "/dev/shm/x"), "hi");
  assert.equal((await run("--ipc", "none", image, "ls", "/dev/shm")).code, 1);
  const name = "run-nobody";
  await docker(host, "create", "--label", "run-test", "--name", name, "-u", "xyz", image, "true");
  assert.match(await docker(host, "cp", `${name}:/etc/hosts`, "-"), /localhost/);
  const started = await attemptDocker(host, "start", name);
  assert.match(
    started.stderr,
    /daemon: unable to find user xyz: no matching entries in passwd file$/m,
  );
});

test("what is typed reaches the container, whole, and its end too", async () => {
  const input = "x".repeat(1_000_000);
  const args = ["run", "-i", "--rm", "--label", "run-test", image, "sh", "-c", "wc -c; echo done"];
  assert.equal(await typed(input, ...args), "1000000\ndone\n");
});

test("options of docker run are in the container", async () => {
  const options = ["-e", "A=b", "-w", "/tmp", "-u", "1000:1000", "-h", "myhost", "--read-only"];
  const more = ["--add-host", "foo:1.2.3.4", "--tmpfs", "/scratch:size=1m", "--shm-size", "32m"];
  const limits = ["-m", "64m", "--ulimit", "nofile=100:200", "--cap-drop", "ALL"];
  const ask =
    "id -u; pwd; echo $A; hostname; grep -c foo /etc/hosts; ulimit -n; grep CapBnd /proc/self/status; df /scratch /dev/shm | awk 'NR>1{print $2}'; touch /x";
  const ran = await run("--rm", ...options, ...more, ...limits, image, "sh", "-c", ask);
  const lines = ran.stdout.trim().split("\n");
  const capabilities = "CapBnd:\t0000000000000000";
  const wanted = ["1000", "/tmp", "b", "myhost", "1", "100", capabilities, "1024", "32768"];
  assert.deepEqual(lines, wanted);
  assert.match(ran.stderr, /Read-only file system/);
  const volume = ["-v", "run-data:/data"];
  await run("--rm", ...volume, image, "sh", "-c", "echo kept > /data/file");
  const read = await run(
    "--rm",
    ...volume,
    "--init",
    image,
    "sh",
    "-c",
    "cat /data/file; ps -o args",
  );
  assert.match(read.stdout, /^kept\n/);
  assert.match(read.stdout, /docker-init -- sh/);
});

test("published ports answer on the addresses they were bound to, and are nobody else's", async () => {
  const serve = ["sh", "-c", "mkdir /w; echo page > /w/index.html; httpd -f -p 80 -h /w"];
  await start("run-web", "-p", "18080:80", image, ...serve);
  await start("run-own", "-p", "127.0.0.1:18081:80", image, ...serve);
  const get = (from: string, url: string) =>
    attempt(process.execPath, [
      ...[new URL("../../cli/main.js", import.meta.url).pathname, "lab", "exec", from, "--"],
      ...["timeout", "20", "busybox", "wget", "-qO-", url],
    ]);
  await until("the page is there", msMax, async () =>
    (await get(host, "http://127.0.0.1:18080/")).stdout === "page\n" ? true : undefined,
  );
  assert.equal((await get("outside", "http://10.77.0.11:18080/")).stdout, "page\n");
  assert.equal((await get(host, "http://127.0.0.1:18081/")).stdout, "page\n");
  assert.notEqual((await get("outside", "http://10.77.0.11:18081/")).code, 0);
  assert.match(await docker(host, "port", "run-web"), /80\/tcp -> 0\.0\.0\.0:18080/);
  const taken = await run("--rm", "-p", "18080:81", image, "true");
  assert.match(taken.stderr, /Bind for 0\.0\.0\.0:18080 failed: port is already allocated/);
  assert.equal(taken.code, 125);
  await docker(host, "rm", "-f", "run-web", "run-own");
});

test("a network of one's own has names, and containers come and go while they run", async () => {
  await docker(host, "network", "create", "--subnet", "172.40.0.0/24", network);
  await start("run-db", "--network", network, "--network-alias", "db", image, "sleep", "1000");
  const lookups = ["run-db", "db"].map((name) => `ping -c1 -w5 ${name} >/dev/null && echo ${name}`);
  const seen = await run("--rm", "--network", network, image, "sh", "-c", lookups.join(";"));
  assert.equal(seen.stdout, "run-db\ndb\n");
  await start("run-late", image, "sleep", "1000");
  assert.notEqual(
    (await attemptDocker(host, "exec", "run-late", "ping", "-c1", "-w2", "db")).code,
    0,
  );
  await docker(host, "network", "connect", "--ip", "172.40.0.9", network, "run-late");
  await docker(host, "exec", "run-late", "ping", "-c1", "-w5", "db");
  const address = `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`;
  assert.equal(await inspect("run-late", address), "172.40.0.9");
  const joined = await run(
    "--rm",
    "--network",
    "container:run-db",
    image,
    "ip",
    "-o",
    "-4",
    "addr",
  );
  assert.match(joined.stdout, /172\.40\.0\.2\/24/);
  const busy = await attemptDocker(host, "network", "rm", network);
  assert.match(busy.stderr, /has active endpoints/);
  await docker(host, "network", "disconnect", network, "run-late");
  assert.equal((await docker(host, "exec", "run-late", "ip", "-o", "link")).split("\n").length, 2);
  await docker(host, "rm", "-f", "run-db", "run-late");
  await docker(host, "network", "rm", network);
  const alone = await run("--rm", "--network", "none", image, "ip", "-o", "link");
  assert.equal(alone.stdout.trim().split("\n").length, 1);
  assert.match((await run("--rm", "--network", "host", image, "hostname")).stdout, /^h1\n$/);
});

test("restart policies: as often as allowed, and not after a stop", async () => {
  await start("run-fails", "--restart", "on-failure:2", image, "sh", "-c", "echo once; exit 3");
  await until("given up", msMax, async () => {
    const state = await inspect(
      "run-fails",
      "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}",
    );
    return state === "exited 2 3" ? true : undefined;
  });
  assert.equal(await docker(host, "logs", "run-fails"), "once\nonce\nonce");
  await start("run-again", "--restart", "always", image, "sh", "-c", "exit 0");
  await until("restarted", msMax, async () =>
    Number(await inspect("run-again", "{{.RestartCount}}")) > 1 ? true : undefined,
  );
  await docker(host, "stop", "run-again");
  const stopped = await inspect("run-again", "{{.State.Status}} {{.RestartCount}}");
  assert.match(stopped, /^exited /);
  await docker(host, "rm", "run-fails", "run-again");
});

test("a container survives the agent, with its network, its ports' rules and its policy", async () => {
  const loop = "trap 'exit 4' TERM; while :; do sleep 0.1; done";
  const options = ["--restart", "unless-stopped", "-p", "18082:80"];
  const id = await start("run-kept", ...options, image, "sh", "-c", loop);
  await start(
    "run-health",
    "--health-cmd",
    "true",
    "--health-interval",
    "1s",
    image,
    "sleep",
    "99",
  );
  const pid = await inspect(id, "{{.State.Pid}}");
  await lab("crash", host, "agent");
  await until("the agent is back", msMax, async () => {
    const { stdout } = await attemptDocker(host, "inspect", "-f", "{{.State.Pid}}", id);
    return stdout.trim() === pid ? true : undefined;
  });
  assert.match(await docker(host, "ps", "--filter", "name=run-kept"), /0\.0\.0\.0:18082->80\/tcp/);
  await until("healthy", msMax, async () =>
    (await docker(host, "ps", "-q", "--filter", "health=healthy")) === "" ? undefined : true,
  );
  await docker(host, "exec", "run-kept", "ping", "-c1", "-w5", "172.29.0.1");
  // The agent that found it running sees its end, too.
  await docker(host, "exec", "run-kept", "kill", "1");
  await until("restarted", msMax, async () =>
    (await inspect(id, "{{.RestartCount}} {{.State.Status}}")) === "1 running" ? true : undefined,
  );
  await docker(host, "rm", "-f", "run-kept", "run-health");
});

test("pause, top, stats, update, rename, wait, and what they refuse", async () => {
  await start("run-old", image, "sleep", "1000");
  await docker(host, "pause", "run-old");
  assert.match(await docker(host, "ps", "--filter", "status=paused"), /\(Paused\)/);
  const frozen = await attemptDocker(host, "exec", "run-old", "true");
  assert.match(frozen.stderr, /is paused, unpause the container before exec/);
  await docker(host, "unpause", "run-old");
  assert.match(await docker(host, "top", "run-old"), /sleep 1000/);
  assert.match(await docker(host, "stats", "--no-stream", "run-old"), /run-old .* 1\n?$/m);
  await docker(host, "update", "-m", "64m", "--memory-swap", "64m", "run-old");
  assert.equal(await inspect("run-old", "{{.HostConfig.Memory}}"), "67108864");
  await docker(host, "rename", "run-old", "run-new");
  const waiting = docker(host, "wait", "run-new");
  await docker(host, "kill", "run-new");
  assert.equal(await waiting, "137");
  const again = await attemptDocker(host, "kill", "run-new");
  assert.match(again.stderr, /is not running/);
  await docker(host, "rm", "run-new");
});

test("attachable networks of the swarm: containers of any host meet services and each other", async () => {
  const far = (...args: readonly string[]) => docker("h3", ...args);
  await docker(host, "network", "create", "-d", "overlay", "--attachable", meeting);
  await docker(host, "network", "create", "-d", "overlay", closed);
  const service = ["service", "create", "-d", "--name", "run-svc", "--network", meeting];
  await docker(host, ...service, image, "sleep", "1000");
  const labels = ["--label", "run-test"];
  await far(
    "run",
    "-d",
    ...labels,
    "--name",
    "run-far",
    "--network",
    meeting,
    image,
    "sleep",
    "1000",
  );
  await start("run-near", "--network", meeting, "--network-alias", "near", image, "sleep", "1000");
  for (const name of ["run-far", "near", "run-svc"])
    await until(`${name} answers`, msMax, async () => {
      const ping = ["exec", "run-near", "ping", "-c1", "-w2", name];
      return (await attemptDocker(host, ...ping)).code === 0 ? true : undefined;
    });
  await far("exec", "run-far", "ping", "-c1", "-w5", "near");
  const refused = await run("--rm", "--network", closed, image, "true");
  assert.match(refused.stderr, new RegExp(`network ${closed} not manually attachable`));
  assert.equal(refused.code, 125);
  // A container on the bridge joins, and leaves.
  await far("run", "-d", ...labels, "--name", "run-guest", image, "sleep", "1000");
  await far("network", "connect", meeting, "run-guest");
  await docker(host, "exec", "run-near", "ping", "-c1", "-w5", "run-guest");
  await far("network", "disconnect", meeting, "run-guest");
  const busy = await attemptDocker(host, "network", "rm", meeting);
  assert.match(busy.stderr, /in use by/);
  await docker(host, "service", "rm", "run-svc");
  await docker(host, "rm", "-f", "run-near");
  await far("rm", "-f", "run-far", "run-guest");
  await until("the network can be removed", msMax, async () =>
    (await attemptDocker(host, "network", "rm", meeting)).code === 0 ? true : undefined,
  );
  await docker(host, "network", "rm", closed);
});

test("volumes: made, listed, kept while they are used, pruned; files in and out of a container", async () => {
  await docker(host, "volume", "create", "--label", "run-test", "run-made");
  assert.equal(await docker(host, "volume", "ls", "-q", "--filter", "label=run-test"), "run-made");
  const mounts = ["-v", "run-made:/d", "-v", "/anonymous"];
  await start("run-files", ...mounts, image, "sleep", "1000");
  const busy = await attemptDocker(host, "volume", "rm", "run-made");
  assert.match(busy.stderr, /remove run-made: volume is in use - \[[0-9a-f]{64}\]/);
  assert.equal(
    await typed("kept\n", "run", "-i", "--rm", "--volume", "run-made:/d", image, "tee", "/d/file"),
    "kept\n",
  );
  const folder = mkdtempSync(join(tmpdir(), "tsswarm-run-"));
  try {
    mkdirSync(join(folder, "dir"));
    writeFileSync(join(folder, "dir/file"), "copied\n");
    await docker(host, "cp", join(folder, "dir"), "run-files:/tmp/in");
    assert.equal(await docker(host, "exec", "run-files", "cat", "/tmp/in/file"), "copied");
    await docker(host, "cp", "run-files:/d/file", join(folder, "out"));
    assert.equal(readFileSync(join(folder, "out"), "utf8"), "kept\n");
  } finally {
    rmSync(folder, { recursive: true });
  }
  await docker(host, "exec", "run-files", "rm", "/etc/group");
  const changes = (await docker(host, "diff", "run-files")).split("\n");
  for (const change of ["A /tmp/in/file", "C /etc", "D /etc/group", "A /d"])
    assert.equal(changes.includes(change), true, `${change} in ${changes.join(", ")}`);
  const missing = await attemptDocker(host, "cp", "run-files:/nope", "-");
  assert.match(missing.stderr, /Could not find the file \/nope/);
  await docker(host, "rm", "-f", "-v", "run-files");
  assert.equal(
    await docker(
      host,
      "volume",
      "ls",
      "-q",
      "--filter",
      "dangling=true",
      "--filter",
      "name=run-made",
    ),
    "run-made",
  );
  await docker(host, "volume", "prune", "-af", "--filter", "label=run-test");
  assert.equal(await docker(host, "volume", "ls", "-q", "--filter", "name=run-made"), "");
});

test("links, volumes of another, another's processes", async () => {
  await start("run-source", "-v", "run-data:/data", image, "sleep", "1000");
  await docker(host, "network", "create", linking);
  await start("run-called", "--network", linking, image, "sleep", "1000");
  const link = ["--network", linking, "--link", "run-called:alias"];
  assert.match((await run("--rm", ...link, image, "nslookup", "alias")).stdout, /Name:\s+alias/);
  const linked = await run(
    ...["--rm", "--link", "run-source:alias", "--volumes-from", "run-source:ro", image],
    ...["sh", "-c", "ping -c1 -w5 alias >/dev/null && echo linked; touch /data/x"],
  );
  assert.equal(linked.stdout, "linked\n");
  assert.match(linked.stderr, /Read-only/);
  const seen = await run("--rm", "--pid", "container:run-source", image, "ps", "-o", "args");
  assert.match(seen.stdout, /^sleep 1000$/m);
  const gone = await run("--rm", "--link", "run-nobody:x", image, "true");
  assert.equal(gone.code, 125);
  assert.match(gone.stderr, /Cannot link to a non running container: \/run-nobody AS/);
  await docker(host, "rm", "-f", "run-source");
});

test("docker build runs its steps on this host's own network", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tsswarm-build-"));
  try {
    const lines = ["ARG FROM", "FROM $FROM", "RUN ip route | grep -q default && hostname > /built"];
    writeFileSync(join(folder, "Dockerfile"), lines.join("\n"));
    const env = { DOCKER_BUILDKIT: "0" };
    const args = ["-H", `unix://${socketOf(machine(host))}`, "build", "-t", "run-built:1"];
    const build = await attempt("env", [
      ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
      ...["docker", ...args, "--build-arg", `FROM=${image}`, folder],
    ]);
    assert.equal(build.code, 0, build.stderr);
    assert.match((await run("--rm", "run-built:1", "cat", "/built")).stdout, /^[0-9a-f]{12}\n$/);
    await docker(host, "tag", "run-built:1", "registry.lab:5000/run-built:1");
    assert.match(await docker(host, "push", "registry.lab:5000/run-built:1"), /1: digest: sha256:/);
    await docker("h2", "pull", "-q", "registry.lab:5000/run-built:1");
    for (const each of [host, "h2"]) await docker(each, "rmi", "registry.lab:5000/run-built:1");
    await docker(host, "rmi", "run-built:1");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
