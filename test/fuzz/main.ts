// `npm run fuzz -- [--inputs N] [--seed N] [--door PART-OF-ITS-NAME]`: bad input at every door. Ends with 1 when something was found, or
// when the process has grown by more than a quarter of a gigabyte between the first tenth of the inputs and the last.

import { parseArgs } from "node:util";
import { fileDoors } from "./files.ts";
import { frameDoors } from "./frames.ts";
import { laneDoors } from "./lanes.ts";
import { networkDoors } from "./network.ts";
import { fuzz } from "./run.ts";

const growthBytesMax = 256 * 2 ** 20;

const { values } = parseArgs({
  options: {
    inputs: { type: "string", default: "100000" },
    seed: { type: "string", default: `${Date.now() % 2 ** 31}` },
    door: { type: "string", default: "" },
  },
});
const inputs = Number(values.inputs);
const seed = Number(values.seed);
const opened = [await networkDoors(), await frameDoors(), await laneDoors(), await fileDoors()];
const doors = opened.flatMap((each) => each.doors).filter(({ name }) => name.includes(values.door));
console.log(`${inputs} inputs at ${doors.length} doors, seed ${seed}`);
const first = await fuzz(doors, inputs / 10, seed, () => {});
globalThis.gc?.();
const before = process.memoryUsage().rss;
const findings = [...first, ...(await fuzz(doors, (inputs * 9) / 10, seed + 1, console.log))];
globalThis.gc?.();
const growth = process.memoryUsage().rss - before;
for (const { door, report } of findings) console.log(`\n${door}\n${report}`);
console.log(`${findings.length} findings; grown by ${Math.round(growth / 2 ** 20)} MiB`);
for (const { close } of opened) await close();
process.exit(findings.length > 0 || growth > growthBytesMax ? 1 : 0);
