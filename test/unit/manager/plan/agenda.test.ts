import assert from "node:assert/strict";
import { test } from "node:test";
import { Agenda } from "../../../../manager/plan/agenda.ts";
import { plan } from "../../../../manager/plan/plan.ts";
import type { Change } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import { Sim } from "./sim.ts";

function quiet(): Sim {
  const sim = new Sim(2);
  sim.service("web", { Mode: { Replicated: { Replicas: 2 } } });
  sim.settle();
  return sim;
}

test("a new agenda looks at everything, then at nothing", () => {
  const agenda = new Agenda();
  assert.equal(agenda.wakeAt, 0);
  assert.equal(agenda.take(0), null);
  assert.equal(agenda.wakeAt, null);
  assert.equal(agenda.take(0), undefined);
});

test("a task's change concerns its service; its end concerns those who wait for room on its node", () => {
  const sim = quiet();
  const [task] = sim.running("web");
  const agenda = new Agenda();
  agenda.take(0);
  sim.agenda.take(sim.now);
  const { ID, NodeID } = task ?? assert.fail();
  agenda.note(
    sim.write([
      { op: "put", kind: "task", object: { ...(task ?? assert.fail()), Labels: { a: "b" } } },
    ]),
  );
  assert.deepEqual(agenda.take(0), {
    services: new Set(["svc-web"]),
    nodes: new Set(),
    versions: false,
    fleet: false,
  });
  const later = sim.state.table("task").get(ID) ?? assert.fail();
  const Status = { Timestamp: "", State: "failed", Message: "", Err: "" };
  agenda.note(sim.write([{ op: "put", kind: "task", object: { ...later, Status } }]));
  assert.deepEqual(agenda.take(0), {
    services: new Set(["svc-web"]),
    nodes: new Set([NodeID]),
    versions: false,
    fleet: false,
  });
});

test("what decides nothing does not wake the planner", () => {
  const sim = quiet();
  const agenda = new Agenda();
  agenda.take(0);
  const node = sim.node("n1");
  agenda.note(
    sim.write([
      {
        op: "put",
        kind: "node",
        object: { ...node, Routes: ["10.5.0.0/16"], DataPathAddr: "10.0.0.9" },
      },
    ]),
  );
  const cluster = sim.state.cluster ?? assert.fail();
  agenda.note(sim.write([{ op: "put", kind: "cluster", object: { ...cluster, NextVNI: 9999 } }]));
  assert.equal(agenda.wakeAt, null);
});

test("a node that has changed is noted as such", () => {
  const sim = quiet();
  const agenda = new Agenda();
  agenda.take(0);
  const node = sim.node("n1");
  const Status = { State: "down", Message: "", Addr: "10.77.0.1" };
  agenda.note(sim.write([{ op: "put", kind: "node", object: { ...node, Status } }]));
  assert.deepEqual(agenda.take(0), {
    services: new Set(),
    nodes: new Set(["n1"]),
    versions: false,
    fleet: true,
  });
});

test("a service that waits is looked at when its time has come, or before when it changes", () => {
  const agenda = new Agenda();
  agenda.take(0);
  agenda.done({
    wakeAt: 500,
    wakes: new Map([
      ["a", 700],
      ["b", 500],
    ]),
  });
  assert.equal(agenda.wakeAt, 500);
  assert.equal(agenda.take(499), undefined);
  assert.deepEqual(agenda.take(600), {
    services: new Set(["b"]),
    nodes: new Set(),
    versions: false,
    fleet: false,
  });
  assert.equal(agenda.wakeAt, 700);
});

test("what a refused transaction was about is looked at again", () => {
  const sim = new Sim(1);
  sim.service("web", { Mode: { Replicated: { Replicas: 1 } } });
  const { transactions } = run(sim);
  const agenda = new Agenda();
  agenda.take(0);
  agenda.refused(transactions.find((one) => one.length > 0) ?? assert.fail());
  assert.deepEqual(agenda.take(0), {
    services: new Set(["svc-web"]),
    nodes: new Set(),
    versions: false,
    fleet: false,
  });
});

function run(sim: Sim): { transactions: (readonly Change[])[] } {
  const transactions: (readonly Change[])[] = [];
  for (const transaction of plan({ state: sim.state, now: sim.now, dirty: null, newId: sim.newId }))
    transactions.push(transaction);
  return { transactions };
}

