import assert from "node:assert/strict";
import { test } from "node:test";
import {
  containerLink,
  containerMac,
  linkAddresses,
  peerMark,
  routerAddress,
  routerMac,
  slotOf,
} from "../../../../agent/network/addresses.ts";
import {
  exitNetwork,
  type NetworkFacts,
  networkFacts,
  withoutIPv6,
} from "../../../../agent/network/facts.ts";
import { staleFlows } from "../../../../agent/network/flows.ts";
import { describe } from "../../../../agent/network/netlink.ts";
import {
  emptyView,
  hostEndObjects,
  partOf,
  routerObjects,
  sandboxObjects,
} from "../../../../agent/network/plan.ts";
import { publishedPorts } from "../../../../agent/network/published.ts";
import { contains } from "../../../../proto/kit/ip.ts";
import { clusterView, endpoint, networkObject, peer, sandbox, service } from "./fixtures.ts";

const backend = networkFacts(networkObject("net", "backend", ["10.0.1.0/24"]));
const ingress = networkFacts(
  networkObject("ing", "ingress", ["10.0.0.0/16"], { ingress: true, vni: 4096 }),
);
const internal = networkFacts(
  networkObject("int", "a-internal", ["10.0.9.0/24"], { internal: true }),
);
const known: ReadonlyMap<string, NetworkFacts> = new Map(
  [backend, ingress, internal].map((network) => [network.id, network]),
);

test("addresses, MACs and marks follow from small numbers", () => {
  assert.deepEqual(linkAddresses(0), { host: "169.254.1.0", router: "169.254.1.1" });
  assert.deepEqual(linkAddresses(300), { host: "169.254.3.88", router: "169.254.3.89" });
  for (const slot of [0, 1, 300, 16_000]) assert.equal(slotOf(linkAddresses(slot).router), slot);
  assert.equal(slotOf("169.254.1.0"), -1);
  assert.equal(slotOf("10.0.0.1"), -1);
  assert.equal(routerAddress(1), "169.254.128.1");
  assert.equal(routerAddress(10_749), "169.254.169.253");
  assert.equal(
    routerAddress(10_750),
    "169.254.169.255",
    "the clouds' metadata address is left out",
  );
  assert.equal(routerMac(258), "02:73:77:00:01:02");
  assert.equal(peerMark(2), "0x10002");
  assert.equal(containerLink("10.0.1.5"), "c0a000105");
  assert.equal(containerMac("10.0.1.5"), "02:42:0a:00:01:05");
  assert.throws(() => routerAddress(40_000), { code: "invalid" });
  assert.throws(() => linkAddresses(17_000), { code: "exhausted" });
});

test("a router knows its containers by link, the others by their node, and nobody else", () => {
  const objects = routerObjects({
    view: clusterView(),
    network: backend,
    sandboxes: [sandbox("task5", "10.0.1.5")],
    slot: 3,
  });
  assert.deepEqual(objects.map(describe), [
    "address lo 10.0.1.1/32",
    "route 10.0.1.0/24 254 via - dev unreachable",
    "address lo 10.0.1.2/32",
    "address up0 169.254.1.7/31",
    "route 0.0.0.0/0 254 via 169.254.1.6 dev up0",
    "route 10.0.1.5/32 254 via - dev c0a000105",
    "neighbour c0a000105 10.0.1.5 at 02:42:0a:00:01:05",
    "address vx0 169.254.128.1/17",
    "rule ipv4 65536/65536 100",
    "neighbour vx0 169.254.255.254 at 02:73:77:ff:ff:fd",
    "route 0.0.0.0/0 100 via 169.254.255.254 dev vx0",
    "neighbour vx0 169.254.128.2 at 02:73:77:00:00:02",
    "route 10.0.1.6/32 254 via 169.254.128.2 dev vx0",
    "forward vx0 02:73:77:00:00:02 to 192.0.2.2",
  ]);
});

test("every endpoint has a route, serving or not; one neighbour and one forward per node", () => {
  const view = clusterView({
    peers: [peer(1), peer(2), peer(3)],
    endpoints: [
      endpoint(6, 2),
      endpoint(7, 2, { State: "draining" }),
      endpoint(8, 3, { State: "reserved" }),
    ],
  });
  const objects = routerObjects({ view, network: backend, sandboxes: [], slot: null });
  const routes = objects.filter((o) => o.kind === "route" && o.to.endsWith("/32"));
  assert.equal(routes.length, 3);
  assert.equal(objects.filter(({ kind }) => kind === "forward").length, 2);
  assert.ok(!objects.some((object) => "link" in object && object.link === "up0"));
});

