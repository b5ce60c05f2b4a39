import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { Libc } from "../../../../agent/engine/libc.ts";
import { OwnUsers } from "../../../../agent/engine/own-user.ts";
import { type ContainerFile, Records } from "../../../../agent/engine/records.ts";
import type { RuntimeSpec, SpecProcess } from "../../../../agent/runtime/spec-types.ts";
import { silentLog } from "../../../../proto/kit/log.ts";

const directory = mkdtempSync(join(tmpdir(), "tsswarm-users-"));
after(() => rmSync(directory, { recursive: true, force: true }));

const mounts = [{ type: "overlay", source: "overlay", target: "", options: [] }];
const bounding = ["CAP_CHOWN"];
const all = { bounding, effective: bounding, permitted: bounding, inheritable: [], ambient: [] };
const own = { args: ["sh"], env: ["A=1"], capabilities: all } as unknown as SpecProcess;

/** A container's files, of which there is /etc/passwd, and a runtime that holds one specification. */
function ground(files: { passwd: string }) {
  const records = new Records(directory, directory, silentLog);
  mkdirSync(records.path("c1"), { recursive: true });
  let looks = 0;
  const libc: Pick<Libc, "mount" | "unmount"> = {
    mount: (_source, target) => {
      looks++;
      mkdirSync(join(target, "etc"));
      writeFileSync(join(target, "etc/passwd"), files.passwd);
    },
    unmount: (target) => rmSync(join(target, "etc"), { recursive: true }),
  };
  // With what its links have added to its environment.
  let spec = { process: { ...own, env: ["A=1", "DB_PORT=1"] } } as unknown as RuntimeSpec;
  const runtime = {
    containerSpec: async () => spec,
    putContainerSpec: async (_id: string, next: RuntimeSpec) => {
      spec = next;
    },
  };
  const users = new OwnUsers({ libc: libc as Libc, records, runtime });
  return { users, looks: () => looks, spec: () => spec };
}

function container(User: string) {
  return { id: "c1", config: { Image: "busybox", User }, host: {} };
}

function record(User: string): ContainerFile {
  return { ...container(User), process: own, isUserUnknown: true } as unknown as ContainerFile;
}

test("a user is looked up once for all containers of an image", async () => {
  const { users, looks } = ground({ passwd: "web:x:33:34::/:/bin/sh\n" });
  const found = await users.ofImage("sha256:1", container("web"), mounts);
  assert.deepEqual([found?.uid, found?.gid], [33, 34]);
  assert.deepEqual(await users.ofImage("sha256:1", container("web"), mounts), found);
  assert.equal(looks(), 1);
  await users.ofImage("sha256:2", container("web"), mounts);
  assert.equal(looks(), 2);
});

test("a user that its image does not know keeps no container from being made, only from starting", async () => {
  const { users } = ground({ passwd: "root:x:0:0::/:/bin/sh\n" });
  assert.equal(await users.ofImage("sha256:1", container("web"), mounts), null);
  await assert.rejects(users.atStart(record("web"), mounts), {
    message: "unable to find user web: no matching entries in passwd file",
  });
});

test("a user that its files have come to know since is who it starts as, with no capability in effect", async () => {
  const { users, spec } = ground({ passwd: "web:x:33:34::/:/bin/sh\n" });
  const started = await users.atStart(record("web"), mounts);
  assert.equal(started.isUserUnknown, undefined);
  assert.deepEqual([started.process.user.uid, started.process.env], [33, ["A=1"]]);
  const { user, env, capabilities } = spec().process;
  assert.deepEqual([user.uid, env], [33, ["A=1", "DB_PORT=1"]]);
  assert.deepEqual([capabilities.bounding, capabilities.effective], [bounding, []]);
});
