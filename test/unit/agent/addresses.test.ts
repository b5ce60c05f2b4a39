import assert from "node:assert/strict";
import type { NetworkInterfaceInfo } from "node:os";
import { test } from "node:test";
import {
  addressTowards,
  advertiseAddress,
  type Interfaces,
  listenAddress,
  ownRoutes,
} from "../../../agent/addresses.ts";

function ipv4(cidr: string, internal = false): NetworkInterfaceInfo {
  const address = cidr.split("/")[0] ?? "";
  return { address, netmask: "", family: "IPv4", mac: "", internal, cidr };
}

const loopback = { lo: [ipv4("127.0.0.1/8", true)] };
const one: Interfaces = {
  ...loopback,
  eth0: [ipv4("10.77.0.11/24")],
  docker0: [ipv4("172.17.0.1/16")],
  link: [ipv4("169.254.3.1/30")],
};
const two: Interfaces = { ...one, eth1: [ipv4("192.168.5.70/26")] };

const rows = [
  { name: "the only address", text: "", on: one, is: "10.77.0.11:2377" },
  { name: "an address", text: "10.77.0.11", on: two, is: "10.77.0.11:2377" },
  { name: "an address with its port", text: "10.77.0.11:4000", on: two, is: "10.77.0.11:4000" },
  { name: "an interface", text: "eth1", on: two, is: "192.168.5.70:2377" },
  { name: "an interface with a port", text: "eth1:99", on: two, is: "192.168.5.70:99" },
];
for (const row of rows)
  test(`advertised is ${row.name}`, () => assert.equal(advertiseAddress(row.text, row.on), row.is));

const wrong = [
  { name: "none", text: "", on: loopback, says: /could not find the system's IP address/ },
  {
    name: "several",
    text: "",
    on: two,
    says: /multiple addresses on different interfaces \(10.77.0.11 on eth0 and 192.168.5.70 on eth1\) - specify one with --advertise-addr/,
  },
  { name: "every address", text: "0.0.0.0", on: one, says: /non-zero IP address/ },
  { name: "an unknown interface", text: "eth9", on: one, says: /eth9 is neither/ },
  { name: "a port that is none", text: "eth0:x", on: one, says: /invalid port/ },
];
for (const row of wrong)
  test(`${row.name} cannot be advertised`, () =>
    assert.throws(() => advertiseAddress(row.text, row.on), {
      code: "invalid",
      message: row.says,
    }));

test("advertised is the port one listens on unless another is said", () => {
  assert.equal(advertiseAddress("10.77.0.11", two, 4000), "10.77.0.11:4000");
  assert.equal(advertiseAddress("", one, 4000), "10.77.0.11:4000");
  assert.equal(advertiseAddress("eth1:99", two, 4000), "192.168.5.70:99");
});

test("listening is on every address unless one is named", () => {
  assert.equal(listenAddress("", two), "0.0.0.0:2377");
  assert.equal(listenAddress("eth1:1", two), "192.168.5.70:1");
});

test("a machine's own subnets are those of its interfaces, without links of ours", () => {
  assert.deepEqual(ownRoutes(two), ["10.77.0.0/24", "172.17.0.0/16", "192.168.5.64/26"]);
});

test("the address towards another machine is the one its packets would leave from", async () => {
  assert.equal(await addressTowards("127.0.0.1:2377"), "127.0.0.1");
});
