// Services as a whole, with the docker command: an update that fails and goes back, jobs, what Docker gives to containers only.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { api, attemptTsswarm, docker, tsswarm, until, untilRunning, withLab } from "./harness.ts";

const manager = "h1";
const msMax = 120_000;
const busybox = "registry.lab:5000/busybox";
const made: string[] = [];
let takeDown = async () => {};

before(async () => {
  takeDown = await withLab();
});

after(async () => {
  if (made.length > 0) await docker(manager, "service", "rm", ...made);
  await takeDown();
});

function create(name: string, ...more: readonly string[]): Promise<string> {
  made.push(name);
  return docker(manager, "service", "create", "--detach", "--name", name, ...more);
}

test("an update whose tasks fail goes back by itself, and says why with the task's last words", async () => {
  await create("svc-web", "--replicas", "2", "--stop-grace-period", "1s", busybox, "sleep", "1d");
  await untilRunning(manager, "svc-web", 2, msMax);
  const broken = ["--args", "sh -c 'echo cannot open the database; exit 3'"];
  await docker(manager, "service", "update", "--detach", ...broken, "svc-web");
  const inspect = [
    "service",
    "inspect",
    "--format",
    // As in Docker there is none before the update has begun.
    "{{with .UpdateStatus}}{{.State}} {{.Message}}{{end}}",
  ];
  const why =
    /failure or early termination of task \w+: task: non-zero exit \(3\): cannot open the database$/;
  await until("the update does not go back", msMax, async () => {
    const status = await docker(manager, ...inspect, "svc-web");
    return status.startsWith("rollback_completed") && why.test(status) ? true : undefined;
  });
  await untilRunning(manager, "svc-web", 2, msMax);
  const history = [
    "service",
    "ps",
    "--no-trunc",
    "--format",
    "{{.CurrentState}} {{.Error}}",
    "svc-web",
  ];
  assert.match(await docker(manager, ...history), /^Failed .*cannot open the database/m);
});

test("tasks stay as they are when a service is scaled, or sent back as either command shows it", async () => {
  made.push("svc-stays");
  const words = ["service", "create", "--detach", "--name", "svc-stays", "--replicas", "2"];
  await tsswarm(manager, ...words, busybox, "sleep", "1d");
  const before = await untilRunning(manager, "svc-stays", 2, msMax);
  await tsswarm(manager, "service", "scale", "svc-stays=3");
  await docker(manager, "service", "update", "--quiet", "--label-add", "a=b", "svc-stays");
  const [shown] = JSON.parse(await tsswarm(manager, "service", "inspect", "svc-stays")) as [
    { ID: string; Version: { Index: number }; Spec: object },
  ];
  const path = `/services/${shown.ID}/update?version=${shown.Version.Index}`;
  await api(manager).post(path, { body: shown.Spec });
  const list = ["service", "ps", "--quiet", "--no-trunc", "svc-stays"];
  const tasks = (await docker(manager, ...list)).split("\n");
  assert.equal(tasks.length, 3);
  for (const { id } of before) assert.ok(tasks.includes(id));
});

test("a job runs to its end, each completion once, and again when it is forced", async () => {
  await create(
    "svc-job",
    "--mode",
    "replicated-job",
    "--replicas",
    "4",
    "--max-concurrent",
    "2",
    busybox,
    "true",
  );
  const list = ["service", "ls", "--filter", "name=svc-job", "--format", "{{.Mode}} {{.Replicas}}"];
  const isThrough = async () =>
    (await docker(manager, ...list)) === "replicated job 0/0 (4/4 completed)" ? true : undefined;
  await until("the job does not complete", msMax, isThrough);
  await docker(manager, "service", "update", "--detach", "--force", "svc-job");
  await until("the job does not complete again", msMax, isThrough);
  const { JobStatus } = await api(manager).get<{
    JobStatus?: { JobIteration?: { Index?: number } };
  }>("/services/svc-job");
  assert.equal(JobStatus?.JobIteration?.Index, 1);
});

test("a service gets a device and more shared memory; one that fits nowhere is explained", async () => {
  made.push("svc-extra");
  const extra = ["--device", "/dev/fuse", "--shm-size", "32m", "--pid", "host"];
  const script = "test -c /dev/fuse && df /dev/shm | grep -q 32768 && echo as asked; sleep 1d";
  const words = ["service", "create", "--detach", "--name", "svc-extra"];
  await tsswarm(manager, ...words, ...extra, busybox, "sh", "-c", script);
  await until("the service does not say that it has all", msMax, async () =>
    (await docker(manager, "service", "logs", "--raw", "svc-extra")) === "as asked"
      ? true
      : undefined,
  );
  await create("svc-gpu", "--generic-resource", "gpu=1", busybox, "sleep", "1d");
  await until("nobody says why it waits", msMax, async () => {
    const { stdout } = await attemptTsswarm(manager, "service", "explain", "svc-gpu");
    const isSaid = /svc-gpu\.1 +no suitable node \(insufficient resources on 3 nodes\)/.test(
      stdout,
    );
    return isSaid && /h2 +no +1 of gpu are reserved, 0 are free/.test(stdout) ? true : undefined;
  });
});

test("a manager reaches into a task on any node: a command, its exit code, processes, figures; and tells of it", async () => {
  const since = String(Math.floor(Date.now() / 1000));
  await create(
    "svc-inside",
    "--mode",
    "global",
    "--stop-grace-period",
    "1s",
    busybox,
    "sleep",
    "1d",
  );
  const tasks = await untilRunning(manager, "svc-inside", 3, msMax);
  for (const host of ["h1", "h2", "h3"]) {
    const command = ["sh", "-c", "exit 7"];
    const name = `svc-inside.${host}`;
    const { code } = await attemptTsswarm(manager, "service", "exec", name, ...command);
    assert.equal(code, 7, host);
  }
  const processes = await tsswarm(manager, "service", "top", "svc-inside");
  assert.equal(processes.match(/sleep 1d/g)?.length, 3, processes);
  const figures = await tsswarm(manager, "service", "stats", "svc-inside");
  assert.equal(figures.match(/svc-inside\./g)?.length, 3, figures);
  const until = String(Math.ceil(Date.now() / 1000) + 1);
  const asked = ["--since", since, "--until", until, "--filter", "type=task"];
  const events = await docker(manager, "events", ...asked, "--format", "{{json .}}");
  for (const { id } of tasks)
    assert.ok(
      events.split("\n").some((line) => line.includes(id) && /"state.new":"running"/.test(line)),
      `no event of task ${id}`,
    );
});
