import assert from "node:assert/strict";
import { test } from "node:test";
import protobuf from "protobufjs";
import { codecOf, root } from "../../../proto/codec.ts";
import { schema as buildKit } from "../../../proto/gen/buildkit-schema.ts";
import { schema as containerd } from "../../../proto/gen/containerd-schema.ts";
import { isPlain, readerOf } from "../../../proto/plain.ts";
import { seeded } from "../manager/raft/cluster.ts";

const conversion = { longs: Number, enums: String, defaults: true, arrays: true, objects: true };

/** Ours, and those of others that we call, whose fields of messages are not always optional. */
const roots = [
  root,
  ...[containerd, buildKit].map((schema) =>
    protobuf.Root.fromJSON(schema as unknown as protobuf.INamespace),
  ),
];

function everyType(within: protobuf.NamespaceBase): protobuf.Type[] {
  return within.nestedArray.flatMap((one) => [
    ...(one instanceof protobuf.Type ? [one] : []),
    ...(one instanceof protobuf.Namespace ? everyType(one) : []),
  ]);
}

/** Half of its fields, whatever may stand in them. */
function someOf(type: protobuf.Type, random: () => number, depth: number): Record<string, unknown> {
  const message: Record<string, unknown> = {};
  const value = (field: protobuf.Field): unknown => {
    const number = Math.floor(random() * 2 ** (random() * 45));
    if (field.resolvedType instanceof protobuf.Type)
      return someOf(field.resolvedType, random, depth + 1);
    if (field.type === "string") return "añ€😀".slice(0, 2 * Math.floor(random() * 2)) + number;
    if (field.type === "bytes") return Buffer.from(`${number}`);
    if (field.type === "bool") return random() < 0.5;
    if (field.type === "double" || field.type === "float") return number / 2;
    if (/64/.test(field.type)) return /^[us]?int64$/.test(field.type) ? number : 1;
    return number % 2 ** 31;
  };
  for (const field of type.fieldsArray) {
    field.resolve();
    if (random() < 0.5 || (depth > 4 && field.resolvedType !== null)) continue;
    const count = Math.floor(random() * 3);
    if (field.repeated) message[field.name] = Array.from({ length: count }, () => value(field));
    else if (field.map)
      message[field.name] = Object.fromEntries(
        Array.from({ length: count }, (_, i) => [i === 0 ? "" : `key ${i}`, value(field)]),
      );
    else message[field.name] = value(field);
  }
  return message;
}

test("every type is read and written as protobufjs reads and writes it", () => {
  const random = seeded(1);
  let compared = 0;
  for (const type of roots.flatMap(everyType).filter((one) => isPlain(one)))
    for (let i = 0; i < 20; i++) {
      const message = someOf(type, random, 0);
      const bytes = type.encode(type.fromObject(message)).finish();
      assert.deepEqual(
        readerOf(type)(bytes),
        type.toObject(type.decode(bytes), conversion),
        type.name,
      );
      assert.deepEqual(codecOf(type).encode(message), Buffer.from(bytes), type.name);
      compared += 1;
    }
  assert.ok(compared > 1_000, `${compared} messages`);
});

test("bytes that are cut off or changed are read or refused as protobufjs does", () => {
  const random = seeded(2);
  const type = root.lookupType("tsswarm.Service");
  const outcome = (read: () => unknown) => {
    try {
      return read();
    } catch {
      return "refused";
    }
  };
  const seen = { refused: 0, read: 0 };
  for (let i = 0; i < 2_000; i++) {
    const whole = Buffer.from(type.encode(type.fromObject(someOf(type, random, 0))).finish());
    const bytes = random() < 0.5 ? whole : whole.subarray(0, Math.ceil(random() * whole.length));
    if (bytes.length > 0 && random() < 0.7)
      bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    const ours = outcome(() => readerOf(type)(bytes));
    const theirs = outcome(() => type.toObject(type.decode(bytes), conversion));
    assert.deepEqual(ours, theirs, bytes.toString("hex"));
    seen[ours === "refused" ? "refused" : "read"] += 1;
  }
  assert.ok(seen.refused > 100 && seen.read > 100, JSON.stringify(seen));
});

const type = protobuf
  .parse(
    `
  syntax = "proto3";
  message Outer {
    optional Inner One = 1; repeated Inner Many = 2; map<string, Inner> Named = 3; repeated int64 Packed = 4 [packed = true];
    repeated uint32 Apart = 5 [packed = false]; bytes Data = 6; optional bool Flag = 7; map<string, string> Texts = 8;
  }
  message Inner { string Name = 1; repeated string Items = 2; optional Outer Back = 3; }
`,
    { keepCase: true },
  )
  .root.lookupType("Outer");

function encoded(value: object): Buffer {
  return Buffer.from(type.encode(type.fromObject(value)).finish());
}

test("parts of a message one behind the other are one message", () => {
  const parts = [
    encoded({ One: { Name: "a", Items: ["1"] }, Packed: [1, 2 ** 40], Texts: { k: "old" } }),
    encoded({
      One: { Items: ["2"] },
      Packed: [3],
      Apart: [4, 5],
      Texts: { k: "new" },
      Flag: false,
    }),
  ];
  assert.deepEqual(readerOf(type)(Buffer.concat(parts)), {
    One: { Name: "a", Items: ["1", "2"] },
    Many: [],
    Named: {},
    Packed: [1, 2 ** 40, 3],
    Apart: [4, 5],
    Data: Buffer.alloc(0),
    Flag: false,
    Texts: { k: "new" },
  });
});

test("what is empty is shared and can not be changed", () => {
  const [a, b] = [readerOf(type)(encoded({})), readerOf(type)(encoded({}))] as { Many: object[] }[];
  assert.equal(a?.Many, b?.Many);
  assert.throws(() => a?.Many.push({}), TypeError);
});

test("a map's key is never the prototype", () => {
  const bytes = encoded({ Texts: Object.fromEntries([["__proto__", "x"]]) });
  const { Texts } = readerOf(type)(bytes) as { Texts: object };
  assert.equal(Object.getPrototypeOf(Texts), Object.prototype);
  assert.deepEqual(Object.keys(Texts), ["__proto__"]);
});

test("messages nested too deep, and lengths that reach beyond what holds them, are refused", () => {
  let nested: Uint8Array = new Uint8Array();
  const [one, back] = [(1 << 3) | 2, (3 << 3) | 2];
  for (let i = 0; i < 120; i++)
    nested = protobuf.Writer.create()
      .uint32(i % 2 === 0 ? back : one)
      .bytes(nested)
      .finish();
  assert.throws(() => readerOf(type)(nested), /too deep/);
  assert.throws(() => readerOf(type)(Buffer.from([0x0a, 5, 0x0a, 1, 0x61])), RangeError);
  // An inner string longer than its message, though the bytes are there.
  assert.throws(() => readerOf(type)(Buffer.from([0x0a, 2, 0x0a, 5, 1, 2, 3, 4, 5])), RangeError);
});
