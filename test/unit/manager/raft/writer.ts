// A child process for the SIGKILL test: writes serials one after the other and notes each, once it is acknowledged, in a file
// (a pipe that is full would keep notes in memory, where SIGKILL finds them) and on its output (for the killer to count).

import { openSync, writeSync } from "node:fs";
import { openRaft } from "../../../../manager/raft/open.ts";
import { silentLog } from "../../../../proto/kit/log.ts";
import { realWorld } from "../../../../proto/kit/world.ts";
import { SerialMachine } from "./machine.ts";

const [directory = "", notesPath = "", firstText = "0", snapshotText = "10000"] =
  process.argv.slice(2);
const notes = openSync(notesPath, "a");
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
let next = Number(firstText);
async function write(): Promise<void> {
  for (;;) {
    const serial = next;
    next += 1;
    await raft.propose(Buffer.from(`${serial}`.padEnd(40 + (serial % 7) * 300, " ")), signal);
    writeSync(notes, `${serial}\n`);
    process.stdout.write("acknowledged\n");
  }
}
await Promise.all([write(), write(), write(), write()]);