test("a network with two subnets has both behind the same router", () => {
  const wide = networkFacts(networkObject("net", "wide", ["10.0.1.0/24", "10.0.5.0/24"]));
  const objects = routerObjects({ view: clusterView(), network: wide, sandboxes: [], slot: 0 });
  assert.ok(objects.some((o) => o.kind === "route" && o.to === "10.0.5.0/24"));
  const inside = sandboxObjects(sandbox("t", "10.0.5.9"), new Map([["net", wide]]));
  assert.deepEqual(inside.map(describe), [
    "address eth0 10.0.5.9/24 bare",
    "neighbour eth0 10.0.5.1 at 02:73:77:ff:ff:fe",
    "route 10.0.5.1/32 254 via - dev eth0",
    "route 10.0.1.0/24 254 via 10.0.5.1 dev eth0",
    "route 10.0.5.0/24 254 via 10.0.5.1 dev eth0",
    "route 0.0.0.0/0 254 via 10.0.5.1 dev eth0",
  ]);
});

test("further addresses of a container's device lead nowhere", () => {
  const attachments = [
    { networkId: "int", addresses: ["10.0.9.5"], linkLocal: ["169.254.8.8", "fe80::8"] },
  ];
  const inside = sandboxObjects(sandbox("t", "", { attachments }), known).map(describe);
  assert.deepEqual(
    inside.filter((each) => /169\.254|fe80/.test(each)),
    ["address eth0 169.254.8.8/16 bare", "address eth0 fe80::8/64 bare"],
  );
});

const both = [
  { networkId: "int", addresses: ["10.0.9.5"] },
  { networkId: "net", addresses: ["10.0.1.5"] },
];
const exits = [
  { name: "its only network", attachments: both.slice(1), exit: "net" },
  { name: "not an internal one", attachments: both, exit: "net" },
  {
    name: "the ingress network before any other",
    attachments: [...both, { networkId: "ing", addresses: ["10.0.0.5"] }],
    exit: "ing",
  },
  { name: "nothing when all are internal", attachments: both.slice(0, 1), exit: undefined },
  {
    name: "the one with the highest priority before the ingress network",
    attachments: [
      { networkId: "net", addresses: ["10.0.1.5"], gatewayPriority: 1 },
      { networkId: "ing", addresses: ["10.0.0.5"] },
    ],
    exit: "net",
  },
  {
    name: "no internal one, whatever its priority",
    attachments: [
      { networkId: "int", addresses: ["10.0.9.5"], gatewayPriority: 9 },
      ...both.slice(1),
    ],
    exit: "net",
  },
  {
    name: "another than one that was put last",
    attachments: [
      { networkId: "ing", addresses: ["10.0.0.5"], gatewayPriority: -1 },
      { networkId: "net", addresses: ["10.0.1.5"] },
    ],
    exit: "net",
  },
];
for (const { name, attachments, exit } of exits) {
  test(`a container leaves through ${name}`, () => {
    const found = exitNetwork(sandbox("t", "", { attachments }), known);
    assert.equal(found?.id, exit);
  });
}

test("a container's networks are eth0, eth1 …, and one of them is the way out", () => {
  const attachments = [...both, { networkId: "ing", addresses: ["10.0.0.5"] }];
  const objects = sandboxObjects(sandbox("t", "", { attachments }), known);
  const links = objects.filter(({ kind }) => kind === "address").map((o) => "link" in o && o.link);
  assert.deepEqual(links, ["eth0", "eth1", "eth2"]);
  const exit = objects.filter((o) => o.kind === "route" && o.to === "0.0.0.0/0");
  assert.deepEqual(exit.map(describe), ["route 0.0.0.0/0 254 via 10.0.0.1 dev eth2"]);
});

test("who came in through the mesh is answered through it, wherever all else leaves", () => {
  const attachments = [
    { networkId: "net", addresses: ["10.0.1.5"], gatewayPriority: 1 },
    { networkId: "ing", addresses: ["10.0.0.5"] },
  ];
  const objects = sandboxObjects(sandbox("t", "", { attachments }), known);
  assert.deepEqual(
    objects.map(describe).filter((line) => /e 0\.0\.0\.0|rule/.test(line)),
    [
      "route 0.0.0.0/0 254 via 10.0.1.1 dev eth0",
      "route 0.0.0.0/0 100 via 10.0.0.1 dev eth1",
      "rule from 10.0.0.5 100",
    ],
  );
});

