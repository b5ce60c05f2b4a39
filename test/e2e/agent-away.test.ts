// Agents die again and again, and stay away for a while, while every host has containers that log a megabyte a second and
// clients that look up a name for each request. Longer: TSSWARM_KILLS=20 TSSWARM_AWAY_SECONDS=60.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { machine } from "../../deploy/lab/names.ts";
import {
  docker,
  type Load,
  type RunningTask,
  removeNetwork,
  setting,
  startLoad,
  untilAnswering,
  untilReady,
  untilRunning,
  withLab,
} from "./harness.ts";
import { killProgram, takeAway } from "./hosts.ts";
import { logFolder, NumberedLog } from "./log-files.ts";

const hosts = ["h1", "h2", "h3"] as const;
const manager = "h1";
const kills = setting("TSSWARM_KILLS", 5);
const awayMs = setting("TSSWARM_AWAY_SECONDS", 10) * 1000;
const startMsMax = 60_000;
const backMsMax = 60_000;
const readEveryMs = 200;
const linesPerSecond = 1024;
const port = 8090;

/** Lines of a kilobyte, numbered, with the time in hundredths; as many as are due, every hundredth of a second. */
const talker = `use POSIX (); $| = 1; my $pad = "x" x 1000; my $n = 0;
  my $now = sub { (POSIX::times())[0] }; my $start = $now->();
  while (1) {
    my $at = $now->() - $start;
    syswrite(STDOUT, ++$n . " $at $pad\\n") while $n < $at * ${linesPerSecond / 100};
    select(undef, undef, undef, 0.01);
  }`;
const caller = `n=0; until wget -O /dev/null http://away-web/; do sleep 0.1; done 2>/dev/null; while :; do n=$((n+1)); at=$(cut -d. -f1 /proc/uptime)00
  said=$(timeout 20 wget -O /dev/null http://away-web/ 2>&1) && echo "$n $at answered" || echo "$n $at failed:" $said
  sleep 0.05; done`;

let takeDown = async () => {};
let talkers: readonly RunningTask[] = [];
let callers: readonly RunningTask[] = [];
let load: Load | undefined;
const logs = new Map<string, NumberedLog>();

before(async () => {
  takeDown = await withLab();
  await docker(manager, "network", "create", "--driver", "overlay", "away");
  await create("away-web", ["--publish", `${port}:80`], "whoami");
  await untilRunning(manager, "away-web", hosts.length, startMsMax);
  await create("away-talker", [], "whoami", "perl", "-e", talker);
  await create("away-caller", [], "busybox", "sh", "-c", caller);
  talkers = await untilRunning(manager, "away-talker", hosts.length, startMsMax);
  callers = await untilRunning(manager, "away-caller", hosts.length, startMsMax);
  for (const { node, container } of [...talkers, ...callers])
    logs.set(container, new NumberedLog(logFolder(node, container)));
  load = startLoad(
    hosts.map((host) => `http://${machine(host).address}:${port}/`),
    20,
  );
});

after(async () => {
  await load?.stop();
  await docker(manager, "service", "rm", "away-web", "away-talker", "away-caller");
  await removeNetwork(manager, "away", startMsMax);
  await takeDown();
});

async function create(name: string, more: readonly string[], image: string, ...command: string[]) {
  const common = ["service", "create", "--detach", "--mode", "global", "--network", "away"];
  const args = [...common, "--name", name, ...more, `registry.lab:5000/${image}`, ...command];
  await docker(manager, ...args);
}

test(`no request fails and no line is lost while agents die ${kills} times and are away for ${awayMs / 1000} s`, async (context) => {
  const watched = [...talkers, ...callers];
  const reading = readLogs();
  const start = performance.now();
  try {
    await disturbAgents();
  } finally {
    await reading.stop();
  }
  const seconds = (performance.now() - start) / 1000;
  const { answered, failures } = (await load?.stop()) ?? assert.fail("there is no load");

  assert.deepEqual(failures, [], `of ${answered + failures.length} requests from outside`);
  assert.ok(answered > seconds, `${answered} requests were answered in ${seconds} s`);
  for (const { node, container } of watched)
    assert.deepEqual(logs.get(container)?.faults, [], `the log of ${container} on ${node}`);
  const last = (tasks: readonly RunningTask[]) =>
    tasks.map(({ container }) => logs.get(container)?.last ?? 0);
  const enough = (seconds * linesPerSecond) / 2;
  assert.ok(Math.min(...last(talkers)) > enough, `${last(talkers)} lines in ${seconds} s`);
  assert.ok(Math.min(...last(callers)) > seconds / 2, `${last(callers)} requests to the name`);
  for (const { node, container } of callers) {
    const log = await docker(node, "logs", container);
    const bad = log.split("\n").filter((line) => !/^\d+ \d+ answered$/.test(line));
    assert.deepEqual(bad, [], `requests to the name on ${node}`);
  }
  const now = await Promise.all(
    ["away-talker", "away-caller"].map((name) =>
      untilRunning(manager, name, hosts.length, startMsMax),
    ),
  );
  assert.deepEqual(now.flat(), watched, "nothing was moved or started again");
  const stalls = talkers.map(({ container }) => logs.get(container)?.stallMs ?? 0);
  context.diagnostic(
    `${Math.round(seconds)} s: ${answered} requests from outside, ${last(callers)} to the name, ${last(talkers)} lines, longest stall ${Math.max(...stalls)} ms`,
  );
});

/** All of them at once: killed again and again, and then away for a while. */
async function disturbAgents(): Promise<void> {
  for (let i = 0; i < kills; i++) {
    await Promise.all(hosts.map((host) => killProgram(host, "agent")));
    await untilAnswering(hosts, backMsMax);
    // At another moment of its start each time.
    await delay((i % 5) * 200);
  }
  const held = await Promise.all(hosts.map((host) => takeAway(host, "agent")));
  await delay(awayMs);
  for (const pid of held) process.kill(pid, "SIGKILL");
  await untilAnswering(hosts, backMsMax);
  await untilReady(manager, hosts.length, backMsMax);
}

/** Often enough that no file is rotated away unread. */
function readLogs(): { stop(): Promise<void> } {
  const stopped = new AbortController();
  const done = (async () => {
    while (!stopped.signal.aborted) {
      for (const log of logs.values()) log.read();
      await delay(readEveryMs);
    }
    for (const log of logs.values()) log.read();
  })();
  return {
    async stop() {
      stopped.abort();
      await done;
    },
  };
}

test("the API gives the same lines, in order", async () => {
  for (const { node, container } of talkers) {
    const log = await docker(node, "logs", "--tail", "2000", container);
    const numbers = log.split("\n").map((line) => Number(line.split(" ")[0]));
    assert.equal(numbers.length, 2000);
    assert.ok(numbers.every((number, i) => i === 0 || number === (numbers[i - 1] ?? 0) + 1));
  }
});
