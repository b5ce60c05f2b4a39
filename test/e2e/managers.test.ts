// Three managers on three hosts: promoted, killed, stopped and powered off under a writing client, and demoted again.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { machine } from "../../deploy/lab/names.ts";
import { powerOff } from "../../deploy/lab/power.ts";
import { damage, onSmallDisk } from "./damages.ts";
import {
  api,
  attemptDocker,
  docker,
  lab,
  runningTasks,
  setting,
  startDocker,
  until,
  untilReady,
  untilRunning,
  withLab,
} from "./harness.ts";
import { Histories } from "./histories.ts";
import { killRounds, nodes, signalManager, untilManaged, Writer } from "./managers-kit.ts";

const managers = ["h1", "h2", "h3"] as const;
const whoami = "registry.lab:5000/whoami";
const busybox = "registry.lab:5000/busybox";
const replicas = 6;
/** Promised are 3 s, 0.3 s and 6 s on a machine of its own; here it counts that it goes on, on one with a load of 15 or more. */
const powerOffMsMax = 15_000;
const cleanStopMsMax = 10_000;
const tasksMsMax = 40_000;
const rounds = 4;

const closers: (() => Promise<void> | void)[] = [];

before(async () => {
  closers.push(await withLab());
});

after(async () => {
  for (const close of closers.reverse()) await close();
});

async function workers(): Promise<readonly string[]> {
  return (await nodes("h1"))
    .filter((node) => node.ManagerStatus === undefined)
    .map((node) => node.Description.Hostname);
}

test("workers are promoted, and each of three managers shows the same and takes writes", async () => {
  const some = await workers();
  if (some.length > 0) await docker("h1", "node", "promote", ...some);
  const leader = await untilManaged(managers);
  for (const host of managers) {
    const rows = await docker(host, "node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}");
    const expected = managers.map((name) => `${name} ${name === leader ? "Leader" : "Reachable"}`);
    assert.deepEqual(rows.split("\n").sort(), expected);
    assert.match(await docker(host, "info", "--format", "{{.Swarm.Managers}}"), /^3$/);
    await docker(host, "network", "create", "--driver", "overlay", `by-${host}`);
    for (const other of managers)
      assert.ok((await docker(other, "network", "ls", "-q", "-f", `name=by-${host}`)) !== "");
  }
  for (const host of managers) await docker(leader, "network", "rm", `by-${host}`);
});

test("the leader stops cleanly: the next write is accepted soon", async (t) => {
  const leader = await untilManaged(managers);
  const others = managers.filter((host) => host !== leader);
  const writer = new Writer("clean", others);
  try {
    await writer.nextAccepted();
    const started = performance.now();
    const accepted = writer.nextAccepted();
    signalManager(leader, "SIGTERM");
    const ms = Math.round((await accepted) - started);
    t.diagnostic(`next write after ${ms} ms`);
    assert.ok(ms <= cleanStopMsMax, `${ms} ms`);
  } finally {
    await writer.stop();
  }
  await untilManaged(managers);
  assert.deepEqual(await writer.faults("h1"), []);
  await writer.cleanUp("h1");
});

test("the leader loses its power: writes go on, its own tasks run elsewhere, the others stay", async (t) => {
  const leader = await untilManaged(managers);
  const others = managers.filter((host) => host !== leader);
  const [survivor = ""] = others;
  await docker(
    survivor,
    ...["service", "create", "--detach", "--name", "kept", "--replicas", `${replicas}`, whoami],
  );
  const tasks = await untilRunning(survivor, "kept", replicas, 60_000);
  const staying = tasks.filter((task) => task.node !== leader).map((task) => task.id);
  const writer = new Writer("power", others);
  try {
    await writer.nextAccepted();
    const started = performance.now();
    const accepted = writer.nextAccepted();
    await powerOff(machine(leader));
    const ms = Math.round((await accepted) - started);
    const moved = await untilRunning(
      survivor,
      "kept",
      replicas,
      tasksMsMax,
      (task) => task.node !== leader,
    );
    const tasksMs = Math.round(performance.now() - started);
    t.diagnostic(`next write after ${ms} ms, its tasks elsewhere after ${tasksMs} ms`);
    assert.ok(ms <= powerOffMsMax, `the next write after ${ms} ms`);
    const ids = new Set(moved.map((task) => task.id));
    assert.deepEqual(
      staying.filter((id) => !ids.has(id)),
      [],
      "an election moves nothing",
    );
  } finally {
    await writer.stop();
    await lab("power-on", leader);
  }
  await untilManaged(managers);
  assert.deepEqual(await writer.faults(leader), []);
  await writer.cleanUp(leader);
  await docker(survivor, "service", "rm", "kept");
  await until("the tasks are gone", 60_000, async () =>
    (await runningTasks(survivor, "kept").catch(() => [])).length === 0 ? true : undefined,
  );
});

