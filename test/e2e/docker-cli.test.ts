// The unmodified docker command against every host's socket: what it is told, what it prints, how it ends.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import { after, before, test } from "node:test";
import { machine, socketOf } from "../../deploy/lab/names.ts";
import {
  attempt,
  attemptDocker,
  docker,
  lab,
  type RunningTask,
  removeNetwork,
  until,
  untilReady,
  untilRunning,
  withLab,
} from "./harness.ts";

const [manager, worker] = ["h1", "h3"] as const;
const hosts = ["h1", "h2", "h3"] as const;
const whoami = "registry.lab:5000/whoami";
const busybox = "registry.lab:5000/busybox";
const startMsMax = 60_000;
const readyMsMax = 60_000;

let down: () => Promise<void> = async () => {};

before(async () => {
  down = await withLab();
});

after(async () => {
  const left = ["cli-web", "cli-talk", "cli-lost"];
  for (const name of left) await attemptDocker(manager, "service", "rm", name);
  await removeNetwork(manager, "cli-front", startMsMax);
  await down();
});

async function one(service: string): Promise<RunningTask> {
  const [task] = await untilRunning(manager, service, 1, startMsMax);
  assert.ok(task !== undefined);
  return task;
}

test("docker version and docker info tell who answers on each host", async () => {
  for (const host of hosts) {
    const versions = await docker(host, "version", "--format", "{{.Server.APIVersion}}");
    assert.equal(versions, "1.50");
    const format = "{{.Name}} {{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}";
    const info = await docker(host, "info", "--format", format);
    assert.equal(info, `${host} active ${host === manager}`);
    assert.match(await docker(host, "info"), /Swarm: active/);
  }
});

test("docker node ls, inspect, ps and update", async () => {
  const format = "{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}";
  const rows = (await docker(manager, "node", "ls", "--format", format)).split("\n");
  assert.deepEqual(rows.map((row) => row.trim()).sort(), [
    "h1 Ready Active Leader",
    "h2 Ready Active",
    "h3 Ready Active",
  ]);
  assert.match(await docker(manager, "node", "ls"), /^[0-9a-z]{25} \* +h1 /m);
  assert.equal(
    await docker(manager, "node", "inspect", "-f", "{{.Status.Addr}}", worker),
    "10.77.0.13",
  );
  const pretty = await docker(manager, "node", "inspect", "--pretty", "self");
  assert.match(
    pretty,
    /Manager Status:\n Address:\t\t10\.77\.0\.11:2377\n Raft Status:\t\tReachable/,
  );
  await docker(manager, "node", "update", "--label-add", "zone=far", worker);
  const label = ["node", "inspect", "-f", "{{.Spec.Labels.zone}}", worker];
  assert.equal(await docker(manager, ...label), "far");
  await docker(manager, "node", "update", "--label-rm", "zone", worker);
  await docker(manager, "node", "ps", worker);
  const missing = await attemptDocker(manager, "node", "inspect", "nobody");
  assert.deepEqual([missing.code, /nobody/.test(missing.stderr)], [1, true]);
});

