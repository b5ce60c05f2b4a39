// Secrets and configs on the lab with the unmodified docker command: where they come to, where they do not, and how they are rotated.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { diskFolder } from "../../deploy/lab/names.ts";
import {
  attempt,
  attemptDocker,
  attemptLab,
  attemptTsswarm,
  docker,
  lab,
  type RunningTask,
  tsswarm,
  until,
  untilAnswering,
  untilRunning,
  withLab,
} from "./harness.ts";
import { killProgram, takeAway } from "./hosts.ts";

const manager = "h1";
const [place, elsewhere] = ["h2", "h3"] as const;
const busybox = "registry.lab:5000/busybox";
const memory = "/run/tsswarm/files";
const startMsMax = 60_000;
/** Pid 1 of a container hears no SIGTERM unless it listens, and nothing is watched for longer than it takes. */
const quickly = ["--quiet", "--stop-signal", "KILL", "--update-monitor", "1s"] as const;

const folder = mkdtempSync(join(tmpdir(), "tsswarm-e2e-secrets-"));
/** Text that is nowhere else on this machine. */
const values = {
  password: randomBytes(20).toString("hex"),
  next: randomBytes(20).toString("hex"),
  config: randomBytes(20).toString("hex"),
};
const closers: (() => Promise<void> | void)[] = [];

before(async () => {
  closers.push(() => rmSync(folder, { recursive: true, force: true }), await withLab());
});

after(async () => {
  for (const name of ["vault", "plain"]) await attemptDocker(manager, "service", "rm", name);
  for (const name of ["sec-db", "sec-good"]) await untilRemoved("secret", name);
  for (const name of ["sec-conf", "sec-template"]) await untilRemoved("config", name);
  for (const close of closers.reverse()) await close();
});

async function untilRemoved(kind: string, name: string): Promise<void> {
  await until(`${kind} ${name} cannot be removed`, startMsMax, async () => {
    const { code, stderr } = await attemptDocker(manager, kind, "rm", name);
    return code === 0 || /not found/.test(stderr) ? true : undefined;
  });
}

function fileOf(content: string): string {
  const path = join(folder, randomBytes(4).toString("hex"));
  writeFileSync(path, content);
  return path;
}

function create(kind: string, name: string, content: string, ...flags: readonly string[]) {
  return docker(manager, kind, "create", ...flags, name, fileOf(content));
}

function inside(task: RunningTask, script: string): Promise<string> {
  return docker(task.node, "exec", task.container, "sh", "-c", script);
}

async function one(service: string): Promise<RunningTask> {
  const [task] = await untilRunning(manager, service, 1, startMsMax);
  return task ?? assert.fail(`no task of ${service}`);
}

/** Files of a host's memory that hold this text. */
async function inMemory(host: string, text: string): Promise<readonly string[]> {
  const { stdout } = await attemptLab("exec", host, "--", "grep", "-rlF", text, memory);
  return stdout.split("\n").filter((line) => line !== "");
}

test("a container reads what it was given, whose and as it was asked for", async () => {
  await create("secret", "sec-db", values.password);
  await create("config", "sec-conf", values.config);
  const template = `slot {{.Task.Slot}} of {{.Service.Name}}: {{env "ROLE"}} {{secret "sec-db"}}`;
  await create("config", "sec-template", template, "--template-driver", "golang");
  await docker(
    manager,
    ...["service", "create", ...quickly, "--name", "vault"],
    ...["--constraint", `node.hostname==${place}`],
    ...["--secret", "sec-db"],
    ...["--secret", "source=sec-db,target=own,uid=1000,gid=2000,mode=0400"],
    ...["--secret", "source=sec-db,target=/etc/app/db"],
    ...["--config", "sec-conf"],
    ...["--config", "source=sec-conf,target=/etc/app.conf,uid=7,mode=0640"],
    ...["--config", "source=sec-template,target=/etc/template"],
    ...["--env", "ROLE=reader", busybox, "sleep", "1d"],
  );
  const task = await one("vault");
  assert.equal(task.node, place);
  const paths = "/run/secrets/sec-db /run/secrets/own /etc/app/db /sec-conf /etc/app.conf";
  assert.deepEqual((await inside(task, `stat -c '%n %a %u %g' ${paths}`)).split("\n"), [
    "/run/secrets/sec-db 444 0 0",
    "/run/secrets/own 400 1000 2000",
    "/etc/app/db 444 0 0",
    "/sec-conf 444 0 0",
    "/etc/app.conf 640 7 0",
  ]);
  const { password, config } = values;
  assert.equal(
    await inside(task, `for f in ${paths}; do cat $f; echo; done`),
    [password, password, password, config, config].join("\n"),
  );
  assert.equal(await inside(task, "cat /etc/template"), `slot 1 of vault: reader ${password}`);
  const written = await inside(task, "echo x > /run/secrets/sec-db || echo refused");
  assert.equal(written, "refused");
  const mount = await inside(task, "grep ' /run/secrets/sec-db ' /proc/mounts");
  assert.match(mount, /^tsswarm \S+ tmpfs ro,nosuid,nodev,noexec/);
});

