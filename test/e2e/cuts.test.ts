// Cables are pulled, hosts lose their power and programs crash, in overlap, while services are deployed again and again
// with few addresses: soon after the last heal every host agrees with the store, and no address ever had two containers.
// Longer: TSSWARM_CUTS=100 TSSWARM_REBOOTS=20 TSSWARM_CUT_SECONDS=180; others: TSSWARM_SEED=….

import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { cutCable, healCable } from "../../deploy/lab/cables.ts";
import { machine } from "../../deploy/lab/names.ts";
import { AddressWatch } from "./cuts-addresses.ts";
import { names, Redeployer } from "./cuts-load.ts";
import { endMsOf, type Fault, generator, planRounds, type Round } from "./cuts-plan.ts";
import { disagreements, readStore, type Where } from "./cuts-truth.ts";
import {
  attemptTsswarm,
  docker,
  lab,
  removeNetwork,
  setting,
  until,
  untilAnswering,
  untilReady,
  withLab,
} from "./harness.ts";
import { killProgram } from "./hosts.ts";

const hosts = ["h1", "h2", "h3"] as const;
const manager = "h1";
const subnet = "10.99.0.0/27";
const base = "10.99.0.";
const length = {
  cuts: setting("TSSWARM_CUTS", 3),
  reboots: setting("TSSWARM_REBOOTS", 1),
  secondsMax: setting("TSSWARM_CUT_SECONDS", 6),
};
/** The short form is two rounds: cuts of two hosts, the manager's among them, a crash, a loss of power. */
const seed = setting("TSSWARM_SEED", 9);
/** On a machine that has other things to do; how long it really takes is told at the end. */
const agreeMsMax = 90_000;
const quickMs = 1_000;
const quietMs = 1_000;
const settleMsMax = 180_000;

let takeDown = async () => {};
let networkId = "";
let redeployer: Redeployer;
const random = generator(seed);
/** Milliseconds from the last heal until a host agreed, by what had happened. */
const agreed = { cut: [] as number[], power: [] as number[], crash: [] as number[] };

before(async () => {
  takeDown = await withLab();
  const create = ["network", "create", "--driver", "overlay", "--subnet", subnet, "cuts"];
  networkId = await docker(manager, ...create);
  redeployer = new Redeployer(manager, networkId, random);
  await redeployer.createAll();
  await untilSettled();
});

after(async () => {
  await redeployer.removeAll();
  await removeNetwork(manager, "cuts", settleMsMax);
  await takeDown();
});

test(`hosts agree with the store after ${length.cuts} cuts and ${length.reboots} losses of power (TSSWARM_SEED=${seed})`, async (context) => {
  const watch = new AddressWatch(hosts, (address) => /^10\.(0|99)\./.test(address));
  try {
    for (const [i, round] of planRounds(hosts, length, random).entries()) {
      context.diagnostic(`round ${i + 1}: ${round.map(told).join(", ")}`);
      await oneRound(context, round);
      assert.deepEqual([...watch.violations], [], "addresses held twice");
    }
  } finally {
    await redeployer.stop();
    watch.stop();
    report(context, watch);
  }
});

async function oneRound(context: TestContext, round: Round): Promise<void> {
  redeployer.start();
  const lastHealMs = Math.max(...round.map((fault) => endMsOf(fault)));
  // What was asked for by then goes on; but no call of ours is under way when the clock starts.
  const quiet = delay(Math.max(0, lastHealMs - quietMs)).then(() => redeployer.stop());
  await Promise.all([quiet, ...round.map(perform)]);
  const healedAt = performance.now();
  await Promise.all(
    hosts.map(async (host) => {
      const missed = await untilCaughtUp(host);
      // A program that crashes has no heal: its start is in the time.
      const kind = (["power", "cut"] as const).find((one) =>
        round.some((fault) => fault.kind === one),
      );
      const ms = performance.now() - healedAt;
      agreed[kind ?? "crash"].push(ms);
      if (ms > quickMs)
        context.diagnostic(`${host} had caught up after ${Math.round(ms)} ms: ${missed}`);
    }),
  );
  await untilAnswering(hosts, settleMsMax);
  await untilReady(manager, hosts.length, settleMsMax);
  await redeployer.complete();
  await untilSettled();
  // Now nothing is on its way any more: it has to be exactly what the store says.
  for (const host of hosts) {
    await untilAgreed(host);
    await untilHealthy(host);
  }
}

