// Networks as they are written: subnets and VNIs of the cluster or as asked for, both families, and what is refused.

import assert from "node:assert/strict";
import { test } from "node:test";
import { clusterPrefix } from "../../../../manager/plan/subnets.ts";
import { networkWarnings } from "../../../../manager/plan/validate.ts";
import { createNetwork, removeNetwork } from "../../../../manager/plan/write.ts";
import { codec } from "../../../../proto/codec.ts";
import { casesOf } from "../../data.ts";
import { on, type Refused, refusal, Sim } from "./sim.ts";

function subnetOf(sim: Sim, id: string): string | undefined {
  return sim.state.table("network").get(id)?.IPAM?.Config[0]?.Subnet;
}

test("networks get the next free subnets and VNIs of the cluster", () => {
  const sim = new Sim(0);
  assert.equal(subnetOf(sim, "ingress"), "10.0.0.0/16");
  assert.equal(sim.state.table("network").get("ingress")?.VNI, 4096);
  const ids = ["a", "b", "c"].map((name) => sim.network(name));
  assert.deepEqual(
    ids.map((id) => subnetOf(sim, id)),
    ["10.1.0.0/24", "10.1.1.0/24", "10.1.2.0/24"],
  );
  assert.deepEqual(
    ids.map((id) => sim.state.table("network").get(id)?.VNI),
    [4097, 4098, 4099],
  );
  assert.equal(sim.state.table("network").get("net-a")?.IPAM?.Config[0]?.Gateway, "10.1.0.1");
  assert.equal(sim.state.cluster?.NextVNI, 4100);
  sim.write(removeNetwork(sim.state, "net-b"));
  assert.equal(subnetOf(sim, sim.network("d")), "10.1.1.0/24");
});

test("subnets that a node reaches by its own routes are skipped, and so are explicit ones", () => {
  const sim = new Sim(0);
  sim.addNode("n", { Routes: ["10.1.0.0/22", "0.0.0.0/0", "not a route"] });
  assert.equal(subnetOf(sim, sim.network("a")), "10.1.4.0/24");
  sim.network("mine", { IPAM: { Config: [{ Subnet: "10.1.5.0/25" }] } });
  assert.equal(subnetOf(sim, sim.network("b")), "10.1.6.0/24");
});

test("the cluster's own pools and subnet size hold, and their end is told", () => {
  const sim = new Sim(0);
  const cluster = sim.state.cluster ?? assert.fail();
  sim.write([
    {
      op: "put",
      kind: "cluster",
      object: { ...cluster, DefaultAddrPool: ["172.30.0.0/24"], SubnetSize: 25 },
    },
  ]);
  assert.equal(subnetOf(sim, sim.network("a")), "172.30.0.0/25");
  assert.equal(subnetOf(sim, sim.network("b")), "172.30.0.128/25");
  assert.throws(() => sim.network("c"), { code: "exhausted", message: /172\.30\.0\.0\/24/ });
});

test("a network gets the VNI that was asked for, and others the next ones all the same", () => {
  const sim = new Sim(0);
  const vniOf = (id: string) => sim.state.table("network").get(id)?.VNI;
  const Options = { "com.docker.network.driver.overlay.vxlanid_list": "9000" };
  assert.equal(vniOf(sim.network("mine", { Options })), 9000);
  const low = { "com.docker.network.driver.overlay.vxlanid_list": "257" };
  assert.equal(vniOf(sim.network("low", { Options: low })), 257);
  assert.equal(vniOf(sim.network("a")), 4097);
  assert.equal(vniOf(sim.network("b")), 4098);
});

test("options that do nothing are named", () => {
  const spec = codec("NetworkSpec").parse({
    ...{ Name: "x", Options: { speed: "high", "com.docker.network.driver.mtu": "1400" } },
    IPAM: { Options: { a: "b" } },
  });
  assert.deepEqual(networkWarnings(spec), [
    "option speed is not known to overlay networks: it does nothing",
    "IPAM option a does nothing here",
  ]);
});

