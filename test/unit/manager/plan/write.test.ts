import assert from "node:assert/strict";
import { test } from "node:test";
import { withDefaults } from "../../../../manager/plan/defaults.ts";
import {
  endpoints,
  namesOf,
  virtualServices,
  virtualServicesOf,
} from "../../../../manager/plan/endpoints.ts";
import { clusterPrefix } from "../../../../manager/plan/subnets.ts";
import { networkWarnings } from "../../../../manager/plan/validate.ts";
import { createNetwork, removeNetwork } from "../../../../manager/plan/write.ts";
import { codec } from "../../../../proto/codec.ts";
import { Sim } from "./sim.ts";

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

const badNetworks = [
  {
    name: "a taken name",
    spec: { Name: "front" },
    code: "conflict",
    says: /network with name front already exists/,
  },
  { name: "no name", spec: { Name: "" }, code: "invalid", says: /name must be provided/ },
  {
    name: "another driver",
    spec: { Name: "x", Driver: "bridge" },
    code: "unsupported",
    says: /bridge/,
  },
  {
    name: "encryption",
    spec: { Name: "x", Options: { encrypted: "" } },
    code: "unsupported",
    says: /encrypted/,
  },
  {
    name: "an MTU that is none",
    spec: { Name: "x", Options: { "com.docker.network.driver.mtu": "1.5k" } },
    code: "invalid",
    says: /mtu: "1\.5k" is no number from 576/,
  },
  {
    name: "a VNI that is taken",
    spec: { Name: "x", Options: { "com.docker.network.driver.overlay.vxlanid_list": "4097" } },
    code: "conflict",
    says: /VNI 4097 is taken by network front/,
  },
  {
    name: "another IPAM driver",
    spec: { Name: "x", IPAM: { Driver: "mine" } },
    code: "unsupported",
    says: /IPAM driver "mine"/,
  },
  { name: "a local scope", spec: { Name: "x", Scope: "local" }, code: "invalid", says: /scope/ },
  {
    name: "a second ingress",
    spec: { Name: "x", Ingress: true },
    code: "conflict",
    says: /already present/,
  },
  {
    name: "no subnet",
    spec: { Name: "x", IPAM: { Config: [{ Subnet: "10.9.0.0" }] } },
    code: "invalid",
    says: /10\.9\.0\.0/,
  },
  {
    name: "an overlapping subnet",
    spec: { Name: "x", IPAM: { Config: [{ Subnet: "10.1.0.128/25" }] } },
    code: "invalid",
    says: /overlaps/,
  },
  {
    name: "a gateway outside",
    spec: { Name: "x", IPAM: { Config: [{ Subnet: "10.9.0.0/24", Gateway: "10.8.0.1" }] } },
    code: "invalid",
    says: /gateway/,
  },
  {
    name: "no IPv4",
    spec: { Name: "x", EnableIPv4: false, EnableIPv6: true },
    code: "unsupported",
    says: /without IPv4/,
  },
  {
    name: "an IPv6 subnet that is too small",
    spec: { Name: "x", EnableIPv6: true, IPAM: { Config: [{ Subnet: "fd00:1::/126" }] } },
    code: "invalid",
    says: /fd00:1::\/126: between \/8 and \/125/,
  },
  {
    name: "an IPv6 subnet that is another network's in part",
    spec: { Name: "x", EnableIPv6: true, IPAM: { Config: [{ Subnet: "fd00:9::/32" }] } },
    code: "invalid",
    says: /overlaps .* fd00:9::\/32 is part of network nine/,
  },
  {
    name: "link-local addresses",
    spec: { Name: "x", EnableIPv6: true, IPAM: { Config: [{ Subnet: "fe80:1::/64" }] } },
    code: "invalid",
    says: /have a use of their own/,
  },
  {
    name: "a gateway of the other family",
    spec: {
      ...{ Name: "x", EnableIPv6: true },
      IPAM: { Config: [{ Subnet: "fd00:1::/64", Gateway: "10.9.0.1" }] },
    },
    code: "invalid",
    says: /no matching subnet for gateway 10\.9\.0\.1/,
  },
  {
    name: "an IPv6 range outside its subnet",
    spec: {
      ...{ Name: "x", EnableIPv6: true },
      IPAM: { Config: [{ Subnet: "fd00:1::/64", IPRange: "fd00:2::/80" }] },
    },
    code: "invalid",
    says: /invalid ip-range fd00:2::\/80/,
  },
  {
    name: "a predefined name",
    spec: { Name: "host" },
    code: "denied",
    says: /predefined host network/,
  },
];
for (const row of badNetworks)
  test(`a network is refused: ${row.name}`, () => {
    const sim = new Sim(0);
    sim.network("front");
    sim.network("nine", { EnableIPv6: true, IPAM: { Config: [{ Subnet: "fd00:9:1::/64" }] } });
    const spec = codec("NetworkSpec").parse(row.spec);
    assert.throws(() => createNetwork(sim.state, spec, { id: "x" }), {
      code: row.code,
      message: row.says,
    });
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

test("on a network of both families every service and task has an address of each", () => {
  const sim = new Sim(2);
  const Config = [
    { Subnet: "fd00:7::/64", IPRange: "fd00:7::8:0/112", AuxiliaryAddresses: { x: "fd00:7::8:1" } },
  ];
  const id = sim.network("dual", { EnableIPv6: true, IPAM: { Config } });
  const template = { ContainerSpec: { Image: "i" }, Networks: [{ Target: "dual" }] };
  const mode = { Mode: { Replicated: { Replicas: 2 } } };
  const vips = () => sim.named("web").Endpoint?.VirtualIPs;
  sim.service("web", { TaskTemplate: template, ...mode });
  const first = vips();
  assert.deepEqual(first, [
    { NetworkID: id, Addr: "10.1.0.2/24" },
    { NetworkID: id, Addr: "fd00:7::8:0/64" },
  ]);
  sim.settle();
  const addresses = () => sim.running("web").map((task) => task.NetworksAttachments[0]?.Addresses);
  assert.deepEqual(addresses(), [
    ["10.1.0.3/24", "fd00:7::8:2/64"],
    ["10.1.0.4/24", "fd00:7::8:3/64"],
  ]);
  assert.deepEqual(virtualServices(sim.state, id)[0]?.VirtualIPs, ["10.1.0.2", "fd00:7::8:0"]);
  assert.deepEqual(endpoints(sim.state, id)[0]?.Addresses, ["10.1.0.3", "fd00:7::8:2"]);
  // New tasks get new addresses, as long as there are any that nobody had.
  sim.service("web", { TaskTemplate: { ...template, ForceUpdate: 1 }, ...mode });
  sim.settle();
  assert.deepEqual(addresses(), [
    ["10.1.0.5/24", "fd00:7::8:4/64"],
    ["10.1.0.6/24", "fd00:7::8:5/64"],
  ]);
  assert.deepEqual(vips(), first);
});

test("when one family has no address left a task waits, and the other's is not lost", () => {
  const sim = new Sim(1);
  const Config = [{ Subnet: "fd00:7::/125" }];
  sim.network("tiny", { EnableIPv6: true, IPAM: { Config } });
  const template = { ContainerSpec: { Image: "i" }, Networks: [{ Target: "tiny" }] };
  sim.service("web", { TaskTemplate: template, Mode: { Replicated: { Replicas: 9 } } });
  sim.settle();
  assert.equal(sim.running("web").length, 4);
  assert.match(
    sim.tasks("web").find((task) => task.NodeID === "")?.Status?.Err ?? "",
    /no address is free on network tiny: its IPv6 subnet is used up/,
  );
  assert.throws(() => sim.service("more", { TaskTemplate: template }), { code: "exhausted" });
});

test("a network in use is not removed; what is stopping does not use it", () => {
  const sim = new Sim(1);
  const id = sim.network("front");
  const on = { ContainerSpec: { Image: "i" }, Networks: [{ Target: "front" }] };
  sim.service("web", { TaskTemplate: on });
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
  sim.service("web", { TaskTemplate: on });
  sim.removeService("web");
  sim.write(removeNetwork(sim.state, id));
  assert.throws(() => removeNetwork(sim.state, id), { code: "not_found" });
  sim.settle();
  assert.equal(sim.state.table("task").size, 0);
});

const publish = (port: object) => ({ EndpointSpec: { Ports: [{ TargetPort: 80, ...port }] } });

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

const on = (...targets: string[]) => ({
  TaskTemplate: { ContainerSpec: { Image: "i" }, Networks: targets.map((Target) => ({ Target })) },
});
const container = (spec: object) => ({ TaskTemplate: { ContainerSpec: { Image: "i", ...spec } } });
const hostPort = { Protocol: "tcp", PublishMode: "host" };

const badSpecs = [
  {
    name: "a priority that is no number",
    spec: {
      TaskTemplate: {
        ContainerSpec: { Image: "i" },
        Networks: [{ Target: "host", DriverOpts: { "gw-priority": "high" } }],
      },
    },
    says: /gw-priority: "high" is no whole number/,
  },
  {
    name: "SCTP",
    spec: publish({ Protocol: "sctp", PublishMode: "ingress", PublishedPort: 9000 }),
    code: "unsupported",
    says: /sctp cannot be published: only tcp and udp can/,
  },
  {
    name: "a host's name for a port's address",
    spec: publish({ PublishedPort: 80, HostIP: "localhost" }),
    says: /host address "localhost" is no IP address/,
  },
  {
    name: "the node's own network and another",
    spec: on("host", "none"),
    says: /the node's network "host" cannot be on other networks too/,
  },
  {
    name: "the mesh into the host's network",
    spec: { ...on("host"), ...publish({ PublishedPort: 80 }) },
    says: /ingress mode can't be used with the network "host"/,
  },
  {
    name: "another port of the host's network",
    spec: { ...on("host"), ...publish({ ...hostPort, PublishedPort: 81 }) },
    says: /must be the same/,
  },
  {
    name: "ports of a container without a network",
    spec: { ...on("none"), ...publish({ ...hostPort, PublishedPort: 80 }) },
    says: /"none" cannot publish ports/,
  },
  {
    name: "no image",
    spec: { TaskTemplate: { ContainerSpec: {} } },
    says: /image reference must be provided/,
  },
  {
    name: "an unknown stop signal",
    spec: container({ StopSignal: "SIGNIX" }),
    says: /invalid signal: SIGNIX/,
  },
  {
    name: "an unknown field in the host name",
    spec: container({ Hostname: "{{.Nothing}}" }),
    says: /expanding hostname failed: unknown template \{\{\.Nothing\}\}/,
  },
  {
    name: "a template that is not closed",
    spec: container({ Hostname: "web-{{.Task.Slot" }),
    says: /expanding hostname failed: .* is not closed/,
  },
  {
    name: "a host name that is none once it is expanded",
    spec: container({ Hostname: "{{.Service.Name}} {{.Task.Slot}}" }),
    says: /invalid hostname/,
  },
  {
    name: "an unknown field in a variable",
    spec: container({ Env: ["A={{.Task.Number}}"] }),
    says: /expanding env failed/,
  },
  {
    name: "an unknown field in a mount",
    spec: container({ Mounts: [{ Type: "volume", Source: "{{.Volume}}", Target: "/data" }] }),
    says: /expanding mounts failed/,
  },
  { name: "no container", spec: { TaskTemplate: {} }, says: /ContainerSpec: missing/ },
  {
    name: "negative replicas",
    spec: { Mode: { Replicated: { Replicas: -1 } } },
    says: /replicas must be non-negative/i,
  },
  {
    name: "two modes",
    spec: { Mode: { Replicated: {}, Global: {} } },
    says: /only one service mode/,
  },
  {
    name: "a constraint",
    spec: {
      TaskTemplate: { ContainerSpec: { Image: "i" }, Placement: { Constraints: ["node.role"] } },
    },
    says: /expected one operator/,
  },
  { name: "a port", spec: publish({ TargetPort: 70_000 }), says: /target port 70000/ },
  { name: "a protocol", spec: publish({ Protocol: "icmp" }), says: /icmp/ },
  {
    name: "the same port twice",
    spec: {
      EndpointSpec: {
        Ports: [
          { TargetPort: 1, PublishedPort: 5 },
          { TargetPort: 2, PublishedPort: 5 },
        ],
      },
    },
    says: /duplicate published ports/,
  },
  {
    name: "dnsrr with ingress",
    spec: { EndpointSpec: { Mode: "dnsrr", Ports: [{ TargetPort: 1 }] } },
    says: /dnsrr/,
  },
  {
    name: "an image that is no reference",
    spec: { TaskTemplate: { ContainerSpec: { Image: "UPPER:::" } } },
    says: /"UPPER:::" is not a valid repository\/tag/,
  },
  {
    name: "a restart condition",
    spec: {
      TaskTemplate: { ContainerSpec: { Image: "i" }, RestartPolicy: { Condition: "always" } },
    },
    says: /always/,
  },
  { name: "an update order", spec: { UpdateConfig: { Order: "both" } }, says: /both/ },
  { name: "a failure ratio", spec: { UpdateConfig: { MaxFailureRatio: 1.5 } }, says: /ratio/ },
  {
    name: "a rollback that rolls back",
    spec: { RollbackConfig: { FailureAction: "rollback" } },
    says: /rollback/,
  },
  {
    name: "a little memory",
    spec: {
      TaskTemplate: { ContainerSpec: { Image: "i" }, Resources: { Limits: { MemoryBytes: 1024 } } },
    },
    says: /at least 4MiB/,
  },
  {
    name: "a relative mount",
    spec: {
      TaskTemplate: {
        ContainerSpec: { Image: "i", Mounts: [{ Type: "bind", Source: "/a", Target: "b" }] },
      },
    },
    says: /absolute path/,
  },
  {
    name: "two mounts of one target",
    spec: {
      TaskTemplate: {
        ContainerSpec: {
          Image: "i",
          Mounts: [
            { Type: "tmpfs", Target: "/a" },
            { Type: "volume", Target: "/a/" },
          ],
        },
      },
    },
    says: /duplicate mount point/,
  },
  {
    name: "negative max attempts",
    spec: { TaskTemplate: { ContainerSpec: { Image: "i" }, RestartPolicy: { MaxAttempts: -1 } } },
    says: /negative/,
  },
  {
    name: "a health interval",
    spec: { TaskTemplate: { ContainerSpec: { Image: "i", Healthcheck: { Interval: 5 } } } },
    says: /less than 1ms/,
  },
];
for (const row of badSpecs)
  test(`a service is refused: ${row.name}`, () => {
    const sim = new Sim(1);
    assert.throws(() => sim.service("web", row.spec), {
      name: "SwarmError",
      code: "code" in row ? row.code : "invalid",
      message: row.says,
    });
  });

for (const name of ["", "a b", "-web", "web-", "über", "x".repeat(64)])
  test(`the service name ${JSON.stringify(name)} is refused`, () => {
    assert.throws(() => new Sim(1).service(name), { code: "invalid", message: /name must be/ });
  });

test("templates and signals that mean something are accepted", () => {
  const spec = container({
    Hostname: '{{.Service.Name}}-{{ .Task.Slot }}{{index .Service.Labels "tier"}}',
    Env: ["NODE={{.Node.Hostname}}", "TIER={{.Service.Labels.tier}}"],
    StopSignal: "rtmin+3",
  });
  const service = new Sim(1).service("web", { ...spec, Labels: { tier: "front" } });
  assert.equal(service.Spec?.Name, "web");
});

test("an unknown network is not found, the ingress network is not for services to join", () => {
  const sim = new Sim(1);
  assert.throws(() => sim.service("web", on("nowhere")), {
    code: "not_found",
    message: "network nowhere not found",
  });
  assert.throws(() => sim.service("web", on("ingress")), { code: "invalid" });
});

test("a service on a network of the node's own has no addresses, and stays where it is", () => {
  for (const name of ["host", "none", "bridge"]) {
    const sim = new Sim(1);
    const ports =
      name === "host"
        ? { EndpointSpec: { Ports: [{ ...hostPort, TargetPort: 80, PublishedPort: 80 }] } }
        : {};
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

test("networks in the old place of the spec count, and become ids", () => {
  const sim = new Sim(1);
  const id = sim.network("front");
  const service = sim.service("web", { Networks: [{ Target: "front", Aliases: ["w"] }] });
  assert.deepEqual(service.Spec?.TaskTemplate?.Networks, [
    { Target: id, Aliases: ["w"], DriverOpts: {} },
  ]);
  assert.deepEqual(service.Spec?.Networks, []);
});

test("virtual addresses stay over updates, and come and go with networks and ports", () => {
  const sim = new Sim(1);
  const front = sim.network("front");
  const back = sim.network("back");
  const on = (...targets: string[]) => ({
    TaskTemplate: {
      ContainerSpec: { Image: "i" },
      Networks: targets.map((Target) => ({ Target })),
    },
  });
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

test("the mode and the name of a service do not change", () => {
  const sim = new Sim(1);
  sim.service("web");
  assert.throws(() => sim.service("web", { Mode: { Global: {} } }), {
    code: "unsupported",
    message: /mode change is not allowed/,
  });
});

test("defaults fill what the spec leaves open and nothing else", () => {
  const spec = codec("ServiceSpec").parse({
    Name: "web",
    TaskTemplate: { ContainerSpec: { Image: "i" }, RestartPolicy: { Condition: "none" } },
    UpdateConfig: { Parallelism: 0 },
  });
  const filled = withDefaults(spec);
  assert.equal(filled.TaskTemplate?.ContainerSpec?.StopGracePeriod, 10_000_000_000);
  assert.deepEqual(filled.TaskTemplate?.RestartPolicy, {
    Condition: "none",
    Delay: 5_000_000_000,
    MaxAttempts: 0,
    Window: 0,
  });
  const rollback = {
    Parallelism: 1,
    Delay: 0,
    FailureAction: "pause",
    Monitor: 5_000_000_000,
    MaxFailureRatio: 0,
    Order: "stop-first",
  };
  assert.deepEqual(filled.UpdateConfig, { ...rollback, Parallelism: 0, FailureAction: "rollback" });
  assert.deepEqual(filled.RollbackConfig, rollback);
  assert.equal(filled.EndpointSpec?.Mode, "vip");
});
