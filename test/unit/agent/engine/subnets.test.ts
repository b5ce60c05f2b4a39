import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseSubnet, isInside, parseSubnet } from "../../../../agent/engine/subnets.ts";
import { asSwarmError } from "../../../../proto/kit/errors.ts";

test("the first free pool is taken, with its first address as the gateway", () => {
  assert.deepEqual(chooseSubnet([]), {
    cidr: "172.18.0.0/16",
    prefix: 16,
    gateway: "172.18.0.1",
  });
  assert.equal(chooseSubnet(["172.18.9.0/24", "172.19.0.0/16"]).cidr, "172.20.0.0/16");
  assert.equal(chooseSubnet(["172.16.0.0/12"]).cidr, "192.168.0.0/20");
  assert.throws(() => chooseSubnet(["0.0.0.0/0"]), /could not find an available/);
});

const rows: readonly (readonly [string, string, readonly string[], string, RegExp])[] = [
  ["10.1.2.0", "", [], "invalid", /an IPv4 CIDR is expected/],
  ["fd00::/64", "", [], "invalid", /an IPv4 CIDR is expected/],
  ["10.1.2.0/31", "", [], "invalid", /a prefix between/],
  ["10.1.2.5/24", "", [], "invalid", /it should be 10\.1\.2\.0\/24/],
  ["10.1.2.0/24", "10.1.3.1", [], "invalid", /no matching subnet for gateway 10\.1\.3\.1/],
  ["10.1.2.0/24", "", ["10.0.0.0/8"], "denied", /Pool overlaps with other one/],
  ["172.29.4.0/24", "", [], "denied", /Pool overlaps with other one/],
];
for (const [subnet, gateway, taken, code, sentence] of rows)
  test(`subnet ${subnet} with gateway "${gateway}" is refused beside ${taken.join()}`, () => {
    assert.throws(
      () => parseSubnet({ subnet, gateway }, taken),
      (error) => asSwarmError(error).code === code && sentence.test(asSwarmError(error).message),
    );
  });

test("a subnet with its own gateway", () => {
  const subnet = parseSubnet({ subnet: "10.1.2.0/24", gateway: "10.1.2.254" }, ["10.1.3.0/24"]);
  assert.deepEqual(subnet, { cidr: "10.1.2.0/24", prefix: 24, gateway: "10.1.2.254" });
  assert.equal(isInside("10.1.2.7", subnet.cidr), true);
  assert.equal(isInside("10.1.3.7", subnet.cidr), false);
});
