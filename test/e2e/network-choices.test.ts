import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";
import type { ClusterView, Sandbox } from "../../agent/network/types.ts";
import {
  ask,
  askOnce,
  endHosts,
  type Host,
  ingress,
  makeHosts,
  membersView,
  network,
  serve,
  serveUdp,
} from "./network-kit.ts";

const isReady = process.getuid?.() === 0;
const skip = isReady ? false : "needs root";
let hosts: readonly Host[] = [];
let outside: Host;

/** Three networks that are alike but for their names, their MTU, and one that is internal; the last has grown. */
const back = network({ id: "back", name: "back", base: "10.0.1", vni: 4097 });
const front = network({ id: "front", name: "front", base: "10.0.2", vni: 4098 });
const inner = network({
  id: "inner",
  name: "a-inner",
  base: "10.0.3",
  vni: 4099,
  isInternal: true,
});
const further = { Subnet: "10.7.0.0/24", Gateway: "10.7.0.1", IPRange: "", AuxiliaryAddresses: {} };
assert.ok(front.Spec !== undefined && front.IPAM !== undefined);
const grown: typeof front = {
  ...front,
  Spec: { ...front.Spec, Options: { "com.docker.network.driver.mtu": "1280" } },
  IPAM: { ...front.IPAM, Config: [...front.IPAM.Config, further] },
};

const attached: Readonly<Record<string, Sandbox["attachments"]>> = {
  byName: [
    { networkId: "front", addresses: ["10.0.2.5"] },
    { networkId: "back", addresses: ["10.0.1.5"] },
    { networkId: "inner", addresses: ["10.0.3.5"] },
  ],
  byPriority: [
    { networkId: "back", addresses: ["10.0.1.6"] },
    { networkId: "front", addresses: ["10.0.2.6"], gatewayPriority: 7 },
    { networkId: "inner", addresses: ["10.0.3.6"], gatewayPriority: 9 },
  ],
  published: [
    { networkId: "ing", addresses: ["10.0.0.7"] },
    { networkId: "front", addresses: ["10.7.0.7"], gatewayPriority: 1 },
  ],
  far: [{ networkId: "front", addresses: ["10.7.0.8"] }],
};
const hostOf = (id: string) => (id === "far" ? 2 : 1);
const namespaces = new Map<string, string>();
const at = (id: string) => namespaces.get(id) ?? assert.fail(`no container ${id}`);

function view(self: number): ClusterView {
  const port = { Name: "", TargetPort: 80, PublishMode: "ingress" };
  const Ports = [
    { ...port, Protocol: "tcp", PublishedPort: 8080 },
    { ...port, Protocol: "tcp", PublishedPort: 8081, HostIP: "10.88.0.12" },
    { ...port, Protocol: "tcp", PublishedPort: 8082, HostIP: "127.0.0.1" },
    { ...port, Protocol: "udp", PublishedPort: 8083, HostIP: "10.88.0.12", TargetPort: 53 },
  ];
  const service = { ServiceID: "published", Name: "published", Aliases: [] };
  return {
    ...membersView(self, hosts),
    networks: [ingress, back, grown, inner],
    services: [
      { ...service, NetworkID: "ing", VirtualIPs: ["10.0.0.2"], Ports },
      { ...service, NetworkID: "front", VirtualIPs: ["10.0.2.2"], Ports: [] },
    ],
    endpoints: Object.entries(attached).flatMap(([id, attachments]) =>
      attachments.map(({ networkId, addresses }) => ({
        ...{ NetworkID: networkId, ServiceID: id, TaskID: id, NodeID: `node${hostOf(id)}` },
        ...{
          NodeIndex: hostOf(id),
          Addresses: addresses,
          State: "serving",
          Names: [id],
          Aliases: [],
        },
      })),
    ),
  };
}

before(async () => {
  if (!isReady) return;
  ({ hosts, outside } = makeHosts());
  await Promise.all(hosts.map((host, i) => host.do("update", view(i + 1))));
  for (const [id, attachments] of Object.entries(attached)) {
    const host = hosts[hostOf(id) - 1] ?? assert.fail();
    const ports =
      id === "far"
        ? [
            { protocol: "tcp", targetPort: 80, publishedPort: 9000, hostIP: "10.88.0.12" },
            { protocol: "tcp", targetPort: 80, publishedPort: 9001, hostIP: "127.0.0.1" },
          ]
        : [];
    const rest = { ports, upstreamNameServers: [], searchDomains: [] };
    namespaces.set(id, await host.create({ id, attachments, ...rest }));
  }
});

