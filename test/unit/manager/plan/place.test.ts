import assert from "node:assert/strict";
import { test } from "node:test";
import { matches, parseConstraint } from "../../../../manager/plan/constraints.ts";
import { codec } from "../../../../proto/codec.ts";
import { Sim } from "./sim.ts";

const GiB = 1 << 30;
const template = (extra: object) => ({ ContainerSpec: { Image: "i" }, ...extra });

function errOf(sim: Sim, name: string): string {
  return sim.wanted(name).find((task) => task.NodeID === "")?.Status?.Err ?? "none is pending";
}

test("tasks go to the node with the fewest of the service, then with the fewest at all", () => {
  const sim = new Sim(3);
  sim.service("a", { Mode: { Replicated: { Replicas: 1 } } });
  sim.plan();
  sim.service("b", { Mode: { Replicated: { Replicas: 2 } } });
  sim.plan();
  assert.deepEqual(
    sim.tasks("b").map((task) => task.NodeID),
    ["n2", "n3"],
  );
  sim.service("b", { Mode: { Replicated: { Replicas: 6 } } });
  sim.plan();
  assert.deepEqual(
    sim
      .tasks("b")
      .map((task) => task.NodeID)
      .sort(),
    ["n1", "n1", "n2", "n2", "n3", "n3"],
  );
});

const pending = [
  {
    name: "no node at all",
    nodes: 0,
    spec: {},
    why: "no suitable node",
  },
  {
    name: "a constraint",
    nodes: 2,
    spec: {
      TaskTemplate: template({ Placement: { Constraints: ["node.hostname == elsewhere"] } }),
    },
    why: "no suitable node (scheduling constraints not satisfied on 2 nodes)",
  },
  {
    name: "memory",
    nodes: 1,
    spec: { TaskTemplate: template({ Resources: { Reservations: { MemoryBytes: 2 * GiB } } }) },
    why: "no suitable node (insufficient resources on 1 node)",
  },
  {
    name: "cores that others hold",
    nodes: 1,
    spec: {
      TaskTemplate: template({ Resources: { Reservations: { NanoCPUs: 1.5e9 } } }),
      Mode: { Replicated: { Replicas: 2 } },
    },
    why: "no suitable node (insufficient resources on 1 node)",
  },
  {
    name: "another platform",
    nodes: 3,
    spec: {
      TaskTemplate: template({
        Placement: { Platforms: [{ OS: "linux", Architecture: "arm64" }] },
      }),
    },
    why: "no suitable node (unsupported platform on 3 nodes)",
  },
  {
    name: "a host port",
    nodes: 2,
    spec: {
      EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 80, PublishMode: "host" }] },
      Mode: { Replicated: { Replicas: 3 } },
    },
    why: "no suitable node (host-mode port already in use on 2 nodes)",
  },
  {
    name: "replicas per node",
    nodes: 2,
    spec: {
      TaskTemplate: template({ Placement: { MaxReplicas: 2 } }),
      Mode: { Replicated: { Replicas: 5 } },
    },
    why: "no suitable node (max replicas per node limit exceeded on 2 nodes)",
  },
];
for (const row of pending)
  test(`a task that fits nowhere stays pending and says why: ${row.name}`, () => {
    const sim = new Sim(row.nodes);
    sim.service("web", row.spec);
    sim.settle();
    assert.equal(errOf(sim, "web"), row.why);
    const index = sim.facts.index;
    sim.planAll();
    assert.equal(sim.facts.index, index, "the same reason is not written twice");
  });

test("each node is counted by the first filter it fails, the most common reason first", () => {
  const sim = new Sim(4);
  sim.setNode("n1", { availability: "pause" });
  sim.service("web", {
    TaskTemplate: template({
      Placement: { Constraints: ["node.hostname != n2"] },
      Resources: { Reservations: { MemoryBytes: 4 * GiB } },
    }),
  });
  sim.plan();
  assert.equal(
    errOf(sim, "web"),
    "no suitable node (insufficient resources on 2 nodes; 1 node not available for new tasks; scheduling constraints not satisfied on 1 node)",
  );
});

