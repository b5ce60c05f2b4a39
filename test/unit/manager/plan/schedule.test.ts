// Jobs that run at times: each time once, whoever leads, and as many beside each other as is allowed.

import assert from "node:assert/strict";
import { test } from "node:test";
import { nextRun } from "../../../../manager/plan/cron.ts";
import { hasEnded } from "../../../../manager/plan/tasks.ts";
import { codec } from "../../../../proto/codec.ts";
import type { JobRun, Task } from "../../../../proto/gen/types.ts";
import { instant } from "../../../../proto/kit/world.ts";
import { dice } from "./dice.ts";
import { Sim, second } from "./sim.ts";

const minute = 60_000;

function spec(schedule: object, extra: object = {}): object {
  return {
    Mode: { ReplicatedJob: { MaxConcurrent: 2, TotalCompletions: 2 } },
    TaskTemplate: {
      ContainerSpec: { Image: "i" },
      RestartPolicy: { Condition: "on-failure", Delay: second, MaxAttempts: 1 },
    },
    Schedule: { Cron: "*/5 * * * *", ...schedule },
    ...extra,
  };
}

/** At a full hour, with the job just made. */
function scheduled(schedule: object = {}, extra: object = {}): Sim {
  const sim = new Sim(2);
  sim.now = Math.ceil(sim.now / 3_600_000) * 3_600_000;
  sim.service("job", spec(schedule, extra));
  sim.settle();
  return sim;
}

function active(sim: Sim): readonly Task[] {
  return sim.wanted("job").filter((task) => !hasEnded(task));
}

function finish(sim: Sim, state = "complete"): void {
  for (const task of active(sim)) sim.report(task, state);
  sim.settle();
}

function runs(sim: Sim): readonly JobRun[] {
  return sim.named("job").JobStatus?.Runs ?? [];
}

/** "5 running, 10 skipped": minutes after the hour. */
function told(sim: Sim): string {
  return runs(sim)
    .map((run) => `${(instant(run.Scheduled) / minute) % 60} ${run.State}`)
    .join(", ");
}

test("a job runs when its time has come, not when it is written", () => {
  const sim = scheduled();
  assert.equal(sim.tasks("job").length, 0);
  sim.pass(5 * minute - 1);
  assert.equal(sim.tasks("job").length, 0);
  sim.pass(1);
  assert.equal(active(sim).length, 2);
  finish(sim);
  assert.equal(told(sim), "5 complete");
  sim.pass(5 * minute);
  assert.equal(active(sim).length, 2);
  sim.service("job", spec({}, { Labels: { a: "b" } }));
  sim.settle();
  assert.equal(active(sim).length, 2, "a write neither begins a run nor ends one");
  finish(sim);
  assert.equal(told(sim), "5 complete, 10 complete");
  assert.equal(sim.planAll(), 0);
});

test("a run whose tasks are given up has failed", () => {
  const sim = scheduled();
  sim.pass(5 * minute);
  finish(sim, "failed");
  sim.pass(2_000);
  finish(sim, "failed");
  assert.equal(told(sim), "5 failed");
  sim.pass(5 * minute);
  finish(sim);
  assert.equal(told(sim), "5 failed, 10 complete");
});

test("forbid: a run waits for the one before it, and is left out when its deadline is over", () => {
  const sim = scheduled({ Deadline: 60 * second });
  sim.pass(10 * minute + 30_000);
  assert.equal(told(sim), "5 running");
  finish(sim);
  assert.equal(told(sim), "5 complete, 10 running", "30 s late");
  sim.pass(6 * minute);
  assert.equal(told(sim), "5 complete, 10 running, 15 skipped");
  assert.match(runs(sim).at(-1)?.Message ?? "", /earlier run was under way within 60 s/);
  assert.equal(active(sim).length, 2);
});