test("nobody else's disk, log, memory or answer has it", async () => {
  const task = await one("vault");
  const { password } = values;
  assert.ok((await inMemory(place, password)).length >= 4, "where the task runs it is in memory");
  for (const host of [manager, elsewhere]) assert.deepEqual(await inMemory(host, password), []);
  const forms = [password, Buffer.from(password).toString("base64"), values.config];
  for (const form of forms) {
    const { code, stdout } = await attempt("grep", ["-rlaF", "-D", "skip", form, diskFolder]);
    assert.deepEqual([code, stdout], [1, ""], "no disk of any host, and no log on it");
  }
  const shown = await Promise.all([
    docker(place, "inspect", task.container),
    docker(manager, "inspect", "vault", task.id),
    docker(manager, "secret", "inspect", "sec-db"),
    docker(manager, "secret", "inspect", "--pretty", "sec-db"),
    docker(manager, "secret", "ls", "--format", "json"),
    docker(place, "logs", task.container),
    docker(place, "diff", task.container),
    lab("exec", place, "--", "sh", "-c", "cat /run/containerd/*/*/*/config.json; cat /proc/mounts"),
  ]);
  for (const text of shown) for (const form of forms.slice(0, 2)) assert.ok(!text.includes(form));
  const worker = await attemptDocker(place, "secret", "ls");
  assert.match(worker.stderr, /Worker nodes can't be used to view or modify cluster state/);
});

test("the agent killed, and away, costs nothing; a task made afterwards is given it again", async () => {
  const before = await one("vault");
  await killProgram(place, "agent");
  await untilAnswering([place], startMsMax);
  assert.deepEqual(await one("vault"), before, "nothing was restarted");
  const held = await takeAway(place, "agent");
  const pid = (await lab("exec", place, "--", "pgrep", "-f", "^sleep 1d")).split("\n")[0];
  const read = await lab("exec", place, "--", "cat", `/proc/${pid}/root/run/secrets/sec-db`);
  assert.equal(read, values.password, "with no agent at all");
  process.kill(held, "SIGKILL");
  await untilAnswering([place], startMsMax);
  await docker(place, "kill", before.container);
  const [task] = await untilRunning(
    manager,
    "vault",
    1,
    startMsMax,
    (each) => each.id !== before.id,
  );
  assert.equal(await inside(task ?? before, "cat /run/secrets/own"), values.password);
});

test("a rotation rolls through the services that use it and through no other", async () => {
  await docker(
    manager,
    ...["service", "create", ...quickly, "--name", "plain", "--config", "sec-conf"],
    ...[busybox, "sleep", "1d"],
  );
  const [vault, plain] = [await one("vault"), await one("plain")];
  const former = await docker(manager, "secret", "inspect", "-f", "{{.ID}}", "sec-db");
  const shown = await tsswarm(manager, "secret", "rotate", "sec-db", fileOf(values.next));
  assert.match(shown, /^[0-9a-z]{25}\nvault\n[\s\S]*overall progress: 1 out of 1 tasks/);
  assert.match(shown, /converged/);
  const task = await one("vault");
  assert.notEqual(task.id, vault.id);
  assert.equal(await inside(task, "cat /run/secrets/own"), values.next);
  assert.deepEqual(await one("plain"), plain);
  const ids = await docker(manager, "secret", "ls", "-q", "--filter", "name=sec-db");
  assert.equal(ids, shown.split("\n")[0], "the name means one object, the newest");
  assert.notEqual(ids, former);
  assert.equal(await tsswarm(manager, "secret", "rotate", "sec-db", fileOf(values.next)), ids);
  assert.deepEqual(await one("vault"), task, "the same content moves nothing");
  await docker(manager, "service", "rollback", "--quiet", "vault");
  const back = await one("vault");
  assert.equal(await inside(back, "cat /run/secrets/own"), values.password);
});

test("a version that a service cannot live with is taken back by its own policy", async () => {
  await docker(manager, "service", "rm", "plain");
  await create("secret", "sec-good", "good");
  await docker(
    manager,
    ...["service", "create", ...quickly, "--name", "plain", "--secret", "sec-good"],
    ...["--update-failure-action", "rollback", "--rollback-monitor", "1s"],
    ...["--restart-delay", "200ms", busybox, "sh", "-c"],
    "grep -q good /run/secrets/sec-good && exec sleep 1d",
  );
  await one("plain");
  const rotated = await attemptTsswarm(manager, "secret", "rotate", "sec-good", fileOf("bad"));
  assert.equal(rotated.code, 1, rotated.stdout);
  assert.match(rotated.stderr, /service plain has not taken the new version/);
  await until("it is not rolled back", startMsMax, async () => {
    const format = "{{.UpdateStatus.State}}";
    const state = await docker(manager, "service", "inspect", "-f", format, "plain");
    return state === "rollback_completed" ? true : undefined;
  });
  assert.equal(await inside(await one("plain"), "cat /run/secrets/sec-good"), "good");
});

test("what is in use cannot be removed; with the last task it is gone from the node", async () => {
  const refused = await attemptDocker(manager, "secret", "rm", "sec-db");
  assert.match(refused.stderr, /secret 'sec-db' is in use by the following service: vault/);
  await docker(manager, "service", "rm", "vault", "plain");
  await until("something of it is left in the node's memory", startMsMax, async () => {
    // What the node is to run is kept there too; secrets are not in it.
    const all = await lab("exec", place, "--", "find", memory, "-type", "f");
    const left = all.split("\n").filter((path) => path !== "" && path !== `${memory}/wanted.pb`);
    return left.length === 0 ? true : undefined;
  });
  for (const value of Object.values(values)) assert.deepEqual(await inMemory(place, value), []);
  await docker(manager, "secret", "rm", "sec-db", "sec-good");
  assert.equal(await docker(manager, "secret", "ls", "-q", "--filter", "name=sec-"), "");
  await docker(manager, "config", "rm", "sec-conf", "sec-template");
});