test("a large service is planned in transactions of at most 200 changes, each a valid state", () => {
  const sim = new Sim(5);
  sim.network("front", { IPAM: { Config: [{ Subnet: "10.64.0.0/16" }] } });
  sim.service("web", {
    TaskTemplate: { ContainerSpec: { Image: "i" }, Networks: [{ Target: "front" }] },
    Mode: { Replicated: { Replicas: 1000 } },
  });
  const { transactions } = run(sim);
  assert.deepEqual(
    transactions.map((one) => one.length),
    [200, 200, 200, 200, 200],
  );
  for (const transaction of transactions) sim.write(transaction);
  assert.equal(sim.planAll(), 0);
  for (const id of ["n1", "n2", "n3", "n4", "n5"])
    assert.equal(sim.state.tasksOfNode(id).length, 200);
});

test("services planned in one run share addresses, room and ports without clashes", () => {
  const sim = new Sim(2);
  sim.network("front");
  for (const name of ["a", "b", "c"])
    sim.service(name, {
      TaskTemplate: {
        ContainerSpec: { Image: "i" },
        Networks: [{ Target: "front" }],
        Resources: { Reservations: { MemoryBytes: 600 << 20 } },
      },
      Mode: { Replicated: { Replicas: 1 } },
    });
  const { transactions } = run(sim);
  for (const transaction of transactions) if (transaction.length > 0) sim.write(transaction);
  const tasks = ["a", "b", "c"].flatMap((name) => sim.tasks(name));
  assert.deepEqual(
    tasks.map((task) => task.NodeID),
    ["n1", "n2", ""],
  );
  assert.equal(sim.planAll(), 0);
});

test("a run goes on from a newer state between its transactions", () => {
  const sim = new Sim(2);
  sim.network("front");
  const on = { TaskTemplate: { ContainerSpec: { Image: "i" }, Networks: [{ Target: "front" }] } };
  for (const name of ["a", "b", "c"]) sim.service(name, on);
  const going = plan({
    get state() {
      return sim.state;
    },
    get now() {
      return sim.now;
    },
    dirty: null,
    newId: sim.newId,
  });
  for (let step = going.next(); step.done !== true; step = going.next()) {
    sim.write(step.value);
    // Somebody else writes meanwhile.
    sim.now += 10;
    sim.setNode("n1", { labels: { at: String(sim.now) } });
  }
  const addresses = ["a", "b", "c"].flatMap((name) =>
    sim.tasks(name).map((task) => task.NetworksAttachments[0]?.Addresses[0]),
  );
  assert.equal(new Set(addresses).size, 3);
});

test("the whole network is gone through before an address comes again", () => {
  const sim = new Sim(1);
  sim.network("tiny", { IPAM: { Config: [{ Subnet: "192.168.9.0/28" }] } });
  sim.service("web", {
    TaskTemplate: {
      ContainerSpec: { Image: "i" },
      Networks: [{ Target: "tiny" }],
      RestartPolicy: { Delay: 0 },
    },
  });
  const given: number[] = [];
  for (let i = 0; i < 15; i++) {
    sim.pass(1000);
    const [task] = sim.running("web");
    given.push(Number(task?.NetworksAttachments[0]?.Addresses[0]?.split(/[./]/)[3]));
    sim.report(task ?? assert.fail(), "failed");
  }
  assert.deepEqual(given, [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 3, 4, 5]);
});

test("of addresses that are all remembered, the longest unused comes first", () => {
  const sim = new Sim(1);
  sim.network("tiny", { IPAM: { Config: [{ Subnet: "192.168.9.0/29" }] } });
  sim.service("web", {
    TaskTemplate: {
      ContainerSpec: { Image: "i" },
      Networks: [{ Target: "tiny" }],
      RestartPolicy: { Delay: 0 },
    },
    Mode: { Replicated: { Replicas: 3 } },
  });
  sim.settle();
  const addressOf = (slot: number) =>
    sim.running("web").find((task) => task.Slot === slot)?.NetworksAttachments[0]?.Addresses[0];
  for (const slot of [3, 2, 1]) {
    sim.now += 1000;
    sim.report(sim.running("web").find((task) => task.Slot === slot) ?? assert.fail(), "failed");
    sim.settle();
  }
  // .6 was free, then what slot 3 had (.5), then what slot 2 had (.4).
  assert.deepEqual([3, 2, 1].map(addressOf), [
    "192.168.9.6/29",
    "192.168.9.5/29",
    "192.168.9.4/29",
  ]);
});

