import assert from "node:assert/strict";
import { test } from "node:test";
import { attachedTo, localNetwork } from "../../../../agent/network/facts.ts";
import { localFacts, placeLocally, withLocalEndpoints } from "../../../../agent/network/locals.ts";
import { nameTable, networkNames } from "../../../../agent/network/names.ts";
import { emptyView, sandboxObjects } from "../../../../agent/network/plan.ts";
import type { Attachment, Sandbox } from "../../../../agent/network/types.ts";

const back = localFacts({
  ...{ id: "b".repeat(64), name: "back", isInternal: false },
  subnets: [{ cidr: "172.40.0.0/30", prefix: 30, gateway: "172.40.0.1" }],
});
const networks = new Map([localNetwork, back].map((network) => [network.id, network]));

function sandbox(id: string, attachments: readonly Attachment[] = [], isolated = false): Sandbox {
  return {
    ...{ id, attachments, ports: [], upstreamNameServers: [], searchDomains: [] },
    ...(isolated ? { isolated } : {}),
  };
}
const on = (networkId: string, ...addresses: string[]): Attachment => ({ networkId, addresses });
const placed = (wanted: Sandbox, others: readonly Sandbox[] = [], before?: Sandbox) =>
  placeLocally(wanted, before, others, networks).attachments.flatMap(({ addresses }) => addresses);

test("the lowest free address, that of the gateway and the ends left out", () => {
  assert.deepEqual(placed(sandbox("a")), ["172.29.0.2", "fd9f:9683:bc6c:1::2"]);
  const others = ["172.29.0.2", "172.29.0.3"].map((at) => sandbox(at, [on("local", at)]));
  assert.deepEqual(placed(sandbox("a"), others), ["172.29.0.4", "fd9f:9683:bc6c:1::2"]);
  assert.deepEqual(placed(sandbox("a", [on(back.id)])), ["172.40.0.2"]);
  const full = [sandbox("b", [on(back.id, "172.40.0.2")])];
  assert.throws(
    () => placed(sandbox("a", [on(back.id)]), full),
    /no address is left in network back/,
  );
});

test("an address at will comes from the network's range, past those that nobody gets", () => {
  const subnet = { cidr: "172.41.0.0/16", prefix: 16, gateway: "172.41.5.1" };
  const facts = localFacts({
    ...{ id: "ranged", name: "ranged", isInternal: false },
    subnets: [{ ...subnet, range: "172.41.5.0/30", auxiliary: { a: "172.41.5.2" } }],
  });
  const all = new Map([[facts.id, facts]]);
  const place = (others: readonly Sandbox[]) =>
    placeLocally(sandbox("a", [on("ranged")]), undefined, others, all).attachments[0]?.addresses;
  assert.deepEqual(place([]), ["172.41.5.0"]);
  assert.deepEqual(place([sandbox("b", [on("ranged", "172.41.5.0")])]), ["172.41.5.3"]);
  const full = ["172.41.5.0", "172.41.5.3"].map((at) => sandbox(at, [on("ranged", at)]));
  assert.throws(() => place(full), /no address is left in network ranged/);
});

test("a container has the hardware address that was asked for", () => {
  const mac = "02:42:ac:11:65:43";
  const [fixed] = attachedTo(back, [sandbox("a", [{ ...on(back.id, "172.40.0.2"), mac }])]);
  assert.equal(fixed?.mac, mac);
  const [free] = attachedTo(back, [sandbox("a", [on(back.id, "172.40.0.2")])]);
  assert.equal(free?.mac, "");
});

test("a sandbox keeps the address it has, and an isolated one has none", () => {
  const before = sandbox("a", [on("local", "172.29.0.9", "fd9f:9683:bc6c:1::9")]);
  assert.deepEqual(placed(sandbox("a"), [before], before), ["172.29.0.9", "fd9f:9683:bc6c:1::9"]);
  assert.deepEqual(placed(sandbox("a", [], true)), []);
});

test("an address asked for is given, unless another has it", () => {
  const wanted = sandbox("a", [on(back.id, "172.40.0.2")]);
  assert.deepEqual(placed(wanted), ["172.40.0.2"]);
  assert.throws(
    () => placed(wanted, [sandbox("b", [on(back.id, "172.40.0.2")])]),
    /Address already in use: 172\.40\.0\.2/,
  );
});

test("addresses on networks of the swarm are left alone", () => {
  assert.deepEqual(placed(sandbox("a", [on("overlay", "10.0.1.5")])), ["10.0.1.5"]);
});

test("containers on a network of this node have their names there, and nowhere else", () => {
  const named = { ...on(back.id, "172.40.0.2"), names: ["web", "db"] };
  const view = withLocalEndpoints(emptyView, networks, [
    sandbox("a", [on("local", "172.29.0.2"), named]),
    sandbox("b", [on("local", "172.29.0.3")]),
  ]);
  assert.deepEqual(nameTable(networkNames(view, back)).names, {
    db: ["172.40.0.2"],
    web: ["172.40.0.2"],
  });
  assert.deepEqual(nameTable(networkNames(view, localNetwork)).names, {});
  assert.equal(withLocalEndpoints(emptyView, networks, [sandbox("b")]), emptyView);
});

test("a device keeps its name when one before it is gone", () => {
  const left = sandbox("a", [{ ...on(back.id, "172.40.0.2"), device: "eth1" }]);
  assert.deepEqual(
    attachedTo(back, [left]).map(({ device }) => device),
    ["eth1"],
  );
  const links = sandboxObjects(left, networks).flatMap((o) => ("link" in o ? [o.link] : []));
  assert.deepEqual([...new Set(links)], ["eth1"]);
});
