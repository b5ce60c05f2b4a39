import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Chain,
  renderChange,
  renderNewTable,
  renderTable,
  type Table,
} from "../../../../agent/network/ruleset.ts";

function table(
  vips: Readonly<Record<string, string>>,
  chains: Readonly<Record<string, readonly string[]>>,
  hookRules: readonly string[] = ["ip daddr vmap @vips"],
): Table {
  return {
    family: "ip",
    name: "t",
    lookups: new Map([
      [
        "vips",
        {
          kind: "map",
          header: "type ipv4_addr : verdict;",
          elements: new Map(Object.entries(vips)),
        },
      ],
    ]),
    chains: new Map<string, Chain>([
      ...Object.entries(chains).map(([name, rules]): [string, Chain] => [
        name,
        { hook: "", rules },
      ]),
      ["pre", { hook: "type nat hook prerouting priority -100;", rules: hookRules }],
    ]),
  };
}

const one = table({ "10.0.0.2": "jump a" }, { a: ["dnat to 10.0.0.5"] });

test("a table nothing is known of is replaced whole, in one transaction", () => {
  assert.equal(
    renderChange(null, one),
    `add table ip t
delete table ip t
table ip t {
 map vips {
  type ipv4_addr : verdict;
  elements = { 10.0.0.2 : jump a }
 }
 chain a {
  dnat to 10.0.0.5
 }
 chain pre {
  type nat hook prerouting priority -100;
  ip daddr vmap @vips
 }
}
`,
  );
});

test("where there is none of its name a table takes nothing away", () => {
  assert.equal(renderTable(one), `add table ip t\ndelete table ip t\n${renderNewTable(one)}`);
});

const rows = [
  { name: "nothing differs: nothing is said", before: one, after: one, text: "" },
  {
    name: "another task: that service's chain alone is written again",
    before: one,
    after: table({ "10.0.0.2": "jump a" }, { a: ["dnat to 10.0.0.6"] }),
    text: "flush chain ip t a\nadd rule ip t a dnat to 10.0.0.6\n",
  },
  {
    name: "a new service: its chain is there before anything jumps to it",
    before: one,
    after: table(
      { "10.0.0.2": "jump a", "10.0.0.3": "jump b" },
      { a: ["dnat to 10.0.0.5"], b: ["dnat to 10.0.0.7"] },
    ),
    text: "add chain ip t b\nadd element ip t vips { 10.0.0.3 : jump b }\nadd rule ip t b dnat to 10.0.0.7\n",
  },
  {
    name: "a service gone: nothing jumps to its chain any more when it is deleted",
    before: one,
    after: table({}, {}),
    text: "delete element ip t vips { 10.0.0.2 }\nflush chain ip t a\ndelete chain ip t a\n",
  },
  {
    name: "an element that leads elsewhere is taken out before it is put in",
    before: table({ "10.0.0.2": "jump a" }, { a: ["x"], b: ["y"] }),
    after: table({ "10.0.0.2": "jump b" }, { a: ["x"], b: ["y"] }),
    text: "delete element ip t vips { 10.0.0.2 }\nadd element ip t vips { 10.0.0.2 : jump b }\n",
  },
  {
    name: "a hooked chain's rules change in place",
    before: one,
    after: table({ "10.0.0.2": "jump a" }, { a: ["dnat to 10.0.0.5"] }, ["drop"]),
    text: "flush chain ip t pre\nadd rule ip t pre drop\n",
  },
];
for (const row of rows) {
  test(row.name, () => assert.equal(renderChange(row.before, row.after), row.text));
}

test("another hook or another type of map replaces the table", () => {
  const hooked = new Map(one.chains).set("pre", { hook: "type nat hook output;", rules: [] });
  const changed = { ...one, chains: hooked };
  assert.equal(renderChange(one, changed), renderTable(changed));
  const lookups = new Map([
    ["vips", { kind: "set", header: "type ipv4_addr;", elements: new Map() } as const],
  ]);
  assert.equal(renderChange(one, { ...one, lookups }), renderTable({ ...one, lookups }));
});
