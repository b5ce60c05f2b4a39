import assert from "node:assert/strict";
import { test } from "node:test";
import protobuf from "protobufjs";
import { access, whoMayCall } from "../../../../manager/identity/access.ts";
import { admitBeside } from "../../../../manager/identity/door.ts";
import { root } from "../../../../proto/codec.ts";
import type { Caller } from "../../../../proto/rpc-server.ts";

/** Every RPC that a .proto file of ours defines. */
function allRpcs(): readonly (readonly [string, string])[] {
  const space = root.lookup("tsswarm");
  assert.ok(space instanceof protobuf.Namespace);
  return space.nestedArray.flatMap((one) =>
    one instanceof protobuf.Service
      ? one.methodsArray.map(({ name }) => [one.name, name] as const)
      : [],
  );
}

test("every RPC says who may call it, and nothing else is in the table", () => {
  const rpcs = allRpcs();
  assert.ok(rpcs.length >= 38);
  for (const [service, method] of rpcs)
    assert.notEqual(whoMayCall(service, method), null, `${service}.${method}`);
  const named = Object.entries(access).flatMap(([service, methods]) =>
    Object.keys(methods).map((method) => `${service}.${method}`),
  );
  assert.deepEqual(named.sort(), rpcs.map((rpc) => rpc.join(".")).sort());
});

test("nobody may call what is not in the table", () => {
  for (const [service, method] of [
    ["Control", "GiveAway"],
    ["Nowhere", "Get"],
    ["Control", "constructor"],
    ["toString", "call"],
  ] as const)
    assert.equal(whoMayCall(service, method), null);
});

test("only joining is open to strangers, and the private socket serves no other machines' services", () => {
  const caller: Caller = {
    signal: new AbortController().signal,
    certificate: null,
    address: "",
    metadata: {},
  };
  const open = allRpcs().filter(([service, method]) => whoMayCall(service, method) === "anyone");
  assert.deepEqual(open.map((rpc) => rpc.join(".")).sort(), [
    "Join.GetRootCA",
    "Join.IssueCertificate",
  ]);
  assert.equal(admitBeside("Local", "Status", caller), undefined);
  assert.equal(admitBeside("Control", "ListNodes", caller), undefined);
  for (const [service, method] of [
    ["Dispatch", "Session"],
    ["Raft", "Snapshot"],
    ["Join", "IssueCertificate"],
  ] as const)
    assert.throws(() => admitBeside(service, method, caller), { code: "denied" });
});
