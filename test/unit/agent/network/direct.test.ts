// Containers on links of the host: what they have in their own namespaces, and what they have not.

import assert from "node:assert/strict";
import { test } from "node:test";
import { directMac, exitNetwork, type NetworkFacts } from "../../../../agent/network/facts.ts";
import { localFacts, placeLocally } from "../../../../agent/network/locals.ts";
import { describe } from "../../../../agent/network/netlink.ts";
import { emptyView, sandboxObjects } from "../../../../agent/network/plan.ts";
import { publishedPorts, sandboxPorts } from "../../../../agent/network/published.ts";
import type { Attachment, DirectLink, Sandbox } from "../../../../agent/network/types.ts";
import { sandboxWish } from "../../../../agent/network/wishes.ts";

const bridge = { kind: "macvlan", mode: "bridge", parent: "eth0" } as const;
const subnet = { cidr: "192.0.2.0/24", prefix: 24, gateway: "192.0.2.1" };
const subnet6 = { cidr: "fd00:2::/64", prefix: 64, gateway: "fd00:2::1" };

function lan(name: string, direct: DirectLink, more: Partial<NetworkFacts> = {}): NetworkFacts {
  return {
    ...localFacts({ ...{ id: name, name, direct, isInternal: false }, subnets: [subnet] }),
    ...more,
  };
}
const back = localFacts({
  ...{ id: "back", name: "back", isInternal: false },
  subnets: [{ cidr: "172.40.0.0/24", prefix: 24, gateway: "172.40.0.1" }],
});
const ports = [{ protocol: "tcp", targetPort: 80, publishedPort: 8080 }];

function box(attachments: readonly Attachment[], id = "a"): Sandbox {
  return { ...{ id, attachments, ports }, upstreamNameServers: [], searchDomains: [] };
}
const known = (...all: readonly NetworkFacts[]) => new Map(all.map((each) => [each.id, each]));
const onLan = { networkId: "lan", addresses: ["192.0.2.7"], device: "eth0" };
const onBack = { networkId: "back", addresses: ["172.40.0.7"], device: "eth1" };
const objects = (sandbox: Sandbox, ...all: readonly NetworkFacts[]) =>
  sandboxObjects(sandbox, known(...all)).map(describe);

const rows: readonly {
  readonly name: string;
  readonly network: NetworkFacts;
  readonly found: readonly string[];
}[] = [
  {
    name: "its subnet is on the link, and its gateway a neighbour like others",
    network: lan("lan", bridge),
    found: ["route 0.0.0.0/0 254 via 192.0.2.1 dev eth0"],
  },
  {
    name: "an internal one leads nowhere",
    network: lan("lan", bridge, { isInternal: true }),
    found: [],
  },
  {
    name: "one without a parent leads nowhere",
    network: lan("lan", { ...bridge, parent: "" }),
    found: [],
  },
  {
    name: "at layer 3 the way out is the link itself",
    network: lan("lan", { kind: "ipvlan", mode: "l3s", flag: "bridge", parent: "eth0" }),
    found: ["route 0.0.0.0/0 254 via - dev eth0"],
  },
  {
    name: "without a gateway there is no way out",
    network: lan("lan", bridge, { subnets: [{ ...subnet, family: 4, gateway: "" }] }),
    found: [],
  },
];
for (const { name, network, found } of rows)
  test(`a container on a direct network: ${name}`, () => {
    assert.deepEqual(objects(box([onLan]), network), [
      "address eth0 192.0.2.7/24 bare",
      "route 192.0.2.0/24 254 via - dev eth0",
      ...found,
    ]);
  });

test("a direct network of both families", () => {
  const dual = localFacts({
    ...{ id: "lan", name: "lan", direct: bridge, isInternal: false },
    subnets: [subnet, subnet6],
  });
  const addresses = ["192.0.2.7", "fd00:2::7"];
  assert.deepEqual(objects(box([{ ...onLan, addresses }]), dual).slice(3), [
    "address eth0 fd00:2::7/64 bare",
    "route fd00:2::/64 254 via - dev eth0",
    "route ::/0 254 via fd00:2::1 dev eth0",
  ]);
});

test("the default route: by priority, then by the network's name, whatever the driver", () => {
  const both = box([onLan, onBack]);
  assert.equal(exitNetwork(both, known(lan("lan", bridge), back))?.id, "back");
  const first = box([{ ...onLan, gatewayPriority: 1 }, onBack]);
  assert.equal(exitNetwork(first, known(lan("lan", bridge), back))?.id, "lan");
  const inner = lan("lan", { ...bridge, parent: "" });
  assert.equal(exitNetwork(first, known(inner, back))?.id, "back");
});

test("who leaves through a direct network has no ports of the host, nor holds them", () => {
  const lans = known(lan("lan", bridge), back);
  const one = box([onLan]);
  assert.deepEqual(sandboxPorts(one, lans), []);
  assert.deepEqual(publishedPorts(emptyView, lans, [one]), []);
  const other = box([onLan, onBack], "b");
  const published = publishedPorts(emptyView, lans, [one, other]);
  assert.deepEqual(
    published.map(({ networkId, port, targets }) => [networkId, port, targets]),
    [["back", 8080, [{ address: "172.40.0.7", port: 80 }]]],
  );
});

const macs: readonly (readonly [string, DirectLink, string | undefined, string])[] = [
  ["follows from the address", bridge, undefined, "02:42:c0:00:02:07"],
  ["is the one asked for", bridge, "02:00:00:00:00:05", "02:00:00:00:00:05"],
  ["is the parent's in mode passthru", { ...bridge, mode: "passthru" }, undefined, ""],
  [
    "may be asked for in mode passthru",
    { ...bridge, mode: "passthru" },
    "02:00:00:00:00:05",
    "02:00:00:00:00:05",
  ],
  [
    "is the parent's with ipvlan",
    { ...{ kind: "ipvlan", mode: "l2", flag: "bridge" }, parent: "eth0" },
    "02:00:00:00:00:05",
    "",
  ],
];
for (const [name, direct, mac, found] of macs)
  test(`the hardware address on a direct network ${name}`, () => {
    assert.equal(directMac(direct, mac === undefined ? onLan : { ...onLan, mac }), found);
  });

test("addresses at will leave out the gateway and those kept for others", () => {
  const facts = localFacts({
    ...{ id: "lan", name: "lan", direct: bridge, isInternal: false },
    subnets: [{ ...subnet, range: "192.0.2.0/29", auxiliary: { printer: "192.0.2.2" } }],
  });
  const { attachments } = placeLocally(
    box([{ networkId: "lan", addresses: [] }]),
    undefined,
    [box([{ networkId: "lan", addresses: ["192.0.2.3"] }], "b")],
    known(facts),
  );
  assert.deepEqual(attachments[0]?.addresses, ["192.0.2.4"]);
});

test("a check looks for the device, at whatever size its parent has", () => {
  const wish = sandboxWish(box([onLan]), known(lan("lan", bridge)), () => 0);
  assert.deepEqual(wish.links, [
    { name: "lo", mtu: 0 },
    { name: "eth0", mtu: 0 },
  ]);
});
