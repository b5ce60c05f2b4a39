// What services and tasks are reached at: addresses of each network, published ports, and names.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  endpoints,
  namesOf,
  virtualServices,
  virtualServicesOf,
} from "../../../../manager/plan/endpoints.ts";
import { on, publish, Sim } from "./sim.ts";

test("on a network of both families every service and task has an address of each", () => {
  const sim = new Sim(2);
  const Config = [
    { Subnet: "fd00:7::/64", IPRange: "fd00:7::8:0/112", AuxiliaryAddresses: { x: "fd00:7::8:1" } },
  ];
  const id = sim.network("dual", { EnableIPv6: true, IPAM: { Config } });
  const gateways = sim.state
    .table("network")
    .get(id)
    ?.IPAM?.Config.map(({ Gateway }) => Gateway);
  assert.deepEqual(gateways, ["10.1.0.1", "fd00:7::8:0"]);
  const { TaskTemplate } = on("dual");
  const mode = { Mode: { Replicated: { Replicas: 2 } } };
  const vips = () => sim.named("web").Endpoint?.VirtualIPs;
  sim.service("web", { TaskTemplate, ...mode });
  const first = vips();
  assert.deepEqual(first, [
    { NetworkID: id, Addr: "10.1.0.2/24" },
    { NetworkID: id, Addr: "fd00:7::8:2/64" },
  ]);
  sim.settle();
  const addresses = () => sim.running("web").map((task) => task.NetworksAttachments[0]?.Addresses);
  assert.deepEqual(addresses(), [
    ["10.1.0.3/24", "fd00:7::8:3/64"],
    ["10.1.0.4/24", "fd00:7::8:4/64"],
  ]);
  assert.deepEqual(virtualServices(sim.state, id)[0]?.VirtualIPs, ["10.1.0.2", "fd00:7::8:2"]);
  assert.deepEqual(endpoints(sim.state, id)[0]?.Addresses, ["10.1.0.3", "fd00:7::8:3"]);
  // New tasks get new addresses, as long as there are any that nobody had.
  sim.service("web", { TaskTemplate: { ...TaskTemplate, ForceUpdate: 1 }, ...mode });
  sim.settle();
  assert.deepEqual(addresses(), [
    ["10.1.0.5/24", "fd00:7::8:5/64"],
    ["10.1.0.6/24", "fd00:7::8:6/64"],
  ]);
  assert.deepEqual(vips(), first);
});

test("when one family has no address left a task waits, and the other's is not lost", () => {
  const sim = new Sim(1);
  const Config = [{ Subnet: "fd00:7::/125" }];
  sim.network("tiny", { EnableIPv6: true, IPAM: { Config } });
  sim.service("web", { ...on("tiny"), Mode: { Replicated: { Replicas: 9 } } });
  sim.settle();
  assert.equal(sim.running("web").length, 4);
  assert.match(
    sim.tasks("web").find((task) => task.NodeID === "")?.Status?.Err ?? "",
    /no address is free on network tiny: its IPv6 subnet is used up/,
  );
  assert.throws(() => sim.service("more", on("tiny")), { code: "exhausted" });
});

test("published ports are chosen from 30000 up, stay over updates, and are given once", () => {
  const sim = new Sim(1);
  assert.equal(sim.service("a", publish({})).Endpoint?.Ports[0]?.PublishedPort, 30_000);
  assert.equal(sim.service("b", publish({})).Endpoint?.Ports[0]?.PublishedPort, 30_001);
  assert.equal(
    sim.service("u", publish({ Protocol: "udp" })).Endpoint?.Ports[0]?.PublishedPort,
    30_000,
  );
  sim.removeService("a");
  const b = sim.service("b", { ...publish({}), Labels: { x: "y" } });
  assert.equal(b.Endpoint?.Ports[0]?.PublishedPort, 30_001);
  assert.deepEqual(b.Endpoint?.Ports[0], {
    Name: "",
    Protocol: "tcp",
    TargetPort: 80,
    PublishedPort: 30_001,
    PublishMode: "ingress",
  });
});

