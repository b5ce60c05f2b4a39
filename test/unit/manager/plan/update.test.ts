import assert from "node:assert/strict";
import { test } from "node:test";
import { hasEnded } from "../../../../manager/plan/tasks.ts";
import { writeService } from "../../../../manager/plan/write.ts";
import { Sim, second } from "./sim.ts";

function spec(image: string, extra: object = {}, replicas = 4): object {
  return {
    TaskTemplate: { ContainerSpec: { Image: image }, RestartPolicy: { Delay: second } },
    Mode: { Replicated: { Replicas: replicas } },
    ...extra,
  };
}

function images(sim: Sim): string {
  return sim
    .wanted("web")
    .toSorted((a, b) => (a.Slot ?? 0) - (b.Slot ?? 0))
    .map((task) => {
      const revision = sim.state.revision(task.ServiceID, task.SpecVersion);
      const image = revision?.Spec?.TaskTemplate?.ContainerSpec?.Image;
      return `${image}:${task.Status?.State}`;
    })
    .join(" ");
}

function settled(extra: object = {}, replicas = 4): Sim {
  const sim = new Sim(2);
  sim.service("web", spec("old", extra, replicas));
  sim.settle();
  return sim;
}

test("an update stops one task, waits for its end, starts the new one, and goes on", () => {
  const sim = settled();
  sim.service("web", spec("new"));
  sim.plan();
  assert.equal(sim.named("web").UpdateStatus?.State, "updating");
  assert.equal(sim.named("web").UpdateStatus?.Message, "update in progress");
  assert.equal(images(sim), "new:assigned old:running old:running old:running");
  const [waiting] = sim.wanted("web").filter((task) => task.SpecVersion === 2);
  assert.equal(waiting?.DesiredState, "ready");
  sim.act();
  sim.plan();
  assert.equal(sim.state.table("task").get(waiting?.ID ?? "")?.DesiredState, "running");
  assert.equal(images(sim), "new:ready old:running old:running old:running");
  sim.act();
  sim.plan();
  assert.equal(images(sim), "new:running new:assigned old:running old:running");
  sim.settle();
  assert.equal(images(sim), "new:running new:running new:running new:running");
  assert.equal(sim.named("web").UpdateStatus?.State, "updating");
  sim.pass(4999);
  assert.equal(sim.named("web").UpdateStatus?.State, "updating");
  sim.pass(1);
  assert.equal(sim.named("web").UpdateStatus?.State, "completed");
  assert.equal(sim.named("web").UpdateStatus?.Message, "update completed");
  assert.ok(sim.named("web").UpdateStatus?.CompletedAt);
  assert.equal(sim.planAll(), 0);
});

test("what serves nobody is replaced first", () => {
  const sim = settled();
  const [, , unhealthy] = sim.running("web");
  sim.report(unhealthy ?? assert.fail(), "failed", "task: unhealthy container");
  sim.plan();
  sim.service("web", spec("new"));
  sim.plan();
  assert.equal(images(sim), "old:running old:running new:assigned old:running");
});

test("start-first keeps the old task until the new one runs", () => {
  const sim = settled({ UpdateConfig: { Order: "start-first" } }, 1);
  sim.service("web", spec("new", { UpdateConfig: { Order: "start-first" } }, 1));
  sim.plan();
  assert.equal(images(sim), "old:running new:assigned");
  assert.deepEqual(
    sim.wanted("web").map((task) => task.DesiredState),
    ["running", "running"],
  );
  const addresses = new Set(
    sim.wanted("web").map((task) => task.NetworksAttachments[0]?.Addresses[0]),
  );
  assert.equal(addresses.size, 1, "no network, no address");
  sim.act();
  sim.plan();
  assert.equal(images(sim), "new:running");
});

const paces = [
  { name: "two at a time", config: { Parallelism: 2 }, now: 2, later: 4 },
  { name: "all at once", config: { Parallelism: 0 }, now: 4, later: 4 },
  {
    name: "with a delay between",
    config: { Parallelism: 1, Delay: 10 * second },
    now: 1,
    later: 1,
  },
];
for (const row of paces)
  test(`an update changes as many tasks as it should: ${row.name}`, () => {
    const sim = settled();
    sim.service("web", spec("new", { UpdateConfig: row.config }));
    sim.plan();
    const begun = () => sim.wanted("web").filter((task) => task.SpecVersion === 2).length;
    assert.equal(begun(), row.now);
    sim.settle();
    assert.equal(begun(), row.later);
    sim.pass(60_000);
    assert.equal(sim.named("web").UpdateStatus?.State, "completed");
    assert.equal(begun(), 4);
  });

