import assert from "node:assert/strict";
import { test } from "node:test";
import { NameServer } from "../../../../agent/keeper/dns.ts";
import { parseRequest } from "../../../../agent/keeper/requests.ts";
import { nameDifferences } from "../../../../agent/network/differences.ts";
import { networkFacts } from "../../../../agent/network/facts.ts";
import { nameTable, networkNames } from "../../../../agent/network/names.ts";
import { Naming } from "../../../../agent/network/naming.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import type { Keeper, NameTable } from "../../../../proto/kit/keeper.ts";
import { silentLog } from "../../../../proto/kit/log.ts";
import { nameDigest } from "../../../../proto/kit/name-digest.ts";
import { version } from "../../../../proto/kit/version.ts";
import { clusterView, endpoint, sandbox } from "./fixtures.ts";

const noSockets = {
  udp: () => assert.fail("no container is served here"),
  tcp: () => assert.fail("no container is served here"),
};

/** Keeps what it is told as the keeper does: through its own door. */
function fakeKeeper(
  names: Record<string, string>,
  saidVersion: string,
  asked: string[] = [],
): Keeper {
  const server = new NameServer(noSockets, () => 0, silentLog);
  return {
    onReconnect: () => {},
    ask: async (told) => {
      const request = parseRequest(JSON.parse(JSON.stringify(told)));
      if (request.do === "setNames") server.setTables(request.tables);
      if (request.do === "changeNames") {
        if (saidVersion === "old")
          throw new SwarmError("unsupported", 'this keeper cannot do "changeNames"');
        server.changeTables(request.tables);
      }
      if (request.do === "setNames" || request.do === "changeNames")
        for (const [id, table] of Object.entries(server.state.tables))
          names[`table ${id}`] = nameDigest(table);
      asked.push(request.do);
      if (request.do === "serveNames") names[`sandbox ${request.sandbox}`] = nameDigest(request);
      const lists = { children: {}, logs: [], sandboxes: [], names };
      return { ok: true, status: { protocol: 1, version: saidVersion, ...lists } };
    },
  };
}

const view = clusterView();
const networks = new Map(view.networks.map((network) => [network.ID, networkFacts(network)]));
const linked = sandbox("c1", "10.0.1.5", { aliases: { bar: "web" } });
const sandboxes = [[linked, "/run/netns/c1"]] as const;

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

for (const row of [
  { name: "hears of a change only", version, asked: ["setNames", "changeNames"] },
  { name: "of an older version hears all of it", version: "old", asked: ["setNames", "setNames"] },
])
  test(`a keeper ${row.name}, and has the new names`, async () => {
    const [names, asked]: [Record<string, string>, string[]] = [{}, []];
    const naming = new Naming(fakeKeeper(names, row.version, asked), silentLog);
    await naming.tellTables(view, networks);
    const later = clusterView({ endpoints: [endpoint(5, 1), endpoint(7, 2)] });
    await naming.tellTables(later, networks);
    await naming.tellTables(later, networks);
    assert.deepEqual(asked, row.asked);
    const [network] = [...networks.values()];
    assert.ok(network !== undefined);
    const wanted = nameDigest(nameTable(networkNames(later, network)));
    assert.equal(names["table net"], wanted);
  });

test("a keeper that lost its tables hears all of them again", async () => {
  const [names, asked]: [Record<string, string>, string[]] = [{}, []];
  const keepers = [fakeKeeper({}, version, []), fakeKeeper(names, version, asked)];
  const keeper: Keeper = {
    onReconnect: () => {},
    ask: (request) => (keepers[0] as Keeper).ask(request),
  };
  const naming = new Naming(keeper, silentLog);
  await naming.tellTables(view, networks);
  keepers.shift();
  await naming.tellTables(clusterView({ endpoints: [] }), networks);
  assert.deepEqual(asked, ["setNames"]);
});