test("virtual addresses alone make a network from the pools grow, each in its subnet", () => {
  const sim = new Sim(1);
  sim.network("front");
  const on = { TaskTemplate: { ContainerSpec: { Image: "i" }, Networks: [{ Target: "front" }] } };
  const addresses = new Set<string>();
  for (let i = 0; i < 300; i++) {
    const service = sim.service(`s${i}`, { ...on, Mode: { Replicated: { Replicas: 0 } } });
    addresses.add(service.Endpoint?.VirtualIPs[0]?.Addr ?? "");
  }
  assert.equal(addresses.size, 300);
  const config = sim.state.table("network").get("net-front")?.IPAM?.Config ?? [];
  assert.deepEqual(
    config.map(({ Subnet, Gateway }) => [Subnet, Gateway]),
    [
      ["10.1.0.0/24", "10.1.0.1"],
      ["10.1.1.0/24", "10.1.1.1"],
    ],
  );
  for (const gateway of ["10.1.0.1", "10.1.1.1", "10.1.0.255", "10.1.1.0"])
    assert.equal(addresses.has(`${gateway}/24`), false);
});

test("pools that are used up are named where the address is missing", () => {
  const sim = new Sim(1);
  const cluster = sim.state.cluster ?? assert.fail();
  const object = { ...cluster, DefaultAddrPool: ["172.30.0.0/28"], SubnetSize: 29 };
  sim.write([{ op: "put", kind: "cluster", object }]);
  sim.network("front");
  const on = { TaskTemplate: { ContainerSpec: { Image: "i" }, Networks: [{ Target: "front" }] } };
  // Two subnets of 6 addresses each: two gateways, one virtual address, nine tasks.
  sim.service("web", { ...on, Mode: { Replicated: { Replicas: 12 } } });
  sim.settle();
  assert.equal(sim.running("web").length, 9);
  const [waiting] = sim.wanted("web").filter((task) => task.NodeID === "");
  assert.match(
    waiting?.Status?.Err ?? "",
    /^no address is free on network front: .* \/29 subnet in the cluster's address pools \(172\.30\.0\.0\/28\)/,
  );
  assert.throws(() => sim.service("api", on), { code: "exhausted", message: /172\.30\.0\.0\/28/ });
});

test("a network from the pools gets a further subnet before it is full", () => {
  const sim = new Sim(2);
  sim.network("front");
  sim.network("other");
  const on = { TaskTemplate: { ContainerSpec: { Image: "i" }, Networks: [{ Target: "front" }] } };
  sim.service("web", { ...on, Mode: { Replicated: { Replicas: 600 } } });
  sim.settle();
  assert.equal(sim.running("web").length, 600);
  const subnets = sim.state
    .table("network")
    .get("net-front")
    ?.IPAM?.Config.map((one) => one.Subnet);
  assert.deepEqual(subnets, ["10.1.0.0/24", "10.1.2.0/24", "10.1.3.0/24"]);
  const addresses = new Set(
    sim.running("web").map((task) => task.NetworksAttachments[0]?.Addresses[0]),
  );
  assert.equal(addresses.size, 600);
  // There is room for the virtual address of another service at any time.
  sim.service("api", on);
  assert.equal(sim.planAll() > 0, true);
});

test("what a service no longer names may leave a version of a secret that nobody needs", () => {
  const agenda = new Agenda();
  agenda.take(0);
  const naming = (...ids: readonly string[]) =>
    codec("Service").parse({
      ID: "a",
      Spec: { TaskTemplate: { ContainerSpec: { Secrets: ids.map((SecretID) => ({ SecretID })) } } },
    });
  const versions = () => agenda.take(0)?.versions;
  agenda.note([{ kind: "service", id: "a", after: naming("s1") }]);
  assert.equal(versions(), false);
  agenda.note([{ kind: "service", id: "a", before: naming("s1"), after: naming("s2") }]);
  assert.equal(versions(), true);
  const secret = codec("Secret").parse({ ID: "s1" });
  agenda.note([{ kind: "secret", id: "s1", before: secret, after: secret }]);
  assert.equal(versions(), undefined);
  agenda.note([{ kind: "secret", id: "s2", after: secret }]);
  assert.equal(versions(), true);
});
