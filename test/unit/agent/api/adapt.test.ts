import assert from "node:assert/strict";
import { test } from "node:test";
import { type Json, serviceJson } from "../../../../agent/api/adapt.ts";
import { codec } from "../../../../proto/codec.ts";

const Networks = [{ Target: "n1" }];
const places = [
  { name: "above the template", spec: { Networks }, shown: [Networks, undefined] },
  { name: "in the template", spec: {}, shown: [undefined, Networks] },
  { name: "nowhere", spec: { TaskTemplate: {} }, shown: [undefined, undefined] },
];
for (const { name, spec, shown } of places)
  test(`a service's networks are shown where they were given: ${name}`, () => {
    const Spec = { Name: "web", TaskTemplate: { Networks }, ...spec };
    const json = serviceJson(codec("Service").parse({ ID: "s1", Spec }));
    const seen = json["Spec"] as Json;
    const template = seen["TaskTemplate"] as Json;
    assert.deepEqual([seen["Networks"], template["Networks"]], shown);
  });

test("both specs of a service say what Docker shows where nobody said it", () => {
  const TaskTemplate = { ContainerSpec: { Image: "a" } };
  const Spec = { Name: "web", TaskTemplate };
  const json = serviceJson(codec("Service").parse({ ID: "s1", Spec, PreviousSpec: Spec }));
  for (const name of ["Spec", "PreviousSpec"]) {
    const template = (json[name] as Json)["TaskTemplate"];
    assert.deepEqual(template, {
      ContainerSpec: { Image: "a", Isolation: "default" },
      ...{ ForceUpdate: 0, Runtime: "container" },
    });
  }
});