test("managers are killed one by one and all at once: nothing acknowledged is lost, nothing is there twice", async (t) => {
  const writer = new Writer("rounds", managers);
  try {
    await killRounds(managers, writer, rounds, (line) => t.diagnostic(line));
  } finally {
    await writer.stop();
  }
  assert.ok(writer.acknowledged.size >= rounds);
  assert.deepEqual(await writer.faults("h2"), []);
  await writer.cleanUp("h2");
});

test("what clients of all managers are told is one history, while managers are killed, stopped, cut off and out of disk", async (t) => {
  const undo = await Promise.all(managers.map((host) => onSmallDisk(host)));
  try {
    await untilManaged(managers);
    const histories = await Histories.open("history", managers);
    try {
      await damage(managers, setting("TSSWARM_HISTORY_ROUNDS", 4), (line) => t.diagnostic(line));
    } finally {
      await histories.stop();
    }
    const { reads, swaps, stale } = histories.account;
    t.diagnostic(`${reads} reads, ${swaps} swaps, ${stale} stale answers that said so`);
    assert.ok(reads > 50 && swaps > 20, "too little to prove anything");
    assert.deepEqual(await histories.faults(managers), []);
    await histories.cleanUp("h1");
  } finally {
    for (const back of undo) await back();
    await untilManaged(managers);
  }
});

test("who follows logs goes on when the leader is lost: every line, each once", async () => {
  const count = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.05; done";
  await docker(
    "h1",
    ...["service", "create", "--detach", "--name", "lines", "--replicas", "2"],
    ...[busybox, "sh", "-c", count],
  );
  await untilRunning("h1", "lines", 2, 60_000);
  const leader = await untilManaged(managers);
  const [survivor = ""] = managers.filter((host) => host !== leader);
  const follower = startDocker(survivor, "service", "logs", "--follow", "--no-trunc", "lines");
  let text = "";
  follower.stdout?.on("data", (data: Buffer) => {
    text += data.toString();
  });
  try {
    const lines = () => linesByTask(text);
    const untilLine = (least: number) =>
      until(
        () => `no line ${least} of both tasks: ${text.slice(-500)}`,
        60_000,
        () => {
          assert.equal(
            follower.exitCode,
            null,
            `docker service logs -f has ended: ${text.slice(-500)}`,
          );
          const newest = [...lines().values()].map((numbers) => numbers.at(-1) ?? 0);
          return newest.length === 2 && newest.every((number) => number >= least)
            ? true
            : undefined;
        },
      );
    await untilLine(20);
    signalManager(leader, "SIGKILL");
    const before = Math.max(...[...lines().values()].map((numbers) => numbers.at(-1) ?? 0));
    await untilManaged(managers);
    await untilLine(before + 60);
    for (const numbers of lines().values())
      assert.deepEqual(
        numbers,
        numbers.map((_, i) => i + 1),
      );
  } finally {
    follower.kill();
    await docker("h1", "service", "rm", "lines");
  }
});

/** Task name → the numbers of its lines; a line that is not whole yet is left out. */
function linesByTask(text: string): ReadonlyMap<string, readonly number[]> {
  const found = new Map<string, number[]>();
  for (const [, task = "", number] of text.matchAll(/^(\S+)@\S+ *\| line (\d+)\n/gm))
    found.set(task, [...(found.get(task) ?? []), Number(number)]);
  return found;
}

test("a backup is a whole, and says nothing without its key", async () => {
  const key = "the key of this test";
  const answer = await api("h2").open("POST", "/tsswarm/swarm/backup", { body: { Key: key } });
  const parts: Buffer[] = [];
  for await (const part of answer) parts.push(part as Buffer);
  const { decodeBackup } = await import("../../proto/backup.ts");
  const bytes = Buffer.concat(parts);
  assert.ok(!bytes.includes("ingress"));
  const { header, pieces } = await decodeBackup(bytes, key);
  assert.equal(header.isStale, false);
  assert.ok(pieces.length > 0);
});

test("a manager does not leave unasked; demoted ones are workers again, and the last one stays", async () => {
  await untilManaged(managers);
  const refused = await attemptDocker("h2", "swarm", "leave");
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /participating as a manager.*2 of 3 managers would be left/);
  // One of them leads, perhaps: a demotion that meets the hand-over may have to be said twice.
  for (const host of ["h2", "h3"]) {
    let said = "";
    await until(
      () => `${host} is not demoted: ${said}`,
      60_000,
      async () => {
        const { code, stderr } = await attemptDocker("h1", "node", "demote", host);
        said = stderr;
        return code === 0 ? true : undefined;
      },
    );
  }
  await untilManaged(["h1"]);
  await untilReady("h1", managers.length, 60_000);
  const last = await attemptDocker("h1", "node", "demote", "h1");
  assert.match(last.stderr, /last manager of the swarm/);
  await until("h2 is a worker", 60_000, async () => {
    const { stderr } = await attemptDocker("h2", "node", "ls");
    return /Worker nodes can't be used/.test(stderr) ? true : undefined;
  });
});
