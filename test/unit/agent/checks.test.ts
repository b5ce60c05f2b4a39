import assert from "node:assert/strict";
import { test } from "node:test";
import { checkMachine, type Machine } from "../../../agent/checks.ts";

const fit: Machine = {
  platform: "linux",
  nodeVersion: "20.11.0",
  userId: 0,
  has: async () => true,
  kernelLacks: async () => [],
};

test("a machine that has everything is fit", () => checkMachine(fit));

const rows = [
  { lacks: "Linux", but: { platform: "darwin" }, says: /runs on Linux only/ },
  { lacks: "a new Node", but: { nodeVersion: "20.10.9" }, says: /needs Node 20.11 or newer/ },
  { lacks: "root", but: { userId: 1000 }, says: /run as root/ },
  {
    lacks: "nftables",
    but: { has: async (program: string) => program !== "nft" },
    says: /^nft is missing: .*apt install nftables/,
  },
  {
    lacks: "runc",
    but: { has: async (program: string) => program !== "runc" },
    says: /^runc is missing: .*apt install runc/,
  },
  {
    lacks: "VXLAN",
    but: { kernelLacks: async () => ["VXLAN devices: EOPNOTSUPP"] },
    says: /this kernel cannot do what tsswarm needs: VXLAN/,
  },
];
for (const row of rows)
  test(`without ${row.lacks} a machine is told so`, () =>
    assert.rejects(checkMachine({ ...fit, ...row.but }), {
      code: "unsupported",
      message: row.says,
    }));