test("an address outside its network's subnets is an error that says so", () => {
  assert.throws(
    () => sandboxObjects(sandbox("t", "10.0.7.5"), known),
    /10\.0\.7\.5 is in no subnet/,
  );
  assert.equal(contains("10.0.0.0/16", "10.0.255.255"), true);
  assert.equal(contains("10.0.0.0/16", "10.1.0.0"), false);
  assert.equal(contains("10.0.0.0/13", "10.7.255.255"), true);
  assert.equal(contains("10.0.0.0/13", "10.8.0.0"), false);
  assert.equal(contains("fd00::/61", "fd00:0:0:7::1"), true);
  assert.equal(contains("fd00::/61", "fd00:0:0:8::1"), false);
  assert.equal(contains("::/0", "10.0.0.1"), false);
});

test("a network that has no subnet or no gateway yet is refused", () => {
  assert.throws(() => networkFacts(networkObject("n", "n", [])), /has no subnet yet/);
  const object = networkObject("n", "n", ["10.0.1.0/24"]);
  const config = { Subnet: "10.0.1.0/24", Gateway: "", IPRange: "", AuxiliaryAddresses: {} };
  const broken = { ...object, IPAM: { Driver: "", Options: {}, Config: [config] } };
  assert.throws(() => networkFacts(broken), /has no gateway/);
});

test("only serving endpoints are balanced over, each node starting with another", () => {
  const endpoints = [
    endpoint(9, 2),
    endpoint(10, 2),
    endpoint(5, 1),
    endpoint(6, 2, { State: "draining" }),
    endpoint(7, 2, { ServiceID: "other" }),
  ];
  const first = clusterView({ endpoints });
  const second = { ...first, self: { ...first.self, index: 2 } };
  const order = (view: typeof first) =>
    partOf(view, "net")
      .serving.get("web")
      ?.flatMap(({ Addresses }) => Addresses);
  assert.deepEqual(order(first), ["10.0.1.9", "10.0.1.10", "10.0.1.5"]);
  assert.deepEqual(order(second), ["10.0.1.10", "10.0.1.5", "10.0.1.9"]);
});

test("published are the ports of services on the ingress network and those of local containers", () => {
  const port = { Name: "", Protocol: "", TargetPort: 80, PublishedPort: 8080, PublishMode: "" };
  const view = clusterView({
    services: [
      service({ Ports: [{ ...port, PublishedPort: 1 }] }),
      service({ NetworkID: "ing", Ports: [port, { ...port, PublishMode: "host" }] }),
    ],
    endpoints: [endpoint(5, 1, { NetworkID: "ing", Addresses: ["10.0.0.5"] })],
  });
  const ports = [
    { protocol: "udp", targetPort: 53, publishedPort: 5300, hostIP: "192.0.2.1" },
    { protocol: "tcp", targetPort: 90, publishedPort: 0 },
  ];
  assert.deepEqual(publishedPorts(view, known, [sandbox("t", "10.0.1.5", { ports })]), [
    {
      ...{ protocol: "tcp", port: 8080, family: 4, hostIP: "", networkId: "ing" },
      targets: [{ address: "10.0.0.5", port: 80 }],
    },
    {
      ...{ protocol: "udp", port: 5300, family: 4, hostIP: "192.0.2.1", networkId: "net" },
      targets: [{ address: "10.0.1.5", port: 53 }],
    },
  ]);
});

test("a container's port that is closed is taken all the same, and leads nowhere", () => {
  const ports = [{ protocol: "tcp", targetPort: 80, publishedPort: 8080 }];
  const targets = (isClosed: boolean) =>
    publishedPorts(clusterView(), known, [sandbox("t", "10.0.1.5", { ports, isClosed })]).map(
      ({ port, targets }) => [port, targets],
    );
  assert.deepEqual(targets(false), [[8080, [{ address: "10.0.1.5", port: 80 }]]]);
  assert.deepEqual(targets(true), [[8080, []]]);
});

test("a port leads to the task that serves, though its successor is prepared beside it on another network", () => {
  const ports = [{ protocol: "tcp", targetPort: 80, publishedPort: 8080 }];
  const serving = sandbox("old", "10.0.1.5", { ports });
  const attachments = [{ networkId: "ing", addresses: ["10.0.0.9"] }];
  const next = sandbox("new", "", { attachments, ports, isClosed: true });
  for (const both of [
    [serving, next],
    [next, serving],
  ])
    assert.deepEqual(
      publishedPorts(clusterView(), known, both).map(({ networkId, targets }) => [
        networkId,
        targets[0]?.address,
      ]),
      [["net", "10.0.1.5"]],
    );
});

