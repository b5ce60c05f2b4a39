// A member as a process, for the SIGKILL test: `node killed-member.js SETTING-FILE`. Commands come as lines on its input:
// "write SERIAL" is answered by "done SERIAL" or "failed SERIAL CODE", "members ID,ID" by "members", "dump" by "state JSON" after a
// linearizable read.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import grpc from "@grpc/grpc-js";
import { Peers } from "../../../../manager/peers/peers.ts";
import { ClusterPort } from "../../../../manager/port.ts";
import { openRaft } from "../../../../manager/raft/open.ts";
import { asSwarmError } from "../../../../proto/kit/errors.ts";
import { silentLog } from "../../../../proto/kit/log.ts";
import { realWorld } from "../../../../proto/kit/world.ts";
import { serve } from "../../../../proto/rpc-server.ts";
import type { Identity } from "../../../../proto/tls.ts";
import { SerialMachine } from "../raft/machine.ts";

export interface KilledMemberSetting {
  readonly id: string;
  readonly clusterId: string;
  readonly directory: string;
  /** host:port by member. */
  readonly addresses: Readonly<Record<string, string>>;
  readonly identity: Identity;
  readonly bootstrap: boolean;
}

const setting = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as KilledMemberSetting;
const { id, clusterId, directory, addresses, identity, bootstrap } = setting;
const { signal } = new AbortController();
const peers = new Peers({
  id,
  clusterId,
  epoch: 1,
  address: addresses[id] ?? "",
  addressOf: (to) => addresses[to] ?? null,
  identity: () => identity,
  isRemoved: () => false,
  onRemoved: () => {},
  onSuperseded: () => {},
  world: realWorld,
  log: silentLog,
});
const stateMachine = new SerialMachine();
const raft = await openRaft({
  directory,
  id,
  clusterId,
  bootstrap,
  world: realWorld,
  log: silentLog,
  stateMachine,
  transport: peers,
  limits: {
    segmentBytes: 128 * 1024,
    snapshotEntries: 150,
    core: { entriesKept: 60 },
  },
});
raft.failed.catch((error: unknown) => {
  process.stderr.write(`${error}\n`);
  process.exit(2);
});
const server = new grpc.Server();
serve(server, "Raft", peers.handlers, () => undefined);
const port = new ClusterPort({ identity, isKnown: () => true, world: realWorld, log: silentLog });
await port.listen(
  server,
  addresses[id] ?? "",
  (socket, caller) => void peers.takeLane(socket, caller, () => undefined),
);
say("ready");
createInterface({ input: process.stdin }).on("line", (line) => {
  const [command = "", argument = ""] = line.split(" ");
  if (command === "write") void write(argument);
  else if (command === "members") void add(argument.split(","));
  else void dump();
});

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function write(serial: string): Promise<void> {
  try {
    await raft.propose(Buffer.from(serial.padEnd(300)), signal);
    say(`done ${serial}`);
  } catch (error) {
    say(`failed ${serial} ${asSwarmError(error).code}`);
  }
}

/** Every member is told: whoever leads at a time does what is missing. */
async function add(ids: readonly string[]): Promise<void> {
  for (;;) {
    const { role, configuration } = raft.status();
    const { voters, learners } = configuration;
    const missing = ids.find((one) => !voters.includes(one));
    if (missing === undefined) break;
    const change = learners.includes(missing) ? { voters: [missing] } : { learners: [missing] };
    if (role === "leader") await raft.changeMembers(change, signal).catch(() => {});
    await realWorld.sleep(50, signal);
  }
  say("members");
}

async function dump(): Promise<void> {
  for (;;) {
    try {
      await raft.read(signal);
      say(`state ${JSON.stringify(stateMachine.serials)}`);
      return;
    } catch {
      await realWorld.sleep(50, signal);
    }
  }
}
