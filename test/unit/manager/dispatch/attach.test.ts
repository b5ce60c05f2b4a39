import assert from "node:assert/strict";
import { test } from "node:test";
import { attach, detach } from "../../../../manager/dispatch/attach.ts";
import { endpoints } from "../../../../manager/plan/endpoints.ts";
import { removeNetwork } from "../../../../manager/plan/write.ts";
import type { AttachRequest } from "../../../../proto/gen/types.ts";
import { asSwarmError } from "../../../../proto/kit/errors.ts";
import { Sim } from "../plan/sim.ts";

function request(more: Partial<AttachRequest> = {}): AttachRequest {
  const names = { Names: ["srv", "www"], Aliases: ["www"] };
  return { Network: "meet", ContainerID: "c1", Address: "", ...names, ...more };
}

/** Attaches and writes; the task's id. */
function attached(sim: Sim, node: string, more: Partial<AttachRequest> = {}): string {
  const { changes, result } = attach(sim.state, node, request(more), sim.newId());
  if (changes.length > 0) sim.write(changes);
  return result;
}

function addressOf(sim: Sim, id: string): string | undefined {
  return sim.state.table("task").get(id)?.NetworksAttachments[0]?.Addresses[0];
}

test("a container gets an address and is known by its names, at once", () => {
  const sim = new Sim(2);
  const network = sim.network("meet", { Attachable: true });
  const id = attached(sim, "n1");
  assert.equal(addressOf(sim, id), "10.1.0.2/24");
  const [endpoint] = endpoints(sim.state, network);
  assert.deepEqual(
    [endpoint?.Addresses, endpoint?.State, endpoint?.Names, endpoint?.NodeID],
    [["10.1.0.2"], "serving", ["srv", "www"], "n1"],
  );
  assert.equal(attached(sim, "n1"), id, "asked again it is the same");
  assert.equal(addressOf(sim, attached(sim, "n2")), "10.1.0.3/24", "of another node it is another");
});

test("the planner leaves attached containers alone until their node was removed", () => {
  const sim = new Sim(2);
  sim.network("meet", { Attachable: true });
  const id = attached(sim, "n1");
  const service = sim.service("web", { Mode: { Replicated: { Replicas: 2 } } });
  sim.settle();
  assert.equal(sim.state.table("task").get(id)?.DesiredState, "running");
  sim.setNode("n1", { state: "down" });
  sim.settle();
  assert.notEqual(sim.state.table("task").get(id), undefined, "a dead node may come back with it");
  sim.removeNode("n1");
  sim.settle();
  assert.equal(sim.state.table("task").get(id), undefined);
  assert.equal(sim.state.tasksOfService(service.ID).length > 0, true);
});

test("an address asked for is given once, and is free again after the detach", () => {
  const sim = new Sim(1);
  sim.network("meet", { Attachable: true });
  const id = attached(sim, "n1", { Address: "10.1.0.77" });
  assert.equal(addressOf(sim, id), "10.1.0.77/24");
  const other = request({ ContainerID: "c2", Address: "10.1.0.77" });
  assert.throws(() => attach(sim.state, "n1", other, "x"), /address 10\.1\.0\.77 is taken/);
  sim.write(detach(sim.state, "n1", [id]));
  assert.equal(
    addressOf(sim, attached(sim, "n1", { ContainerID: "c2", Address: "10.1.0.77" })),
    "10.1.0.77/24",
  );
  const outside = request({ ContainerID: "c3", Address: "192.0.2.1" });
  assert.throws(() => attach(sim.state, "n1", outside, "x"), /or none of network meet/);
});

test("a node gives back only what is its own and was attached by hand", () => {
  const sim = new Sim(2);
  sim.network("meet", { Attachable: true });
  const mine = attached(sim, "n1");
  const others = attached(sim, "n2");
  sim.service("web");
  sim.settle();
  const all = [...sim.state.table("task").values()].map(({ ID }) => ID);
  assert.deepEqual(
    detach(sim.state, "n1", [...all, "nobody"]).map((change) =>
      change.op === "delete" ? change.id : "",
    ),
    [mine],
  );
  assert.notEqual(sim.state.table("task").get(others), undefined);
});

test("a network that a container is attached to is not removed", () => {
  const sim = new Sim(1);
  const network = sim.network("meet", { Attachable: true });
  const id = attached(sim, "n1");
  assert.throws(() => removeNetwork(sim.state, network), /in use by container srv on node n1/);
  sim.write(detach(sim.state, "n1", [id]));
  sim.write(removeNetwork(sim.state, network));
});

const refused = [
  ["a network that nobody may attach to", "shut", "denied", /network shut not manually attachable/],
  ["a network there is not", "nope", "not_found", /network nope not found/],
] as const;
for (const [name, Network, code, sentence] of refused)
  test(`refused: ${name}`, () => {
    const sim = new Sim(1);
    sim.network("shut");
    assert.throws(
      () => attach(sim.state, "n1", request({ Network }), "x"),
      (error) => asSwarmError(error).code === code && sentence.test(asSwarmError(error).message),
    );
  });

test("a full network grows, unless its subnet was chosen by hand", () => {
  const sim = new Sim(1);
  const network = sim.network("meet", { Attachable: true });
  const addresses = Array.from({ length: 260 }, (_, i) =>
    addressOf(sim, attached(sim, "n1", { ContainerID: `c${i}` })),
  );
  assert.equal(new Set(addresses).size, 260);
  assert.equal(sim.state.table("network").get(network)?.IPAM?.Config.length, 2);
  sim.network("small", { Attachable: true, IPAM: { Config: [{ Subnet: "10.9.0.0/29" }] } });
  const small = (ContainerID: string) => attached(sim, "n1", { Network: "small", ContainerID });
  for (const name of ["a", "b", "c", "d", "e"]) small(name);
  assert.throws(() => small("f"), /no address is free on network small/);
});
