import assert from "node:assert/strict";
import { test } from "node:test";
import { networkFacts, type PublishedPort } from "../../../../agent/network/plan.ts";
import { renderChange, renderTable } from "../../../../agent/network/ruleset.ts";
import { hostTable, routerTables, sandboxTable } from "../../../../agent/network/tables.ts";
import { clusterView, endpoint, networkObject, sandbox, service } from "./fixtures.ts";

const network = networkFacts(networkObject("net", "backend", ["10.0.1.0/24"]));
const port: PublishedPort = {
  ...{ protocol: "tcp", port: 8080, hostIP: "", networkId: "net" },
  targets: [
    { address: "10.0.1.5", port: 80 },
    { address: "10.0.1.6", port: 80 },
  ],
};

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
    service({ ServiceID: `s${i}`, Name: `s${i}`, VirtualIP: `10.0.${4 + (i >> 8)}.${i & 255}` }),
  );
  const endpoints = services.map((_, i) =>
    endpoint(0, 2, { ServiceID: `s${i}`, Address: `10.1.${i >> 8}.${i & 255}` }),
  );
  const tables = (more: readonly ReturnType<typeof endpoint>[]) => {
    const view = clusterView({ services, endpoints: [...endpoints, ...more] });
    return routerTables({ view, network, sandboxes: [], slot: 0, ports: [] });
  };
  const before = tables([]);
  const after = tables([endpoint(9, 2, { ServiceID: "s500", Address: "10.1.9.9" })]);
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
  const text = renderTable(hostTable(clusterView(), [port, bound], new Map([["net", 2]])));
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
  assert.doesNotMatch(renderTable(hostTable(null, [], new Map())), /dport 0|notrack/);
});

test("a container's resolver leads to the keeper's port", () => {
  assert.match(
    renderTable(sandboxTable()),
    /ip daddr 127\.0\.0\.11 udp dport 53 dnat to 127\.0\.0\.11:4053/,
  );
});
