import assert from "node:assert/strict";
import { test } from "node:test";
import { withDefaults } from "../../../../manager/plan/defaults.ts";
import { runsTheSame } from "../../../../manager/plan/tasks.ts";
import { codec } from "../../../../proto/codec.ts";
import type { ServiceSpec } from "../../../../proto/gen/types.ts";

const specs = codec("ServiceSpec");
const written = {
  Name: "web",
  TaskTemplate: {
    ContainerSpec: { Image: "web:1", Labels: { a: "b" } },
    Networks: [{ Target: "front" }],
  },
  Mode: { Replicated: { Replicas: 6 } },
  EndpointSpec: { Ports: [{ Protocol: "tcp", TargetPort: 80, PublishedPort: 8080 }] },
};

function specWith(template: object, container: object = {}): ServiceSpec {
  const ContainerSpec = { ...written.TaskTemplate.ContainerSpec, ...container };
  return specs.parse({
    ...written,
    TaskTemplate: { ...written.TaskTemplate, ContainerSpec, ...template },
  });
}

const spec = specs.parse(written);

test("a spec that a client sends back as it was shown, with or without the defaults, changes nothing", () => {
  const shown = specWith({ ForceUpdate: 0, Runtime: "container" }, { Isolation: "default" });
  assert.ok(runsTheSame(spec, shown));
  assert.ok(runsTheSame(spec, withDefaults(shown)));
  assert.ok(runsTheSame(spec, specs.decode(specs.encode(withDefaults(shown)))));
});

const same: readonly (readonly [string, object, object?])[] = [
  ["resources that reserve nothing", { Resources: { Limits: {}, Reservations: {} } }],
  ["a DNS configuration without servers", {}, { DNSConfig: {} }],
  ["privileges that give and take nothing", {}, { Privileges: { NoNewPrivileges: false } }],
  ["a log driver without a name", { LogDriver: { Name: "", Options: {} } }],
  ["the ten seconds a stop is given anyway", {}, { StopGracePeriod: 10e9 }],
  ["the restart policy there is anyway", { RestartPolicy: { Condition: "any", Delay: 5e9 } }],
  ["a restart policy that says nothing", { RestartPolicy: {} }],
];

for (const [what, template, container] of same)
  test(`no task is replaced for ${what}`, () => {
    assert.ok(runsTheSame(spec, specWith(template, container)));
  });

const other: readonly (readonly [string, object, object?])[] = [
  ["an image", {}, { Image: "web:2" }],
  ["a label without a value", {}, { Labels: { a: "b", c: "" } }],
  ["a label whose value is gone", {}, { Labels: { a: "" } }],
  ["a force", { ForceUpdate: 1 }],
  ["a shorter stop", {}, { StopGracePeriod: 0 }],
  ["no restart", { RestartPolicy: { Condition: "none" } }],
  ["a restart at once", { RestartPolicy: { Delay: 0 } }],
  ["an option without a value", { LogDriver: { Name: "local", Options: { tag: "" } } }],
  ["an init process", {}, { Init: true }],
  ["no init process, whatever the daemon does by itself", {}, { Init: false }],
  ["a limit", { Resources: { Limits: { MemoryBytes: 1e8 } } }],
  ["another network", { Networks: [{ Target: "front" }, { Target: "back" }] }],
];

for (const [what, template, container] of other)
  test(`tasks are replaced for ${what}`, () => {
    assert.ok(!runsTheSame(spec, specWith(template, container)));
    assert.ok(!runsTheSame(specWith(template, container), spec));
  });
