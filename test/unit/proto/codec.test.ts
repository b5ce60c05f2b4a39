import assert from "node:assert/strict";
import { test } from "node:test";
import { codec } from "../../../proto/codec.ts";

const body = {
  Name: "web",
  Labels: { tier: "front" },
  TaskTemplate: { ContainerSpec: { Image: "whoami", StopGracePeriod: 10_000_000_000 } },
  Mode: { Replicated: { Replicas: 0 } },
};

test("a service spec keeps an explicit zero through JSON, bytes and back", () => {
  const spec = codec("ServiceSpec").parse(body);
  assert.equal(spec.Mode?.Replicated?.Replicas, 0);
  assert.deepEqual(codec("ServiceSpec").decode(codec("ServiceSpec").encode(spec)), spec);
});

test("unknown keys and nulls are ignored, lists and maps come back empty", () => {
  const spec = codec("ServiceSpec").parse({ ...body, Labels: null, Bogus: { deep: [1] } });
  assert.deepEqual(spec.Labels, {});
  assert.deepEqual(spec.TaskTemplate?.ContainerSpec?.Env, []);
  assert.ok(!("Bogus" in spec));
});

test("keys are taken in any case, the schema's own before others", () => {
  const spec = codec("ServiceSpec").parse({
    mode: { replicated: { replicas: 5 } },
    Mode: undefined,
    labels: { own: "Key" },
    Name: "web",
    name: "other",
    taskTemplate: { containerSpec: { image: "busybox", mounts: [{ target: "/x" }] } },
  });
  assert.equal(spec.Mode?.Replicated?.Replicas, 5);
  assert.deepEqual(spec.Labels, { own: "Key" });
  assert.equal(spec.Name, "web");
  assert.equal(spec.TaskTemplate?.ContainerSpec?.Mounts[0]?.Target, "/x");
});

const wrong = [
  {
    name: "a string for a number",
    json: { Mode: { Replicated: { Replicas: "3" } } },
    says: /Replicas: integer/,
  },
  {
    name: "a number out of range",
    json: { Mode: { Replicated: { Replicas: 1e30 } } },
    says: /out of range/,
  },
  { name: "a list for an object", json: { TaskTemplate: [] }, says: /TaskTemplate/ },
  {
    name: "a number in a list of strings",
    json: { TaskTemplate: { ContainerSpec: { Env: [1] } } },
    says: /Env/,
  },
  { name: "not an object at all", json: [1], says: /an object is expected/ },
];
for (const row of wrong)
  test(`a wrong type is refused and the field named: ${row.name}`, () => {
    assert.throws(() => codec("ServiceSpec").parse(row.json), {
      code: "invalid",
      message: row.says,
    });
  });

test("bytes that are no message are refused", () => {
  assert.throws(() => codec("Service").decode(Buffer.from([0xff, 0xff, 0xff])), {
    code: "invalid",
  });
});
