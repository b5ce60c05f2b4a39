import assert from "node:assert/strict";
import { test } from "node:test";
import {
  chooseSubnet,
  drawSubnet6,
  isInside,
  parseSubnet,
} from "../../../../agent/engine/subnets.ts";
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
  ["10.1.2.0", "", [], "invalid", /a CIDR is expected/],
  ["10.1/16", "", [], "invalid", /a CIDR is expected/],
  ["fd00::/127", "", [], "invalid", /a prefix between \/8 and \/126/],
  ["fd00::1/64", "", [], "invalid", /it should be fd00::\/64/],
  ["fd00::/64", "10.0.0.1", [], "invalid", /no matching subnet for gateway 10\.0\.0\.1/],
  ["fd00::/64", "", ["10.0.0.0/8", "fd00::/16"], "denied", /Pool overlaps with other one/],
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

test("a subnet with a range of its own and addresses that nobody gets", () => {
  const asked = { subnet: "172.28.0.0/16", gateway: "172.28.5.254", range: "172.28.5.0/24" };
  const auxiliary = { a: "172.28.1.5" };
  assert.deepEqual(parseSubnet({ ...asked, auxiliary }, []), {
    ...{ cidr: "172.28.0.0/16", prefix: 16, gateway: "172.28.5.254", range: "172.28.5.0/24" },
    auxiliary,
  });
  const wrong = [
    [{ range: "172.27.0.0/24" }, /no matching subnet for range/],
    [{ range: "172.28.0.0/12" }, /no matching subnet for range/],
    [{ range: "x" }, /no matching subnet for range/],
    [{ auxiliary: { a: "172.29.0.1" } }, /no matching subnet for aux-address 172\.29\.0\.1/],
  ] as const;
  for (const [change, sentence] of wrong)
    assert.throws(() => parseSubnet({ ...asked, ...change }, []), sentence);
});

test("subnets of IPv6: as they are written, and drawn", () => {
  const subnet = { cidr: "fd00:1::/64", prefix: 64, gateway: "fd00:1::1", isGatewayChosen: true };
  assert.deepEqual(parseSubnet({ subnet: "fd00:1::/64", gateway: "" }, ["10.0.0.0/8"]), subnet);
  const shown = { subnet: "fd00:1:0::/64", gateway: "fd00:1::1" };
  assert.deepEqual(parseSubnet({ ...shown, gateway: "" }, []), { ...subnet, shown });
  const asked = { subnet: "fd00:1::/64", gateway: "fd00:0001::1" };
  const { isGatewayChosen: _, ...given } = subnet;
  assert.deepEqual(parseSubnet(asked, []), { ...given, shown: asked });
  assert.deepEqual(drawSubnet6(Buffer.from("0102030405", "hex")), {
    ...{ cidr: "fd01:203:405::/64", prefix: 64, gateway: "fd01:203:405::1" },
  });
});

test("a gateway that nobody asked for is the first address of the range", () => {
  const gateway = (range: string) =>
    parseSubnet({ subnet: "172.28.0.0/16", gateway: "", range }, []).gateway;
  assert.equal(gateway("172.28.5.0/24"), "172.28.5.0");
  assert.equal(gateway("172.28.0.0/24"), "172.28.0.1");
  assert.equal(gateway(""), "172.28.0.1");
});

test("a network on a link of the host may be in any subnet, and be without a gateway", () => {
  const use = { hasGateway: false, isDirect: true };
  const asked = { subnet: "172.29.4.0/24", gateway: "" };
  const found = { cidr: "172.29.4.0/24", prefix: 24, gateway: "" };
  assert.deepEqual(parseSubnet(asked, [], use), found);
  const own = { ...asked, gateway: "172.29.4.9" };
  assert.equal(parseSubnet(own, [], use).gateway, "172.29.4.9");
  assert.throws(() => parseSubnet(asked, ["172.29.0.0/20"], use), /Pool overlaps/);
});
