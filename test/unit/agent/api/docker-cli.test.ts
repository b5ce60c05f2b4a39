import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { dockerPath, run, runUntil, startFakeDaemon } from "./fakes.ts";

const skip = dockerPath === undefined ? "there is no docker command here" : false;
const image = "registry.lab:5000/whoami:latest";

test("docker version and info show who answers", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  const version = await daemon.docker("version", "--format", "{{.Server.APIVersion}}");
  assert.equal(version.stdout.trim(), "1.50");
  const info = await daemon.docker("info");
  assert.equal(info.code, 0, info.stderr);
  assert.match(info.stdout, /Swarm: active\n {2}NodeID: [0-9a-z]{25}\n {2}Is Manager: true/);
  assert.match(info.stdout, /Server Version: 0\.1\.0/);
});

test("outside a swarm the docker CLI is told so, in Docker's words", { skip }, async () => {
  await using daemon = await startFakeDaemon(false);
  const ran = await daemon.docker("node", "ls");
  assert.equal(ran.code, 1);
  assert.equal(
    ran.stderr.trim(),
    'Error response from daemon: This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
  );
});

test("docker swarm init, join-token, update and leave", { skip }, async () => {
  await using daemon = await startFakeDaemon(false);
  const init = await daemon.docker("swarm", "init", "--advertise-addr", "10.77.0.11");
  assert.equal(init.code, 0, init.stderr);
  assert.match(init.stdout, /docker swarm join --token SWMTKN-1-worker 10\.77\.0\.11:2377/);
  const again = await daemon.docker("swarm", "init");
  assert.match(again.stderr, /Error response from daemon: This node is already part of a swarm/);
  const token = await daemon.docker("swarm", "join-token", "-q", "manager");
  assert.equal(token.stdout.trim(), "SWMTKN-1-manager");
  const rotated = await daemon.docker("swarm", "join-token", "-q", "--rotate", "worker");
  assert.equal(rotated.stdout.trim(), "SWMTKN-1-worker-rotated");
  const updated = await daemon.docker("swarm", "update", "--task-history-limit", "3");
  assert.equal(updated.stdout.trim(), "Swarm updated.");
  assert.equal(daemon.cluster.cluster.Spec?.Orchestration?.TaskHistoryRetentionLimit, 3);
  const stays = await daemon.docker("swarm", "leave");
  assert.equal(stays.code, 1);
  const left = await daemon.docker("swarm", "leave", "--force");
  assert.equal(left.stdout.trim(), "Node left the swarm.");
});

test("docker swarm join with a wrong token fails with a sentence, with a good one it joins", {
  skip,
}, async () => {
  await using daemon = await startFakeDaemon(false);
  const wrong = await daemon.docker("swarm", "join", "--token", "x", "10.77.0.11:2377");
  assert.match(wrong.stderr, /A valid join token is necessary/);
  const joined = await daemon.docker("swarm", "join", "--token", "SWMTKN-1-w", "10.77.0.11:2377");
  assert.equal(joined.stdout.trim(), "This node joined a swarm as a worker.");
  const worker = await daemon.docker("service", "ls");
  assert.match(worker.stderr, /Worker nodes can't be used to view or modify cluster state/);
});

test("docker node ls, ps, inspect and update", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  const list = await daemon.docker("node", "ls");
  assert.match(list.stdout, /^[0-9a-z]{25} \* +h1 +Ready +Active +Leader +0\.1\.0$/m);
  const pretty = await daemon.docker("node", "inspect", "--pretty", "self");
  assert.match(pretty.stdout, /Raft Status:\t\tReachable/);
  const update = await daemon.docker("node", "update", "--label-add", "zone=a", "h1");
  assert.equal(update.code, 0, update.stderr);
  const labels = await daemon.docker("node", "inspect", "-f", "{{.Spec.Labels.zone}}", "h1");
  assert.equal(labels.stdout.trim(), "a");
  assert.equal((await daemon.docker("node", "ps", "self")).code, 0);
  const removal = await daemon.docker("node", "rm", "h1");
  assert.match(removal.stderr, /is not down and can't be removed/);
});

test("docker node ps shows a task whose network is gone already", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  await daemon.docker("service", "create", "-d", "--name", "web", image);
  const [task] = daemon.cluster.tasks.values();
  assert.ok(task !== undefined);
  const Network = { ID: "gone", CreatedAt: "", UpdatedAt: "", VNI: 0 };
  const NetworksAttachments = [{ Network, Addresses: ["10.0.1.5/24"], Aliases: [] }];
  daemon.cluster.tasks.set(task.ID, { ...task, NetworksAttachments });
  const shown = await daemon.docker("node", "ps", "self", "--format", "{{.Name}}");
  assert.deepEqual([shown.stdout.trim(), shown.stderr], ["web.1", ""]);
});

