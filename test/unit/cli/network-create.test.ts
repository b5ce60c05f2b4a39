import assert from "node:assert/strict";
import { test } from "node:test";
import { networkBody } from "../../../cli/network.ts";

const common = { driver: "overlay", ipamDriver: "default" };

test("ranges, gateways and addresses go to the subnet that holds them, whatever the order", () => {
  const body = networkBody("dual", {
    ...{ ...common, ipv6: true, subnet: ["10.9.0.0/24", "fd00:7::/64"] },
    ...{ gateway: ["fd00:7::9", "10.9.0.9"], ipRange: ["fd00:7::8:0/112"] },
    auxAddress: ["a=10.9.0.3", "b=fd00:7::3"],
  });
  assert.equal(body["EnableIPv6"], true);
  assert.deepEqual((body["IPAM"] as { Config: unknown }).Config, [
    { Subnet: "10.9.0.0/24", Gateway: "10.9.0.9", AuxiliaryAddresses: { a: "10.9.0.3" } },
    {
      ...{ Subnet: "fd00:7::/64", IPRange: "fd00:7::8:0/112", Gateway: "fd00:7::9" },
      AuxiliaryAddresses: { b: "fd00:7::3" },
    },
  ]);
});

test("a configuration, and a network that is made from it", () => {
  const made = networkBody("cfg", { ...common, configOnly: true, subnet: ["10.9.0.0/24"] });
  assert.equal(made["ConfigOnly"], true);
  const used = networkBody("lan", { ...common, driver: "macvlan", configFrom: "cfg" });
  assert.deepEqual([used["Driver"], used["ConfigFrom"]], ["macvlan", { Network: "cfg" }]);
  assert.equal("ConfigOnly" in used, false);
});

const refused = [
  { name: "a gateway without a subnet", flags: { gateway: ["10.9.0.1"] }, says: /corresponding/ },
  {
    name: "a gateway in no subnet",
    flags: { subnet: ["10.9.0.0/24"], gateway: ["fd00::1"] },
    says: /no matching subnet for gateway fd00::1/,
  },
  {
    name: "a range in no subnet",
    flags: { subnet: ["fd00:7::/64"], ipRange: ["fd00:8::/80"] },
    says: /no matching subnet for range fd00:8::\/80/,
  },
];
for (const { name, flags, says } of refused)
  test(`refused: ${name}`, () =>
    assert.throws(() => networkBody("x", { ...common, ...flags }), { message: says }));