const flows = [
  { target: "10.0.1.2", answerer: "10.0.1.6", stale: false, what: "to a task that serves" },
  { target: "10.0.1.2", answerer: "10.0.1.7", stale: true, what: "to a task that drains" },
  { target: "10.0.1.2", answerer: "10.0.1.2", stale: true, what: "refused by the router before" },
  { target: "10.0.1.3", answerer: "10.0.1.3", stale: false, what: "to a service without tasks" },
  { target: "10.0.1.7", answerer: "10.0.1.7", stale: false, what: "to a draining task itself" },
  { target: "10.0.1.9", answerer: "10.0.1.9", stale: true, what: "to an address that is gone" },
  { target: "198.51.100.1", answerer: "198.51.100.1", stale: false, what: "to the world outside" },
  { target: "169.254.1.1", answerer: "10.0.1.6", stale: false, what: "of a port, to its task" },
  {
    target: "169.254.1.1",
    answerer: "10.0.1.7",
    stale: true,
    what: "of a port, to one that drains",
  },
  { target: "169.254.1.1", answerer: "169.254.1.1", stale: true, what: "of a port nobody served" },
];
for (const { target, answerer, stale, what } of flows) {
  test(`a flow ${what} is ${stale ? "forgotten" : "kept"}`, () => {
    const view = clusterView({
      services: [service(), service({ ServiceID: "idle", VirtualIPs: ["10.0.1.3"] })],
      endpoints: [endpoint(6, 2), endpoint(7, 2, { State: "draining" })],
    });
    const isStale = staleFlows({ view, network: backend, sandboxes: [], slot: 0 });
    assert.equal(isStale({ target, answerer }), stale);
  });
}

test("a flow of a port to a container whose ports are closed is forgotten, one to the container itself kept", () => {
  const sandboxes = [sandbox("t", "10.0.1.5", { isClosed: true }), sandbox("u", "10.0.1.6")];
  const isStale = staleFlows({ view: clusterView(), network: backend, sandboxes, slot: 0 });
  assert.equal(isStale({ target: "169.254.1.1", answerer: "10.0.1.5" }), true);
  assert.equal(isStale({ target: "169.254.1.1", answerer: "10.0.1.6" }), false);
  assert.equal(isStale({ target: "10.0.1.5", answerer: "10.0.1.5" }), false);
});

test("containers of a network this node does not know publish nothing", () => {
  const taken = ["172.29.0.2", "172.29.0.3"].map((address) => sandbox(address, address));
  assert.deepEqual(publishedPorts(emptyView, new Map(), taken), []);
});

const dual = networkFacts(networkObject("net", "dual", ["FD00:1::/64", "10.0.1.0/24"]));
const pair = ["10.0.1.5", "fd00:1::5"];
const dualView = clusterView({
  services: [service({ VirtualIPs: ["10.0.1.2", "fd00:1::2"] })],
  endpoints: [
    endpoint(5, 1, { Addresses: pair }),
    endpoint(6, 2, { Addresses: ["10.0.1.6", "fd00:1::6"] }),
  ],
});

test("a router of both families has the same for each, its links and forwards once", () => {
  const sandboxes = [sandbox("task5", pair)];
  const input = { view: dualView, network: dual, sandboxes, slot: 3 };
  const objects = routerObjects(input).map(describe);
  const four = routerObjects({ ...input, network: withoutIPv6(dual) }).map(describe);
  assert.deepEqual(
    objects.filter((each) => !four.includes(each)),
    [
      "address lo fd00:1::1/128",
      "route fd00:1::/64 254 via - dev unreachable",
      "address lo fd00:1::2/128",
      "address up0 fd9f:9683:bc6c::1:7/127",
      "route ::/0 254 via fd9f:9683:bc6c::1:6 dev up0",
      "neighbour up0 fd9f:9683:bc6c::1:6 at 02:73:77:01:00:03",
      "route fd00:1::5/128 254 via - dev c0a000105",
      "neighbour c0a000105 fd00:1::5 at 02:42:0a:00:01:05",
      "rule ipv6 65536/65536 100",
      "neighbour vx0 fe80::7377:ffff at 02:73:77:ff:ff:fd",
      "route ::/0 100 via fe80::7377:ffff dev vx0",
      "neighbour vx0 fe80::7377:2 at 02:73:77:00:00:02",
      "route fd00:1::6/128 254 via fe80::7377:2 dev vx0",
    ],
  );
  assert.ok(four.every((each) => objects.includes(each)));
  assert.equal(objects.filter((each) => each.startsWith("forward")).length, 1);
});