test("docker service create shows progress until the tasks are stable", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  const created = await daemon.docker(
    ...["service", "create", "--name", "web", "--replicas", "3", "--update-monitor", "200ms"],
    ...["-p", "8080:80", image],
  );
  assert.equal(created.code, 0, created.stderr);
  assert.match(created.stdout, /overall progress: 3 out of 3 tasks/);
  assert.match(created.stdout, /converged/);
  const list = await daemon.docker("service", "ls");
  assert.match(
    list.stdout,
    /web +replicated +3\/3 +registry\.lab:5000\/whoami:latest +\*:8080->80/,
  );
  const tasks = await daemon.docker("service", "ps", "web");
  assert.match(tasks.stdout, /web\.3 +registry\.lab:5000\/whoami:latest +h1 +Running +Running/);
  const scaled = await daemon.docker("service", "scale", "web=2");
  assert.match(scaled.stdout, /web scaled to 2/);
  assert.equal(daemon.cluster.tasks.size, 2);
});

test("docker service inspect, update, rollback and rm", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  const create = (name: string) => daemon.docker("service", "create", "-d", "--name", name, image);
  assert.equal((await create("web")).code, 0);
  assert.match((await create("web")).stderr, /daemon: name conflicts with an existing object/);
  const update = await daemon.docker("service", "update", "-d", "--env-add", "A=b", "web");
  assert.equal(update.code, 0, update.stderr);
  const env = ["service", "inspect", "-f", "{{.Spec.TaskTemplate.ContainerSpec.Env}}", "web"];
  assert.equal((await daemon.docker(...env)).stdout.trim(), "[A=b]");
  assert.equal((await daemon.docker("service", "rollback", "-d", "web")).code, 0);
  assert.equal((await daemon.docker(...env)).stdout.trim(), "[]");
  const pretty = await daemon.docker("service", "inspect", "--pretty", "web");
  assert.match(pretty.stdout, /Service Mode:\tReplicated\n Replicas:\t1/);
  const removal = await daemon.docker("service", "rm", "web", "nope");
  assert.equal(removal.stdout.trim(), "web");
  // Before version 25 the command had its own sentence.
  assert.match(removal.stderr, /service nope not found|No such service: nope/);
});

test("docker service logs names task and node of each line", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  await daemon.docker("service", "create", "-d", "--name", "web", "--replicas", "2", image);
  const logs = await daemon.docker("service", "logs", "-t", "web");
  assert.match(
    logs.stdout,
    /^2026-01-02T03:04:05\.000000006Z web\.1\.[0-9a-z]{12}@h1 +\| stdout of 1$/m,
  );
  assert.match(logs.stderr, /web\.2\.[0-9a-z]{12}@h1 +\| stderr of 2/);
  const [task] = daemon.cluster.tasks.keys();
  const one = await daemon.docker("service", "logs", "--raw", task ?? "");
  assert.equal(one.stdout, "stdout of 1\n");
});

for (const { tail, why } of [
  { tail: "x", why: 'tail value must be a positive integer or "all"' },
  { tail: "-3", why: "negative tail values not supported" },
])
  test(`docker service logs --tail ${tail} is refused as by Docker`, { skip }, async () => {
    await using daemon = await startFakeDaemon(true);
    await daemon.docker("service", "create", "-d", "--name", "web", image);
    const logs = await daemon.docker("service", "logs", "--tail", tail, "web");
    assert.equal(logs.code, 1);
    assert.equal(logs.stderr.trim(), `Error response from daemon: ${why}`);
  });

test("docker service logs says at the end, after the lines it has, what is missing", {
  skip,
}, async () => {
  await using daemon = await startFakeDaemon(true);
  await daemon.docker("service", "create", "-d", "--name", "web", "--replicas", "2", image);
  daemon.cluster.logsMissing = "node h3 is not connected";
  const logs = await daemon.docker("service", "logs", "web");
  assert.equal(logs.code, 1);
  assert.match(logs.stdout, /web\.1\..* stdout of 1\nweb\.2\..* stdout of 2\n/);
  assert.match(
    logs.stderr,
    /from daemon in stream: Error grabbing logs: not all lines could be had: node h3 is not connected\n/,
  );
});

test("docker service logs -f names what is missing as a line of its task, and goes on", {
  skip,
}, async () => {
  await using daemon = await startFakeDaemon(true);
  await daemon.docker("service", "create", "-d", "--name", "web", image);
  daemon.cluster.logsMissing = "node h3 is not connected";
  const command = `exec "$0" service logs -f web 2>&1`;
  const seen = await runUntil(
    "/bin/sh",
    ["-c", command, dockerPath ?? ""],
    { DOCKER_HOST: `unix://${daemon.socket}` },
    /web\.1\.[0-9a-z]{12}@h1 +\| node h3 is not connected/,
  );
  assert.match(seen, /web\.1\.[0-9a-z]{12}@h1 +\| stdout of 1/);
});

