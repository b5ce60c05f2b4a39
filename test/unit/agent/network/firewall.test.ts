import assert from "node:assert/strict";
import { test } from "node:test";
import { foreignChains, missingRules } from "../../../../agent/network/firewall.ts";

const listing = `table ip tsswarm {
	chain crossing {
		type filter hook forward priority filter; policy drop;
	}
}
table ip filter {
	chain DOCKER-USER {
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
}
table inet firewalld {
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
	}
}
`;

test("of the chains that nft lists, those of others that drop what is forwarded are told apart", () => {
  assert.deepEqual(
    foreignChains(listing).map(({ table, name, dropsForwarded }) => [table, name, dropsForwarded]),
    [
      ["ip filter", "DOCKER-USER", false],
      ["ip filter", "FORWARD", true],
      ["ip filter", "INPUT", false],
      ["inet firewalld", "filter_FORWARD", false],
    ],
  );
});

const from = 'iifname "tsw*"';
const to = 'oifname "tsw*"';
const rows = [
  { name: "none of ours", lines: ["counter packets 0 bytes 0 return"], missing: [from, to] },
  {
    name: "both, as iptables shows them",
    lines: [`${from} counter packets 1 bytes 2 accept`, `${to} counter packets 0 bytes 0 accept`],
    missing: [],
  },
  { name: "one only", lines: [`${to} accept`], missing: [from] },
  { name: "one that drops", lines: [`${from} accept`, `${to} counter drop`], missing: [to] },
  {
    name: "one of a longer name",
    lines: [`iifname "tsw*2" accept`, `${to} accept`],
    missing: [from],
  },
];
for (const { name, lines, missing } of rows)
  test(`what a chain lacks of our rules: it has ${name}`, () => {
    const text = ["table ip filter {", "\tchain c {", ...lines.map((l) => `\t\t${l}`), "\t}", "}"];
    assert.deepEqual(missingRules(text.join("\n")), missing);
  });
