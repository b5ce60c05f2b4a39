import assert from "node:assert/strict";
import { test } from "node:test";
import { codec } from "../../../../proto/codec.ts";
import type { Caller } from "../../../../proto/rpc-server.ts";
import { door } from "./door.ts";

const caller: Caller = {
  signal: new AbortController().signal,
  certificate: null,
  address: "",
  metadata: {},
};
const Spec = codec("ServiceSpec").parse({
  Name: "web",
  TaskTemplate: { ContainerSpec: { Image: "registry.example/web" } },
  Mode: { Replicated: { Replicas: 1 } },
});

function header(password: string): string {
  return Buffer.from(JSON.stringify({ username: "ada", password })).toString("base64url");
}

test("credentials are kept for the nodes and shown to nobody", async () => {
  const { store, control } = await door();
  const { ID, Warnings } = await control.CreateService(
    { Spec, RegistryAuth: header("first") },
    caller,
  );
  assert.deepEqual(Warnings, []);
  const stored = () => {
    const { RegistryAuth, PreviousRegistryAuth } = store.state.table("service").get(ID) ?? {};
    const text = (bytes?: Uint8Array) =>
      /"password":"(\w+)"/.exec(Buffer.from(bytes ?? []).toString())?.[1];
    return {
      id: RegistryAuth?.ID,
      now: text(RegistryAuth?.Data),
      before: text(PreviousRegistryAuth?.Data),
    };
  };
  const update = async (RegistryAuth: string, RegistryAuthFrom = "", Rollback = "") => {
    const Version = store.state.table("service").get(ID)?.Version?.Index ?? 0;
    const more = { RegistryAuth, RegistryAuthFrom, Rollback };
    await control.UpdateService({ ID, Version, Spec, ...more }, caller);
  };
  assert.equal(stored().now, "first");
  const { id } = stored();
  await update("");
  assert.deepEqual(stored(), { id, now: "first", before: "first" });
  await update(header("first"));
  assert.equal(stored().id, id, "the same credentials are not sent anew");
  await update(header("second"));
  assert.deepEqual([stored().now, stored().before], ["second", "first"]);
  assert.notEqual(stored().id, id);
  await update("", "previous-spec");
  assert.equal(stored().now, "first");
  const { Items } = await control.ListServices({ Filters: {}, Status: false }, caller);
  const said = JSON.stringify([
    await control.GetService({ ID, InsertDefaults: true }, caller),
    Items,
  ]);
  assert.doesNotMatch(said, /RegistryAuth/);
});

test("what is no credential is refused or left out, and not repeated", async () => {
  const { store, control } = await door();
  const create = (RegistryAuth: string) => control.CreateService({ Spec, RegistryAuth }, caller);
  await assert.rejects(create("A".repeat(70_000)), { code: "too_large" });
  for (const text of ["{}", "not json", '{"username":"ada"}']) {
    const { ID } = await create(Buffer.from(text).toString("base64"));
    assert.equal(store.state.table("service").get(ID)?.RegistryAuth, undefined);
    await control.RemoveService({ ID, InsertDefaults: false }, caller);
  }
});
