import assert from "node:assert/strict";
import { test } from "node:test";
import { endpointsOf } from "../../../../manager/plan/endpoints.ts";
import { expandTask } from "../../../../manager/plan/tasks.ts";
import { Sim } from "./sim.ts";

test("a new service gets its slots with node, address and name in one transaction", () => {
  const sim = new Sim(3);
  const net = sim.network("front");
  sim.service("web", {
    TaskTemplate: {
      ContainerSpec: { Image: "whoami" },
      Networks: [{ Target: "front", Aliases: ["w"] }],
    },
    Mode: { Replicated: { Replicas: 3 } },
    EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 8080 }] },
  });
  const before = sim.facts.index;
  sim.plan();
  assert.equal(sim.facts.index, before + 1);
  const tasks = sim.tasks("web");
  assert.deepEqual(
    tasks.map((task) => task.Slot),
    [1, 2, 3],
  );
  assert.deepEqual(tasks.map((task) => task.NodeID).sort(), ["n1", "n2", "n3"]);
  assert.deepEqual(
    tasks.map((task) => task.Status?.State),
    ["assigned", "assigned", "assigned"],
  );
  assert.deepEqual(
    tasks.map((task) => task.NetworksAttachments.map((one) => [one.Network?.ID, one.Addresses])),
    [3, 4, 5].map((n) => [
      ["ingress", [`10.0.0.${n}/16`, sim.inIngress6(n)]],
      [net, [`10.1.0.${n}/24`]],
    ]),
  );
  assert.deepEqual(sim.named("web").Endpoint?.VirtualIPs, [
    { NetworkID: net, Addr: "10.1.0.2/24" },
    { NetworkID: "ingress", Addr: "10.0.0.2/16" },
    { NetworkID: "ingress", Addr: sim.inIngress6(2) },
  ]);
  assert.equal(tasks[0]?.Name, `web.1.${tasks[0]?.ID}`);
  assert.equal(sim.planAll(), 0);
});

test("a task as the agents see it has its spec and its networks", () => {
  const sim = new Sim(1);
  sim.network("front");
  sim.service("web", {
    TaskTemplate: { ContainerSpec: { Image: "whoami" }, Networks: [{ Target: "front" }] },
  });
  sim.plan();
  const [task] = sim.tasks("web");
  const expanded = expandTask(sim.state, task ?? assert.fail());
  assert.equal(expanded.Spec?.ContainerSpec?.Image, "whoami");
  assert.equal(expanded.NetworksAttachments[0]?.Network?.Spec?.Name, "front");
});

test("an endpoint is reserved while the task starts, serves while it runs, drains while it stops", () => {
  const sim = new Sim(1);
  sim.network("front");
  sim.service("web", {
    TaskTemplate: { ContainerSpec: { Image: "whoami" }, Networks: [{ Target: "front" }] },
  });
  sim.plan();
  const states = () =>
    sim.tasks("web").flatMap((task) => endpointsOf(sim.state, task).map((one) => one.State));
  assert.deepEqual(states(), ["reserved"]);
  sim.act();
  assert.deepEqual(states(), ["serving"]);
  sim.removeService("web");
  sim.plan();
  assert.deepEqual(states(), ["draining"]);
  sim.act();
  sim.plan();
  assert.deepEqual(sim.tasks("web"), []);
  assert.equal(sim.state.table("revision").size, 0);
});

test("on the ingress network there is no endpoint of a task that does not serve yet", () => {
  const sim = new Sim(1);
  sim.service("web", {
    TaskTemplate: { ContainerSpec: { Image: "whoami" } },
    EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 8080 }] },
  });
  sim.plan();
  const states = () =>
    sim.tasks("web").flatMap((task) => endpointsOf(sim.state, task).map((one) => one.State));
  assert.deepEqual(states(), []);
  sim.act();
  assert.deepEqual(states(), ["serving"]);
  sim.removeService("web");
  sim.plan();
  assert.deepEqual(states(), ["draining"]);
});
