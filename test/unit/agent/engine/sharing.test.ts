import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { Container, HostConfig } from "../../../../agent/engine/container-types.ts";
import { Sharing, shmMounts } from "../../../../agent/engine/sharing.ts";
import type { RuntimeSpec } from "../../../../agent/runtime/spec-types.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";

const execRoot = mkdtempSync(join(tmpdir(), "tsswarm-sharing-"));
after(() => rmSync(execRoot, { recursive: true, force: true }));

type Found = Pick<Container, "id" | "state" | "host">;

function container(id: string, host: HostConfig, Status = "running"): Found {
  return { id, host, state: { Status, Pid: 42 } as Container["state"] };
}

function ground(others: Readonly<Record<string, Found>> = {}) {
  const mounted = new Map<string, string>();
  let namespaces = ["ipc", "pid", "uts"].map((type) => ({ type }) as { type: string });
  const sharing = new Sharing({
    execRoot,
    libc: {
      mount: (_source, target, _type, _flags, data) => void mounted.set(target, data),
      unmount: (target) => {
        if (!mounted.delete(target)) throw new SwarmError("internal", "EINVAL");
      },
    },
    runtime: {
      containerSpec: async () => ({ linux: { namespaces } }) as unknown as RuntimeSpec,
      putContainerSpec: async (_id, spec) => {
        namespaces = [...spec.linux.namespaces];
      },
    },
    find: (text) => {
      const found = others[text];
      if (found === undefined) throw new SwarmError("invalid", `No such container: ${text}`);
      return found;
    },
  });
  return { sharing, mounted, namespaces: () => namespaces };
}

test("a container's shared memory is there from its start to its end, and anew at the next start", async () => {
  const { sharing, mounted } = ground();
  const donor = container("donor", { IpcMode: "shareable", ShmSize: 4096 });
  const [mount] = shmMounts(donor.host, execRoot, "donor");
  const place = mount?.source ?? "";
  await sharing.atStart(donor);
  assert.deepEqual([...mounted], [[place, "mode=1777,size=4096"]]);
  await sharing.atStart(donor);
  assert.equal(mounted.size, 1);
  await sharing.atEnd("donor");
  assert.deepEqual([mounted.size, existsSync(place)], [0, false]);
  await sharing.atEnd("donor");
});

test("who joins another one's IPC has its namespace and its memory, and the processes of a third", async () => {
  const donor = container("donor", { IpcMode: "shareable" });
  const seen = container("seen", {});
  const { sharing, namespaces } = ground({ donor, seen });
  const host = { IpcMode: "container:donor", PidMode: "container:seen" };
  await sharing.atStart(container("c", host));
  assert.deepEqual(namespaces(), [
    { type: "ipc", path: "/proc/42/ns/ipc" },
    { type: "pid", path: "/proc/42/ns/pid" },
    { type: "uts" },
  ]);
  assert.deepEqual(shmMounts(host, execRoot, "c"), shmMounts(donor.host, execRoot, "donor"));
});

const refused = [
  { what: "keeps its IPC to itself", other: container("x", {}), words: /non-shareable IPC/ },
  {
    what: "does not run",
    other: container("x", { IpcMode: "shareable" }, "exited"),
    words: /cannot join the IPC namespace of a non running container: x/,
  },
];
for (const { what, other, words } of refused)
  test(`the IPC of a container that ${what} cannot be joined`, async () => {
    const { sharing, namespaces } = ground({ x: other });
    const before = namespaces();
    await assert.rejects(sharing.atStart(container("c", { IpcMode: "container:x" })), words);
    assert.deepEqual(namespaces(), before);
  });

test("others are remembered by their ids, and who shares nothing has a memory of its own", () => {
  const { sharing } = ground({ web: container("id1", {}) });
  const modes = { PidMode: "container:web", IpcMode: "container:web" };
  assert.deepEqual(sharing.byId(modes), { PidMode: "container:id1", IpcMode: "container:id1" });
  assert.deepEqual(sharing.byId({ PidMode: "host" }), { PidMode: "host", IpcMode: "" });
  for (const IpcMode of ["", "none"]) assert.deepEqual(shmMounts({ IpcMode }, execRoot, "c"), []);
});