after(() => endHosts(hosts));

const inside = (id: string, ...words: string[]) =>
  execFileSync("nsenter", [`--net=${at(id)}`, ...words]).toString();

for (const { id, via } of [
  { id: "byName", via: "10.0.1.1" },
  { id: "byPriority", via: "10.0.2.1" },
  { id: "published", via: "10.7.0.1" },
  { id: "far", via: "10.7.0.1" },
])
  test(`the default route of ${id} leads through ${via}`, { skip }, () => {
    assert.match(inside(id, "ip", "route", "show", "default"), new RegExp(`^default via ${via} `));
  });

test("what was let in through the mesh is answered through it, though the way out is another", {
  skip,
}, async () => {
  for (const { address } of hosts)
    assert.deepEqual(await ask(outside.namespace, `${address}:8080`, 4), {
      "published saw 10.88.0.13": 4,
    });
});

test("containers in different subnets of one network reach each other, by virtual address too", {
  skip,
}, async () => {
  assert.equal(await askOnce(at("byName"), "10.7.0.8:80"), "far saw 10.0.2.5");
  assert.equal(await askOnce(at("far"), "10.0.2.6:80"), "byPriority saw 10.7.0.8");
  assert.equal(await askOnce(at("far"), "10.0.2.2:80"), "published saw 10.7.0.8");
  assert.equal(await askOnce(at("byName"), "10.0.2.2:80"), "published saw 10.0.2.5");
  assert.equal(await askOnce(at("byName"), "10.7.0.99:80"), "refused");
});

test("a network's MTU is the one asked for, and packets of that size pass whole", { skip }, () => {
  assert.match(inside("byName", "ip", "link", "show", "eth0"), / mtu 1280 /);
  assert.match(inside("byName", "ip", "link", "show", "eth1"), / mtu 1450 /);
  const ping = ["busybox", "ping", "-c", "1", "-W", "3", "-s", String(1280 - 28), "10.7.0.8"];
  assert.match(inside("byName", ...ping), / 0% packet loss/);
});

test("a port published on one address answers there, and nowhere else", { skip }, async () => {
  const [a, b] = hosts;
  assert.ok(a !== undefined && b !== undefined);
  // Bound to the address it is known by: else its answers would leave by the way that has priority, under that name.
  serveUdp(at("published"), "published", 53, ["10.0.0.7"]);
  // A host's own connections come from its end of the link to the router.
  const link = /saw 169\.254\.\d+\.\d+$/;
  const rows: readonly (readonly [Host, string, string | RegExp])[] = [
    [outside, "10.88.0.12:8081", "published saw 10.88.0.13"],
    [outside, "10.88.0.11:8081", "refused"],
    [outside, "UDP:10.88.0.12:8083", "published saw 10.88.0.13"],
    [outside, "10.88.0.12:8082", "refused"],
    [a, "127.0.0.1:8082", link],
    [b, "127.0.0.1:8082", link],
    [b, "127.0.0.1:8081", "refused"],
    [outside, "10.88.0.12:9000", "far saw 10.88.0.13"],
    [outside, "10.88.0.11:9000", "refused"],
    [outside, "10.88.0.12:9001", "refused"],
    [b, "127.0.0.1:9001", link],
  ];
  for (const [from, target, hears] of rows) {
    const heard = await askOnce(from.namespace, target);
    const isRight = typeof hears === "string" ? heard === hears : hears.test(heard);
    assert.ok(isRight, `${from.name} asks ${target} and hears ${heard}`);
  }
});

test("a port that cannot be had is an error that names it and says why", { skip }, async () => {
  const [a] = hosts;
  assert.ok(a !== undefined);
  await serve(a.namespace, "program", 2222);
  const rest = { attachments: [], upstreamNameServers: [], searchDomains: [] };
  const create = (id: string, publishedPort: number, hostIP = "") => {
    const port = { protocol: "tcp", targetPort: 80, publishedPort, hostIP };
    return a.do("createSandbox", { id, ports: [port], ...rest });
  };
  await assert.rejects(
    create("x", 2222),
    /2222\/tcp .*: \S+ \(process \d+\) on this node uses it already/,
  );
  await assert.rejects(create("y", 2222, "192.0.2.1"), /2222\/tcp .* no address 192\.0\.2\.1/);
  await create("z", 8081, "10.88.0.11");
  await a.do("removeSandbox", "z");
});

test("all of it stands the node's own check", { skip }, async () => {
  for (const host of hosts) assert.deepEqual(await host.do("check"), []);
});
