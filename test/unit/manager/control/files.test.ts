import assert from "node:assert/strict";
import { test } from "node:test";
import { controlHandlers } from "../../../../manager/control/handlers.ts";
import type { Store } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import type { Event } from "../../../../proto/gen/types.ts";
import type { Caller, Handlers } from "../../../../proto/rpc-server.ts";
import { memoryStore } from "../memory-store.ts";
import { contextOf } from "./door.ts";

const forever = new AbortController().signal;
const caller: Caller = { signal: forever, certificate: null, address: "", metadata: {} };
const by = (ID: string) => ({ ID, InsertDefaults: false });
const bytes = (text: string) => Buffer.from(text);
const value = "hunter2";

async function door(): Promise<{ store: Store; control: Handlers<"Control"> }> {
  const cluster = codec("Cluster").parse({ ID: "cluster", FeatureLevel: 2 });
  const store = await memoryStore([{ op: "put", kind: "cluster", object: cluster }]);
  return { store, control: controlHandlers(contextOf(store)) };
}

function secret(Name: string, Labels: Record<string, string> = {}, data = value) {
  return { Spec: codec("SecretSpec").parse({ Name, Labels, Data: bytes(data) }) };
}

function config(Name: string, data: string) {
  return { Spec: codec("ConfigSpec").parse({ Name, Data: bytes(data) }) };
}

function service(Name: string, secrets: Readonly<Record<string, string>>) {
  const Secrets = Object.entries(secrets).map(([SecretName, SecretID]) => ({
    SecretID,
    SecretName,
    File: { Name: SecretName },
  }));
  const TaskTemplate = { ContainerSpec: { Image: "web", Secrets } };
  return { Spec: codec("ServiceSpec").parse({ Name, TaskTemplate }), RegistryAuth: "" };
}

const fromNowOn = { After: 0, Ordinal: 0, Since: "" };

test("a secret is found by id, name and prefix, and shows nothing of what it holds", async () => {
  const { control } = await door();
  const { ID } = await control.CreateSecret(secret("db", { a: "b" }), caller);
  for (const wanted of [ID, "db", ID.slice(0, 7)]) {
    const found = await control.GetSecret(by(wanted), caller);
    assert.equal(found.ID, ID);
    assert.deepEqual(found.Spec?.Labels, { a: "b" });
    assert.equal(found.Spec?.Data.length, 0);
  }
  await assert.rejects(async () => control.GetSecret(by("no"), caller), {
    code: "not_found",
    message: "secret no not found",
  });
  await assert.rejects(async () => control.GetSecret(by(""), caller), { code: "invalid" });
  await assert.rejects(async () => control.CreateSecret(secret("db"), caller), {
    code: "conflict",
    message: "secret db already exists",
  });
});

test("a config shows what it holds", async () => {
  const { control } = await door();
  await control.CreateConfig(config("conf", "listen 80"), caller);
  const found = await control.GetConfig(by("conf"), caller);
  assert.equal(Buffer.from(found.Spec?.Data ?? []).toString(), "listen 80");
  const { Items } = await control.ListConfigs({ Filters: {}, Status: false }, caller);
  assert.equal(Buffer.from(Items[0]?.Spec?.Data ?? []).toString(), "listen 80");
});

const lists: readonly (readonly [Record<string, readonly string[]>, readonly string[]])[] = [
  [{}, ["db-a", "db-b", "key"]],
  [{ name: ["db"] }, ["db-a", "db-b"]],
  [{ names: ["db"] }, []],
  [{ names: ["key", "db-b"] }, ["db-b", "key"]],
  [{ name: ["db-a"], names: ["key"] }, ["db-a", "key"]],
  [{ id: [""] }, ["db-a", "db-b", "key"]],
  [{ id: ["-"] }, []],
  [{ label: ["tier"] }, ["db-a", "key"]],
  [{ label: ["tier=1"] }, ["db-a"]],
  [{ label: ["tier=1", "tier=2"] }, []],
  [{ label: ["tier"], name: ["db"] }, ["db-a"]],
];
for (const [wanted, expected] of lists)
  test(`a list filtered by ${JSON.stringify(wanted)} has ${expected.join(", ") || "nothing"}`, async () => {
    const { control } = await door();
    await control.CreateSecret(secret("db-a", { tier: "1" }), caller);
    await control.CreateSecret(secret("db-b"), caller);
    await control.CreateSecret(secret("key", { tier: "2" }), caller);
    const Filters = Object.fromEntries(
      Object.entries(wanted).map(([name, Values]) => [name, { Values }]),
    );
    const { Items } = await control.ListSecrets({ Filters, Status: false }, caller);
    assert.deepEqual(Items.map(({ Spec }) => Spec?.Name).sort(), expected);
    assert.ok(!JSON.stringify(Items).includes(JSON.stringify([...bytes(value)]).slice(1, -1)));
    for (const { Spec } of Items) assert.equal(Spec?.Data.length, 0);
  });

test("an unknown filter is refused", async () => {
  const { control } = await door();
  const Filters = { driver: { Values: ["x"] } };
  await assert.rejects(async () => control.ListSecrets({ Filters, Status: false }, caller), {
    message: "invalid filter 'driver'",
  });
});