test("what waits for room is placed when there is room", () => {
  const sim = new Sim(1);
  const half = {
    TaskTemplate: template({ Resources: { Reservations: { MemoryBytes: 600 << 20 } } }),
  };
  sim.service("a", half);
  sim.settle();
  sim.service("b", half);
  sim.settle();
  assert.equal(sim.running("b").length, 0);
  sim.addNode("n2");
  sim.settle();
  assert.deepEqual(
    sim.running("b").map((task) => task.NodeID),
    ["n2"],
  );
  sim.service("c", half);
  sim.settle();
  assert.equal(sim.running("c").length, 0);
  sim.removeService("a");
  sim.settle();
  assert.deepEqual(
    sim.running("c").map((task) => task.NodeID),
    ["n1"],
  );
});

test("a pending global task names the reason of its own node", () => {
  const sim = new Sim(2);
  sim.service("agent", {
    Mode: { Global: {} },
    TaskTemplate: template({ Resources: { Reservations: { MemoryBytes: 600 << 20 } } }),
  });
  sim.settle();
  sim.addNode("small", {
    Description: { Hostname: "small", Resources: { MemoryBytes: 1 << 20 }, Platform: {} },
  });
  sim.settle();
  const [waiting] = sim.wanted("agent").filter((task) => task.NodeID === "small");
  assert.equal(waiting?.Status?.State, "pending");
  assert.equal(waiting?.Status?.Err, "no suitable node (insufficient resources on 1 node)");
});

test("host-mode ports that leave the choice differ on one node", () => {
  const sim = new Sim(1);
  sim.service("web", {
    EndpointSpec: {
      Ports: [
        { TargetPort: 80, PublishMode: "host" },
        { TargetPort: 81, PublishMode: "host" },
      ],
    },
    Mode: { Replicated: { Replicas: 2 } },
  });
  sim.settle();
  const ports = sim.running("web").flatMap((task) => task.Ports.map((port) => port.PublishedPort));
  assert.deepEqual(ports, [30_000, 30_001, 30_002, 30_003]);
});

test("spread preferences even out between the values of a label, whatever the number of nodes", () => {
  const sim = new Sim(0);
  for (const [id, dc] of [
    ["a1", "a"],
    ["a2", "a"],
    ["a3", "a"],
    ["b1", "b"],
  ] as const)
    sim.addNode(id, { Spec: { Role: "worker", Availability: "active", Labels: { dc } } });
  sim.service("web", {
    TaskTemplate: template({
      Placement: { Preferences: [{ Spread: { SpreadDescriptor: "node.labels.dc" } }] },
    }),
    Mode: { Replicated: { Replicas: 6 } },
  });
  sim.settle();
  const onB = sim.running("web").filter((task) => task.NodeID === "b1").length;
  assert.equal(onB, 3);
});

test("a node on which the service keeps failing comes last", () => {
  const sim = new Sim(2);
  sim.service("web", { TaskTemplate: template({ RestartPolicy: { Delay: 0 } }) });
  sim.settle();
  // n1 and n2 are equally empty each time, so n1 is chosen until it has failed too often.
  const nodes: string[] = [];
  for (let run = 0; run < 5; run++) {
    const task = sim.running("web")[0] ?? assert.fail();
    nodes.push(task.NodeID);
    sim.report(task, "failed");
    sim.settle();
  }
  assert.deepEqual(nodes, ["n1", "n1", "n1", "n2", "n2"]);
});

