// What only tsswarm's services have: devices and the like, privileges, rehearsals and explanations.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { always, image, type Json, skip, startRecorder } from "./service-flags.ts";

const recorder = await startRecorder();
const { daemon, docker, tsswarm, stored } = recorder;
after(() => recorder[Symbol.asyncDispose]());

test("what only tsswarm knows survives an update by docker, and goes when it is taken away", {
  skip,
}, async () => {
  const extra = [
    ...["--device", "/dev/fuse", "--device", "/dev/null:/dev/zero2:r", "--shm-size", "128m"],
    ...["--security-opt", "seccomp=unconfined", "--ipc", "host", "--pid", "host"],
    ...["--cgroup-parent", "/extra", "--runtime", "runc", "--device-cgroup-rule", "c 42:* rmw"],
  ];
  const made = await tsswarm("service", "create", ...always, "--name", "x", ...extra, image);
  assert.equal(made.code, 0, made.stderr);
  const host = async () =>
    ((await stored("x")) as { TaskTemplate: { ContainerSpec: { HostConfig?: Json } } }).TaskTemplate
      .ContainerSpec.HostConfig;
  const wanted = {
    Devices: [
      { PathOnHost: "/dev/fuse", PathInContainer: "/dev/fuse", CgroupPermissions: "rwm" },
      { PathOnHost: "/dev/null", PathInContainer: "/dev/zero2", CgroupPermissions: "r" },
    ],
    DeviceCgroupRules: ["c 42:* rmw"],
    ShmSize: 128 << 20,
    SecurityOpt: ["seccomp=unconfined"],
    IpcMode: "host",
    PidMode: "host",
    CgroupParent: "/extra",
    Runtime: "runc",
  };
  assert.deepEqual(await host(), wanted);
  assert.equal((await docker("service", "update", "-d", "--force", "x")).code, 0);
  assert.deepEqual(await host(), wanted);
  const { Devices, ...others } = wanted;
  const fewer = ["--device-rm", "/dev/fuse", "--security-opt-rm", "seccomp=unconfined"];
  assert.equal((await tsswarm("service", "update", "-d", ...fewer, "x")).code, 0);
  const { SecurityOpt: _, ...rest } = others;
  assert.deepEqual(await host(), { ...rest, Devices: Devices.slice(1) });
  assert.equal((await docker("service", "rollback", "-d", "x")).code, 0);
  assert.deepEqual(await host(), wanted);
});

test("privileged services need the cluster's leave", { skip }, async () => {
  const create = ["service", "create", ...always, "--name", "p", "--privileged", image];
  const refused = await tsswarm(...create);
  assert.match(refused.stderr, /does not allow privileged services/);
  assert.equal((await tsswarm("swarm", "update", "--allow-privileged")).code, 0);
  const allowed = await tsswarm(...create);
  assert.equal(allowed.code, 0, allowed.stderr);
  assert.equal((await docker("swarm", "update", "--task-history-limit", "4")).code, 0);
  const again = await tsswarm("service", "update", "-d", "--env-add", "A=1", "p");
  assert.equal(again.code, 0, again.stderr);
  assert.equal((await tsswarm("swarm", "update", "--allow-privileged=false")).code, 0);
  const late = await tsswarm("service", "update", "-d", "--env-add", "B=1", "p");
  assert.match(late.stderr, /does not allow privileged services/);
});

test("a rehearsed creation tells its steps and leaves nothing; explain names each node", {
  skip,
}, async () => {
  const create = ["service", "create", "--name", "dry", "--no-resolve-image"];
  const ran = await tsswarm(...create, "--dry-run", "--replicas", "2", image);
  assert.equal(ran.code, 0, ran.stderr);
  assert.match(ran.stdout, /^AFTER +ACTION +TASK/);
  assert.match(ran.stdout, /^0\.0 s +(start|wait) +dry\.1/m);
  assert.equal((await daemon.ask("GET", "/v1.50/services/dry")).status, 404);
  const picky = ["-d", "--constraint", "node.labels.disk==ssd", image];
  assert.equal((await docker(...create, ...picky)).code, 0);
  const update = await tsswarm("service", "update", "--dry-run", "--replicas", "3", "dry");
  assert.match(update.stdout, /wait +dry\.3 .*no suitable node/);
  const explained = await tsswarm("service", "explain", "dry");
  assert.equal(explained.code, 0, explained.stderr);
  assert.match(
    explained.stdout,
    /no +.*it does not satisfy the constraint node\.labels\.disk==ssd/,
  );
  const again = await tsswarm(...create, "--dry-run", image);
  assert.match(again.stderr, /service dry already exists/);
});