for (const row of casesOf<Refused>("manager/plan/refused-networks.yaml"))
  test(`a network is refused: ${row.name}`, () => {
    const sim = new Sim(0);
    sim.network("front");
    sim.network("nine", { EnableIPv6: true, IPAM: { Config: [{ Subnet: "fd00:9:1::/64" }] } });
    const spec = codec("NetworkSpec").parse(row.spec);
    assert.throws(() => createNetwork(sim.state, spec, { id: "x" }), refusal(row));
  });

const configOf = (sim: Sim, id: string) =>
  (sim.state.table("network").get(id)?.IPAM?.Config ?? []).map(({ Subnet, Gateway }) => [
    Subnet,
    Gateway,
  ]);

test("a network with IPv6 gets a /64 of the cluster's own beside its IPv4 subnet", () => {
  const sim = new Sim(0);
  const [own = ""] = clusterPrefix(sim.state.cluster?.ID ?? "").split("::");
  const prefix = own.replaceAll(/:0+/g, ":");
  assert.match(own, /^fd[0-9a-f]{2}(:[0-9a-f]{4}){2}$/);
  assert.notEqual(clusterPrefix("another"), clusterPrefix(sim.state.cluster?.ID ?? ""));
  // The first is the ingress network's.
  for (const [name, n] of [
    ["a", 1],
    ["b", 2],
  ] as const) {
    const [, six] = configOf(sim, sim.network(name, { EnableIPv6: true }));
    assert.deepEqual(six, [`${prefix}:${n}::/64`, `${prefix}:${n}::1`]);
  }
  sim.write(removeNetwork(sim.state, "net-a"));
  assert.deepEqual(configOf(sim, sim.network("c", { EnableIPv6: true }))[1], [
    `${prefix}:1::/64`,
    `${prefix}:1::1`,
  ]);
});

test("subnets of both families are taken as asked for, the missing one from the pools", () => {
  const sim = new Sim(0);
  const both = [{ Subnet: "FD00:0:5::/56", Gateway: "fd00:0:5::99" }, { Subnet: "10.9.0.0/24" }];
  assert.deepEqual(configOf(sim, sim.network("a", { EnableIPv6: true, IPAM: { Config: both } })), [
    ["10.9.0.0/24", "10.9.0.1"],
    ["fd00:0:5::/56", "fd00:0:5::99"],
  ]);
  const six = [{ Subnet: "fd00:7::/64" }];
  assert.deepEqual(configOf(sim, sim.network("b", { EnableIPv6: true, IPAM: { Config: six } })), [
    ["10.1.0.0/24", "10.1.0.1"],
    ["fd00:7::/64", "fd00:7::1"],
  ]);
});

test("an IPv6 subnet without --ipv6 is left unused, and said to be", () => {
  const sim = new Sim(0);
  const IPAM = { Config: [{ Subnet: "fd00:7::/64" }] };
  assert.deepEqual(configOf(sim, sim.network("a", { IPAM })), [["10.1.0.0/24", "10.1.0.1"]]);
  const spec = codec("NetworkSpec").parse({ Name: "a", IPAM });
  assert.deepEqual(networkWarnings(spec), [
    "subnet fd00:7::/64 is not used: the network has no IPv6 (give --ipv6 for both)",
  ]);
});

test("a network in use is not removed; what is stopping does not use it", () => {
  const sim = new Sim(1);
  const id = sim.network("front");
  sim.service("web", on("front"));
  sim.settle();
  assert.throws(() => removeNetwork(sim.state, id), {
    code: "precondition",
    message: /in use by service svc-web/,
  });
  // A start-first update away from the network: the old task still runs on it.
  sim.service("web", { UpdateConfig: { Order: "start-first" } });
  sim.plan();
  assert.throws(() => removeNetwork(sim.state, id), {
    code: "precondition",
    message: /in use by task/,
  });
  sim.service("web", on("front"));
  sim.removeService("web");
  sim.write(removeNetwork(sim.state, id));
  assert.throws(() => removeNetwork(sim.state, id), { code: "not_found" });
  sim.settle();
  assert.equal(sim.state.table("task").size, 0);
});