const node = codec("Node").parse({
  ID: "abc",
  Spec: { Role: "manager", Labels: { disk: "SSD", "a.b": "c" } },
  Description: {
    Hostname: "Host-1",
    Platform: { OS: "linux", Architecture: "x86_64" },
    Engine: { Labels: { gpu: "yes" } },
  },
  Status: { Addr: "10.77.0.11" },
});
const constraints: readonly (readonly [string, boolean])[] = [
  ["node.id == abc", true],
  ["node.id==abd", false],
  ["node.hostname == host-1", true],
  ["node.hostname != host-1", false],
  ["node.role==MANAGER", true],
  ["node.role!=worker", true],
  ["node.labels.disk == ssd", true],
  ["node.labels.a.b == c", true],
  ["node.labels.none == x", false],
  ["node.labels.none != x", true],
  ["engine.labels.gpu == yes", true],
  ["node.platform.os == Linux", true],
  ["node.platform.arch == amd64", true],
  ["node.platform.arch == x86_64", true],
  ["node.platform.arch != arm64", true],
  ["node.ip == 10.77.0.11", true],
  ["node.ip == 10.77.0.0/24", true],
  ["node.ip != 10.77.0.0/24", false],
  ["node.ip == 10.78.0.0/24", false],
];
for (const [text, fits] of constraints)
  test(`constraint ${text} is ${fits} for the node`, () => {
    assert.equal(matches(parseConstraint(text), node), fits);
  });

for (const text of [
  "node.role",
  "node.role=worker",
  "node.role > 3",
  "== x",
  "node.role ==",
  "node.color == red",
  "node.labels. == x",
])
  test(`constraint ${JSON.stringify(text)} is refused`, () => {
    assert.throws(() => parseConstraint(text), { code: "invalid" });
  });

const nodesOf = (sim: Sim, name: string) =>
  sim
    .running(name)
    .map((task) => task.NodeID)
    .sort();
const placed = (Placement: object) => ({ TaskTemplate: template({ Placement }) });

test("affinity to a service by label: only where it runs, and waiting until it does", () => {
  const sim = new Sim(3);
  const near = placed({ Constraints: ["service.labels.tier == cache"] });
  sim.service("web", { Mode: { Replicated: { Replicas: 2 } }, ...near });
  sim.settle();
  assert.equal(
    errOf(sim, "web"),
    "no suitable node (affinity to other services not satisfied on 3 nodes)",
  );
  sim.service("cache", {
    Labels: { tier: "cache" },
    ...placed({ Constraints: ["node.hostname == n2"] }),
  });
  sim.settle();
  assert.deepEqual(nodesOf(sim, "web"), ["n2", "n2"]);
  sim.removeService("cache");
  sim.pass(60_000);
  assert.deepEqual(nodesOf(sim, "web"), ["n2", "n2"], "what runs is not moved");
});

test("anti-affinity to a service by name: nowhere where it runs", () => {
  const sim = new Sim(3);
  sim.service("noisy", placed({ Constraints: ["node.hostname == n1"] }));
  sim.settle();
  const away = placed({ Constraints: ["service.name != noisy"] });
  sim.service("web", { Mode: { Replicated: { Replicas: 4 } }, ...away });
  sim.settle();
  assert.deepEqual(nodesOf(sim, "web"), ["n2", "n2", "n3", "n3"]);
});

test("preferred nodes come first, the first preference before the second, and others when they are full", () => {
  const sim = new Sim(3);
  sim.service("cache", placed({ Constraints: ["node.hostname == n3"] }));
  sim.settle();
  const Preferences = [
    { Prefer: { Constraint: "service.name == cache" } },
    { Prefer: { Constraint: "node.hostname != n1" } },
  ];
  const spec = (Replicas: number) => ({
    Mode: { Replicated: { Replicas } },
    ...placed({ Preferences, MaxReplicas: 2 }),
  });
  for (const [replicas, nodes] of [
    [2, ["n3", "n3"]],
    [3, ["n2", "n3", "n3"]],
    [6, ["n1", "n1", "n2", "n2", "n3", "n3"]],
  ] as const) {
    sim.service("web", spec(replicas));
    sim.settle();
    assert.deepEqual(nodesOf(sim, "web"), nodes);
  }
});