test("a worker answers for itself, and sends one to a manager for the rest", async () => {
  for (const args of [
    ["node", "ls"],
    ["service", "ls"],
    ["swarm", "join-token", "worker"],
  ]) {
    const { code, stderr } = await attemptDocker(worker, ...args);
    assert.equal(code, 1);
    assert.match(stderr, /This node is not a swarm manager\. Worker nodes can't be used to view/);
  }
  const networks = await docker(worker, "network", "ls", "--format", "{{.Name}}");
  assert.match(networks, /bridge/);
});

test("docker network create, ls, inspect, and what it refuses", async () => {
  const create = ["network", "create", "-d", "overlay", "--label", "a=b", "cli-front"];
  assert.match(await docker(manager, ...create), /^[0-9a-z]{25}$/);
  const again = await attemptDocker(manager, ...create);
  assert.equal(again.code, 1);
  assert.match(again.stderr, /already exists/);
  const list = [
    "network",
    "ls",
    "--filter",
    "label=a=b",
    "--format",
    "{{.Name}} {{.Driver}} {{.Scope}}",
  ];
  assert.equal(await docker(manager, ...list), "cli-front overlay swarm");
  const format = "{{.Scope}} {{.Labels.a}} {{(index .IPAM.Config 0).Subnet}}";
  const inspected = await docker(manager, "network", "inspect", "-f", format, "cli-front");
  assert.match(inspected, /^swarm b \d+\.\d+\.\d+\.0\/24$/);
  const bridge = await attemptDocker(manager, "network", "rm", "bridge");
  assert.match(bridge.stderr, /pre-defined network/);
});

test("docker service create shows progress until it has converged", async () => {
  const created = await docker(
    manager,
    ...["service", "create", "--name", "cli-web", "--replicas", "3", "--network", "cli-front"],
    ...["--env", "COLOUR=red", "--update-monitor", "500ms", "--rollback-monitor", "500ms", whoami],
  );
  assert.match(created, /overall progress: 3 out of 3 tasks/);
  assert.match(created, /Service ([0-9a-z]{25} )?converged/);
  const row = ["service", "ls", "--filter", "name=cli-web", "--format"];
  const list = await docker(manager, ...row, "{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}}");
  assert.equal(list, `cli-web replicated 3/3 ${whoami}:latest`);
  const image = [
    "service",
    "inspect",
    "-f",
    "{{.Spec.TaskTemplate.ContainerSpec.Image}}",
    "cli-web",
  ];
  assert.match(
    await docker(manager, ...image),
    /^registry\.lab:5000\/whoami:latest@sha256:[0-9a-f]{64}$/,
  );
  const tasks = await docker(
    manager,
    "service",
    "ps",
    "--format",
    "{{.Name}} {{.CurrentState}}",
    "cli-web",
  );
  assert.match(tasks, /^cli-web\.1 Running .*\ncli-web\.2 Running .*\ncli-web\.3 Running .*$/);
  const pretty = await docker(manager, "service", "inspect", "--pretty", "cli-web");
  assert.match(pretty, /Service Mode:\tReplicated\n Replicas:\t3/);
  const used = await attemptDocker(manager, "network", "rm", "cli-front");
  assert.match(used.stderr, /in use/);
});

test("docker service create says what is wrong", async () => {
  const taken = await attemptDocker(
    manager,
    "service",
    "create",
    "-d",
    "--name",
    "cli-web",
    whoami,
  );
  assert.equal(taken.code, 1);
  assert.match(taken.stderr, /Error response from daemon: .*already exists/);
  const bad = await attemptDocker(
    manager,
    ...["service", "create", "-d", "--constraint", "node.role~worker", whoami],
  );
  assert.equal(bad.code, 1);
  assert.match(bad.stderr, /Error response from daemon: /);
  const missing = await attemptDocker(manager, "service", "inspect", "nobody");
  assert.match(missing.stderr, /no such service: nobody/i);
});

test("errors carry Docker's status codes", async () => {
  const spec = (name: string, more = {}) => ({
    Name: name,
    TaskTemplate: { ContainerSpec: { Image: `${whoami}@sha256:${"0".repeat(64)}` }, ...more },
  });
  const elsewhere = { Networks: [{ Target: "nobody" }] };
  const rows: readonly (readonly [string, string, string, unknown, number])[] = [
    [manager, "GET", "/v1.50/services/nobody", undefined, 404],
    [manager, "GET", "/v1.24/tasks/nobody", undefined, 404],
    [manager, "GET", "/nodes/nobody", undefined, 404],
    [manager, "GET", "/networks/nobody", undefined, 404],
    [manager, "GET", "/containers/nobody/json", undefined, 404],
    [manager, "GET", "/images/nobody/json", undefined, 404],
    [manager, "GET", "/exec/nobody/json", undefined, 404],
    [manager, "GET", "/nothing", undefined, 404],
    [manager, "GET", "/v1.51/services", undefined, 400],
    [manager, "POST", "/services/create", spec("cli-web"), 409],
    [manager, "POST", "/services/create", spec("no/name"), 400],
    [manager, "POST", "/services/create", { Name: 7 }, 400],
    [manager, "POST", "/services/create", spec("cli-x", elsewhere), 404],
    [manager, "POST", "/services/cli-web/update?version=1", spec("cli-web"), 400],
    [manager, "POST", "/networks/create", { Name: "cli-front", Driver: "overlay" }, 409],
    [manager, "DELETE", "/networks/cli-front", undefined, 403],
    [manager, "POST", "/swarm/init", {}, 503],
    [worker, "GET", "/services", undefined, 503],
    [worker, "POST", "/swarm/join", { JoinToken: "x", RemoteAddrs: ["10.77.0.11:2377"] }, 503],
  ];
  for (const [host, method, path, body, status] of rows) {
    const answer = await request(host, method, path, body);
    assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`);
    assert.equal(typeof (JSON.parse(answer.text) as { message: unknown }).message, "string");
  }
});

function request(
  host: string,
  method: string,
  path: string,
  body: unknown,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json" };
    const options = { socketPath: socketOf(machine(host)), method, path, headers };
    const call = http.request(options, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
    call.on("error", reject);
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

test("docker service scale, update and rollback", async () => {
  const scaled = await docker(manager, "service", "scale", "cli-web=2");
  assert.match(scaled, /cli-web scaled to 2/);
  await untilRunning(manager, "cli-web", 2, startMsMax);
  await docker(manager, "service", "update", "--env-add", "COLOUR=blue", "cli-web");
  const env = ["service", "inspect", "-f", "{{.Spec.TaskTemplate.ContainerSpec.Env}}", "cli-web"];
  assert.equal(await docker(manager, ...env), "[COLOUR=blue]");
  for (const task of await untilRunning(manager, "cli-web", 2, startMsMax))
    assert.equal(
      await docker(task.node, "exec", task.container, "sh", "-c", "echo $COLOUR"),
      "blue",
    );
  await docker(manager, "service", "rollback", "cli-web");
  assert.equal(await docker(manager, ...env), "[COLOUR=red]");
});

test("docker service ps says why a task fits nowhere", async () => {
  const create = ["service", "create", "-d", "--name", "cli-lost", "--constraint"];
  await docker(manager, ...create, "node.hostname==nobody", whoami);
  const ps = [
    "service",
    "ps",
    "--no-trunc",
    "--format",
    "{{.CurrentState}} {{.Error}}",
    "cli-lost",
  ];
  const seen = await until("no reason was given", startMsMax, async () => {
    const line = await docker(manager, ...ps);
    return /no suitable node/.test(line) ? line : undefined;
  });
  assert.match(seen, /^Pending .*constraint/);
  await docker(manager, "service", "rm", "cli-lost");
});

const talk = "for i in 1 2 3; do echo out $i; echo err $i >&2; done; exec sleep 3600";

test("docker service logs and docker logs give what the task wrote, -f what it writes", async () => {
  // The shell's child ignores the stop signal, as a first process does.
  const create = ["service", "create", "--name", "cli-talk", "--update-monitor", "500ms"];
  await docker(manager, ...create, "--stop-grace-period", "1s", busybox, "sh", "-c", talk);
  const task = await one("cli-talk");
  const gathered = await until("the logs did not come", startMsMax, async () => {
    const found = await attemptDocker(manager, "service", "logs", "cli-talk");
    return /out 3/.test(found.stdout) && /err 3/.test(found.stderr) ? found : undefined;
  });
  const prefix = `cli-talk.1.${task.id.slice(0, 12)}@${task.node}    | `;
  assert.deepEqual(
    gathered.stdout.trim().split("\n"),
    [1, 2, 3].map((i) => `${prefix}out ${i}`),
  );
  const tail = await docker(manager, "service", "logs", "--raw", "-n", "2", "cli-talk");
  assert.equal(tail.split("\n").length <= 2, true, tail);
  const own = await attemptDocker(task.node, "logs", "-t", task.container);
  assert.match(own.stdout, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z out 1$/m);
  assert.match(own.stderr, /^\d{4}-\S+Z err 1$/m);
  await follow(manager, ["service", "logs", "-f", "--raw", "cli-talk"], /out 1\nout 2\nout 3/).over;
});

test("docker ps, inspect and exec look into a task on its node", async () => {
  const task = await one("cli-talk");
  const ps = await docker(
    task.node,
    "ps",
    "--filter",
    "name=cli-talk",
    "--format",
    "{{.Names}} {{.Status}}",
  );
  assert.match(ps, new RegExp(`^cli-talk\\.1\\.${task.id} Up `));
  const label = `{{index .Config.Labels "com.docker.swarm.service.name"}} {{.State.Running}}`;
  assert.equal(await docker(task.node, "inspect", "-f", label, task.container), "cli-talk true");
  const ran = await attemptDocker(
    task.node,
    ...[
      "exec",
      "-e",
      "A=b",
      "-w",
      "/tmp",
      task.container,
      "sh",
      "-c",
      "echo $A; pwd; echo no >&2; exit 7",
    ],
  );
  assert.deepEqual(ran, { code: 7, stdout: "b\n/tmp\n", stderr: "no\n" });
  const host = `unix://${socketOf(machine(task.node))}`;
  const input = `head -c 1000000 /dev/zero | docker -H ${host} exec -i ${task.container} wc -c`;
  assert.equal((await attempt("sh", ["-c", input])).stdout.trim(), "1000000");
  const none = await attemptDocker(task.node, "exec", task.container, "no-such-program");
  assert.equal(none.code, 127, none.stderr);
  assert.match(none.stdout, /no-such-program/);
  const missing = await attemptDocker(task.node, "exec", "nobody", "true");
  assert.match(missing.stderr, /No such container: nobody/);
});

test("docker exec -it is a terminal of the right size", async () => {
  const task = await one("cli-talk");
  const host = `unix://${socketOf(machine(task.node))}`;
  const inside = `stty cols 91 rows 33; exec docker -H ${host} exec -it ${task.container} sh`;
  // Older clients tell the size when the program runs already.
  const typed = `until [ "$(stty size)" = "33 91" ]; do sleep 0.1; done; tty; exit 5\n`;
  const terminal = spawn("script", ["-qec", inside, "/dev/null"], { timeout: startMsMax });
  let seen = "";
  terminal.stdout.on("data", (chunk: Buffer) => {
    seen += chunk.toString();
  });
  terminal.stdin.write(typed);
  const [code] = await once(terminal, "close");
  assert.match(seen, /\/dev\/pts\/\d+/);
  assert.equal(code, 5, seen);
});

test("docker pull and docker images on a node", async () => {
  const pulled = await docker(worker, "pull", busybox);
  assert.match(pulled, /Digest: sha256:[0-9a-f]{64}/);
  const images = await docker(worker, "images", "--format", "{{.Repository}}:{{.Tag}}", busybox);
  assert.equal(images, `${busybox}:latest`);
  assert.match(await docker(worker, "image", "inspect", "-f", "{{.Os}}", busybox), /linux/);
  const missing = await attemptDocker(worker, "pull", "registry.lab:5000/nobody");
  assert.equal(missing.code, 1);
});

test("docker events tells of a service's changes as they come", async () => {
  const events = follow(
    manager,
    ["events", "--filter", "type=service"],
    /service update [0-9a-z]{25} \(.*name=cli-talk/,
  );
  // Nobody says when it listens: changes are made until one is heard of.
  await until("no event came", startMsMax, async () => {
    await docker(manager, "service", "update", "-d", "--label-add", `at=${Date.now()}`, "cli-talk");
    return events.seen() ? true : undefined;
  });
  await events.over;
});

/** A docker command that goes on, until its output looks as wanted or a minute has passed. */
function follow(
  host: string,
  args: readonly string[],
  wanted: RegExp,
): { readonly over: Promise<void>; seen(): boolean } {
  const child = spawn("docker", ["-H", `unix://${socketOf(machine(host))}`, ...args], {
    stdio: ["ignore", "pipe", "ignore"],
    timeout: startMsMax,
  });
  let stdout = "";
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
    if (wanted.test(stdout)) child.kill("SIGINT");
  });
  const over = new Promise<void>((resolve) => child.once("close", () => resolve()));
  return {
    over: over.then(() => assert.match(stdout, wanted)),
    seen: () => wanted.test(stdout),
  };
}

test("docker service rm ends the tasks, and their network can go", async () => {
  assert.equal(await docker(manager, "service", "rm", "cli-web", "cli-talk"), "cli-web\ncli-talk");
  await removeNetwork(manager, "cli-front", startMsMax);
  for (const host of hosts)
    await until(`containers stay on ${host}`, startMsMax, async () =>
      (await docker(host, "ps", "-aq", "--filter", "name=cli-")) === "" ? true : undefined,
    );
});

test("a node leaves and joins again with docker swarm, and the token can be changed", async () => {
  const inSwarm = await attemptDocker(worker, "swarm", "init");
  assert.match(inSwarm.stderr, /This node is already part of a swarm/);
  const leader = await attemptDocker(manager, "swarm", "leave");
  assert.equal(leader.code, 1);
  assert.equal(await docker(worker, "swarm", "leave"), "Node left the swarm.");
  const outside = await attemptDocker(worker, "node", "ls");
  assert.match(outside.stderr, /Use "docker swarm init" or "docker swarm join"/);
  const old = await docker(manager, "swarm", "join-token", "-q", "worker");
  const token = await docker(manager, "swarm", "join-token", "-q", "--rotate", "worker");
  assert.notEqual(token, old);
  const join = (with_: string) =>
    attemptDocker(worker, "swarm", "join", "--token", with_, "10.77.0.11:2377");
  assert.equal((await join(old)).code, 1);
  await until("the old node is not down", readyMsMax, async () => {
    const { code } = await attemptDocker(manager, "node", "rm", worker);
    return code === 0 ? true : undefined;
  });
  const joined = await join(token);
  assert.equal(joined.stdout.trim(), "This node joined a swarm as a worker.", joined.stderr);
  await untilReady(manager, hosts.length, readyMsMax);
  assert.match(await lab("status"), /h3/);
});
