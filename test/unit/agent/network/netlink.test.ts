import assert from "node:assert/strict";
import { test } from "node:test";
import { difference } from "../../../../agent/network/apply.ts";
import { answeredRequest, parseConnection } from "../../../../agent/network/conntrack.ts";
import { newLink, parseLink } from "../../../../agent/network/links.ts";
import {
  decode,
  describe,
  encode,
  identity,
  type KernelObject,
  parseError,
  parseObject,
  put,
  remove,
} from "../../../../agent/network/netlink.ts";
import { parseCidr } from "../../../../proto/kit/ip.ts";

const indexOf = (link: string) => (link === "vx0" ? 7 : 3);
const nameOf = (index: number) => (index === 7 ? "vx0" : "c0a000105");

const objects: readonly KernelObject[] = [
  { kind: "address", link: "c0a000105", address: "10.0.1.1", prefix: 32 },
  { kind: "address", link: "c0a000105", address: "10.0.1.5", prefix: 24, bare: true },
  { kind: "route", to: "10.0.1.0/24" },
  { kind: "route", to: "10.0.1.5/32", link: "c0a000105" },
  { kind: "route", to: "10.0.1.6/32", via: "169.254.128.2", link: "vx0" },
  { kind: "route", to: "0.0.0.0/0", via: "169.254.255.254", link: "vx0", table: 100 },
  { kind: "neighbour", link: "vx0", address: "169.254.128.2", mac: "02:73:77:00:00:02" },
  { kind: "forward", link: "vx0", mac: "02:73:77:00:00:02", to: "192.0.2.2" },
  { kind: "address", link: "c0a000105", address: "fd00:1::1", prefix: 128 },
  { kind: "address", link: "c0a000105", address: "fd00:1::5", prefix: 64, bare: true },
  { kind: "route", to: "fd00:1::/64" },
  { kind: "route", to: "fd00:1::5/128", link: "c0a000105" },
  { kind: "route", to: "::/0", via: "fe80::7377:ffff", link: "vx0", table: 100 },
  { kind: "route", to: "::1/128", link: "vx0", table: 255 },
  { kind: "neighbour", link: "vx0", address: "fe80::7377:2", mac: "02:73:77:00:00:02" },
  { kind: "rule", family: 6, mark: 0x1_0000, mask: 0x1_0000, table: 100 },
  { kind: "sourceRule", from: "10.0.0.5", table: 100 },
  { kind: "sourceRule", from: "fd00:9::5", table: 100 },
  { kind: "rule", family: 4, mark: 0x1_0000, mask: 0x1_0000, table: 100 },
];
for (const object of objects) {
  test(`the kernel's form of "${describe(object)}" reads back as the same`, () => {
    const { type, body } = put(object, indexOf);
    assert.deepEqual(parseObject(type, Buffer.from(body), nameOf), object);
  });
}

test("objects of the kernel itself and of others are none of ours", () => {
  const loopback = put({ kind: "address", link: "lo", address: "127.0.0.1", prefix: 8 }, indexOf);
  assert.equal(parseObject(loopback.type, Buffer.from(loopback.body), nameOf), null);
  for (const address of ["::1", "fe80::1"]) {
    const own = put({ kind: "address", link: "lo", address, prefix: 128 }, indexOf);
    assert.equal(parseObject(own.type, Buffer.from(own.body), nameOf), null);
  }
  const route = put({ kind: "route", to: "10.0.1.5/32", link: "vx0" }, indexOf);
  const body = Buffer.from(route.body);
  body[5] = 2; // protocol: kernel
  assert.equal(parseObject(route.type, body, nameOf), null);
});

test("a request is framed with its length, its number and a wish for an acknowledgement", () => {
  const request = remove({ kind: "route", to: "10.0.1.5/32", link: "vx0" }, indexOf);
  const bytes = encode(request, 42);
  assert.equal(bytes.readUInt32LE(0), bytes.length);
  assert.equal(bytes.readUInt16LE(6), 0x5);
  const [reply] = decode(bytes);
  assert.equal(reply?.sequence, 42);
  assert.deepEqual(reply?.body, Buffer.from(request.body));
});

test("an error carries the kernel's own sentence when it gives one", () => {
  const text = Buffer.from("Nexthop has invalid gateway\0");
  const attribute = Buffer.alloc(4);
  attribute.writeUInt16LE(4 + text.length, 0);
  attribute.writeUInt16LE(1, 2);
  const code = Buffer.alloc(4);
  code.writeInt32LE(-101);
  const body = Buffer.concat([code, Buffer.alloc(16), attribute, text]);
  const reply = { sequence: 1, type: 2, flags: 0x300, body };
  assert.deepEqual(parseError(reply), { errno: 101, text: "Nexthop has invalid gateway" });
  assert.deepEqual(parseError({ ...reply, flags: 0 }), { errno: 101, text: "" });
});

