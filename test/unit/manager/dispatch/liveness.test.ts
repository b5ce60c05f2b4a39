import assert from "node:assert/strict";
import { test } from "node:test";
import { Liveness, startGraceMs, tickMs } from "../../../../manager/dispatch/liveness.ts";

interface Run {
  readonly downAt: Map<string, number>;
  readonly unknownAt: Map<string, number>;
  readonly readyAt: Map<string, number>;
  readonly suspicions: string[];
}

/** Runs the clock from 0; a node beats and its host answers as the functions say. */
function live(
  nodes: readonly string[],
  untilMs: number,
  world: {
    readonly beats: (node: string, at: number) => boolean;
    readonly answers: (node: string, at: number) => boolean;
    readonly leaves?: (node: string, at: number) => boolean;
    /** The manager's process stands still in between. */
    readonly pause?: { readonly from: number; readonly to: number };
  },
): Run {
  const liveness = new Liveness(0);
  const run: Run = {
    downAt: new Map(),
    unknownAt: new Map(),
    readyAt: new Map(),
    suspicions: [],
  };
  for (const node of nodes) liveness.heard(node, 0);
  let due = 0;
  for (let now = 0; now <= untilMs; now += tickMs) {
    if (world.pause !== undefined && now >= world.pause.from && now < world.pause.to) continue;
    for (const node of nodes) {
      if (world.leaves?.(node, now) === true) liveness.leaving(node);
      if (now % 500 !== 0 || !world.beats(node, now)) continue;
      const transition = liveness.heard(node, now);
      if (transition?.verdict === "ready") run.readyAt.set(node, now);
    }
    if (now < due) continue;
    const { transitions, probes, suspicion, dueAt } = liveness.tick(now);
    due = dueAt;
    for (const node of probes) if (world.answers(node, now)) liveness.probeAnswered(node, now);
    for (const { nodeId, verdict } of transitions)
      (verdict === "down" ? run.downAt : run.unknownAt).set(nodeId, now);
    if (suspicion !== null) run.suspicions.push(`${suspicion} at ${now}`);
  }
  return run;
}

const three = ["h1", "h2", "h3"];
const always = () => true;

test("a host that is powered off is lost 4.2 seconds after its last beat", () => {
  const run = live(three, 20_000, {
    beats: (node, at) => node !== "h3" || at <= 5_000,
    answers: (node) => node !== "h3",
  });
  assert.deepEqual([...run.downAt], [["h3", 9_200]]);
});

test("a host that is cut off for three seconds is not lost", () => {
  // Just before a beat would have come: it has been silent for half a second already.
  const cutAt = 5_950;
  for (const cutMs of [3_000, 3_200, 3_600]) {
    const run = live(three, 60_000, {
      // The session needs some time to come back after the cable did.
      beats: (node, at) => node !== "h3" || at <= cutAt || at >= cutAt + cutMs + 2_000,
      answers: (node, at) => node !== "h3" || at <= cutAt || at >= cutAt + cutMs,
    });
    assert.equal(run.downAt.size, 0, `${cutMs} ms`);
  }
});

test("an agent that is away for a minute and starts again moves nothing, one that stays away does", () => {
  const back = live(three, 120_000, {
    beats: (node, at) => node !== "h3" || at <= 5_000 || at >= 67_000,
    answers: always,
  });
  assert.equal(back.downAt.size, 0);
  const gone = live(three, 120_000, {
    beats: (node, at) => node !== "h3" || at <= 5_000,
    answers: always,
  });
  assert.deepEqual([...gone.downAt], [["h3", 75_000]]);
});

test("a host that dies while its agent is away is lost without waiting for the minute", () => {
  const run = live(three, 120_000, {
    beats: (node, at) => node !== "h3" || at <= 5_000,
    answers: (node, at) => node !== "h3" || at <= 20_000,
  });
  const at = run.downAt.get("h3") ?? 0;
  assert.ok(at >= 23_000 && at <= 24_400, `at ${at}`);
});

test("an agent that said it will be back keeps its tasks for a minute though its host is silent", () => {
  const run = live(three, 120_000, {
    beats: (node, at) => node !== "h3" || at < 5_000,
    answers: (node) => node !== "h3",
    leaves: (node, at) => node === "h3" && at === 5_000,
  });
  assert.deepEqual([...run.downAt], [["h3", 74_500]]);
});

