// One manager of the log's measurement, a process of its own: `node member.js SETTING-FILE`. Says "ready" when its port is
// open, and "role ROLE" whenever it has another; told "form ID,ID", who leads says "formed" once those vote too; told
// "measure N", it says "figures N JSON" (agents/watch.ts). Stops cleanly when its input ends.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { certExpiryNsMin } from "../../manager/identity/rotation.ts";
import { Member, memberFolder } from "../../manager/member.ts";
import { hasLog } from "../../manager/raft/storage.ts";
import type { Change } from "../../manager/store/types.ts";
import { Keyring } from "../../proto/keyring.ts";
import { keepTight } from "../../proto/kit/heap.ts";
import { openLog } from "../../proto/kit/log.ts";
import { realWorld } from "../../proto/kit/world.ts";
import { ProcessWatch } from "../agents/watch.ts";
import type { MemberSetting } from "./setting.ts";

const changesMax = 100;
const watch = new ProcessWatch();
const setting = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as MemberSetting;
const { signal } = new AbortController();
const isNew = !hasLog(join(memberFolder(setting.folder), "raft"));
const member = await Member.open({
  dataRoot: setting.folder,
  settings: {
    clusterId: setting.clusterId,
    nodeId: setting.id,
    listenAddr: setting.address,
    advertiseAddr: setting.address,
    epoch: 1,
  },
  identity: {
    ...setting.identity,
    nodeId: setting.id,
    clusterId: setting.clusterId,
    role: "manager",
    index: 1,
    managers: [setting.address],
  },
  certExpiryNsMin,
  locks: {
    keyring: new Keyring(setting.folder, async () => []),
    identityFolder: setting.folder,
    held: { read: async () => [], write: async () => {} },
  },
  bootstrap: isNew && setting.seed !== undefined,
  world: realWorld,
  log: openLog("bench", "error"),
});
keepTight(signal, () => member.knowsMuch);
member.failed.catch((error: unknown) => {
  process.stderr.write(`${error}\n`);
  process.exit(1);
});
let role = "";
member.raft.watchStatus((status) => {
  if (status.role !== role) process.stdout.write(`role ${status.role}\n`);
  role = status.role;
});
if (isNew && setting.seed !== undefined) {
  const { cluster, ingress, nodes } = setting.seed;
  const changes = [
    { op: "put", kind: "cluster", object: cluster },
    { op: "put", kind: "network", object: ingress },
    ...nodes.map((object) => ({ op: "put", kind: "node", object })),
  ] as Change[];
  for (let i = 0; i < changes.length; i += changesMax)
    await member.store.write(changes.slice(i, i + changesMax), signal);
}
process.stdout.write("ready\n");
createInterface({ input: process.stdin })
  .on("line", (line) => {
    if (line.startsWith("form ")) void form(line.slice(5).split(","));
    if (line.startsWith("measure "))
      process.stdout.write(`figures ${line.slice(8)} ${JSON.stringify(watch.take())}\n`);
  })
  .on("close", () => {
    void member.close().then(() => process.exit(0));
  });

/** Who leads makes voters of all managers that the store names. */
async function form(ids: readonly string[]): Promise<void> {
  for (;;) {
    const { configuration, followers, last, role } = member.raft.status();
    const isThere = (id: string) =>
      id === setting.id || followers.some((one) => one.id === id && one.match === last);
    const isComplete = ids.every((id) => configuration.voters.includes(id));
    if (isComplete && role === "follower") return;
    if (isComplete && role === "leader" && ids.every(isThere)) break;
    await realWorld.sleep(10, signal);
  }
  process.stdout.write("formed\n");
}
