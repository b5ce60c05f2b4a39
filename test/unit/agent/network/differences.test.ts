import assert from "node:assert/strict";
import { test } from "node:test";
import {
  linkDifferences,
  nameDifferences,
  objectDifferences,
  settingDifferences,
  tableDifferences,
  tableParts,
} from "../../../../agent/network/differences.ts";
import type { KernelObject } from "../../../../agent/network/netlink.ts";
import type { Difference } from "../../../../agent/network/types.ts";

const sentences = (found: readonly Difference[]) => found.map(({ sentence }) => sentence);
const route = (to: string, link: string): KernelObject => ({ kind: "route", to, link });
const links = new Set(["lo", "vx0", "v1"]);

const objectRows: readonly {
  readonly name: string;
  readonly wanted: readonly KernelObject[];
  readonly actual: readonly KernelObject[];
  readonly strays?: boolean;
  readonly found: readonly string[];
}[] = [
  {
    name: "what is equal is no difference, in whatever order",
    wanted: [route("10.0.1.5/32", "v1"), route("10.0.1.6/32", "vx0")],
    actual: [route("10.0.1.6/32", "vx0"), route("10.0.1.5/32", "v1")],
    found: [],
  },
  {
    name: "missing, changed and stray are told apart",
    wanted: [route("10.0.1.5/32", "v1"), route("10.0.1.6/32", "vx0")],
    actual: [route("10.0.1.6/32", "lo"), route("10.0.1.9/32", "lo")],
    found: [
      "R lacks the route 10.0.1.5/32 254 via - dev v1",
      'in R, the route "10.0.1.6/32 254 via - dev lo" should be "10.0.1.6/32 254 via - dev vx0"',
      "R has the route 10.0.1.9/32 254 via - dev lo, which nobody asked for",
    ],
  },
  {
    name: "one of two in the same place that is right is enough",
    wanted: [route("10.0.1.5/32", "v1")],
    actual: [route("10.0.1.5/32", "v1"), route("10.0.1.5/32", "lo")],
    found: [],
  },
  {
    name: "what hangs on a link that is not there is not missing",
    wanted: [route("10.0.1.5/32", "gone")],
    actual: [],
    found: [],
  },
  {
    name: "where others may add, nothing is stray",
    wanted: [],
    actual: [route("192.0.2.0/24", "lo")],
    strays: false,
    found: [],
  },
];
for (const { name, wanted, actual, strays = true, found } of objectRows)
  test(`kernel objects: ${name}`, () => {
    assert.deepEqual(sentences(objectDifferences("R", wanted, actual, { links, strays })), found);
  });

test("a link is missing, down, or of another size or kind; others do not matter", () => {
  const link = {
    ...{ index: 1, mtu: 1450, isUp: true, mac: "02:00:00:00:00:01", peerIndex: 0 },
    ...{ kind: "", alias: "" },
  };
  const vxlan = { id: 4097, local: "192.0.2.1", port: 4789 };
  const actual = [
    { ...link, name: "lo", mtu: 65_536, vxlan: null },
    { ...link, name: "vx0", vxlan: { ...vxlan, port: 8472 } },
    { ...link, name: "v1", isUp: false, vxlan: null },
    { ...link, name: "other", vxlan: null },
  ];
  const wanted = [
    { name: "lo", mtu: 0 },
    { name: "vx0", mtu: 1450, mac: link.mac, vxlan },
    { name: "v1", mtu: 1400 },
    { name: "up0", mtu: 1450 },
  ];
  assert.deepEqual(sentences(linkDifferences("R", wanted, actual)), [
    'in R, the link "vx0 up mtu 1450 mac 02:00:00:00:00:01 vxlan 4097 from 192.0.2.1 port 8472" should be "vx0 up mtu 1450 mac 02:00:00:00:00:01 vxlan 4097 from 192.0.2.1 port 4789"',
    'in R, the link "v1 down mtu 1450" should be "v1 up mtu 1400"',
    "R lacks the link up0",
  ]);
});

test("a setting that the kernel does not have is no difference", () => {
  const wanted = { "ipv4/ip_forward": "1", "ipv4/conf/gone/rp_filter": "1" };
  assert.deepEqual(sentences(settingDifferences("R", wanted, { "ipv4/ip_forward": "0" })), [
    'in R, the setting "net.ipv4.ip_forward=0" should be "net.ipv4.ip_forward=1"',
  ]);
});

const listing = (...parts: readonly string[]) =>
  `table ip tsswarm {\n${parts.map((part) => `\t${part}\n\t}\n`).join("\n")}}\n`;

test("a listing of a table is read part by part", () => {
  const text = listing(
    "set hairpin {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.1.3,\n\t\t\t     10.0.1.5 }",
    "chain zone {\n\t\ttype filter hook prerouting priority raw; policy accept;",
  );
  assert.deepEqual(
    [...tableParts(text)],
    [
      ["set hairpin", "type ipv4_addr\nelements = { 10.0.1.3,\n10.0.1.5 }"],
      ["chain zone", "type filter hook prerouting priority raw; policy accept;"],
    ],
  );
});

test("tables are compared part by part, in whatever order", () => {
  const wanted = listing("chain a {\n\t\taccept", "chain b {\n\t\tdrop", "map m {\n\t\ttype x");
  const actual = listing("chain z {", "chain b {\n\t\tdrop", "chain a {");
  assert.deepEqual(sentences(tableDifferences("R", "ip tsswarm", wanted, wanted)), []);
  assert.deepEqual(sentences(tableDifferences("R", "ip tsswarm", wanted, null)), [
    "R lacks the table ip tsswarm",
  ]);
  assert.deepEqual(sentences(tableDifferences("R", "ip tsswarm", wanted, actual)), [
    'in R, the chain "a: nothing" should be "a: accept"',
    "R lacks the map m of ip tsswarm",
    "R has the chain z in ip tsswarm, which nobody asked for",
  ]);
});

test("names the keeper lacks or has otherwise are told, others are not", () => {
  const wanted = new Map([
    ["table net", "11"],
    ["table other", "22"],
    ["sandbox a", "33"],
  ]);
  const actual = { "table net": "11", "table other": "00", "sandbox old": "44" };
  assert.deepEqual(sentences(nameDifferences(wanted, actual)), [
    'in the keeper, the names "table other (00)" should be "table other (22)"',
    "the keeper lacks the names sandbox a",
  ]);
});
