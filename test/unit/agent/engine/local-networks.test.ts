// Networks of this node that somebody made, through the door that keeps them on disk.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { LocalNetworks, linkOf, networkType } from "../../../../agent/engine/local-networks.ts";
import { checkUnused } from "../../../../agent/engine/network-configurations.ts";
import type { LocalNetworkSpec } from "../../../../agent/engine/types.ts";
import { asSwarmError } from "../../../../proto/kit/errors.ts";
import { realWorld } from "../../../../proto/kit/world.ts";

const folders: string[] = [];
after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

async function opened(folder?: string): Promise<LocalNetworks & { readonly folder: string }> {
  const at = folder ?? mkdtempSync(join(tmpdir(), "networks-"));
  folders.push(at);
  const networks = new LocalNetworks(at, realWorld);
  await networks.load();
  return Object.assign(networks, { folder: at });
}

function spec(name: string, more: Partial<LocalNetworkSpec> = {}): LocalNetworkSpec {
  return { name, labels: {}, options: {}, isInternal: false, subnets: [], ...more };
}
const subnets = [{ subnet: "10.91.0.0/24", gateway: "10.91.0.9", range: "10.91.0.64/26" }];

test("a network on a link of the host is kept with its driver, and read again", async () => {
  const networks = await opened();
  const options = { parent: "eth0", macvlan_mode: "private" };
  await networks.create(spec("lan", { driver: "macvlan", options, subnets }));
  await networks.create(spec("plain"));
  const again = await opened(networks.folder);
  const lan = again.find("lan") ?? assert.fail();
  assert.equal(networkType(lan), "macvlan");
  assert.deepEqual(linkOf(lan), { kind: "macvlan", mode: "private", parent: "eth0" });
  assert.deepEqual(lan.subnets, [
    { ...{ cidr: "10.91.0.0/24", prefix: 24, gateway: "10.91.0.9", range: "10.91.0.64/26" } },
  ]);
  const plain = again.find("plain") ?? assert.fail();
  assert.deepEqual([networkType(plain), linkOf(plain)], ["bridge", null]);
});

test("without a subnet one of the pools is taken, without a parent no gateway is set aside", async () => {
  const networks = await opened();
  const open = await networks.create(
    spec("open", { driver: "macvlan", options: { parent: "eth0" } }),
  );
  assert.match(open.subnets[0]?.gateway ?? "", /\.0\.1$/);
  const closed = await networks.create(spec("closed", { driver: "macvlan" }));
  assert.equal(closed.subnets[0]?.gateway, "");
  assert.notEqual(closed.subnets[0]?.cidr, open.subnets[0]?.cidr);
});

test("a network is made from a configuration, as often as its subnets allow", async () => {
  const networks = await opened();
  const asked = { labels: { a: "b" }, options: { parent: "eth0" }, subnets };
  const cfg = await networks.create(spec("cfg", { ...asked, isConfiguration: true }));
  assert.deepEqual([networkType(cfg), linkOf(cfg), cfg.subnets], ["null", null, []]);
  assert.deepEqual(cfg.configuration, { isIPv6: false, subnets });
  const lan = await networks.create(spec("lan", { driver: "macvlan", configFrom: "cfg" }));
  assert.deepEqual(
    [lan.labels, lan.options, lan.configFrom],
    [{ a: "b" }, { parent: "eth0" }, "cfg"],
  );
  assert.equal(lan.subnets[0]?.range, "10.91.0.64/26");
  const again = await opened(networks.folder);
  const [read] = again.list().filter(({ name }) => name === "cfg");
  assert.throws(() => checkUnused(read ?? assert.fail(), again.list()), {
    message: 'error while removing network: configuration network "cfg" is in use',
  });
  await again.remove(lan.id);
  checkUnused(read ?? assert.fail(), again.list());
});

const refused: readonly (readonly [string, Partial<LocalNetworkSpec>, string, RegExp])[] = [
  [
    "none of that name",
    { configFrom: "nope" },
    "not_found",
    /^configuration network "nope" does not exist$/,
  ],
  ["one that is no configuration", { configFrom: "front" }, "not_found", /"front" does not exist$/],
  [
    "a configuration from another",
    { configFrom: "cfg", isConfiguration: true },
    "denied",
    /cannot depend on another/,
  ],
  [
    "an internal configuration",
    { isConfiguration: true, isInternal: true },
    "denied",
    /Network operator fields/,
  ],
  [
    "an attachable configuration",
    { isConfiguration: true, isAttachable: true },
    "denied",
    /Network operator fields/,
  ],
  [
    "a subnet of its own",
    { configFrom: "cfg", subnets },
    "denied",
    /^user specified configurations are not supported/,
  ],
  ["labels of its own", { configFrom: "cfg", labels: { a: "b" } }, "denied", /^user specified/],
  [
    "options of its own",
    { configFrom: "cfg", options: { parent: "eth1" } },
    "denied",
    /^network driver options are not/,
  ],
  [
    "lo as its parent",
    { driver: "macvlan", options: { parent: "lo" } },
    "precondition",
    /^loopback interface/,
  ],
  [
    "a subnet that is another's",
    { driver: "macvlan", subnets: [{ subnet: "10.90.0.0/16", gateway: "" }] },
    "denied",
    /Pool overlaps/,
  ],
];
for (const [name, more, code, sentence] of refused)
  test(`refused: a network with ${name}`, async () => {
    const networks = await opened();
    await networks.create(spec("cfg", { isConfiguration: true }));
    await networks.create(spec("front", { subnets: [{ subnet: "10.90.4.0/24", gateway: "" }] }));
    await assert.rejects(networks.create(spec("new", more)), (error) => {
      assert.match(asSwarmError(error).message, sentence);
      return asSwarmError(error).code === code;
    });
    assert.equal(networks.find("new"), undefined);
  });
