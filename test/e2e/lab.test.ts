// The lab itself: what it says to wrong use, and that it leaves nothing, whole or half-made. Needs a machine without a lab.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { machine, runFolder } from "../../deploy/lab/names.ts";
import { findProgram, initOf } from "../../deploy/lab/processes.ts";
import { readRecord } from "../../deploy/lab/record.ts";
import {
  attemptLab,
  changedSince,
  lab,
  machineState,
  startLabCommand,
  until,
  untilAnswering,
} from "./harness.ts";

let start: readonly string[] = [];

before(async () => {
  if (readRecord() !== null)
    throw new Error(`there is a lab already (${runFolder}): \`tsswarm lab down\` first`);
  start = await machineState();
});

after(async () => {
  if (readRecord() !== null) await lab("down");
});

async function refusal(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await attemptLab(...args);
  assert.equal(code === 0, false, `${args.join(" ")} succeeded: ${stdout}`);
  return stderr.trim();
}

test("a lab that was killed half-way can be taken down and leaves nothing", async () => {
  const command = startLabCommand("up", "--hosts", "2");
  const closed = new Promise((resolve) => command.on("close", resolve));
  await until("h1 does not boot", 60_000, () => initOf(machine("h1")) ?? undefined);
  command.kill("SIGKILL");
  await closed;
  assert.match(await refusal("up"), /^tsswarm lab: a lab was started and not finished/);
  await lab("down");
  assert.deepEqual(await changedSince(start), []);
});

test("a lab of one host comes up, and once only", async () => {
  assert.match(await lab("up", "--hosts", "1"), /h1: cluster made/);
  assert.match(await refusal("up"), /^tsswarm lab: the lab is already up/);
  assert.match(
    await lab("status"),
    new RegExp(
      `^h1 +10\\.77\\.0\\.11 +on +in +active +manager +${runFolder}/h1/docker\\.sock$`,
      "m",
    ),
  );
});

test("wrong use is one sentence each", async () => {
  assert.match(await refusal("cut", "h7"), /^tsswarm lab: the lab has no host "h7"; it has h1$/);
  assert.match(
    await refusal("crash", "h1", "kernel"),
    /^tsswarm lab: "kernel" is none of keeper, agent, manager, containerd$/,
  );
  assert.match(await refusal("power-on", "h1"), /^tsswarm lab: h1 is on already$/);
  assert.match(await refusal("up", "--hosts", "x"), /^tsswarm lab: --hosts: "x" is not a number$/);
  assert.match(await refusal("nonsense"), /^tsswarm lab: unknown command 'nonsense'/);
});

test("a command on a host gives its exit code, sees its own machine only, and has the registry", async () => {
  assert.equal((await attemptLab("exec", "h1", "--", "sh", "-c", "exit 3")).code, 3);
  assert.equal(await lab("exec", "h1", "--", "hostname"), "h1");
  assert.equal(await lab("exec", "outside", "--", "cat", "/etc/hostname"), "outside");
  const images = await lab(
    "exec",
    "h1",
    "--",
    "busybox",
    "wget",
    "-q",
    "-O",
    "-",
    "http://registry.lab:5000/v2/_catalog",
  );
  assert.deepEqual(JSON.parse(images), { repositories: ["busybox", "whoami"] });
  assert.doesNotMatch(await lab("exec", "h1", "--", "ip", "route"), /default/);
});

test("each program of a host is started again after a crash", async () => {
  const init = initOf(machine("h1"));
  assert.ok(init);
  for (const program of ["containerd", "manager", "agent", "keeper"] as const) {
    const old = findProgram(init, program);
    await lab("crash", "h1", program);
    await until(`${program} does not come back`, 60_000, () => {
      const pid = findProgram(init, program);
      return pid !== null && pid !== old ? true : undefined;
    });
  }
  await untilAnswering(["h1"], 60_000);
});

test("a host without power is off, and boots with its disk", async () => {
  await lab("exec", "h1", "--", "touch", "/var/lib/kept", "/run/lost");
  await lab("power-off", "h1");
  assert.match(await lab("status"), /^h1 .* off /m);
  assert.match(await refusal("cut", "h1"), /^tsswarm lab: h1 is off/);
  await lab("power-on", "h1");
  assert.equal((await attemptLab("exec", "h1", "--", "ls", "/var/lib/kept")).code, 0);
  assert.equal((await attemptLab("exec", "h1", "--", "ls", "/run/lost")).code === 0, false);
});

test("another host is added, and taken down with the rest", async () => {
  assert.match(await lab("add"), /^h2: joined as worker at 10\.77\.0\.12$/m);
  await lab("down");
  assert.deepEqual(await changedSince(start), []);
  assert.match(await refusal("down"), /^tsswarm lab: the lab is not up$/);
});
