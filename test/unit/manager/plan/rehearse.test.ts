import assert from "node:assert/strict";
import { test } from "node:test";
import { verdictsOf } from "../../../../manager/plan/explain.ts";
import { rehearse } from "../../../../manager/plan/rehearse.ts";
import { writeService } from "../../../../manager/plan/write.ts";
import { codec } from "../../../../proto/codec.ts";
import { Sim, second } from "./sim.ts";

const template = (extra: object = {}) => ({ ContainerSpec: { Image: "old" }, ...extra });

function rehearsed(sim: Sim, name: string, spec: object): { steps: string[]; cut: string } {
  const previous = sim.state.table("service").named(name);
  const full = codec("ServiceSpec").parse({ Name: name, ...spec });
  const options = { id: previous?.ID ?? "new", now: sim.now };
  const { changes, service } = writeService(sim.state, previous, full, options);
  const play = rehearse(sim.state, changes, service.ID, sim.now, sim.newId);
  let round = play.next();
  while (round.done !== true) round = play.next();
  const { steps, cut } = round.value;
  const lines = steps.map(({ At, Action, Task, Hostname, Detail }) =>
    [At / 1000, Action, Task, Hostname, Detail].filter((word) => word !== "").join(" "),
  );
  return { steps: lines, cut };
}

test("a creation: what starts where, and what would wait", () => {
  const sim = new Sim(2);
  const Resources = { Reservations: { MemoryBytes: 1 << 29 } };
  const { steps, cut } = rehearsed(sim, "web", {
    TaskTemplate: template({ Resources }),
    Mode: { Replicated: { Replicas: 5 } },
  });
  assert.equal(cut, "");
  assert.deepEqual(steps, [
    "0 start web.1 n1",
    "0 start web.2 n2",
    "0 start web.3 n1",
    "0 start web.4 n2",
    "0 wait web.5 no suitable node (insufficient resources on 2 nodes)",
  ]);
  assert.equal(sim.state.table("task").size, 0, "nothing has happened");
});

test("an update: in which order tasks stop and start, with its delays", () => {
  const sim = new Sim(2);
  const base = { Mode: { Replicated: { Replicas: 2 } } };
  sim.service("web", { TaskTemplate: template(), ...base });
  sim.settle();
  const changed = { ...base, TaskTemplate: { ContainerSpec: { Image: "new" } } };
  const stopFirst = rehearsed(sim, "web", {
    ...changed,
    UpdateConfig: { Delay: 10 * second, Monitor: second },
  });
  assert.deepEqual(stopFirst.steps, [
    "0 stop web.1 n1",
    "0 prepare web.1 n1",
    "0 start web.1 n1",
    "10 stop web.2 n2",
    "10 prepare web.2 n2",
    "10 start web.2 n2",
    "21 end update completed",
  ]);
  const startFirst = rehearsed(sim, "web", {
    ...changed,
    UpdateConfig: { Order: "start-first", Parallelism: 0, Monitor: second },
  });
  assert.deepEqual(
    startFirst.steps.map((step) => step.replace(/ n\d$/, "")),
    ["0 start web.1", "0 start web.2", "0 stop web.1", "0 stop web.2", "1 end update completed"],
  );
});

test("what is rehearsed is what happens then", () => {
  const sim = new Sim(5);
  sim.service("other", { Mode: { Replicated: { Replicas: 7 } } });
  sim.settle();
  const spec = {
    TaskTemplate: template({ Placement: { Constraints: ["node.hostname != n2"] } }),
    Mode: { Replicated: { Replicas: 9 } },
  };
  const { steps } = rehearsed(sim, "web", spec);
  sim.service("web", spec);
  sim.settle();
  const running = sim.running("web").map((task) => `0 start web.${task.Slot} ${task.NodeID}`);
  assert.deepEqual([...steps].sort(), running.sort());
});

test("a job is rehearsed to its end", () => {
  const { steps } = rehearsed(new Sim(1), "job", {
    TaskTemplate: template(),
    Mode: { ReplicatedJob: { MaxConcurrent: 1, TotalCompletions: 2 } },
  });
  assert.deepEqual(steps, [
    "0 start job.0 n1",
    "0 complete job.0 n1",
    "0 start job.1 n1",
    "0 complete job.1 n1",
  ]);
});

test("for each node every reason why a task does not fit, with the figures", () => {
  const sim = new Sim(0);
  const description = (Hostname: string) => ({
    Description: {
      Hostname,
      Platform: { OS: "linux", Architecture: "x86_64" },
      Resources: { NanoCPUs: 2e9, MemoryBytes: 1 << 30 },
    },
  });
  for (const name of ["a", "b", "c", "d"]) sim.addNode(name, description(name));
  sim.service("holder", {
    TaskTemplate: template({
      Resources: { Reservations: { MemoryBytes: 768 << 20 } },
      Placement: { Constraints: ["node.hostname == a"] },
    }),
    EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 80, PublishMode: "host" }] },
  });
  sim.settle();
  sim.setNode("b", { availability: "drain" });
  sim.setNode("c", { state: "down" });
  sim.service("web", {
    TaskTemplate: template({
      Resources: { Reservations: { MemoryBytes: 512 << 20, NanoCPUs: 3e9 } },
      Placement: { Constraints: ["node.labels.disk == ssd", "service.name == holder"] },
    }),
    EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 80, PublishMode: "host" }] },
  });
  sim.settle();
  const [holder] = sim.running("holder");
  const verdicts = verdictsOf(sim.state, sim.named("web"), sim.now);
  const unmet = "it does not satisfy the constraint node.labels.disk == ssd";
  const away = "what runs there does not satisfy service.name == holder";
  const cpus = "3 CPUs are reserved, 2 are free";
  assert.deepEqual(
    verdicts.map(({ Hostname, Reasons }) => [Hostname, ...Reasons]),
    [
      [
        "a",
        unmet,
        cpus,
        "512 MiB of memory are reserved, 256 MiB are free",
        `the task ${holder?.Name} has its port tcp/80`,
      ],
      ["b", "its availability is drain", unmet, away, cpus],
      ["c", "it is down", unmet, away, cpus],
      ["d", unmet, away, cpus],
    ],
  );
  sim.service("small", { TaskTemplate: template() });
  const fitting = verdictsOf(sim.state, sim.named("small"), sim.now).filter(({ Fits }) => Fits);
  assert.deepEqual(
    fitting.map(({ Hostname }) => Hostname),
    ["a", "d"],
  );
});
