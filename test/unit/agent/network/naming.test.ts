import assert from "node:assert/strict";
import { test } from "node:test";
import { parseRequest } from "../../../../agent/keeper/requests.ts";
import { nameDifferences } from "../../../../agent/network/differences.ts";
import { Naming } from "../../../../agent/network/naming.ts";
import { networkFacts } from "../../../../agent/network/plan.ts";
import type { Keeper, NameTable } from "../../../../proto/kit/keeper.ts";
import { silentLog } from "../../../../proto/kit/log.ts";
import { nameDigest } from "../../../../proto/kit/name-digest.ts";
import { version } from "../../../../proto/kit/version.ts";
import { clusterView, sandbox } from "./fixtures.ts";

/** Keeps what it is told as the keeper does: through its own door. */
function fakeKeeper(names: Record<string, string>, saidVersion: string): Keeper {
  return {
    onReconnect: () => {},
    ask: async (asked) => {
      const request = parseRequest(JSON.parse(JSON.stringify(asked)));
      if (request.do === "setNames")
        for (const [id, table] of Object.entries(request.tables))
          if (table !== null) names[`table ${id}`] = nameDigest(table);
      if (request.do === "serveNames") names[`sandbox ${request.sandbox}`] = nameDigest(request);
      const lists = { children: {}, logs: [], sandboxes: [], names };
      return { ok: true, status: { protocol: 1, version: saidVersion, ...lists } };
    },
  };
}

const view = clusterView();
const networks = new Map(view.networks.map((network) => [network.ID, networkFacts(network)]));
const sandboxes = [[sandbox("c1", "10.0.1.5"), "/run/netns/c1"]] as const;

async function told(saidVersion = version) {
  const names: Record<string, string> = {};
  const naming = new Naming(fakeKeeper(names, saidVersion), silentLog);
  await naming.tellTables(view, networks);
  for (const [each, path] of sandboxes) await naming.serve(each, path, networks);
  return { names, naming };
}

test("what the keeper was told is what it should hold, and what it lost is missed", async () => {
  const { names, naming } = await told();
  const found = await naming.digests(view, networks, sandboxes);
  assert.ok(found !== null);
  assert.deepEqual([...found.wanted.keys()], ["table net", "sandbox c1"]);
  assert.deepEqual(nameDifferences(found.wanted, found.actual), []);
  delete names["table net"];
  names["sandbox c1"] = "other";
  const later = await naming.digests(view, networks, sandboxes);
  const differences = nameDifferences(later?.wanted ?? new Map(), later?.actual ?? {});
  assert.deepEqual(
    differences.map(({ how }) => how),
    ["missing", "changed"],
  );
});

test("a keeper of another version is not judged", async () => {
  const { naming } = await told("0.0.1");
  assert.equal(await naming.digests(view, networks, sandboxes), null);
});

test("a table's digest does not depend on the order of its entries", () => {
  const a: NameTable = { names: { x: ["10.0.0.1"], y: [] }, addresses: {} };
  const b: NameTable = { addresses: {}, names: { y: [], x: ["10.0.0.1"] } };
  assert.equal(nameDigest(a), nameDigest(b));
  assert.notEqual(nameDigest(a), nameDigest({ ...a, names: { x: ["10.0.0.2"], y: [] } }));
});
