import assert from "node:assert/strict";
import { test } from "node:test";
import { networkFacts } from "../../../../agent/network/facts.ts";
import { emptyView } from "../../../../agent/network/plan.ts";
import type { PublishedPort } from "../../../../agent/network/published.ts";
import { renderChange, renderTable, type Table } from "../../../../agent/network/ruleset.ts";
import { hostTables, routerTables, sandboxTable } from "../../../../agent/network/tables.ts";
import { clusterView, endpoint, networkObject, sandbox, service } from "./fixtures.ts";

const network = networkFacts(networkObject("net", "backend", ["10.0.1.0/24"]));
const port: PublishedPort = {
  ...{ protocol: "tcp", port: 8080, family: 4, hostIP: "", networkId: "net" },
  targets: [
    { address: "10.0.1.5", port: 80 },
    { address: "10.0.1.6", port: 80 },
  ],
};

const rendered = (tables: readonly Table[]) => tables.map(renderTable).join("");

function router(view = clusterView(), ports: readonly PublishedPort[] = [port]): string {
  const sandboxes = [sandbox("task5", "10.0.1.5")];
  return routerTables({ view, network, sandboxes, slot: 0, ports }).map(renderTable).join("");
}

test("a virtual address and a port are spread over their tasks in turn", () => {
  const text = router();
  assert.match(text, /elements = \{ 10\.0\.1\.2 : jump service_web \}/);
  assert.match(
    text,
    /chain service_web \{\n {2}dnat ip to numgen inc mod 2 map \{ 0 : 10\.0\.1\.6, 1 : 10\.0\.1\.5 \}/,
  );
  assert.match(
    text,
    /chain port_tcp_8080 \{\n {2}meta l4proto tcp dnat ip to numgen inc mod 2 map \{ 0 : 10\.0\.1\.5 \. 80, 1 : 10\.0\.1\.6 \. 80 \}/,
  );
  assert.match(
    text,
    /elements = \{ 10\.0\.1\.5 \. 10\.0\.1\.5 \}/,
    "only its own can reach itself",
  );
});

test("among a thousand services a change is one service's chain and element", () => {
  const services = Array.from({ length: 1000 }, (_, i) =>
    service({ ServiceID: `s${i}`, Name: `s${i}`, VirtualIPs: [`10.0.${4 + (i >> 8)}.${i & 255}`] }),
  );
  const endpoints = services.map((_, i) =>
    endpoint(0, 2, { ServiceID: `s${i}`, Addresses: [`10.1.${i >> 8}.${i & 255}`] }),
  );
  const tables = (more: readonly ReturnType<typeof endpoint>[]) => {
    const view = clusterView({ services, endpoints: [...endpoints, ...more] });
    return routerTables({ view, network, sandboxes: [], slot: 0, ports: [] });
  };
  const before = tables([]);
  const after = tables([endpoint(9, 2, { ServiceID: "s500", Addresses: ["10.1.9.9"] })]);
  const change = after.map((table, i) => renderChange(before[i] ?? null, table)).join("");
  assert.equal(
    change,
    `flush chain ip tsswarm service_s500
add rule ip tsswarm service_s500 dnat ip to numgen inc mod 2 map { 0 : 10.1.9.9, 1 : 10.1.1.244 }
`,
  );
});

test("one task needs no turn", () => {
  const single = { ...port, targets: port.targets.slice(0, 1) };
  const text = router(clusterView({ endpoints: [endpoint(5, 1)] }), [single]);
  assert.match(text, /dnat ip to 10\.0\.1\.5\n/);
  assert.match(text, /dnat ip to 10\.0\.1\.5:80\n/);
});

test("what nobody serves has no chain: the router itself refuses it", () => {
  const view = clusterView({ endpoints: [], services: [service()] });
  const text = router(view, [{ ...port, targets: [] }]);
  assert.doesNotMatch(text, /service_web|port_tcp_8080/);
});

test("a router without peers or uplink speaks of neither", () => {
  const alone = { ...network, vni: 0 };
  const input = { view: clusterView(), network: alone, sandboxes: [], slot: null, ports: [port] };
  const text = routerTables(input).map(renderTable).join("");
  assert.doesNotMatch(text, /vx0|up0|netdev/);
});

test("the host sends a port to the router, keeps strangers from the tunnel and networks apart", () => {
  const bound = { ...port, protocol: "udp", port: 53, hostIP: "192.0.2.1" };
  const view = clusterView();
  const slots = new Map([["net", 2]]);
  const text = rendered(hostTables({ view, ports: [port, bound], slots, families: [4] }));
  assert.match(text, /map published_tcp \{\n.*\n {2}elements = \{ 8080 : 169\.254\.1\.5 \}/);
  assert.match(
    text,
    /map bound_udp \{\n.*\n {2}elements = \{ 192\.0\.2\.1 \. 53 : 169\.254\.1\.5 \}/,
  );
  assert.match(text, /set peers \{\n.*\n {2}elements = \{ 192\.0\.2\.2 \}/);
  assert.match(text, /udp dport 4789 fib daddr type local ip saddr != @peers drop/);
  assert.match(text, /oifname "tsw\*" drop/);
});

test("before any manager spoke the host's table knows no tunnel", () => {
  const nothing = { view: emptyView, ports: [], slots: new Map<string, number>() };
  assert.doesNotMatch(rendered(hostTables({ ...nothing, families: [4, 6] })), /dport 0|notrack/);
});

test("a container's resolver leads to the keeper's port", () => {
  assert.match(
    renderTable(sandboxTable()),
    /ip daddr 127\.0\.0\.11 udp dport 53 dnat to 127\.0\.0\.11:4053/,
  );
});

const dual = networkFacts(networkObject("net", "backend", ["10.0.1.0/24", "fd00:1::/64"]));
const port6: PublishedPort = {
  ...{ protocol: "tcp", port: 8080, family: 6, hostIP: "", networkId: "net" },
  targets: [{ address: "fd00:1::5", port: 80 }],
};

test("a network of both families has a table for each, and no address in the other's", () => {
  const view = clusterView({
    services: [service({ VirtualIPs: ["10.0.1.2", "fd00:1::2"] })],
    endpoints: [
      endpoint(5, 1, { Addresses: ["10.0.1.5", "fd00:1::5"] }),
      endpoint(6, 2, { Addresses: ["10.0.1.6", "fd00:1::6"] }),
    ],
  });
  const sandboxes = [sandbox("task5", ["10.0.1.5", "fd00:1::5"])];
  const input = { view, network: dual, sandboxes, slot: 0, ports: [port, port6] };
  const [four, six, egress, ...none] = routerTables(input);
  assert.deepEqual([four?.family, six?.family, egress?.family, none], ["ip", "ip6", "netdev", []]);
  const [text4, text6] = [rendered(four ? [four] : []), rendered(six ? [six] : [])];
  assert.doesNotMatch(text4, /fd00|ip6/);
  assert.doesNotMatch(text6, /10\.0\.|169\.254|dnat ip |ip daddr/);
  assert.match(text6, /elements = \{ fd00:1::2 : jump service_web \}/);
  assert.match(text6, /dnat ip6 to numgen inc mod 2 map \{ 0 : fd00:1::6, 1 : fd00:1::5 \}/);
  assert.match(text6, /chain port_tcp_8080 \{\n {2}meta l4proto tcp dnat ip6 to \[fd00:1::5\]:80/);
  assert.match(text6, /iifname "up0" ip6 daddr != fd9f:9683:bc6c::1:1 drop/);
  assert.match(text6, /ip6 saddr \{ fd00:1::\/64 \} snat to fd9f:9683:bc6c::1:1/);
  assert.match(text6, /@hairpin snat to fd00:1::1\n/);
  assert.match(text6, /iifname "c\*" fib saddr \. iif oif missing drop/);
  assert.match(text6, /ct original zone set ether saddr map @peer_zones/);
});

test("the host sends each family's ports to the router's address of that family", () => {
  const slots = new Map([["net", 2]]);
  const bound: PublishedPort = { ...port6, port: 53, protocol: "udp", hostIP: "fd4c::11" };
  const ports = [port, port6, bound];
  const [four, six] = hostTables({ view: clusterView(), ports, slots, families: [4, 6] });
  assert.doesNotMatch(rendered(four ? [four] : []), /fd/);
  const text = rendered(six ? [six] : []);
  assert.match(text, /map published_tcp \{\n.*\n {2}elements = \{ 8080 : fd9f:9683:bc6c::1:5 \}/);
  assert.match(text, /elements = \{ fd4c::11 \. 53 : fd9f:9683:bc6c::1:5 \}/);
  assert.match(text, /oifname "tsw\*" ip6 saddr ::1 masquerade/);
  assert.match(text, /oifname "tsw\*" drop/);
  assert.doesNotMatch(text, /4789/);
});