test("when many fall silent at once the manager doubts itself: unknown, and nothing is lost for 30 s", () => {
  const nodes = ["h1", "h2", "h3", "h4", "h5", "h6"];
  const isAway = (node: string, at: number) => ["h4", "h5", "h6"].includes(node) && at > 5_000;
  const stay = live(nodes, 60_000, {
    beats: (node, at) => !isAway(node, at),
    answers: (node, at) => !isAway(node, at),
  });
  assert.deepEqual([...stay.unknownAt.keys()], ["h4", "h5", "h6"]);
  assert.deepEqual(stay.suspicions, ["begins at 8000", "ends at 38000"]);
  assert.deepEqual([...stay.downAt.values()], [38_000, 38_000, 38_000]);
  const back = live(nodes, 60_000, {
    beats: (node, at) => !isAway(node, at) || at >= 20_000,
    answers: (node, at) => !isAway(node, at) || at >= 20_000,
  });
  assert.equal(back.downAt.size, 0);
  assert.deepEqual([...back.readyAt.keys()], ["h4", "h5", "h6"]);
});

test("two of three silent workers are no reason for doubt", () => {
  const run = live(three, 20_000, {
    beats: (node, at) => node === "h1" || at <= 5_000,
    answers: (node) => node === "h1",
  });
  assert.deepEqual([...run.downAt.keys()], ["h2", "h3"]);
});

test("a manager that stood still itself blames nobody for the silence", () => {
  const run = live(three, 30_000, {
    beats: always,
    answers: () => false,
    pause: { from: 5_100, to: 15_000 },
  });
  assert.equal(run.downAt.size, 0);
});

test("while everybody beats the manager looks up about once in a heartbeat period", () => {
  const liveness = new Liveness(0);
  let looks = 0;
  let due = 0;
  for (let now = 0; now <= 60_000; now += tickMs) {
    if (now % 500 === 0) for (const node of three) liveness.heard(node, now);
    if (now < due) continue;
    due = liveness.tick(now).dueAt;
    looks += 1;
  }
  assert.ok(looks >= 30 && looks <= 60, `${looks} looks in a minute`);
});

test("a new leader gives everyone a full grace from when they count as heard, and leaves the lost ones lost", () => {
  const liveness = new Liveness(0);
  liveness.expect("ready", startGraceMs, "ready");
  liveness.expect("others", 0, "ready");
  liveness.expect("former leader", -900, "ready");
  liveness.expect("lost", 0, "down");
  const lostAt: [string, number][] = [];
  for (let now = 0; now <= 15_000; now += tickMs)
    for (const { nodeId } of liveness.tick(now).transitions) lostAt.push([nodeId, now]);
  assert.deepEqual(lostAt, [
    ["former leader", 3_300],
    ["others", 4_200],
    ["ready", 10_200],
  ]);
  assert.equal(liveness.verdict("lost"), "down");
  assert.deepEqual(liveness.heard("lost", 15_000)?.verdict, "ready");
});

test("a longer heartbeat period makes the manager wait longer", () => {
  const liveness = new Liveness(0);
  liveness.setPeriod(5_000);
  liveness.heard("h1", 0);
  let downAt = 0;
  for (let now = 0; now <= 30_000; now += tickMs)
    if (liveness.tick(now).transitions.length > 0) downAt = now;
  assert.equal(downAt, 21_000);
});

for (const heardMs of [500, 3_000, 9_000])
  test(`a former leader that was silent for ${heardMs} ms is asked for a second at least before it counts as lost`, () => {
    const start = 10_000;
    const lostAt = (answersFrom: number): number | null => {
      const liveness = new Liveness(start);
      liveness.expectSilent("h1", start - heardMs, start, "ready");
      for (let now = start; now < start + 20_000; now += tickMs) {
        const { transitions, probes } = liveness.tick(now);
        for (const node of probes) if (now >= answersFrom) liveness.probeAnswered(node, now);
        if (transitions.length > 0) return now - start;
      }
      return null;
    };
    assert.equal(lostAt(Number.POSITIVE_INFINITY), Math.max(4_200 - heardMs, 1_000));
    // Its host lives, and answers a little late.
    assert.equal(lostAt(start + 700), null);
  });
