// `node dist/test/e2e/kill-rounds.js [ROUNDS]`: kills managers of a lab with three of them (`tsswarm lab up --managers 3`) while a
// client writes, 200 times unless told otherwise, and checks that nothing acknowledged is lost. Ctrl-C ends it after a round, with the check.

import { messageOf } from "../../proto/kit/errors.ts";
import { killRounds, untilManaged, Writer } from "./managers-kit.ts";

const managers = ["h1", "h2", "h3"];
const rounds = Number(process.argv[2] ?? 200);
await untilManaged(managers);
const writer = new Writer(`rounds-${process.pid}`, managers);
const enough = new AbortController();
process.once("SIGINT", () => enough.abort());
const say = (line: string) => console.log(line);
const broken: string[] = [];
const took = await killRounds(managers, writer, rounds, say, enough.signal).catch(
  (error: unknown): readonly number[] => {
    // What was written before is looked for all the same.
    broken.push(messageOf(error));
    return [];
  },
);
await writer.stop();
const faults = [...broken, ...(await writer.faults("h1"))];
const sorted = [...took].sort((a, b) => a - b);
console.log(
  `${took.length} rounds: ${writer.acknowledged.size} writes acknowledged, ${writer.unknown.size} of unknown outcome; next write after median ${sorted[sorted.length >> 1]} ms, worst ${sorted.at(-1)} ms`,
);
for (const fault of faults) console.error(fault);
await writer.cleanUp("h1");
process.exit(faults.length === 0 ? 0 : 1);
