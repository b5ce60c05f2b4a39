import assert from "node:assert/strict";
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileTargets } from "../../../../agent/engine/task-files.ts";
import { Vault } from "../../../../agent/engine/vault.ts";
import { codec } from "../../../../proto/codec.ts";
import type { Assignment, Task } from "../../../../proto/gen/types.ts";
import { newId } from "../../../../proto/kit/ids.ts";
import { silentLog } from "../../../../proto/kit/log.ts";

const node = { id: "node1", hostname: "h1", architecture: "x86_64" };

interface Fixture extends AsyncDisposable {
  readonly folder: string;
  readonly mounts: string[][];
  open(): Promise<Vault>;
}

/** In a plain folder: what is mounted is only noted. */
async function fixture(refuses: (data: string) => boolean = () => false): Promise<Fixture> {
  const folder = await mkdtemp(join(tmpdir(), "tsswarm-vault-"));
  const mounts: string[][] = [];
  const mount = (_source: string, target: string, type: string, flags: number, data: string) => {
    if (refuses(data)) throw new Error("EINVAL");
    mounts.push([target, type, String(flags), data]);
  };
  return {
    folder,
    mounts,
    open: () => Vault.open({ directory: folder, libc: { mount }, node, log: silentLog }),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

function held(
  kind: "secret" | "config",
  ID: string,
  data: string | Buffer,
  Templating?: object,
): Assignment {
  const Spec = { Name: `${kind}-of-${ID}`, Data: Buffer.from(data), Templating };
  return kind === "secret"
    ? { Key: { Kind: kind, ID }, Secret: codec("Secret").parse({ ID, Spec }) }
    : { Key: { Kind: kind, ID }, Config: codec("Config").parse({ ID, Spec }) };
}

const [one, two, three, taskId] = [newId(), newId(), newId(), newId()];
const golang = { Name: "golang" };

function task(spec: object): Task {
  return codec("Task").parse({
    ID: taskId,
    Name: `web.3.${taskId}`,
    ServiceID: "service1",
    Slot: 3,
    NodeID: "node1",
    Spec: { ContainerSpec: { Image: "web", ...spec } },
  });
}

const secretAt = (id: string, Name: string, more: object = {}) => ({
  SecretID: id,
  SecretName: "name",
  File: { Name, ...more },
});
const configAt = (id: string, Name: string, more: object = {}) => ({
  ConfigID: id,
  ConfigName: "name",
  File: { Name, ...more },
});

test("what holds secrets is memory: no program, device or privilege comes from it, and no swap where the kernel can", async () => {
  await using modern = await fixture();
  await modern.open();
  assert.deepEqual(modern.mounts, [
    [modern.folder, "tmpfs", "14", "mode=0700,size=1g,nr_inodes=200k,noswap"],
  ]);
  await using old = await fixture((data) => data.includes("noswap"));
  await old.open();
  assert.deepEqual(old.mounts, [[old.folder, "tmpfs", "14", "mode=0700,size=1g,nr_inodes=200k"]]);
  await using none = await fixture(() => true);
  await assert.rejects(none.open(), /EINVAL/);
});

test("a task's files have its targets, owners, modes and contents", async () => {
  await using there = await fixture();
  const vault = await there.open();
  await vault.take(
    [held("secret", one, "hunter2"), held("config", two, Buffer.from([0, 255, 10]))],
    [],
  );
  const wanted = task({
    Secrets: [
      secretAt(one, "db"),
      secretAt(one, "/etc/pw", { UID: "12", GID: "34", Mode: 0o640 }),
      secretAt(one, "a/b", { Mode: 0 }),
    ],
    Configs: [configAt(two, "conf"), configAt(two, "/etc/x.conf", { Mode: 0o755 })],
  });
  assert.deepEqual(fileTargets(wanted), [
    "/run/secrets/db",
    "/etc/pw",
    "/run/secrets/a/b",
    "/conf",
    "/etc/x.conf",
  ]);
  await vault.provide(wanted);
  const found = [];
  for (let index = 0; index < 5; index++) {
    const { mode, uid, gid } = await stat(vault.path(taskId, index));
    found.push([(mode & 0o7777).toString(8), uid, gid]);
  }
  assert.deepEqual(found, [
    ["444", 0, 0],
    ["640", 12, 34],
    ["0", 0, 0],
    ["444", 0, 0],
    ["755", 0, 0],
  ]);
  assert.equal(await readFile(vault.path(taskId, 1), "utf8"), "hunter2");
  assert.deepEqual([...(await readFile(vault.path(taskId, 4)))], [0, 255, 10]);
});

test("the next agent of this boot finds what is held and what is in place; half of something is nothing", async () => {
  await using there = await fixture();
  const before = await there.open();
  await before.take([held("secret", one, "s"), held("config", two, "c")], []);
  await before.provide(task({ Secrets: [secretAt(one, "db")] }));
  await writeFile(join(there.folder, "held", `secret-${three}.half`), "ha");
  await writeFile(join(there.folder, "held", `config-${three}`), Buffer.from([0xff]));
  const after = await there.open();
  assert.deepEqual(
    after
      .keys()
      .map(({ Kind, ID }) => `${Kind}/${ID}`)
      .sort(),
    [`config/${two}`, `secret/${one}`],
  );
  assert.deepEqual([...after.provided], [taskId]);
  assert.deepEqual(after.held.get(`secret/${one}`), before.held.get(`secret/${one}`));
});

test("what is removed, withdrawn or left is there no more", async () => {
  await using there = await fixture();
  const vault = await there.open();
  const all = async () => (await readdir(there.folder, { recursive: true })).sort();
  const empty = await all();
  await vault.take([held("secret", one, "s"), held("config", two, "c")], []);
  await vault.take([], [{ Kind: "config", ID: two }]);
  assert.deepEqual(await all(), ["held", `held/secret-${one}`, "tasks"]);
  await vault.provide(task({ Secrets: [secretAt(one, "db")] }));
  await vault.take([], [{ Kind: "secret", ID: one }]);
  assert.deepEqual(await all(), ["held", "tasks", `tasks/${taskId}`, `tasks/${taskId}/0`]);
  await vault.withdraw(taskId);
  assert.deepEqual(await all(), empty);
  await vault.take([held("secret", one, "s")], []);
  await vault.provide(task({ Secrets: [secretAt(one, "db")] }));
  await vault.clear();
  assert.deepEqual(await all(), empty);
  assert.deepEqual([[...vault.provided], vault.keys()], [[], []]);
});

test("files that are in place are left as they are, also when their secret is held no more", async () => {
  await using there = await fixture();
  const vault = await there.open();
  await vault.take([held("secret", one, "s")], []);
  const wanted = task({ Secrets: [secretAt(one, "db")] });
  await vault.provide(wanted);
  await chmod(vault.path(taskId, 0), 0o400);
  await vault.take([], [{ Kind: "secret", ID: one }]);
  await vault.provide(wanted);
  assert.equal((await stat(vault.path(taskId, 0))).mode & 0o777, 0o400);
});

test("what the managers say is gone cannot be provided, and the task says so", async () => {
  await using there = await fixture();
  const vault = await there.open();
  const none = { ID: one, CreatedAt: "", UpdatedAt: "", Generation: 0 };
  await vault.take([{ Key: { Kind: "secret", ID: one }, Secret: none }], []);
  await assert.rejects(vault.provide(task({ Secrets: [secretAt(one, "db")] })), {
    code: "not_found",
    message: `secret name (${one}) is gone from the swarm`,
  });
  assert.deepEqual(await readdir(join(there.folder, "tasks")), []);
});

const templates: readonly (readonly [string, string | RegExp])[] = [
  ["plain", "plain"],
  ["{{.Service.Name}} {{.Service.ID}} {{.Task.Slot}} {{.Task.ID}}", `web service1 3 ${taskId}`],
  ["{{ .Node.Hostname }}/{{ .Node.Platform.OS }}/{{.Node.ID}}", "h1/linux/node1"],
  ['user={{ env "USER" }} none={{ env "NONE" }}', "user=bö=b none="],
  ['{{ secret "db" }}|{{ config "/etc/conf" }}', "hunter2|conf"],
  ['{{ secret "pw" | printf "<%s>" }}', "<hunter2>"],
  ['{{ join "-" "a" .Task.Slot "c" }}', "a-3-c"],
  [
    '{{ if eq .Task.Slot "3" }}third{{ else if eq .Task.Slot "4" }}x{{ else }}other{{ end }}',
    "third",
  ],
  ['{{ with secret "db" -}}  [{{ . }}]{{ end }}', "[hunter2]"],
  ["{{/* nothing */}}{{ `{{` }}", "{{"],
  ['{{ secret "other" }}', /config name: secret target other not found/],
  ["{{ .Task.Password }}", /config name: template: there is no \.Task\.Password/],
  ["{{ .Service.Labels.none }}", /config name: template: there is no \.Service\.Labels\.none/],
  ["{{ constructor }}", /config name: template parsing error: function "constructor" not defined/],
  ["{{ .constructor }}", /config name: template: there is no \.constructor/],
];
for (const [text, expected] of templates)
  test(`a template ${text} gives ${expected}`, async () => {
    await using there = await fixture();
    const vault = await there.open();
    await vault.take(
      [
        held("secret", one, "hunter2"),
        held("config", two, "conf"),
        held("config", three, text, golang),
      ],
      [],
    );
    const wanted = task({
      Env: ["USER=bö=b"],
      Secrets: [secretAt(one, "db"), secretAt(one, "pw")],
      Configs: [configAt(three, "name"), configAt(two, "/etc/conf")],
    });
    const provided = vault.provide(wanted);
    if (typeof expected !== "string") await assert.rejects(provided, expected);
    else {
      await provided;
      assert.equal(await readFile(vault.path(taskId, 2), "utf8"), expected);
    }
  });

test("a secret's template passes bytes through, and its errors tell nothing of it", async () => {
  await using there = await fixture();
  const vault = await there.open();
  const wanted = task({ Secrets: [secretAt(one, "db")] });
  const bytes = Buffer.concat([Buffer.from([0xff, 0xfe, 0]), Buffer.from("{{.Task.Slot}}")]);
  await vault.take([held("secret", one, bytes, golang)], []);
  await vault.provide(wanted);
  assert.deepEqual(
    await readFile(vault.path(taskId, 0)),
    Buffer.concat([Buffer.from([0xff, 0xfe, 0]), Buffer.from("3")]),
  );
  await vault.withdraw(taskId);
  for (const text of ["{{ hunter2 }}", '{{ secret "hunter2" }}', "{{ .hunter2 }}", "{{ hunter2"]) {
    await vault.take([held("secret", one, text, golang)], []);
    await assert.rejects(vault.provide(wanted), (error: Error) => {
      assert.match(error.message, /^secret name: its template cannot be expanded/);
      assert.ok(!error.message.includes("hunter2"));
      return true;
    });
  }
});
