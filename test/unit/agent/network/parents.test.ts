import assert from "node:assert/strict";
import { test } from "node:test";
import type { Link } from "../../../../agent/network/links.ts";
import { leftParents, ownAlias, planParent } from "../../../../agent/network/parents.ts";
import { asSwarmError } from "../../../../proto/kit/errors.ts";

function link(index: number, name: string, more: Partial<Link> = {}): Link {
  return {
    ...{ index, name, mtu: 1500, isUp: true, mac: "", peerIndex: 0, vxlan: null },
    ...{ kind: "", alias: "", ...more },
  };
}
const links = [link(1, "lo"), link(7, "eth0"), link(9, "eth0.30"), link(11, "br-lan")];

const rows = [
  { name: "eth0", plan: { do: "use", index: 7 } },
  { name: "br-lan", plan: { do: "use", index: 11 } },
  { name: "eth0.30", plan: { do: "use", index: 9 } },
  { name: "eth0.10", plan: { do: "make", name: "eth0.10", vlan: 10, over: 7 } },
  { name: "eth0.4094", plan: { do: "make", name: "eth0.4094", vlan: 4094, over: 7 } },
] as const;
for (const { name, plan } of rows)
  test(`the parent ${name}: ${plan.do}`, () => assert.deepEqual(planParent(name, links), plan));

const refused: readonly (readonly [string, RegExp])[] = [
  [
    "eth1",
    /^invalid subinterface vlan name eth1, example formatting is eth0\.10: this host has no link eth1$/,
  ],
  ["eth1.5", /^-o parent interface was not found on the host: eth1$/],
  ["eth0.x", /^unable to parse a valid vlan id from: x \(ex\. eth0\.10 for vlan 10\)$/],
  ["eth0.", /^unable to parse a valid vlan id from: {2}\(ex/],
  ["eth0.1.2", /^required interface name format is: name\.vlan_id, ex\. eth0\.10 for vlan 10/],
  ["eth0.0", /^vlan id must be between 1-4094, received: 0$/],
  ["eth0.4095", /^vlan id must be between 1-4094, received: 4095$/],
];
for (const [name, sentence] of refused)
  test(`the parent ${name} cannot be had`, () => {
    assert.throws(
      () => planParent(name, links),
      (error) =>
        asSwarmError(error).code === "precondition" && sentence.test(asSwarmError(error).message),
    );
  });

test("links of VLANs that we made go when no network wants them, others stay", () => {
  const ours = { kind: "vlan", alias: ownAlias };
  const all = [
    ...links,
    link(20, "eth0.40", ours),
    link(21, "eth0.41", ours),
    link(22, "eth0.42", { kind: "vlan" }),
    link(23, "dummy", { alias: ownAlias }),
  ];
  assert.deepEqual(leftParents(all, new Set(["eth0.41", "eth0"])), ["eth0.40"]);
  assert.deepEqual(leftParents(links, new Set()), []);
});