test("binpack fills a node before it begins the next", () => {
  const sim = new Sim(3);
  const Resources = { Reservations: { NanoCPUs: 0.5e9 } };
  const spec = (Replicas: number) => ({
    Mode: { Replicated: { Replicas } },
    TaskTemplate: template({ Resources, Placement: { Preferences: [{ Binpack: {} }] } }),
  });
  sim.service("other", placed({ Constraints: ["node.hostname == n2"] }));
  sim.settle();
  for (const [replicas, nodes] of [
    [4, "n2 n2 n2 n2"],
    [6, "n1 n1 n2 n2 n2 n2"],
    [10, "n1 n1 n1 n1 n2 n2 n2 n2 n3 n3"],
  ] as const) {
    sim.service("web", spec(replicas));
    sim.settle();
    assert.equal(nodesOf(sim, "web").join(" "), nodes);
  }
});

test("generic resources are reserved by kind, those with names one by one", () => {
  const gpu = (Value: string) => ({ NamedResourceSpec: { Kind: "gpu", Value } });
  const sim = new Sim(0);
  const Resources = {
    NanoCPUs: 2e9,
    MemoryBytes: GiB,
    GenericResources: [gpu("a"), gpu("b"), { DiscreteResourceSpec: { Kind: "slot", Value: 3 } }],
  };
  sim.addNode("n1", {
    Description: { Hostname: "n1", Platform: { OS: "linux", Architecture: "x86_64" }, Resources },
  });
  const wanting = (Kind: string, Value: number) => ({
    TaskTemplate: template({
      Resources: {
        Reservations: { GenericResources: [{ DiscreteResourceSpec: { Kind, Value } }] },
      },
    }),
  });
  sim.service("one", wanting("gpu", 1));
  sim.settle();
  sim.service("two", wanting("gpu", 1));
  sim.service("slots", { Mode: { Replicated: { Replicas: 2 } }, ...wanting("slot", 2) });
  sim.settle();
  const got = (name: string) => sim.running(name).flatMap((task) => task.GenericResources);
  assert.deepEqual([...got("one"), ...got("two")], [gpu("a"), gpu("b")]);
  assert.deepEqual(got("slots"), [{ DiscreteResourceSpec: { Kind: "slot", Value: 2 } }]);
  assert.match(errOf(sim, "slots"), /insufficient resources on 1 node/);
  const again = wanting("gpu", 1).TaskTemplate;
  sim.service("one", { TaskTemplate: { ...again, ForceUpdate: 1 } });
  sim.settle();
  assert.deepEqual(got("one"), [gpu("a")], "a successor gets what its predecessor gives back");
});

test("a generic resource that is reserved by its name is that one, or nothing", () => {
  const gpu = (Value: string) => ({ NamedResourceSpec: { Kind: "gpu", Value } });
  const any = { DiscreteResourceSpec: { Kind: "gpu", Value: 1 } };
  const sim = new Sim(0);
  for (const [id, ...names] of [
    ["n1", "a", "b", "c"],
    ["n2", "x"],
  ] as const) {
    const GenericResources = names.map(gpu);
    const Resources = { NanoCPUs: 2e9, MemoryBytes: GiB, GenericResources };
    const Platform = { OS: "linux", Architecture: "x86_64" };
    sim.addNode(id, { Description: { Hostname: id, Platform, Resources } });
  }
  const wanting = (...GenericResources: object[]) => ({
    TaskTemplate: template({ Resources: { Reservations: { GenericResources } } }),
  });
  const got = (name: string) => sim.running(name).flatMap((task) => task.GenericResources);
  sim.service("second", wanting(gpu("b")));
  sim.service("other", wanting(gpu("x")));
  sim.settle();
  sim.service("both", wanting(any, gpu("c")));
  sim.settle();
  assert.deepEqual([got("second"), got("other")], [[gpu("b")], [gpu("x")]]);
  assert.deepEqual(got("both"), [gpu("c"), gpu("a")]);
  sim.service("late", wanting(gpu("b")));
  sim.settle();
  assert.match(errOf(sim, "late"), /insufficient resources on 2 nodes/);
  sim.service("second", { Mode: { Replicated: { Replicas: 0 } }, ...wanting(gpu("b")) });
  sim.settle();
  assert.deepEqual(got("late"), [gpu("b")]);
});
