import assert from "node:assert/strict";
import { test } from "node:test";
import type { Change } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import type { AssignmentKey, ToAgent } from "../../../../proto/gen/types.ts";
import { isAuthOf } from "../../../../proto/registry-auth.ts";
import { memoryStore } from "../memory-store.ts";
import { forever, info, sent, sessionOf } from "./session-kit.ts";

function secret(id: string, data: string | Uint8Array = `value of ${id}`): Change {
  const Spec = { Name: id, Data: Buffer.from(data) };
  return { op: "put", kind: "secret", object: codec("Secret").parse({ ID: id, Spec }) };
}

function config(id: string, bytes: number): Change {
  const Spec = { Name: id, Data: Buffer.alloc(bytes, "c") };
  return { op: "put", kind: "config", object: codec("Config").parse({ ID: id, Spec }) };
}

function revision(
  service: string,
  secrets: readonly string[],
  configs: readonly string[] = [],
): Change {
  const ContainerSpec = {
    Image: "i",
    Secrets: secrets.map((id) => ({ SecretID: id, SecretName: id, File: { Name: id } })),
    Configs: configs.map((id) => ({ ConfigID: id, ConfigName: id, File: { Name: id } })),
  };
  const object = codec("Revision").parse({
    ID: `${service}.1`,
    ServiceID: service,
    SpecVersion: 1,
    Spec: { Name: service, TaskTemplate: { ContainerSpec } },
  });
  return { op: "put", kind: "revision", object };
}

function task(
  id: string,
  service: string,
  node: string,
  state: string,
  desired = "running",
  base?: { readonly Version?: { readonly Index: number } },
): Change {
  const object = codec("Task").parse({
    ID: id,
    ServiceID: service,
    NodeID: node,
    SpecVersion: 1,
    DesiredState: desired,
    Status: { State: state },
    ...(base?.Version === undefined ? {} : { Version: base.Version }),
  });
  return { op: "put", kind: "task", object };
}

function names(messages: readonly ToAgent[]): { set: string[]; remove: string[] } {
  const text = (key: AssignmentKey | undefined) => `${key?.Kind}/${key?.ID}`;
  return {
    set: messages.flatMap((message) => message.Set.map(({ Key }) => text(Key))),
    remove: messages.flatMap((message) => message.Remove.map(text)),
  };
}

const files = ({ set, remove }: { set: string[]; remove: string[] }) => ({
  set: set.filter((key) => /^(secret|config)/.test(key)).sort(),
  remove: remove.filter((key) => /^(secret|config)/.test(key)).sort(),
});

const base = [
  secret("mine"),
  secret("theirs"),
  secret("nobodys"),
  revision("web", ["mine"]),
  revision("db", ["theirs"]),
];

const rows = [
  { name: "an assigned task", state: "assigned", desired: "running", gets: true },
  { name: "one that is prepared", state: "ready", desired: "ready", gets: true },
  { name: "a running one", state: "running", desired: "running", gets: true },
  { name: "one that is to complete", state: "running", desired: "complete", gets: true },
  {
    name: "one that still waits for its node's confirmation",
    state: "pending",
    desired: "running",
    gets: false,
  },
  { name: "one that is to stop", state: "running", desired: "shutdown", gets: false },
  { name: "one that is to go", state: "running", desired: "remove", gets: false },
  { name: "one that has failed", state: "failed", desired: "running", gets: false },
  { name: "one that is over", state: "shutdown", desired: "shutdown", gets: false },
];
for (const row of rows)
  test(`for ${row.name} its node gets ${row.gets ? "its secret and no other" : "no secret"}`, async () => {
    const store = await memoryStore([
      ...base,
      task("t1", "web", "n1", row.state, row.desired),
      task("t2", "db", "n2", "running"),
    ]);
    for (const node of ["n1", "n2", "n3"]) {
      const session = sessionOf(store, node);
      session.begin(() => info, null, []);
      const got = files(names(sent(session)));
      const wanted = { n1: row.gets ? ["secret/mine"] : [], n2: ["secret/theirs"], n3: [] }[node];
      assert.deepEqual(got, { set: wanted, remove: [] }, node);
    }
  });

