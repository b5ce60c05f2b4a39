import assert from "node:assert/strict";
import { test } from "node:test";
import {
  checkParent,
  directLink,
  hasGateway,
  type LocalDriver,
} from "../../../../agent/engine/direct-networks.ts";
import { asSwarmError } from "../../../../proto/kit/errors.ts";

type Options = Readonly<Record<string, string>>;

const links: readonly (readonly [LocalDriver, Options, unknown])[] = [
  ["bridge", { parent: "eth0" }, null],
  ["macvlan", {}, { kind: "macvlan", mode: "bridge", parent: "" }],
  ["macvlan", { parent: "eth0.10" }, { kind: "macvlan", mode: "bridge", parent: "eth0.10" }],
  ["macvlan", { macvlan_mode: "vepa" }, { kind: "macvlan", mode: "vepa", parent: "" }],
  ["macvlan", { macvlan_mode: "", colour: "red" }, { kind: "macvlan", mode: "bridge", parent: "" }],
  ["ipvlan", {}, { kind: "ipvlan", mode: "l2", flag: "bridge", parent: "" }],
  [
    "ipvlan",
    { parent: "eth0", ipvlan_mode: "l3s", ipvlan_flag: "private" },
    { kind: "ipvlan", mode: "l3s", flag: "private", parent: "eth0" },
  ],
];
for (const [driver, options, link] of links)
  test(`a ${driver} network with ${JSON.stringify(options)}`, () =>
    assert.deepEqual(directLink(driver, options), link));

const wrong: readonly (readonly [LocalDriver, Options, string])[] = [
  ["macvlan", { parent: "lo" }, "loopback interface is not a valid macvlan parent link"],
  ["ipvlan", { parent: "lo" }, "loopback interface is not a valid ipvlan parent link"],
  [
    "macvlan",
    { macvlan_mode: "loud" },
    "requested macvlan mode 'loud' is not valid, 'bridge' mode is the macvlan driver default",
  ],
  [
    "ipvlan",
    { ipvlan_mode: "l4" },
    "requested ipvlan mode 'l4' is not valid, 'l2' mode is the ipvlan driver default",
  ],
  [
    "ipvlan",
    { ipvlan_flag: "x" },
    "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default",
  ],
];
for (const [driver, options, message] of wrong)
  test(`a ${driver} network with ${JSON.stringify(options)} is refused`, () => {
    assert.throws(() => directLink(driver, options), { message });
  });

const id = "0123456789abcdef";
const pairs: readonly {
  readonly name: string;
  readonly one: readonly [LocalDriver, Options];
  readonly other: readonly [LocalDriver, Options];
  readonly says: string;
}[] = [
  {
    name: "several macvlan networks share a parent",
    one: ["macvlan", { parent: "eth0" }],
    other: ["macvlan", { parent: "eth0", macvlan_mode: "private" }],
    says: "",
  },
  {
    name: "a parent in mode passthru is nobody else's",
    one: ["macvlan", { parent: "eth0" }],
    other: ["macvlan", { parent: "eth0", macvlan_mode: "passthru" }],
    says: `macvlan network ${id} is already using parent interface eth0 in mode passthru`,
  },
  {
    name: "mode passthru needs a parent of its own",
    one: ["macvlan", { parent: "eth0", macvlan_mode: "passthru" }],
    other: ["macvlan", { parent: "eth0" }],
    says: `cannot use mode passthru, macvlan network ${id} is already using parent interface eth0`,
  },
  {
    name: "a parent has one ipvlan network",
    one: ["ipvlan", { parent: "eth0" }],
    other: ["ipvlan", { parent: "eth0" }],
    says: "network dm-0123456789ab is already using parent interface eth0",
  },
  {
    name: "networks of other parents do not matter",
    one: ["ipvlan", { parent: "eth1" }],
    other: ["ipvlan", { parent: "eth0" }],
    says: "",
  },
  {
    name: "each without a parent has its own switch",
    one: ["macvlan", { macvlan_mode: "passthru" }],
    other: ["macvlan", {}],
    says: "",
  },
  {
    name: "which of two kinds a parent has, the kernel says",
    one: ["ipvlan", { parent: "eth0" }],
    other: ["macvlan", { parent: "eth0" }],
    says: "",
  },
  {
    name: "bridges are on no parent",
    one: ["macvlan", { parent: "eth0" }],
    other: ["bridge", { parent: "eth0" }],
    says: "",
  },
];
for (const { name, one, other, says } of pairs)
  test(name, () => {
    const wanted = directLink(...one) ?? assert.fail();
    const check = () => checkParent(wanted, [{ id, link: directLink(...other) }]);
    if (says === "") return check();
    assert.throws(check, (error) => {
      assert.equal(asSwarmError(error).message, says);
      return asSwarmError(error).code === "precondition";
    });
  });

const gateways: readonly (readonly [LocalDriver, Options, boolean, boolean])[] = [
  ["bridge", {}, true, true],
  ["macvlan", { parent: "eth0" }, false, true],
  ["macvlan", { parent: "eth0" }, true, false],
  ["macvlan", {}, false, false],
  ["ipvlan", { parent: "eth0" }, false, true],
  ["ipvlan", { parent: "eth0", ipvlan_mode: "l3" }, false, false],
];
for (const [driver, options, isInternal, has] of gateways)
  test(`${driver} ${JSON.stringify(options)}, internal ${isInternal}: gateway ${has}`, () =>
    assert.equal(hasGateway(directLink(driver, options), isInternal), has));