test("docker service create --network host, and off it again", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  const flags = ["service", "create", "-d", "--name", "web", "--network", "host", image];
  const created = await daemon.docker(...flags);
  assert.equal(created.code, 0, created.stderr);
  const targets = ["service", "inspect", "-f", "{{.Spec.TaskTemplate.Networks}}", "web"];
  assert.match((await daemon.docker(...targets)).stdout, /^\[\{host /);
  const pretty = await daemon.docker("service", "inspect", "--pretty", "web");
  assert.match(pretty.stdout, /Networks: host/);
  const left = await daemon.docker("service", "update", "-d", "--network-rm", "host", "web");
  assert.equal(left.code, 0, left.stderr);
  assert.equal((await daemon.docker(...targets)).stdout.trim(), "[]");
});

test("docker network create, ls, inspect and rm", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  const created = await daemon.docker("network", "create", "-d", "overlay", "front");
  assert.match(created.stdout, /^[0-9a-z]{25}\n$/);
  const list = await daemon.docker("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}");
  assert.deepEqual(list.stdout.trim().split("\n").sort(), [
    "bridge bridge local",
    "front overlay swarm",
    "host host local",
    "ingress overlay swarm",
    "none null local",
  ]);
  const twice = await daemon.docker("network", "create", "-d", "overlay", "front");
  assert.match(twice.stderr, /network with name front already exists/);
  await daemon.docker("service", "create", "-d", "--name", "web", "--network", "front", image);
  const used = await daemon.docker("network", "rm", "front");
  assert.match(used.stderr, /is in use by a service/);
  const inspected = await daemon.docker("network", "inspect", "-v", "front");
  assert.match(inspected.stdout, /"Subnet": "10\.0\.1\.0\/24"/);
  await daemon.docker("service", "rm", "web");
  assert.equal((await daemon.docker("network", "rm", "front")).stdout.trim(), "front");
});

test("docker ps, inspect, logs, stop and rm of a task's container", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  daemon.engine.add("web.1.abc");
  const list = await daemon.docker("ps");
  assert.match(list.stdout, /whoami:latest +"whoami -v" +2 minutes ago +Up About a minute/);
  const none = await daemon.docker("ps", "-q", "--filter", "name=other");
  assert.equal(none.stdout, "");
  const nothing = await daemon.docker("inspect", "nothing");
  assert.match(nothing.stderr, /No such object: nothing/);
  const address = ["inspect", "-f", "{{.NetworkSettings.Networks.web.IPAddress}}", "web.1.abc"];
  assert.equal((await daemon.docker(...address)).stdout.trim(), "10.0.1.5");
  const logs = await daemon.docker("logs", "-t", "web.1.abc");
  assert.equal(logs.stdout, "2026-01-02T03:04:05.000000006Z stdout line\n");
  assert.equal(logs.stderr, "2026-01-02T03:04:05.000000006Z stderr line\n");
  assert.match(
    (await daemon.docker("rm", "web.1.abc")).stderr,
    /cannot remove a running container/,
  );
  assert.equal((await daemon.docker("stop", "web.1.abc")).code, 0);
  assert.match((await daemon.docker("ps", "-a")).stdout, /Exited \(0\)/);
  assert.equal((await daemon.docker("rm", "web.1.abc")).code, 0);
});

test("docker exec gives output, errors, the exit code, and takes input", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  daemon.engine.add("web");
  const ran = await daemon.docker("exec", "web", "sh", "-c", "echo out; echo err >&2; exit 3");
  assert.deepEqual(ran, { code: 3, stdout: "out\n", stderr: "err\n" });
  const big = await run(
    "sh",
    ["-c", `head -c 3000000 /dev/zero | ${dockerPath} exec -i web cat | wc -c`],
    { DOCKER_HOST: `unix://${daemon.socket}` },
  );
  assert.equal(big.stdout.trim(), "3000000", big.stderr);
  const detached = await daemon.docker("exec", "-d", "web", "true");
  assert.equal(detached.code, 0, detached.stderr);
  const none = await daemon.docker("exec", "web", "no-such-program");
  assert.deepEqual([none.code, /executable file not found/.test(none.stdout)], [127, true]);
  const missing = await daemon.docker("exec", "nothing", "true");
  assert.match(missing.stderr, /Error.*: No such container: nothing/);
});