test("allow: runs go on beside each other, each to its own end", () => {
  const sim = scheduled({ Concurrency: "allow" });
  sim.pass(10 * minute);
  assert.equal(told(sim), "5 running, 10 running");
  assert.equal(active(sim).length, 4);
  const first = active(sim).filter((task) => task.JobIteration?.Index === 1);
  for (const task of first) sim.report(task, "failed");
  sim.pass(2_000);
  assert.equal(active(sim).length, 4, "those of the older run are started again");
  for (const task of active(sim)) if (task.JobIteration?.Index === 1) sim.report(task, "complete");
  sim.settle();
  assert.equal(told(sim), "5 complete, 10 running");
  finish(sim);
  assert.equal(told(sim), "5 complete, 10 complete");
});

test("allow: ten at most", () => {
  const sim = scheduled({ Concurrency: "allow", Cron: "* * * * *", Deadline: second, History: 50 });
  sim.pass(15 * minute);
  assert.equal(runs(sim).filter(({ State }) => State === "running").length, 10);
  assert.equal(active(sim).length, 20);
});

test("replace: the next run ends the one before", () => {
  const sim = scheduled({ Concurrency: "replace" });
  sim.pass(10 * minute);
  assert.equal(told(sim), "5 replaced, 10 running");
  assert.deepEqual(new Set(active(sim).map((task) => task.JobIteration?.Index)), new Set([2]));
});

test("while nobody leads no run is lost within the deadline; those beyond it are told", () => {
  const sim = scheduled({ Cron: "* * * * *", Deadline: 150 * second, Concurrency: "allow" });
  sim.now += 10 * minute;
  sim.planAll();
  assert.equal(told(sim), "1 skipped, 8 running, 9 running, 10 running");
  assert.equal(sim.planAll(), 0, "the next leader finds nothing more to begin");
});

test("a global job runs on every node, and not on one that comes after the run", () => {
  const sim = scheduled({}, { Mode: { GlobalJob: {} } });
  sim.pass(5 * minute);
  assert.deepEqual(
    active(sim)
      .map((task) => task.NodeID)
      .sort(),
    ["n1", "n2"],
  );
  sim.addNode("n3");
  sim.settle();
  assert.equal(active(sim).length, 3);
  finish(sim);
  assert.equal(told(sim), "5 complete");
  sim.addNode("n4");
  sim.settle();
  assert.equal(active(sim).length, 0);
});

test("the history holds so many runs, and those under way", () => {
  const sim = scheduled({ History: 3 });
  for (let n = 0; n < 8; n++) {
    sim.pass(5 * minute);
    finish(sim);
  }
  assert.equal(told(sim), "30 complete, 35 complete, 40 complete");
});

test("another schedule counts from now; none leaves an ordinary job", () => {
  const sim = scheduled();
  sim.pass(4 * minute);
  sim.service("job", spec({ Cron: "7 * * * *" }));
  sim.pass(2 * minute);
  assert.equal(told(sim), "");
  sim.pass(minute);
  assert.equal(told(sim), "7 running");
  finish(sim);
  const { Schedule: _, ...kept } = spec({}) as Record<string, unknown>;
  sim.service("job", kept);
  assert.equal(sim.named("job").Spec?.Schedule?.Cron, "7 * * * *", "left out means as before");
  sim.service("job", { ...kept, Schedule: {} });
  sim.settle();
  assert.equal(sim.named("job").Spec?.Schedule, undefined);
  assert.equal(active(sim).length, 2, "each write of it is an execution again");
});

