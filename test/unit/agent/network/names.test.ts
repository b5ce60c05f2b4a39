import assert from "node:assert/strict";
import { test } from "node:test";
import { changed } from "../../../../agent/keeper/names.ts";
import { networkFacts } from "../../../../agent/network/facts.ts";
import { nameServers } from "../../../../agent/network/host.ts";
import { nameChange, nameTable, networkNames } from "../../../../agent/network/names.ts";
import type { ClusterView } from "../../../../agent/network/types.ts";
import { clusterView, endpoint, networkObject, service } from "./fixtures.ts";

const network = networkFacts(networkObject("net", "backend", ["10.0.1.0/24"]));

const namesOf = (view: ClusterView) => nameTable(networkNames(view, network));

test("a service's name leads to its virtual address, tasks.NAME to its tasks, a task's to itself", () => {
  const view = clusterView({ services: [service({ Aliases: ["Site"] })] });
  assert.deepEqual(namesOf(view), {
    names: {
      site: ["10.0.1.2"],
      "tasks.web": ["10.0.1.5", "10.0.1.6"],
      web: ["10.0.1.2"],
      "web.5": ["10.0.1.5"],
      "web.5.task5": ["10.0.1.5"],
      "web.6": ["10.0.1.6"],
      "web.6.task6": ["10.0.1.6"],
    },
    addresses: {
      "10.0.1.2": "web.backend",
      "10.0.1.5": "web.5.task5.backend",
      "10.0.1.6": "web.6.task6.backend",
    },
  });
});

test("a service without a virtual address leads to its serving tasks", () => {
  const view = clusterView({
    services: [service({ VirtualIPs: [], Aliases: ["site"] })],
    endpoints: [endpoint(5, 1), endpoint(6, 2), endpoint(7, 2, { State: "draining" })],
  });
  const { names } = namesOf(view);
  assert.deepEqual(names["web"], ["10.0.1.5", "10.0.1.6"]);
  assert.deepEqual(names["site"], ["10.0.1.5", "10.0.1.6"]);
});

test("a draining task keeps its own name, a reserved one has none yet", () => {
  const view = clusterView({
    endpoints: [endpoint(5, 1, { State: "draining" }), endpoint(6, 2, { State: "reserved" })],
  });
  const { names } = namesOf(view);
  assert.deepEqual(names["web.5"], ["10.0.1.5"]);
  assert.equal(names["web.6"], undefined);
  assert.equal(names["tasks.web"], undefined);
});

test("a service's name wins over a task's alias of the same name", () => {
  const view = clusterView({ endpoints: [endpoint(5, 1, { Aliases: ["web", "db"] })] });
  const { names } = namesOf(view);
  assert.deepEqual(names["web"], ["10.0.1.2"]);
  assert.deepEqual(names["db"], ["10.0.1.5"]);
});

test("other networks' names are not seen", () => {
  const view = clusterView({
    services: [service({ NetworkID: "other" })],
    endpoints: [endpoint(5, 1, { NetworkID: "other" })],
  });
  assert.deepEqual(namesOf(view), { names: {}, addresses: {} });
});

test("name servers are those of resolv.conf, three at most", () => {
  const text =
    "# c\nsearch lan\nnameserver 127.0.0.53\n nameserver fe80::1\nnameserver x\nnameserver 1.1.1.1\nnameserver 8.8.8.8\n";
  assert.deepEqual(nameServers(text), ["127.0.0.53:53", "[fe80::1]:53", "1.1.1.1:53"]);
  assert.deepEqual(nameServers(""), []);
});

test("a change is as small as what differs, and makes the keeper's table the new one", () => {
  const many = Array.from({ length: 1000 }, (_, i) =>
    service({ ServiceID: `s${i}`, Name: `s${i}`, VirtualIPs: [`10.0.${4 + (i >> 8)}.${i & 255}`] }),
  );
  const before = networkNames(
    clusterView({ services: many, endpoints: [endpoint(5, 1)] }),
    network,
  );
  const view = clusterView({
    services: [...many.slice(1), service({ ServiceID: "new", Name: "__proto__" })],
    endpoints: [endpoint(5, 1), endpoint(6, 2, { ServiceID: "s7" })],
  });
  const after = networkNames(view, network);
  const change = nameChange(before, after);
  assert.deepEqual(Object.keys(change?.names ?? {}).sort(), [
    ...["__proto__", "s0", "tasks.s7", "web.6", "web.6.task6"],
  ]);
  assert.deepEqual(Object.keys(change?.addresses ?? {}).sort(), [
    ...["10.0.1.2", "10.0.1.6", "10.0.4.0"],
  ]);
  assert.ok(change !== null);
  const told = JSON.parse(JSON.stringify(change));
  assert.deepEqual(changed(nameTable(before), told), nameTable(after));
  assert.equal(nameChange(after, networkNames(view, network)), null);
});

test("on a network of both families every name has both addresses, and each its reverse", () => {
  const view = clusterView({
    services: [service({ VirtualIPs: ["10.0.1.2", "fd00:1::2"] })],
    endpoints: [
      endpoint(6, 2, { Addresses: ["10.0.1.6", "fd00:1::6"] }),
      endpoint(5, 1, { Addresses: ["10.0.1.5", "fd00:1::5"] }),
    ],
  });
  const { names, addresses } = namesOf(view);
  assert.deepEqual(names["web"], ["10.0.1.2", "fd00:1::2"]);
  assert.deepEqual(names["tasks.web"], ["10.0.1.5", "10.0.1.6", "fd00:1::5", "fd00:1::6"]);
  assert.deepEqual(names["web.5"], ["10.0.1.5", "fd00:1::5"]);
  assert.equal(addresses["fd00:1::2"], "web.backend");
  assert.equal(addresses["fd00:1::5"], "web.5.task5.backend");
});