async function perform(fault: Fault): Promise<void> {
  const { host, startMs } = fault;
  await delay(startMs);
  switch (fault.kind) {
    case "cut":
      cutCable(machine(host));
      await delay(fault.lengthMs);
      healCable(machine(host));
      return;
    case "power":
      await lab("power-off", host);
      await delay(fault.lengthMs);
      await lab("power-on", host);
      return;
    case "crash":
      await killProgram(host, fault.program);
      return;
  }
}

function told(fault: Fault): string {
  const { host, kind } = fault;
  if (kind === "crash") return `${host} ${fault.program} crashes`;
  return `${host} ${kind === "cut" ? "cut" : "without power"} for ${(fault.lengthMs / 1000).toFixed(1)} s`;
}

/**
 * Until nothing is left of what differed when it could first be looked at: deployments go on, and what they change after the heal differs for as
 * long as any change takes. Says what was left last.
 */
async function untilCaughtUp(host: string): Promise<string> {
  let missed: readonly string[] | null = null;
  let last = "";
  await until(
    () => `${host} does not catch up with the store: ${last}`,
    agreeMsMax,
    async () => {
      const found = await disagreements(whereOf(host)).catch(() => null);
      if (found === null) return undefined;
      missed = missed === null ? found : missed.filter((one) => found.includes(one));
      if (missed.length === 0) return true;
      last = missed.join("; ");
      return undefined;
    },
  );
  return last;
}

async function untilAgreed(host: string): Promise<void> {
  let found: readonly string[] = [];
  await until(
    () => `${host} does not agree with the store: ${found.join("; ")}`,
    agreeMsMax,
    async () => {
      found = await disagreements(whereOf(host)).catch((error: unknown) => [String(error)]);
      return found.length === 0 ? true : undefined;
    },
  );
}

function whereOf(host: string): Where {
  return { host, manager, networkId, base };
}

/** Every task either serves or has ended, and there is one for each replica. */
async function untilSettled(): Promise<void> {
  let why = "";
  await until(
    () => `the services do not come to rest: ${why}`,
    settleMsMax,
    async () => {
      try {
        const { tasks } = await readStore(manager, networkId);
        const list = await docker(manager, "service", "ls", "--format", "{{.Name}} {{.Replicas}}");
        const moving = tasks.filter(({ isServing }) => !isServing);
        why = `${JSON.stringify(moving)} ${list}`;
        const all = [...list.matchAll(/^(\S+) (\d+)\/(\d+)/gm)].filter(([, name]) =>
          names.some((one) => one === name),
        );
        const isWhole = all.every(([, , is, wanted]) => is === wanted);
        return all.length === names.length && isWhole && moving.length === 0 ? true : undefined;
      } catch (error) {
        why = String(error);
        return undefined;
      }
    },
  );
}

async function untilHealthy(host: string): Promise<void> {
  let said = "";
  await until(
    () => `the doctor of ${host} finds: ${said}`,
    agreeMsMax,
    async () => {
      const { code, stdout, stderr } = await attemptTsswarm(host, "doctor");
      said = stdout + stderr;
      return code === 0 ? true : undefined;
    },
  );
}

function report(context: TestContext, watch: AddressWatch): void {
  const { reused, containers } = watch.reuse;
  context.diagnostic(
    `${redeployer.done} deployments, ${containers} containers, addresses given ${reused} times to another, ${watch.looks} looks at them`,
  );
  for (const [kind, times] of Object.entries(agreed)) {
    if (times.length === 0) continue;
    const sorted = [...times].sort((a, b) => a - b);
    const at = (share: number) => Math.round(sorted[Math.floor((sorted.length - 1) * share)] ?? 0);
    const quick = times.filter((ms) => ms <= quickMs).length;
    context.diagnostic(
      `caught up after a heal (${kind}, ${times.length} hosts): median ${at(0.5)} ms, 95 % ${at(0.95)} ms, longest ${at(1)} ms; ${quick} within 1 s`,
    );
  }
}
