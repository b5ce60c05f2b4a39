// One manager of the log's measurement, a process of its own: `node member.js SETTING-FILE`. Says "ready" when its port is
// open; told "form ID,ID", the first adds the others, and says "formed".

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Member } from "../../manager/member.ts";
import type { Change } from "../../manager/store/types.ts";
import { openLog } from "../../proto/kit/log.ts";
import { realWorld } from "../../proto/kit/world.ts";
import type { MemberSetting } from "./setting.ts";

const setting = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as MemberSetting;
const { signal } = new AbortController();
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
  bootstrap: setting.seed !== undefined,
  world: realWorld,
  log: openLog("bench", "error"),
});
member.failed.catch((error: unknown) => {
  process.stderr.write(`${error}\n`);
  process.exit(1);
});
if (setting.seed !== undefined) {
  const { cluster, nodes } = setting.seed;
  const changes = [
    { op: "put", kind: "cluster", object: cluster },
    ...nodes.map((object) => ({ op: "put", kind: "node", object })),
  ] as Change[];
  await member.store.write(changes, signal);
}
process.stdout.write("ready\n");
createInterface({ input: process.stdin })
  .on("line", (line) => {
    if (line.startsWith("form ")) void form(line.slice(5).split(","));
  })
  .on("close", () => {
    void member.close().then(() => process.exit(0));
  });

async function form(ids: readonly string[]): Promise<void> {
  const { raft } = member;
  for (const id of ids) {
    await raft.changeMembers({ learners: [id] }, signal);
    for (;;) {
      const { followers, last } = raft.status();
      if (followers.some((follower) => follower.id === id && follower.match >= last)) break;
      await realWorld.sleep(10, signal);
    }
    await raft.changeMembers({ voters: [id] }, signal);
  }
  process.stdout.write("formed\n");
}