test("labels are changed by who has seen the newest version", async () => {
  const { control } = await door();
  const { ID } = await control.CreateSecret(secret("db"), caller);
  const Version = (await control.GetSecret(by(ID), caller)).Version?.Index ?? 0;
  const Spec = codec("SecretSpec").parse({ Name: "db", Labels: { a: "b" } });
  await control.UpdateSecret({ ID, Version, Spec }, caller);
  assert.deepEqual((await control.GetSecret(by(ID), caller)).Spec?.Labels, { a: "b" });
  await assert.rejects(async () => control.UpdateSecret({ ID, Version, Spec }, caller), {
    code: "invalid",
    message: "update out of sequence",
  });
});

test("a rotation says which services it moved; the name means the new version, the old id what it always did", async () => {
  const { control, store } = await door();
  const { ID } = await control.CreateSecret(secret("db"), caller);
  const other = await control.CreateSecret(secret("key"), caller);
  const names = [...Array(45).keys()].map((n) => `web${n}`);
  for (const name of names) await control.CreateService(service(name, { db: ID }), caller);
  await control.CreateService(service("not", { key: other.ID }), caller);
  const rotated = await control.RotateSecret({ ID: "db", Data: bytes("new") }, caller);
  assert.equal(rotated.Generation, 2);
  assert.deepEqual(rotated.Services.map(({ Name }) => Name).sort(), [...names].sort());
  assert.deepEqual([...new Set(rotated.Services.map(({ Err }) => Err))], [""]);
  const { Items } = await control.ListSecrets({ Filters: {}, Status: false }, caller);
  assert.deepEqual(Items.map((item) => item.ID).sort(), [rotated.ID, other.ID].sort());
  assert.equal((await control.GetSecret(by("db"), caller)).ID, rotated.ID);
  assert.equal((await control.GetSecret(by(ID), caller)).ID, ID);
  const data = (id: string) => Buffer.from(store.state.table("secret").get(id)?.Spec?.Data ?? []);
  assert.deepEqual([data(ID).toString(), data(rotated.ID).toString()], [value, "new"]);
  const web = await control.GetService(by("web7"), caller);
  const [now, before] = [web.Spec, web.PreviousSpec].map(
    (spec) => spec?.TaskTemplate?.ContainerSpec?.Secrets[0]?.SecretID,
  );
  assert.deepEqual([now, before], [rotated.ID, ID]);
  const again = await control.RotateSecret({ ID: "db", Data: bytes("new") }, caller);
  assert.deepEqual(again, { ID: rotated.ID, Generation: 2, Services: [] });
});

test("a service that cannot be moved does not hold up the others", async () => {
  const { control, store } = await door();
  const { ID } = await control.CreateSecret(secret("db"), caller);
  const key = await control.CreateSecret(secret("key"), caller);
  await control.CreateService(service("broken", { db: ID, key: key.ID }), caller);
  await control.CreateService(service("whole", { db: ID }), caller);
  const base = store.state.table("secret").get(key.ID)?.Version?.Index ?? 0;
  await store.write([{ op: "delete", kind: "secret", id: key.ID, base }], forever);
  const { Services } = await control.RotateSecret({ ID: "db", Data: bytes("new") }, caller);
  assert.deepEqual(Services.map(({ Name, Err }) => [Name, Err]).sort(), [
    ["broken", "secret not found: key"],
    ["whole", ""],
  ]);
});

test("a rotation is checked as a creation is", async () => {
  const { control } = await door();
  await control.CreateSecret(secret("db"), caller);
  for (const [ID, data, code] of [
    ["db", "", "invalid"],
    ["db", "x".repeat(512_000), "invalid"],
    ["no", "x", "not_found"],
  ] as const)
    await assert.rejects(async () => control.RotateSecret({ ID, Data: bytes(data) }, caller), {
      code,
    });
});

test("events tell of names: created, changed, rotated, removed", async () => {
  const { control } = await door();
  const stop = new AbortController();
  const seen: Event[] = [];
  const reading = (async () => {
    for await (const event of control.Events(fromNowOn, { ...caller, signal: stop.signal })) {
      if (event.Type !== "") seen.push(event);
      if (seen.length === 5) return;
    }
  })();
  await new Promise((resolve) => setImmediate(resolve));
  const { ID } = await control.CreateSecret(secret("db"), caller);
  const Version = (await control.GetSecret(by(ID), caller)).Version?.Index ?? 0;
  const Spec = codec("SecretSpec").parse({ Name: "db", Labels: { a: "b" } });
  await control.UpdateSecret({ ID, Version, Spec }, caller);
  const rotated = await control.RotateSecret({ ID, Data: bytes("new") }, caller);
  await control.RemoveSecret(by("db"), caller);
  await control.CreateConfig(config("conf", "x"), caller);
  await reading;
  stop.abort();
  assert.deepEqual(
    seen.map((event) => [event.Type, event.Action, event.ID, event.Attributes]),
    [
      ["secret", "create", ID, { name: "db" }],
      ["secret", "update", ID, { name: "db" }],
      ["secret", "update", rotated.ID, { name: "db", generation: "2" }],
      ["secret", "remove", rotated.ID, { name: "db" }],
      ["config", "create", seen[4]?.ID, { name: "conf" }],
    ],
  );
});
