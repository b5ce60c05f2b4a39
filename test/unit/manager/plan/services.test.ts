// Services as they are written: what is refused, what is filled in, what does not change.

import assert from "node:assert/strict";
import { test } from "node:test";
import { withDefaults } from "../../../../manager/plan/defaults.ts";
import { codec } from "../../../../proto/codec.ts";
import { casesOf } from "../../data.ts";
import { on, type Refused, refusal, Sim } from "./sim.ts";

for (const row of casesOf<Refused>("manager/plan/refused-services.yaml"))
  test(`a service is refused: ${row.name}`, () => {
    const sim = new Sim(1);
    assert.throws(() => sim.service("web", row.spec), refusal(row));
  });

for (const name of ["", "a b", "-web", "web-", "über", "x".repeat(64)])
  test(`the service name ${JSON.stringify(name)} is refused`, () => {
    assert.throws(() => new Sim(1).service(name), { code: "invalid", message: /name must be/ });
  });

test("templates and signals that mean something are accepted", () => {
  const ContainerSpec = {
    Image: "i",
    Hostname: '{{.Service.Name}}-{{ .Task.Slot }}{{index .Service.Labels "tier"}}',
    Env: ["NODE={{.Node.Hostname}}", "TIER={{.Service.Labels.tier}}"],
    StopSignal: "rtmin+3",
  };
  const service = new Sim(1).service("web", {
    TaskTemplate: { ContainerSpec },
    Labels: { tier: "front" },
  });
  assert.equal(service.Spec?.Name, "web");
});

test("an unknown network is not found, the ingress network is not for services to join", () => {
  const sim = new Sim(1);
  assert.throws(() => sim.service("web", on("nowhere")), {
    code: "not_found",
    message: "network nowhere not found",
  });
  assert.throws(() => sim.service("web", on("ingress")), { code: "invalid" });
});

test("networks in the old place of the spec count, become ids, and stay there for who looks there", () => {
  const sim = new Sim(1);
  const id = sim.network("front");
  const networks = [{ Target: id, Aliases: ["w"], DriverOpts: {} }];
  const wanted = [{ Target: "front", Aliases: ["w"] }];
  const { Spec: old } = sim.service("web", { Networks: wanted });
  assert.deepEqual([old?.Networks, old?.TaskTemplate?.Networks], [networks, networks]);
  const TaskTemplate = { ContainerSpec: { Image: "i" }, Networks: wanted };
  const { Spec: both } = sim.service("api", { Networks: wanted, TaskTemplate });
  assert.deepEqual([both?.Networks, both?.TaskTemplate?.Networks], [[], networks]);
});

test("the mode and the name of a service do not change", () => {
  const sim = new Sim(1);
  sim.service("web");
  assert.throws(() => sim.service("web", { Mode: { Global: {} } }), {
    code: "unsupported",
    message: /mode change is not allowed/,
  });
});

test("defaults fill what the spec leaves open and nothing else", () => {
  const spec = codec("ServiceSpec").parse({
    Name: "web",
    TaskTemplate: { ContainerSpec: { Image: "i" }, RestartPolicy: { Condition: "none" } },
    UpdateConfig: { Parallelism: 0 },
  });
  const filled = withDefaults(spec);
  assert.equal(filled.TaskTemplate?.ContainerSpec?.StopGracePeriod, 10_000_000_000);
  assert.deepEqual(filled.TaskTemplate?.RestartPolicy, {
    Condition: "none",
    Delay: 5_000_000_000,
    MaxAttempts: 0,
  });
  const rollback = {
    Parallelism: 1,
    Delay: 0,
    FailureAction: "pause",
    Monitor: 5_000_000_000,
    MaxFailureRatio: 0,
    Order: "stop-first",
  };
  assert.deepEqual(filled.UpdateConfig, { ...rollback, Parallelism: 0, FailureAction: "rollback" });
  assert.deepEqual(filled.RollbackConfig, rollback);
  assert.equal(filled.EndpointSpec?.Mode, "vip");
  assert.equal(filled.TaskTemplate?.ContainerSpec?.Isolation, "default");
});