test("docker exec -it works on a terminal", {
  skip: skip || !existsSync("/usr/bin/script"),
}, async () => {
  await using daemon = await startFakeDaemon(true);
  daemon.engine.add("web");
  const command = `stty cols 80 rows 24; exec ${dockerPath} exec -it web sh -c 'read x; echo got:$x'`;
  const ran = await run(
    "sh",
    ["-c", `echo hello | script -qec "${command.replace("$", "\\$")}" /dev/null`],
    {
      DOCKER_HOST: `unix://${daemon.socket}`,
    },
  );
  assert.match(ran.stdout, /got:hello/, ran.stderr);
  assert.deepEqual(daemon.engine.resized[0], "24x80");
});

test("docker exec -it is left with ctrl-p ctrl-q, and the process goes on", {
  skip: skip || !existsSync("/usr/bin/script"),
}, async () => {
  await using daemon = await startFakeDaemon(true);
  daemon.engine.add("web");
  const typed = "(sleep 0.5; printf '\\020\\021'; sleep 0.5)";
  const command = `${dockerPath} exec -it web sleep 20`;
  const ran = await run("sh", ["-c", `${typed} | script -qec "${command}" /dev/null`], {
    DOCKER_HOST: `unix://${daemon.socket}`,
  });
  const [state] = daemon.engine.execs.values();
  assert.equal(state?.running, true, ran.stdout + ran.stderr);
  process.kill(state.pid);
});

test("docker logs -f follows until it is interrupted", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  daemon.engine.add("web");
  const args = ["logs", "-f", "web"];
  const env = { DOCKER_HOST: `unix://${daemon.socket}` };
  const stdout = await runUntil(dockerPath ?? "", args, env, /stdout line/);
  assert.equal(stdout, "stdout line\n");
});

test("docker pull shows layers, and what went wrong", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  const pulled = await daemon.docker("pull", image);
  assert.equal(pulled.code, 0, pulled.stderr);
  assert.match(pulled.stdout, /aaaaaaaaaaaa: Pull complete/);
  const missing = await daemon.docker("pull", "registry.lab:5000/missing");
  assert.match(missing.stderr, /Error response from daemon: manifest for .* not found/);
  const broken = await daemon.docker("pull", "registry.lab:5000/broken");
  assert.equal(broken.code, 1);
  assert.match(broken.stderr, /connection reset/);
});

test("docker images, image inspect and rmi", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  const list = await daemon.docker("images");
  assert.match(
    list.stdout,
    /registry\.lab:5000\/whoami +latest +aaaaaaaaaaaa +2 days ago +12\.3MB/,
  );
  const one = await daemon.docker("images", "-q", "registry.lab:5000/who*");
  assert.equal(one.stdout.trim(), "aaaaaaaaaaaa");
  const none = await daemon.docker("images", "-q", "busybox");
  assert.equal(none.stdout, "");
  const inspected = await daemon.docker("inspect", "-f", "{{.Id}}", image);
  assert.equal(inspected.stdout.trim(), `sha256:${"a".repeat(64)}`);
  const used = await daemon.docker("rmi", image);
  assert.match(used.stderr, /a container uses it/);
  assert.match((await daemon.docker("rmi", "-f", image)).stdout, /Untagged: registry\.lab/);
});

test("docker service create pins the image by the registry's digest", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  const created = await daemon.docker("service", "create", "-d", "--name", "web", image);
  assert.equal(created.stderr, "");
  const format = "{{.Spec.TaskTemplate.ContainerSpec.Image}} {{.Spec.TaskTemplate.Placement}}";
  const inspected = await daemon.docker("service", "inspect", "-f", format, "web");
  assert.match(inspected.stdout, /whoami:latest@sha256:d{64} .*amd64 linux/);
});

test("docker events tells of containers and services", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  const container = daemon.engine.add("web");
  const since = String(Math.floor(Date.now() / 1000) - 10);
  daemon.engine.announce("start", container);
  const events = runUntil(
    dockerPath ?? "",
    ["events", "--since", since],
    { DOCKER_HOST: `unix://${daemon.socket}` },
    /service create/,
  );
  await daemon.cluster.watched;
  await daemon.docker("service", "create", "-d", "--name", "web", image);
  const stdout = await events;
  assert.match(stdout, /container start [0-9a-f]{64} \(.*name=web/);
  assert.match(stdout, /service create [0-9a-z]{25} \(name=web\)/);
  const past = ["events", "--since", since, "--until", String(Math.ceil(Date.now() / 1000))];
  assert.match((await daemon.docker(...past)).stdout, /container start/);
});

test("what is not there yet is said in a sentence", { skip }, async () => {
  await using daemon = await startFakeDaemon(true);
  const ran = await daemon.docker("run", "--gpus", "all", image);
  assert.match(
    ran.stderr,
    /device requests \(--gpus\) is not available in this version of tsswarm/,
  );
  assert.equal(ran.code, 125);
  assert.equal((await daemon.docker("system", "df")).code, 0);
  assert.equal((await daemon.docker("volume", "ls", "-q")).stdout, "");
});
