// `node dist/test/e2e/history-rounds.js [ROUNDS]`: clients at each of three managers of a lab (`tsswarm lab up --managers 3`) read and
// swap registers while managers are killed, stopped, cut off and out of disk, 120 times unless told otherwise; checks that one order of
// events explains all they were told.

import { damage, onSmallDisk } from "./damages.ts";
import { Histories } from "./histories.ts";
import { untilManaged } from "./managers-kit.ts";

const managers = ["h1", "h2", "h3"];
const rounds = Number(process.argv[2] ?? 120);
await untilManaged(managers);
const undo = await Promise.all(managers.map((host) => onSmallDisk(host)));
let faults: readonly string[] = ["it did not come to its end"];
try {
  await untilManaged(managers);
  const histories = await Histories.open(`history-${process.pid}`, managers);
  try {
    await damage(managers, rounds, (line) => console.log(line));
    await histories.stop();
    faults = await histories.faults(managers);
    console.log(`${rounds} rounds: ${JSON.stringify(histories.account)}`);
  } finally {
    await histories.stop();
    await histories.cleanUp("h1");
  }
} finally {
  for (const back of undo) await back();
  await untilManaged(managers);
}
for (const fault of faults) console.error(fault);
process.exit(faults.length === 0 ? 0 : 1);