const clashes = [
  {
    name: "ingress and ingress",
    first: { PublishedPort: 8080 },
    second: { PublishedPort: 8080 },
    says: "port '8080' is already in use by service 'a' (svc-a) as an ingress port",
  },
  {
    name: "ingress and host",
    first: { PublishedPort: 8080, PublishMode: "host" },
    second: { PublishedPort: 8080 },
    says: "port '8080' is already in use by service 'a' (svc-a) as a host-published port",
  },
  {
    name: "host and ingress",
    first: { PublishedPort: 8080 },
    second: { PublishedPort: 8080, PublishMode: "host" },
    says: "port '8080' is already in use by service 'a' (svc-a) as an ingress port",
  },
  {
    name: "host and host",
    first: { PublishedPort: 8080, PublishMode: "host" },
    second: { PublishedPort: 8080, PublishMode: "host" },
    says: null,
  },
  {
    name: "tcp and udp",
    first: { PublishedPort: 53 },
    second: { PublishedPort: 53, Protocol: "udp" },
    says: null,
  },
];
for (const row of clashes)
  test(`two services on one port: ${row.name}`, () => {
    const sim = new Sim(1);
    sim.service("a", publish(row.first));
    if (row.says === null) sim.service("b", publish(row.second));
    else
      assert.throws(() => sim.service("b", publish(row.second)), {
        code: "invalid",
        message: row.says,
      });
  });

test("of how a service is reached, what was not asked for is not shown", () => {
  const sim = new Sim();
  sim.network("front");
  assert.equal(sim.service("plain", on("front")).Endpoint?.Spec, undefined);
  const asked = sim.service("asked", { EndpointSpec: { Mode: "dnsrr" } }).Endpoint?.Spec;
  assert.deepEqual([asked?.Mode, asked?.Ports], ["dnsrr", []]);
  assert.equal(sim.service("open", publish({})).Endpoint?.Spec?.Mode, "vip");
});

test("a service on a network of the node's own has no addresses, and stays where it is", () => {
  for (const name of ["host", "none", "bridge"]) {
    const sim = new Sim(1);
    const ports =
      name === "host" ? publish({ Protocol: "tcp", PublishMode: "host", PublishedPort: 80 }) : {};
    const service = sim.service("web", { ...on(name), ...ports });
    assert.deepEqual(
      service.Spec?.TaskTemplate?.Networks.map(({ Target }) => Target),
      [name],
    );
    assert.deepEqual(service.Endpoint?.VirtualIPs, []);
    assert.deepEqual(virtualServicesOf(sim.state, service), []);
    sim.settle();
    assert.deepEqual(
      sim.running("web").map((task) => task.NetworksAttachments),
      [[]],
    );
  }
});

test("virtual addresses stay over updates, and come and go with networks and ports", () => {
  const sim = new Sim(1);
  const front = sim.network("front");
  const back = sim.network("back");
  const first = sim.service("web", on("front")).Endpoint?.VirtualIPs;
  assert.deepEqual(first, [{ NetworkID: front, Addr: "10.1.0.2/24" }]);
  const both = sim.service("web", { ...on("front", "back"), ...publish({}) }).Endpoint?.VirtualIPs;
  assert.deepEqual(both, [
    { NetworkID: front, Addr: "10.1.0.2/24" },
    { NetworkID: back, Addr: "10.1.1.2/24" },
    { NetworkID: "ingress", Addr: "10.0.0.2/16" },
    { NetworkID: "ingress", Addr: sim.inIngress6(2) },
  ]);
  assert.deepEqual(
    sim.service("web", { ...on("back"), EndpointSpec: { Mode: "dnsrr" } }).Endpoint?.VirtualIPs,
    [],
  );
});

test("what a network knows of services and tasks", () => {
  const sim = new Sim(1);
  const front = sim.network("front");
  sim.service("web", {
    TaskTemplate: {
      ContainerSpec: { Image: "i", Hostname: "box" },
      Networks: [{ Target: "front", Aliases: ["www"] }],
    },
    ...publish({ PublishedPort: 80 }),
  });
  sim.settle();
  const [task] = sim.running("web");
  const id = task?.ID ?? "";
  assert.deepEqual(virtualServices(sim.state, front), [
    {
      NetworkID: front,
      ServiceID: "svc-web",
      Name: "web",
      VirtualIPs: ["10.1.0.2"],
      Aliases: ["www"],
      Ports: [],
    },
  ]);
  assert.deepEqual(
    virtualServices(sim.state, "ingress").map((one) => [
      one.VirtualIPs[0],
      one.Ports.map((port) => port.PublishedPort),
    ]),
    [["10.0.0.2", [80]]],
  );
  assert.deepEqual(endpoints(sim.state, front), [
    {
      NetworkID: front,
      ServiceID: "svc-web",
      TaskID: id,
      NodeID: "n1",
      NodeIndex: sim.node("n1").Index,
      Addresses: ["10.1.0.3"],
      State: "serving",
      Names: ["web.1", `web.1.${id}`, "box", id.slice(0, 12)],
      Aliases: ["www"],
    },
  ]);
  assert.deepEqual(namesOf(sim.state, task ?? assert.fail()), [
    "web.1",
    `web.1.${id}`,
    "box",
    id.slice(0, 12),
  ]);
});
