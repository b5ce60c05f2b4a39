// Stacks from Compose files, by the unmodified docker command and by our own, on one lab.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { examples } from "../unit/cli/stack/examples.ts";
import {
  attemptDocker,
  attemptTsswarm,
  docker,
  lab,
  tsswarm,
  until,
  untilRunning,
  withLab,
} from "./harness.ts";

const host = "h1";
const endMsMax = 90_000;
const whoami = "registry.lab:5000/whoami";
const busybox = "registry.lab:5000/busybox";
const stacks = ["st-docker", "st-own", ...examples.map((_, i) => `st-ex${i}`)];

let down: () => Promise<void> = async () => {};
let folder = "";

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "tsswarm-stack-"));
  down = await withLab();
});

after(async () => {
  for (const stack of stacks) await attemptTsswarm(host, "stack", "rm", stack);
  rmSync(folder, { recursive: true, force: true });
  await down();
});

/** Gives the path of the first file. */
function write(name: string, files: Readonly<Record<string, string>>): string {
  for (const [path, text] of Object.entries(files)) {
    const file = join(folder, name, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }
  return join(folder, name, Object.keys(files)[0] ?? "");
}

function fileOf(port: number, more: { page: string; level: string; extra?: string }): string {
  return `version: "3.8"
services:
  web:
    image: ${whoami}
    ports: ["${port}:80"]
    networks: [front]
    configs: [{source: page, target: /etc/page}]
    deploy: {replicas: 2, update_config: {parallelism: 0, monitor: 200ms}}
  db:
    image: ${busybox}
    command: sleep 1d
    environment: {LEVEL: "${more.level}"}
    networks: [front]
    secrets: [{source: password, mode: 0400}]
    deploy: {update_config: {monitor: 200ms}}
${more.extra ?? ""}
networks:
  front: {}
secrets:
  password: {file: ./password}
configs:
  page: {file: ./${more.page}}
`;
}

function texts(file: string) {
  return { "stack.yaml": file, password: "geheim\n", one: "page one\n", two: "page two\n" };
}

async function answers(port: number): Promise<string> {
  const script = `busybox wget -q -O - http://10.77.0.12:${port}/`;
  return until(`port ${port} does not answer`, endMsMax, async () => {
    try {
      return await lab("exec", "outside", "--", "sh", "-c", script);
    } catch {
      return undefined;
    }
  });
}

/** What a task of the service has in a file. */
async function inside(service: string, replicas: number, path: string): Promise<string> {
  const [task] = await untilRunning(host, service, replicas, endMsMax);
  assert.ok(task !== undefined);
  return docker(task.node, "exec", task.container, "cat", path);
}

async function names(kind: string, prefix: string): Promise<readonly string[]> {
  const text = await docker(host, kind, "ls", "--format", "{{.Name}}");
  return text
    .split("\n")
    .filter((name) => name.startsWith(prefix))
    .sort();
}

async function nothingLeft(stack: string): Promise<void> {
  for (const kind of ["service", "secret", "config", "network"])
    assert.deepEqual(await names(kind, `${stack}_`), [], `${kind}s of ${stack}`);
}

test("docker stack deploy, ls, ps, services and rm", async () => {
  const file = write("docker", texts(fileOf(8091, { page: "one", level: "low" })));
  const deploy = ["stack", "deploy", "-c", file, "--detach=true"];
  assert.match(await docker(host, ...deploy, "st-docker"), /Creating service st-docker_web/);
  assert.match(await answers(8091), /Hostname: /);
  const rows = await docker(host, "stack", "ls", "--format", "{{.Name}} {{.Services}}");
  assert.ok(rows.split("\n").includes("st-docker 2"), rows);
  await untilRunning(host, "st-docker_web", 2, endMsMax);
  const format = ["--format", "{{.Name}} {{.Mode}} {{.Replicas}}"];
  const services = await docker(host, "stack", "services", ...format, "st-docker");
  assert.match(services, /^st-docker_web replicated 2\/2$/m);
  const tasks = ["stack", "ps", "--filter", "desired-state=running", "--format", "{{.Name}}"];
  assert.deepEqual((await docker(host, ...tasks, "st-docker")).split("\n").sort(), [
    "st-docker_db.1",
    "st-docker_web.1",
    "st-docker_web.2",
  ]);
  // Ours sees the same stack, and what it would do otherwise: the contents' names.
  const seen = await attemptTsswarm(host, "stack", "diff", "-c", file, "st-docker");
  assert.equal(seen.code, 1);
  assert.match(seen.stdout, /^\+ secret st-docker_password_[0-9a-f]{12}$/m);
  assert.doesNotMatch(seen.stdout, /\.(Env|Ports|Networks|Image|Mode)\b/);
  const removed = await attemptDocker(host, "stack", "rm", "st-docker");
  assert.deepEqual([removed.code, removed.stderr], [0, ""]);
  await nothingLeft("st-docker");
});

test("a stack is deployed, left, changed, pruned and removed", async () => {
  const low = {
    page: "one",
    level: "low",
    extra: `  more: {image: ${busybox}, command: sleep 1d}`,
  };
  const file = write("own", texts(fileOf(8092, low)));
  const deploy = (...more: string[]) =>
    tsswarm(host, "stack", "deploy", "--detach=false", "-c", file, ...more, "st-own");
  const diff = () => attemptTsswarm(host, "stack", "diff", "--prune", "-c", file, "st-own");
  const first = await deploy();
  for (const name of ["web", "db", "more"])
    assert.ok(first.includes(`Service st-own_${name} converged`), first);
  assert.match(await answers(8092), /Hostname: /);
  assert.equal(await inside("st-own_db", 1, "/run/secrets/password"), "geheim");
  const same = await diff();
  assert.deepEqual([same.code, same.stdout], [0, ""]);
  assert.match(await deploy(), /^Service st-own_web is up to date/m);

  write("own", { "stack.yaml": fileOf(8092, { page: "two", level: "high" }) });
  const differing = await diff();
  assert.equal(differing.code, 1);
  for (const line of [
    "~ service st-own_db",
    "    + TaskTemplate.ContainerSpec.Env[]: LEVEL=high",
    "~ service st-own_web",
    "- service st-own_more",
  ])
    assert.ok(differing.stdout.split("\n").includes(line), `${line} in ${differing.stdout}`);
  await deploy("--prune");
  assert.equal(await inside("st-own_web", 2, "/etc/page"), "page two");
  assert.deepEqual(await names("service", "st-own_"), ["st-own_db", "st-own_web"]);
  // What the services may go back to is kept, until they are changed again.
  assert.equal((await names("config", "st-own_page_")).length, 2);
  assert.deepEqual((await diff()).code, 0);

  const rows = await tsswarm(host, "stack", "ls", "--format", "{{.Name}} {{.Services}}");
  assert.ok(rows.split("\n").includes("st-own 2"), rows);
  const tasks = await tsswarm(host, "stack", "ps", "--filter", "desired-state=running", "st-own");
  assert.equal(tasks.split("\n").length, 4, tasks);
  await tsswarm(host, "stack", "rm", "--detach=false", "st-own");
  await nothingLeft("st-own");
});

test("stacks that people publish are deployed, healthy, and removed", async () => {
  const trials = examples.map(async (example, i) => {
    const stack = `st-ex${i}`;
    const file = write(stack, example.files);
    const own = Object.entries(example.environment).map(([key, value]) => `${key}=${value}\n`);
    const variables = write(`${stack}-env`, { ".env": own.join("") });
    const deploy = ["stack", "deploy", "--detach=false", "-c", file, "--env-file", variables];
    await tsswarm(host, ...deploy, stack);
    assert.deepEqual(
      await names("service", `${stack}_`),
      example.services.map((name) => `${stack}_${name}`).sort(),
    );
    await tsswarm(host, "stack", "rm", "--detach=false", stack);
    await nothingLeft(stack);
  });
  await Promise.all(trials);
});