test("a container of both families leaves by each through a network that has it", () => {
  const other = networkFacts(networkObject("a", "a-first", ["10.0.7.0/24"]));
  const networks = new Map([dual, other].map((network) => [network.id, network]));
  const attachments = [
    { networkId: "net", addresses: pair },
    { networkId: "a", addresses: ["10.0.7.5"] },
  ];
  const objects = sandboxObjects(sandbox("t", "", { attachments }), networks).map(describe);
  assert.ok(objects.includes("address eth0 fd00:1::5/64 bare"));
  assert.ok(objects.includes("neighbour eth0 fd00:1::1 at 02:73:77:ff:ff:fe"));
  assert.deepEqual(
    objects.filter((each) => / (0\.0\.0\.0|::)\/0 /.test(each)),
    ["route ::/0 254 via fd00:1::1 dev eth0", "route 0.0.0.0/0 254 via 10.0.7.1 dev eth1"],
  );
});

test("where a node cannot do IPv6 its containers have their IPv4 addresses alone", () => {
  const networks = new Map([["net", withoutIPv6(dual)]]);
  const objects = sandboxObjects(sandbox("t", pair), networks).map(describe);
  assert.deepEqual(
    objects.filter((each) => each.includes("fd00")),
    [],
  );
  assert.equal(objects.length, 5);
});

test("the host's end of a link answers ::1 by that link, and asks nobody who is at the other", () => {
  assert.deepEqual(hostEndObjects("tsw3", 3, [4, 6]).map(describe), [
    "address tsw3 169.254.1.6/31",
    "address tsw3 fd9f:9683:bc6c::1:6/127",
    "neighbour tsw3 fd9f:9683:bc6c::1:7 at 02:73:77:02:00:03",
    "route ::1/128 255 tsw3 via - dev tsw3",
  ]);
  assert.equal(hostEndObjects("tsw3", 3, [4]).length, 1);
});

test("a port of the mesh is published over both families when the ingress network has both", () => {
  const mesh = networkFacts(
    networkObject("ing", "ingress", ["10.0.0.0/16", "fd00::/64"], { ingress: true, vni: 4096 }),
  );
  const port = { Name: "", Protocol: "", TargetPort: 80, PublishedPort: 8080, PublishMode: "" };
  const view = clusterView({
    services: [service({ NetworkID: "ing", Ports: [port] })],
    endpoints: [endpoint(5, 1, { NetworkID: "ing", Addresses: ["10.0.0.5", "fd00::5"] })],
  });
  const ports = [
    { protocol: "udp", targetPort: 53, publishedPort: 5300 },
    { protocol: "udp", targetPort: 53, publishedPort: 5301, hostIP: "fd4c::11" },
    { protocol: "udp", targetPort: 53, publishedPort: 5302, hostIP: "0.0.0.0" },
  ];
  const box = sandbox("t", "", { attachments: [{ networkId: "net", addresses: pair }], ports });
  const networks = new Map([mesh, dual].map((network) => [network.id, network]));
  assert.deepEqual(
    publishedPorts(view, networks, [box]).map(({ family, port, hostIP, targets }) => [
      ...[family, port, hostIP],
      targets[0]?.address,
    ]),
    [
      [4, 8080, "", "10.0.0.5"],
      [4, 5300, "", "10.0.1.5"],
      [4, 5302, "", "10.0.1.5"],
      [6, 8080, "", "fd00::5"],
      [6, 5300, "", "fd00:1::5"],
      [6, 5301, "fd4c::11", "fd00:1::5"],
    ],
  );
});

for (const { target, answerer, stale } of [
  { target: "fd00:1::2", answerer: "fd00:1::6", stale: false },
  { target: "fd00:1::2", answerer: "fd00:1::9", stale: true },
  { target: "fd9f:9683:bc6c::1:1", answerer: "fd00:1::9", stale: true },
  { target: "2001:db8::1", answerer: "2001:db8::1", stale: false },
])
  test(`a flow over IPv6 from ${target} to ${answerer} is ${stale ? "forgotten" : "kept"}`, () => {
    const isStale = staleFlows({ view: dualView, network: dual, sandboxes: [], slot: 0 });
    assert.equal(isStale({ target, answerer }), stale);
  });
