// A child process for the SIGKILL test: writes serials one after the other and prints each once it is acknowledged.

import { openRaft } from "../../../../manager/raft/node.ts";
import { silentLog } from "../../../../proto/kit/log.ts";
import { realWorld } from "../../../../proto/kit/world.ts";
import { SerialMachine } from "./machine.ts";

const [directory = "", firstText = "0", snapshotText = "10000"] = process.argv.slice(2);
const stateMachine = new SerialMachine();
const raft = await openRaft({
  directory,
  id: "a",
  clusterId: "c",
  bootstrap: true,
  world: realWorld,
  log: silentLog,
  stateMachine,
  limits: {
    snapshotEntries: Number(snapshotText),
    segmentBytes: 256 * 1024,
    core: { entriesKept: 50 },
  },
});
raft.failed.catch((error: unknown) => {
  process.stderr.write(`${error}\n`);
  process.exit(2);
});
const { signal } = new AbortController();
await raft.read(signal);
process.stdout.write(`has ${stateMachine.serials.length}\n`);
let next = Number(firstText);
async function write(): Promise<void> {
  for (;;) {
    const serial = next;
    next += 1;
    await raft.propose(Buffer.from(`${serial}`.padEnd(40 + (serial % 7) * 300, " ")), signal);
    process.stdout.write(`ok ${serial}\n`);
  }
}
await Promise.all([write(), write(), write(), write()]);
