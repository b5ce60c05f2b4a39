import assert from "node:assert/strict";
import { test } from "node:test";
import type { Interfaces } from "../../../agent/addresses.ts";
import { movedAddresses, watchAddresses } from "../../../agent/moved.ts";
import { silentLog } from "../../../proto/kit/log.ts";

const own = { advertiseAddr: "10.0.0.5:2377", dataPathAddr: "10.0.0.5", listenAddr: "" };

function interfaces(of: Readonly<Record<string, readonly string[]>>): Interfaces {
  return Object.fromEntries(
    Object.entries(of).map(([name, addresses]) => [
      name,
      addresses.map((address) => ({
        address,
        netmask: "255.255.255.0",
        family: "IPv4" as const,
        mac: "02:00:00:00:00:01",
        internal: false,
        cidr: `${address}/24`,
      })),
    ]),
  );
}

const moved = { advertiseAddr: "10.0.0.9:2377", dataPathAddr: "10.0.0.9", listenAddr: "" };
const rows = [
  { name: "an address that is there", has: { eth0: ["10.0.0.5"] }, is: null },
  { name: "the interface's new address", has: { eth0: ["10.0.0.9"] }, is: moved },
  { name: "one on another interface says nothing", has: { eth1: ["10.0.0.9"] }, is: null },
  { name: "nothing is there", has: { eth0: [] }, is: null },
  { name: "two are there: unclear", has: { eth0: ["10.0.0.8", "10.0.0.9"] }, is: null },
  {
    name: "two are there: the one towards the managers",
    has: { eth0: ["10.0.0.8", "10.0.0.9"] },
    towards: "10.0.0.9",
    is: moved,
  },
  {
    name: "the way to the managers leads over another interface",
    has: { eth1: ["10.0.0.9"] },
    towards: "10.0.0.9",
    is: moved,
  },
];
for (const { name, has, towards, is } of rows)
  test(`which address this machine has now: ${name}`, () => {
    assert.deepEqual(movedAddresses(own, "eth0", towards ?? null, interfaces(has)), is);
  });

test("an address for others that no interface ever had stays; one to listen on moves", () => {
  const behindNat = { ...own, advertiseAddr: "203.0.113.7:2377", listenAddr: "10.0.0.5:2377" };
  assert.deepEqual(movedAddresses(behindNat, "eth0", null, interfaces({ eth0: ["10.0.0.9"] })), {
    advertiseAddr: "203.0.113.7:2377",
    dataPathAddr: "10.0.0.9",
    listenAddr: "10.0.0.9:2377",
  });
});

test("a cluster of one machine on a loopback address stays there", () => {
  const alone = { advertiseAddr: "127.0.0.1:2377", dataPathAddr: "127.0.0.1", listenAddr: "" };
  const has = interfaces({ eth0: ["10.0.0.9"] });
  assert.equal(movedAddresses(alone, null, "10.0.0.9", has), null);
});

test("a change that lasts is saved and ends the agent; one that does not is none", async () => {
  const looks = [
    { eth0: ["10.0.0.5"] },
    { eth0: [] },
    { eth0: ["10.0.0.9"] },
    { eth0: ["10.0.0.5"] },
    { eth0: ["10.0.0.9"] },
    { eth0: ["10.0.0.9"] },
  ];
  let sleeps = 0;
  const saved: unknown[] = [];
  const watching = watchAddresses(
    {
      own,
      interfaces: () => interfaces(looks[sleeps] ?? {}),
      towards: () => Promise.resolve(null),
      save: async (addresses) => {
        saved.push(addresses);
      },
      world: {
        sleep: async () => {
          sleeps += 1;
        },
      },
      log: silentLog,
    },
    new AbortController().signal,
  );
  await assert.rejects(watching, { code: "precondition", message: /was 10.0.0.5 and is 10.0.0.9/ });
  assert.deepEqual(saved, [moved]);
  assert.equal(sleeps, 5);
});