test("a node that says it has another's secret is told to drop it and gets nothing for it", async () => {
  const store = await memoryStore([...base, task("t1", "web", "n1", "running")]);
  const session = sessionOf(store, "n1");
  session.begin(() => info, null, [
    { Kind: "secret", ID: "mine" },
    { Kind: "secret", ID: "theirs" },
    { Kind: "secret", ID: "made-up" },
  ]);
  assert.deepEqual(files(names(sent(session))), {
    set: [],
    remove: ["secret/made-up", "secret/theirs"],
  });
});

test("a secret comes before the first task that names it, and goes with the last", async () => {
  const store = await memoryStore([...base]);
  const session = sessionOf(store, "n1");
  session.begin(() => info, null, []);
  sent(session);
  const write = async (...changes: readonly Change[]) => {
    await store.write(changes, forever);
    session.update();
    return names(sent(session));
  };
  const known = (id: string) => store.state.table("task").get(id);
  assert.deepEqual(await write(task("t1", "web", "n1", "assigned")), {
    set: ["secret/mine", "task/t1"],
    remove: [],
  });
  assert.deepEqual(await write(task("t2", "web", "n1", "assigned")), {
    set: ["task/t2"],
    remove: [],
  });
  const over = await write(task("t1", "web", "n1", "running", "shutdown", known("t1")));
  assert.deepEqual(files(over), { set: [], remove: [] });
  const last = await write(task("t2", "web", "n1", "failed", "running", known("t2")));
  assert.deepEqual(files(last), { set: [], remove: ["secret/mine"] });
  const again = await write(task("t3", "web", "n1", "assigned"));
  assert.deepEqual(files(again), { set: ["secret/mine"], remove: [] });
});

test("of a secret that is gone its node hears that it is", async () => {
  const store = await memoryStore([revision("web", ["gone"]), task("t1", "web", "n1", "assigned")]);
  const session = sessionOf(store, "n1");
  session.begin(() => info, null, []);
  const set = sent(session).flatMap((message) => message.Set);
  const found = set.find(({ Key }) => Key?.Kind === "secret");
  assert.equal(found?.Secret?.ID, "gone");
  assert.equal(found?.Secret?.Spec, undefined);
});

test("many large configs go in messages of a size that an agent takes", async () => {
  const ids = [...Array(40).keys()].map((n) => `c${n}`);
  const store = await memoryStore([revision("web", [], ids), task("t1", "web", "n1", "assigned")]);
  for (const id of ids) await store.write([config(id, 1000 * 1024 - 1)], forever);
  const session = sessionOf(store, "n1");
  session.begin(() => info, null, []);
  const messages = sent(session);
  assert.equal(files(names(messages)).set.length, 40);
  for (const message of messages)
    assert.ok(codec("ToAgent").encode(message).length < 2 * 1024 * 1024);
});

test("a service's registry credentials reach the nodes that run it, as a secret, and no other", async () => {
  const Data = Buffer.from('{"username":"ada","password":"p"}');
  const object = codec("Service").parse({
    ID: "web",
    Spec: { Name: "web" },
    RegistryAuth: { ID: "auth1" },
  });
  const service: Change = {
    op: "put",
    kind: "service",
    object: { ...object, RegistryAuth: { ID: "auth1", Data } },
  };
  const tasks = [task("t1", "web", "n1", "running"), task("t2", "other", "n2", "running")];
  const store = await memoryStore([...base, service, ...tasks]);
  const got = async (node: string) => {
    const session = sessionOf(store, node);
    session.begin(() => info, null, []);
    const messages = sent(session);
    return messages.flatMap(({ Set: set }) => set.filter(({ Key }) => Key?.ID === "auth1"));
  };
  const [first] = await got("n1");
  assert.deepEqual(Buffer.from(first?.Secret?.Spec?.Data ?? []), Data);
  assert.ok(first?.Secret !== undefined && isAuthOf(first.Secret, "web"));
  assert.deepEqual(await got("n2"), []);
});
