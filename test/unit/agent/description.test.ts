import assert from "node:assert/strict";
import { test } from "node:test";
import { describeNode, genericResourcesOf } from "../../../agent/description.ts";
import { logDefaults } from "../../../agent/engine/log-limits.ts";
import { parseDaemonConfig } from "../../../proto/config.ts";

test("a node's resources are counted, or have names of their own", () => {
  const config = parseDaemonConfig(
    { "node-generic-resources": ["gpu=UUID1", "gpu=UUID2", "fpga=4"] },
    "test",
  );
  const wanted = [
    { NamedResourceSpec: { Kind: "gpu", Value: "UUID1" } },
    { NamedResourceSpec: { Kind: "gpu", Value: "UUID2" } },
    { DiscreteResourceSpec: { Kind: "fpga", Value: 4 } },
  ];
  assert.deepEqual(genericResourcesOf(config), wanted);
  assert.deepEqual(describeNode(config, null).Resources?.GenericResources, wanted);
});

test("the daemon's file may have every log option, in a form that can be read", () => {
  const options = {
    ...{ "max-size": "5m", "max-file": "4", compress: "true", mode: "non-blocking" },
    ...{ "max-buffer-size": "2m", tag: "{{.ID}}", labels: "a,b", env: "C", "env-regex": "^D" },
  };
  const config = parseDaemonConfig({ "log-opts": options }, "test");
  assert.deepEqual(logDefaults(config), { driver: "json-file", options });
  assert.deepEqual(logDefaults(parseDaemonConfig({}, "test")).options, {});
  for (const wrong of [{ mode: "fast" }, { "max-size": "much" }, { color: "red" }])
    assert.throws(() => parseDaemonConfig({ "log-opts": wrong }, "test"), /log-opts/);
});