test("the delay counts from when the new task runs", () => {
  const sim = settled({}, 2);
  sim.service("web", spec("new", { UpdateConfig: { Delay: 10 * second } }, 2));
  sim.settle();
  sim.pass(9_999);
  assert.equal(images(sim), "new:running old:running");
  sim.pass(1);
  assert.equal(images(sim), "new:running new:running");
  sim.pass(10_999);
  assert.equal(sim.named("web").UpdateStatus?.State, "updating");
  sim.pass(1);
  assert.equal(sim.named("web").UpdateStatus?.State, "completed");
});

/** The first new task fails as soon as it should run. */
function failingUpdate(config: object, replicas = 4): Sim {
  const sim = settled({}, replicas);
  sim.service("web", spec("new", { UpdateConfig: config }, replicas));
  sim.plan();
  sim.act();
  sim.plan();
  const [fresh] = sim.wanted("web").filter((task) => task.SpecVersion === 2 && !hasEnded(task));
  sim.report(fresh ?? assert.fail(), "failed", "exit 1");
  sim.plan();
  return sim;
}

test("a failure pauses the update if it shall; the rest stays as it was", () => {
  const sim = failingUpdate({ FailureAction: "pause" });
  assert.equal(sim.named("web").UpdateStatus?.State, "paused");
  assert.match(
    sim.named("web").UpdateStatus?.Message ?? "",
    /^update paused due to failure or early termination of task id\d+: exit 1$/,
  );
  sim.pass(60_000);
  assert.equal(images(sim), "new:running old:running old:running old:running");
});

test("a paused update still scales, and goes on after the next write", () => {
  const sim = failingUpdate({ FailureAction: "pause" });
  const service = sim.named("web");
  const replicated = { ...(service.Spec ?? assert.fail()), Mode: { Replicated: { Replicas: 6 } } };
  sim.write([{ op: "put", kind: "service", object: { ...service, Spec: replicated } }]);
  sim.pass(60_000);
  assert.equal(sim.running("web").length, 6);
  assert.equal(sim.named("web").UpdateStatus?.State, "paused");
  sim.service("web", spec("newer", {}, 6));
  sim.pass(60_000);
  assert.equal(sim.named("web").UpdateStatus?.State, "completed");
  assert.equal(images(sim), Array(6).fill("newer:running").join(" "));
});

test("failure action continue goes on", () => {
  const sim = failingUpdate({ FailureAction: "continue" });
  sim.pass(60_000);
  assert.equal(sim.named("web").UpdateStatus?.State, "completed");
  assert.equal(images(sim), Array(4).fill("new:running").join(" "));
});

test("a failed update brings the old spec back and keeps the tasks that still run it", () => {
  const sim = settled();
  const before = new Set(sim.running("web").map((task) => task.ID));
  sim.service("web", spec("new"));
  sim.plan();
  sim.act();
  sim.plan();
  const [fresh] = sim.wanted("web").filter((task) => task.SpecVersion === 2);
  sim.report(fresh ?? assert.fail(), "failed", "exit 1");
  sim.plan();
  assert.equal(sim.named("web").UpdateStatus?.State, "rollback_started");
  assert.match(sim.named("web").UpdateStatus?.Message ?? "", /^update rolled back due to failure/);
  sim.pass(60_000);
  assert.equal(sim.named("web").UpdateStatus?.State, "rollback_completed");
  assert.match(
    sim.named("web").UpdateStatus?.Message ?? "",
    /^rollback completed: update rolled back due to failure or early termination of task id\d+: exit 1$/,
  );
  assert.equal(images(sim), Array(4).fill("old:running").join(" "));
  assert.equal(sim.running("web").filter((task) => before.has(task.ID)).length, 3);
  assert.equal(sim.named("web").PreviousSpec, undefined);
  assert.equal(sim.named("web").SpecVersion, 1);
  assert.ok(sim.running("web").every((task) => task.SpecVersion === 1));
});

test("a rollback that fails pauses", () => {
  const sim = failingUpdate({ FailureAction: "rollback" });
  sim.act();
  sim.plan();
  for (
    let round = 0;
    round < 10 && sim.named("web").UpdateStatus?.State === "rollback_started";
    round++
  ) {
    const since = sim.named("web").UpdateStatus?.StartedAt ?? "";
    for (const task of sim.wanted("web"))
      if (task.CreatedAt >= since) sim.report(task, "rejected", "no such image");
    sim.now += 1000;
    sim.plan();
  }
  assert.equal(sim.named("web").UpdateStatus?.State, "rollback_paused");
});

test("a ratio of failures is borne", () => {
  const sim = failingUpdate({ MaxFailureRatio: 0.25 });
  assert.equal(sim.named("web").UpdateStatus?.State, "updating");
});

for (const row of [
  { after: 4900, state: "rollback_started" },
  { after: 5100, state: "updating" },
])
  test(`a new task that fails ${row.after} ms after its start leaves the update ${row.state}`, () => {
    const sim = settled();
    sim.service("web", spec("new", { UpdateConfig: { Delay: 3 * second } }));
    sim.settle();
    const [fresh] = sim.running("web").filter((task) => task.SpecVersion === 2);
    sim.pass(row.after);
    sim.report(fresh ?? assert.fail(), "failed");
    sim.plan();
    assert.equal(sim.named("web").UpdateStatus?.State, row.state);
  });

