// `node dist/test/e2e/power-offs.js [ROUNDS]`: whoever leads a lab of three managers (`tsswarm lab up --managers 3`) loses its power, 20
// times unless told otherwise, while a client of the others writes: how long until a write is accepted again, and until the tasks it
// had run elsewhere. Exits with 1 when an acknowledged write is lost.

import { machine } from "../../deploy/lab/names.ts";
import { powerOff } from "../../deploy/lab/power.ts";
import { docker, lab, runningTasks, until, untilRunning } from "./harness.ts";
import { untilManaged, Writer } from "./managers-kit.ts";

const managers = ["h1", "h2", "h3"];
const replicas = 6;
const waitMsMax = 60_000;
const name = "kept";
const rounds = Number(process.argv[2] ?? 20);
const writes: number[] = [];
const moves: number[] = [];

function told(what: string, values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b);
  return `${what}: median ${sorted[sorted.length >> 1]} ms, worst ${sorted.at(-1)} ms`;
}

await untilManaged(managers);
const service = ["service", "create", "--detach", "--name", name, "--replicas", `${replicas}`];
await docker("h1", ...service, "registry.lab:5000/whoami");
const faults: string[] = [];
for (let round = 1; round <= rounds; round++) {
  const leader = await untilManaged(managers);
  const others = managers.filter((host) => host !== leader);
  const [survivor = ""] = others;
  const tasks = await untilRunning(survivor, name, replicas, waitMsMax);
  const lost = tasks.filter(({ node }) => node === leader).length;
  const writer = new Writer(`off-${process.pid}-${round}`, others);
  await writer.nextAccepted();
  const started = performance.now();
  const accepted = writer.nextAccepted();
  await powerOff(machine(leader));
  const writeMs = Math.round((await accepted) - started);
  await untilRunning(survivor, name, replicas, waitMsMax, (task) => task.node !== leader);
  const moveMs = Math.round(performance.now() - started);
  await writer.stop();
  writes.push(writeMs);
  if (lost > 0) moves.push(moveMs);
  console.log(
    `round ${round}: ${leader} led and had ${lost} tasks: next write after ${writeMs} ms, its tasks elsewhere after ${moveMs} ms`,
  );
  await lab("power-on", leader);
  await untilManaged(managers);
  faults.push(...(await writer.faults(survivor)));
  await writer.cleanUp(survivor);
}
await docker("h1", "service", "rm", name);
await until("the tasks are gone", waitMsMax, async () =>
  (await runningTasks("h1", name)).length === 0 ? true : undefined,
);
console.log(told(`${writes.length} power-offs, next write`, writes));
console.log(told(`${moves.length} with tasks of the leader's own, elsewhere`, moves));
for (const fault of faults) console.error(fault);
process.exit(faults.length === 0 ? 0 : 1);
