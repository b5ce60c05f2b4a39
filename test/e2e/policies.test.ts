// What goes beyond Docker's services, on real containers: jobs at times, tasks that move to a node that returns, as many as are needed.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { machine } from "../../deploy/lab/names.ts";
import { powerOff } from "../../deploy/lab/power.ts";
import {
  api,
  docker,
  lab,
  runningTasks,
  tsswarm,
  until,
  untilReady,
  untilRunning,
  withLab,
} from "./harness.ts";

const manager = "h1";
const msMax = 180_000;
const busybox = "registry.lab:5000/busybox";
const hosts = ["h1", "h2", "h3"];
const minuteMs = 60_000;
const made: string[] = [];
let takeDown = async () => {};

before(async () => {
  takeDown = await withLab();
});

after(async () => {
  if (made.length > 0) await docker(manager, "service", "rm", ...made);
  await untilReady(manager, hosts.length, msMax);
  await takeDown();
});

function create(name: string, ...more: readonly string[]): Promise<string> {
  made.push(name);
  const words = ["service", "create", "--detach", "--name", name, "--stop-grace-period", "1s"];
  return tsswarm(manager, ...words, ...more);
}

interface Run {
  readonly Scheduled: string;
  readonly State: string;
  readonly Message: string;
}

async function runsOf(name: string): Promise<readonly Run[]> {
  const { JobStatus } = await api(manager).get<{ JobStatus?: { Runs?: readonly Run[] } }>(
    `/services/${name}`,
  );
  return JobStatus?.Runs ?? [];
}

/** Ids of a job's tasks that run, those that are being ended too. */
async function underWay(name: string): Promise<readonly string[]> {
  const query = { filters: JSON.stringify({ service: [name] }) };
  const tasks = await api(manager).get<
    readonly { readonly ID: string; readonly Status: { readonly State: string } }[]
  >("/tasks", { query });
  return tasks.filter(({ Status }) => Status.State === "running").map(({ ID }) => ID);
}

function untilUnderWay(name: string, otherThan = ""): Promise<string> {
  return until(`no other run of ${name} is under way`, msMax, async () => {
    const [id, ...others] = await underWay(name);
    return id !== undefined && id !== otherThan && others.length === 0 ? id : undefined;
  });
}

/** Jobs that run for ever stay where no test takes the power away. */
const steady = ["--constraint", "node.hostname==h1"];
const minutely = ["--mode", "replicated-job", "--schedule", "* * * * *"];

// Most of their time is waiting for minutes to be over: they wait together.
describe("policies", { concurrency: true }, () => {
  test("a job runs when its time comes, not before, and each time once", async () => {
    await create("pol-short", ...minutely, busybox, "true");
    const runs = await until("the job is not run twice", msMax, async () => {
      const runs = await runsOf("pol-short");
      return runs.filter(({ State }) => State === "complete").length === 2 ? runs : undefined;
    });
    const times = runs.map(({ Scheduled }) => Date.parse(Scheduled));
    assert.ok(times.every((at) => at % minuteMs === 0));
    assert.equal(new Set(times).size, times.length);
  });

  test("a run that is still under way is left alone and the next left out, or it is replaced", async () => {
    const deadline = ["--schedule-deadline", "5s"];
    const replace = ["--schedule-concurrency", "replace"];
    await create("pol-forbid", ...steady, ...minutely, ...deadline, busybox, "sleep", "1d");
    await create("pol-replace", ...steady, ...minutely, ...replace, busybox, "sleep", "1d");
    const kept = await untilUnderWay("pol-forbid");
    await untilUnderWay("pol-replace", await untilUnderWay("pol-replace"));
    const runs = await until("nobody says that a time was left out", msMax, async () => {
      const runs = await runsOf("pol-forbid");
      return runs.some(({ State }) => State === "skipped") ? runs : undefined;
    });
    assert.equal(runs.filter(({ State }) => State === "running").length, 1);
    assert.deepEqual(await underWay("pol-forbid"), [kept]);
  });

  test("tasks move to a node that returns, and as many run all the while", async () => {
    await create("pol-move", "--replicas", "6", "--rebalance", busybox, "sleep", "1d");
    await untilRunning(manager, "pol-move", 6, msMax);
    await powerOff(machine("h3"));
    await untilRunning(manager, "pol-move", 6, msMax, ({ node }) => node !== "h3");
    await lab("power-on", "h3");
    await until("no task moves to the node that has returned", msMax, async () => {
      const tasks = await runningTasks(manager, "pol-move");
      assert.ok(tasks.length >= 6, `only ${tasks.length} tasks run`);
      const counts = hosts.map((host) => tasks.filter(({ node }) => node === host).length);
      return counts.every((count) => count === 2) ? true : undefined;
    });
  });

  test("busy tasks become more, idle ones fewer, within the bounds, and the service says why", async () => {
    // A little of a core: a busy machine gives so much too.
    const bounds = ["--limit-cpu", "0.05", "--autoscale", "min=1,max=2,cpu=50,window=10s"];
    const spin = "while [ ! -e /idle ]; do :; done; exec sleep 1d";
    await create("pol-scale", ...steady, ...bounds, busybox, "sh", "-c", spin);
    const grown = await untilRunning(manager, "pol-scale", 2, msMax);
    assert.match(await tsswarm(manager, "service", "explain", "pol-scale"), /from 1 to 2: CPU/);
    for (const { node, container } of grown)
      await docker(node, "exec", container, "touch", "/idle");
    await untilRunning(manager, "pol-scale", 1, msMax);
    assert.match(await tsswarm(manager, "service", "explain", "pol-scale"), /from 2 to 1: CPU/);
  });
});