const harmless = [
  { name: "replicas", change: { Mode: { Replicated: { Replicas: 2 } } } },
  { name: "labels of the service", change: { Labels: { a: "b" } } },
  { name: "update settings", change: { UpdateConfig: { Parallelism: 7 } } },
  {
    name: "another ingress port",
    change: { EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 81 }] } },
  },
];
for (const row of harmless)
  test(`tasks stay when only this changes: ${row.name}`, () => {
    const ports = { EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 80 }] } };
    const sim = settled(ports);
    const before = new Set(sim.wanted("web").map((task) => task.ID));
    sim.service("web", spec("old", { ...ports, ...row.change }));
    sim.settle();
    assert.ok(sim.wanted("web").every((task) => before.has(task.ID)));
    assert.equal(sim.named("web").UpdateStatus, undefined);
    assert.equal(sim.named("web").SpecVersion, 1);
  });

const needed = [
  { name: "force", template: { ForceUpdate: 1 } },
  { name: "env", template: { ContainerSpec: { Image: "old", Env: ["A=b"] } } },
  { name: "a limit", template: { Resources: { Limits: { MemoryBytes: 64 << 20 } } } },
];
for (const row of needed)
  test(`tasks are replaced when this changes: ${row.name}`, () => {
    const sim = settled({}, 1);
    const [before] = sim.wanted("web");
    const template = {
      ContainerSpec: { Image: "old" },
      RestartPolicy: { Delay: second },
      ...row.template,
    };
    sim.service("web", { TaskTemplate: template, Mode: { Replicated: { Replicas: 1 } } });
    sim.settle();
    assert.notEqual(sim.wanted("web")[0]?.ID, before?.ID);
  });

test("a host-mode port on a single node survives a stop-first update", () => {
  const ports = {
    EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 80, PublishMode: "host" }] },
  };
  const sim = new Sim(1);
  sim.service("web", spec("old", ports, 1));
  sim.settle();
  sim.service("web", spec("new", ports, 1));
  sim.settle();
  assert.equal(images(sim), "new:running");
});

test("service rollback: the previous spec with the rollback settings", () => {
  const sim = settled();
  sim.service("web", spec("new"));
  sim.pass(60_000);
  const service = sim.named("web");
  const written = writeService(sim.state, service, service.PreviousSpec ?? assert.fail(), {
    id: service.ID,
    now: sim.now,
    isRollback: true,
  });
  sim.write(written.changes);
  assert.equal(sim.named("web").UpdateStatus?.State, "rollback_started");
  assert.equal(sim.named("web").UpdateStatus?.Message, "manually requested rollback");
  sim.pass(60_000);
  assert.equal(sim.named("web").UpdateStatus?.State, "rollback_completed");
  assert.equal(images(sim), Array(4).fill("old:running").join(" "));
});

test("a spec that is sent back as it was shown moves no task", () => {
  const sim = settled();
  const before = sim.running("web").map((task) => task.ID);
  const shown = spec("old") as { TaskTemplate: { ContainerSpec: object } };
  const ContainerSpec = { ...shown.TaskTemplate.ContainerSpec, Isolation: "default" };
  const TaskTemplate = { ...shown.TaskTemplate, ContainerSpec, Runtime: "container" };
  sim.service("web", { ...shown, TaskTemplate });
  sim.pass(60_000);
  assert.deepEqual(
    sim.running("web").map((task) => task.ID),
    before,
  );
});

test("an update of a service without tasks is complete at once", () => {
  const sim = settled({}, 0);
  sim.service("web", spec("new", {}, 0));
  sim.settle();
  assert.equal(sim.named("web").UpdateStatus, undefined);
  assert.equal(sim.state.revisionsOfService(sim.named("web").ID).length, 1);
});

test("revisions nobody runs any more are forgotten with the last task of theirs", () => {
  const sim = settled({}, 1);
  for (let i = 0; i < 9; i++) {
    sim.service("web", spec(`image${i}`, {}, 1));
    sim.pass(20_000);
  }
  assert.equal(sim.tasks("web").length, 5);
  assert.equal(sim.state.revisionsOfService(sim.named("web").ID).length, 5);
});

test("a start-first update that is overtaken keeps the task that serves and one successor", () => {
  const order = { UpdateConfig: { Order: "start-first" } };
  const sim = settled(order, 1);
  sim.service("web", spec("new", order, 1));
  sim.plan();
  sim.service("web", spec("newer", order, 1));
  sim.plan();
  assert.equal(images(sim), "old:running newer:assigned");
  sim.settle();
  assert.equal(images(sim), "newer:running");
});
