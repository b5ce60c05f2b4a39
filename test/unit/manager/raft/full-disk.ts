// A child process for the full-disk test: one member on a small disk of its own, filled by somebody else and emptied again. Says
// each step it has reached; exits with 1 when raft fails or a step does not come.

import { closeSync, fsyncSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { openRaft } from "../../../../manager/raft/open.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import { silentLog } from "../../../../proto/kit/log.ts";
import { realWorld } from "../../../../proto/kit/world.ts";
import { SerialMachine } from "./machine.ts";

const [disk = ""] = process.argv.slice(2);
const { signal } = new AbortController();
const fill = join(disk, "fill");

async function open() {
  const machine = new SerialMachine();
  const raft = await openRaft({
    directory: join(disk, "raft"),
    id: "a",
    clusterId: "c",
    bootstrap: true,
    world: realWorld,
    log: silentLog,
    stateMachine: machine,
    limits: { segmentBytes: 4 << 20, snapshotEntries: 50 },
  });
  raft.failed.catch((error: unknown) => {
    process.stderr.write(`${error}\n`);
    process.exit(1);
  });
  return { raft, machine };
}

let { raft, machine } = await open();
let written = 0;

async function write(): Promise<void> {
  await raft.propose(Buffer.from(`${written}`.padEnd(20_000)), signal);
  written += 1;
}

/** Until writes are refused for want of room, or accepted again. */
async function until(isAccepted: boolean): Promise<void> {
  for (let attempt = 0; attempt < 3_000; attempt++) {
    try {
      await write();
      if (isAccepted) return;
    } catch (error) {
      if (!(error instanceof SwarmError) || error.code !== "exhausted") throw error;
      if (!isAccepted) return;
      await realWorld.sleep(10, signal);
    }
  }
  throw new Error(`writes were never ${isAccepted ? "accepted" : "refused"}`);
}

function fillUp(): void {
  const file = openSync(fill, "w");
  try {
    for (let bytes = 1 << 20; bytes >= 1; ) {
      try {
        writeSync(file, Buffer.alloc(bytes, 1));
      } catch {
        bytes = Math.floor(bytes / 2);
      }
    }
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

for (let i = 0; i < 20; i++) await write();
process.stdout.write("written\n");
fillUp();
await until(false);
await raft.read(signal);
process.stdout.write("refused\n");
// Ticks, measuring, snapshots that are due: nothing of it may need room.
await realWorld.sleep(2_500, signal);
await raft.read(signal);
rmSync(fill);
await until(true);
process.stdout.write("accepted again\n");
fillUp();
await until(false);
await raft.close();
({ raft, machine } = await open());
await raft.read(signal);
process.stdout.write("started on a full disk\n");
rmSync(fill);
await until(true);
const found = machine.serials.map(Number);
const expected = found.map((_, i) => i);
if (found.length < written || found.join() !== expected.join()) throw new Error("writes were lost");
await raft.close();
process.stdout.write("nothing lost\n");