const times = [
  { zone: "", cron: "30 2 * * *", after: "2026-03-28T22:00:00Z", next: "2026-03-29T02:30:00Z" },
  {
    zone: "Europe/Berlin",
    cron: "0 9 * * 1",
    after: "2026-03-28T22:00:00Z",
    next: "2026-03-30T07:00:00Z",
  },
  // There is no half past two that night: the clock goes from two to three, and that is when it runs.
  {
    zone: "Europe/Berlin",
    cron: "30 2 * * *",
    after: "2026-03-28T22:00:00Z",
    next: "2026-03-29T01:00:00Z",
  },
  {
    zone: "Europe/Berlin",
    cron: "*/5 * * * *",
    after: "2026-10-25T00:57:00Z",
    next: "2026-10-25T01:00:00Z",
  },
  {
    zone: "America/New_York",
    cron: "@daily",
    after: "2026-07-01T12:00:00Z",
    next: "2026-07-02T04:00:00Z",
  },
];
for (const { zone, cron, after, next } of times)
  test(`"${cron}" in ${zone || "UTC"} after ${after}`, () => {
    const Schedule = codec("Schedule").parse({ Cron: cron, TimeZone: zone });
    const at = nextRun(Schedule, instant(after));
    assert.equal(at, instant(next));
    assert.ok((nextRun(Schedule, at ?? 0) ?? 0) > (at ?? 0), "the next one is later");
  });

const refused = [
  [{ Cron: "* * * *" }, {}, /schedule "\* \* \* \*"/],
  [{ Cron: "* * * * * *" }, {}, /5 parts/],
  [{ Cron: "61 * * * *" }, {}, /schedule "61/],
  [{ Cron: "0 0 31 2 *" }, {}, /there is no such time/],
  [{ TimeZone: "Mars/Olympus" }, {}, /in Mars\/Olympus/],
  [{ Concurrency: "often" }, {}, /forbid, allow, replace/],
  [{ History: 0 }, {}, /history 0/],
  [{ Deadline: -1 }, {}, /deadline/],
  [{}, { Mode: { Replicated: { Replicas: 1 } } }, /only jobs/],
] as const;
for (const [schedule, extra, why] of refused)
  test(`refused: ${JSON.stringify({ ...schedule, ...extra })}`, () => {
    assert.throws(() => new Sim(1).service("job", spec(schedule, extra)), why);
  });

const firstSeed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
for (let seed = firstSeed; seed < firstSeed + 15; seed++)
  test(`every time is a run or a gap that was told, and none is two runs (SEED=${seed})`, () => {
    const roll = dice(seed);
    const Concurrency = ["allow", "forbid", "replace"][roll(3)];
    const deadlineMs = 30_000 + roll(240_000);
    const sim = scheduled({
      Cron: "*/2 * * * *",
      Concurrency,
      Deadline: deadlineMs * 1e6,
      History: 100,
    });
    const start = sim.now;
    for (let event = 0; event < 60; event++) {
      const kind = roll(6);
      if (kind === 0) sim.now += roll(8 * minute);
      else if (kind === 1) sim.planAll();
      else if (kind === 2) finish(sim, roll(3) === 0 ? "failed" : "complete");
      else if (kind === 3) sim.setNode("n2", { state: roll(2) === 0 ? "down" : "ready" });
      else sim.pass(roll(3 * minute));
      const underWay = runs(sim).filter(({ State }) => State === "running");
      assert.ok(underWay.length <= (Concurrency === "allow" ? 10 : 1));
    }
    sim.settle();
    const begun = runs(sim).filter(({ Iteration }) => Iteration > 0);
    const at = begun.map(({ Scheduled }) => instant(Scheduled));
    assert.equal(new Set(at).size, at.length, "no time has two runs");
    assert.deepEqual(
      begun.map(({ Iteration }) => Iteration),
      begun.map((_, i) => i + 1),
    );
    for (const run of begun)
      assert.ok(instant(run.Started) - instant(run.Scheduled) <= deadlineMs, "none is too late");
    const decided = instant(sim.named("job").JobStatus?.ScheduledAt ?? "");
    const skipped = runs(sim).filter(({ State }) => State === "skipped");
    for (let due = start + 2 * minute; due <= decided; due += 2 * minute)
      assert.ok(
        at.includes(due) ||
          skipped.some(
            (run) => instant(run.Scheduled) <= due && instant(run.Ended) - due > deadlineMs,
          ),
        `nothing is known of ${(due - start) / minute} min`,
      );
    sim.setNode("n2", { state: "ready" });
    for (let round = 0; round < 4; round++) finish(sim);
    assert.equal(sim.planAll(), 0, "planning again changes nothing");
  });
