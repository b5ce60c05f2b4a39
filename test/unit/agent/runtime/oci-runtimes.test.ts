import assert from "node:assert/strict";
import { test } from "node:test";
import {
  chooseRuntimes,
  findRuntime,
  type OciFacts,
  runcShim,
} from "../../../../agent/runtime/oci-runtimes.ts";

const rows: readonly (OciFacts & { readonly expected: string })[] = [
  { crunVersion: "", cgroups: "v2", expected: "runc" },
  { crunVersion: "1.8.1", cgroups: "v2", expected: "crun" },
  { crunVersion: "1.8.1", cgroups: "v1", expected: "crun" },
  { crunVersion: "1.8.1", cgroups: "mixed", expected: "runc" },
  { crunVersion: "1.18", cgroups: "v1", expected: "crun" },
  { crunVersion: "1.19", cgroups: "v1", expected: "runc" },
  { crunVersion: "2.0", cgroups: "v1", expected: "runc" },
  { crunVersion: "1.26.1", cgroups: "v2", expected: "crun" },
  { crunVersion: "0.17", cgroups: "v2", expected: "runc" },
];
for (const { expected, ...facts } of rows)
  test(`with crun "${facts.crunVersion}" and control groups ${facts.cgroups} containers are run by ${expected}`, () => {
    assert.equal(chooseRuntimes(facts, {}, "").byDefault, expected);
  });

const facts = { crunVersion: "1.8.1", cgroups: "v2" } as const;
const configured = { slow: { path: "/opt/slow" }, vm: { runtimeType: "io.containerd.kata.v2" } };

test("the configuration's default goes before our own choice", () => {
  assert.equal(chooseRuntimes(facts, {}, "runc").byDefault, "runc");
  assert.equal(chooseRuntimes(facts, configured, "slow").byDefault, "slow");
});

test("a default that is nowhere is refused by its name", () => {
  const choose = () => chooseRuntimes(facts, configured, "gone");
  assert.throws(choose, { code: "invalid", message: "unknown or invalid runtime name: gone" });
});

test("a runtime is found by its name, containerd's shims without being configured", () => {
  const runtimes = chooseRuntimes(facts, configured, "");
  const found = (name: string) => findRuntime(runtimes, name);
  assert.deepEqual(found(""), { name: "crun", shim: runcShim, path: "crun" });
  assert.deepEqual(found("slow"), { name: "slow", shim: runcShim, path: "/opt/slow" });
  assert.deepEqual(found("vm"), { name: "vm", shim: "io.containerd.kata.v2", path: "" });
  const shim = "io.containerd.runsc.v1";
  assert.deepEqual(found(shim), { name: shim, shim, path: "" });
  for (const name of ["toString", "nosuch", "io.containerd.x"])
    assert.throws(() => found(name), { message: `unknown or invalid runtime name: ${name}` });
});