test("a VXLAN link is described as it was asked for", () => {
  const vxlan = { kind: "vxlan", name: "vx0", mtu: 1450, mac: "02:73:77:00:00:01" } as const;
  const request = newLink({ ...vxlan, id: 4097, local: "192.0.2.1", port: 4789, namespace: 5 });
  const link = parseLink(Buffer.from(request.body));
  assert.deepEqual(link, {
    ...{ index: 0, name: "vx0", mtu: 1450, isUp: true, mac: "02:73:77:00:00:01", peerIndex: 0 },
    vxlan: { id: 4097, local: "192.0.2.1", port: 4789 },
    ...{ kind: "vxlan", alias: "" },
  });
});

const onParent = { name: "eth0", parent: 7, namespace: 5 } as const;
const deviceRows = [
  { link: { kind: "macvlan", mode: "bridge" }, data: "0800010004000000" },
  { link: { kind: "macvlan", mode: "passthru" }, data: "0800010008000000" },
  { link: { kind: "ipvlan", mode: "l3s", flag: "vepa" }, data: "060001000200000006000200020" },
  { link: { kind: "vlan", id: 10 }, data: "060001000a00" },
] as const;
for (const { link, data } of deviceRows)
  test(`a link of kind ${link.kind} is asked for on its parent: ${data}`, () => {
    const body = Buffer.from(newLink({ ...onParent, ...link }).body);
    const { kind, peerIndex, name } = parseLink(body);
    assert.deepEqual({ kind, peerIndex, name }, { kind: link.kind, peerIndex: 7, name: "eth0" });
    assert.ok(body.toString("hex").includes(data), body.toString("hex"));
  });

test("what differs is put, what is gone is removed, what is equal is left alone", () => {
  const route = (last: number, via: string): KernelObject => ({
    ...{ kind: "route", to: `10.0.1.${last}/32`, link: "vx0", via },
  });
  const neighbour: KernelObject = {
    ...{ kind: "neighbour", link: "vx0", address: "169.254.128.3", mac: "02:73:77:00:00:03" },
  };
  const change = difference(
    [route(5, "169.254.128.2"), route(6, "169.254.128.3"), neighbour],
    [route(5, "169.254.128.2"), route(6, "169.254.128.2"), route(7, "169.254.128.2")],
  );
  assert.deepEqual(change.puts, [neighbour, route(6, "169.254.128.3")]);
  assert.deepEqual(change.removals, [route(7, "169.254.128.2")]);
  assert.equal(identity(route(6, "a")), identity(route(6, "b")));
});

test("a subnet that is none is refused by name", () => {
  assert.deepEqual(parseCidr("10.0.1.0/24"), { address: "10.0.1.0", prefix: 24 });
  assert.deepEqual(parseCidr("fd00::/64"), { address: "fd00::", prefix: 64 });
  for (const text of ["10.0.1.0", "10.0.1/24", "10.0.1.0/33", "fd00::/129", "fe80::%a/64", ""]) {
    assert.throws(() => parseCidr(text), { code: "invalid" });
  }
});

test("connections are asked for by who answers them, and read with their handle", () => {
  const { body } = answeredRequest("10.0.1.5");
  const text = Buffer.from(body).toString("hex");
  assert.match(text, /0a000105/);
  // Original tuple 10.0.1.6 → 10.0.1.2 UDP, reply from 10.0.1.5, as the kernel would send it.
  const tuple = (type: string, source: string, target: string) =>
    `2400${type}801400018008000100${source}08000200${target}0c0002800500010011000000`;
  const original = tuple("01", "0a000106", "0a000102");
  const reply = tuple("02", "0a000105", "0a000106");
  const message = Buffer.from(`02000000${original}${reply}`, "hex");
  const connection = parseConnection({ sequence: 1, type: 0x100, flags: 0, body: message });
  assert.equal(connection.protocol, 17);
  assert.equal(connection.target, "10.0.1.2");
  assert.equal(connection.answerer, "10.0.1.5");
  assert.equal(connection.handle.toString("hex"), original);
});

test("connections over IPv6 are asked for and read as those over IPv4", () => {
  const request = Buffer.from(answeredRequest("fd00:1::5").body);
  assert.equal(request[0], 10);
  assert.match(request.toString("hex"), /0300fd00000100000000000000000000000/);
  const address = (last: string) => `fd000001${"0".repeat(22)}${last}`;
  const tuple = (type: string, source: string, target: string) =>
    `3c00${type}802c00018014000300${address(source)}14000400${address(target)}0c0002800500010011000000`;
  const original = tuple("01", "06", "02");
  const message = Buffer.from(`0a000000${original}${tuple("02", "05", "06")}`, "hex");
  const found = parseConnection({ sequence: 1, type: 0x100, flags: 0, body: message });
  assert.deepEqual(
    [found.family, found.protocol, found.target, found.answerer],
    [6, 17, "fd00:1::2", "fd00:1::5"],
  );
  assert.equal(found.handle.toString("hex"), original);
});
