import assert from "node:assert/strict";
import { test } from "node:test";
import { hostIndex, hostsFile, machine, nameOfLab, socketOf } from "../../../deploy/lab/names.ts";
import { isProgram } from "../../../deploy/lab/processes.ts";

test("everything about a host follows from its name", () => {
  assert.deepEqual(machine("h3"), {
    kind: "host",
    name: "h3",
    namespace: "tsswarm-lab-h3",
    address: "10.77.0.13",
    address6: "fd4c:4142::13",
    port: "p-h3",
    mac: "02:4c:41:42:00:0d",
    folder: "/run/tsswarm-lab/h3",
    disk: "/var/lib/tsswarm-lab/h3",
  });
  assert.equal(socketOf(machine("h1")), "/run/tsswarm-lab/h1/docker.sock");
  assert.equal(machine("outside").address, "10.77.0.5");
});

test("a lab beside the first is called by its name, which fits into names of files and namespaces", () => {
  assert.equal(nameOfLab(undefined), "tsswarm-lab");
  assert.equal(nameOfLab(""), "tsswarm-lab");
  assert.equal(nameOfLab("b2"), "tsswarm-lab.b2");
  for (const wrong of ["..", "a/b", "A", "thirteen-long", "a b"])
    assert.throws(() => nameOfLab(wrong), /cannot name a lab/);
});

test("only h1 to h9 are hosts", () => {
  for (const name of ["h0", "h10", "h", "outside", "../h1", "h1 "])
    assert.equal(hostIndex(name), 0);
  assert.equal(hostIndex("h9"), 9);
});

test("every machine knows the registry and all hosts by name", () => {
  assert.match(hostsFile(), /^10\.77\.0\.1 registry\.lab$/m);
  assert.match(hostsFile(), /^10\.77\.0\.19 h9$/m);
});

test("a program is known by its command line, and nothing else passes for it", () => {
  const main = "/run/tsswarm-program/dist/cli/main.js";
  assert.equal(isProgram(["/usr/bin/node", main, "daemon", "--config-file", "x"], "keeper"), true);
  assert.equal(isProgram(["/usr/bin/node", main, "agent", "--config-json", "{}"], "agent"), true);
  assert.equal(isProgram(["/usr/bin/node", main, "manager"], "agent"), false);
  assert.equal(isProgram(["containerd", "--config", "x"], "containerd"), true);
  assert.equal(isProgram(["/usr/bin/containerd-shim-runc-v2"], "containerd"), false);
  assert.equal(isProgram(["grep", main], "keeper"), false);
});
