// Who reaches whom, and as whom they are seen: the table of all ways between two nodes, a client outside, and containers
// on one, two, internal and equal networks; and the ways strangers try.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { ClusterView, Sandbox } from "../../agent/network/types.ts";
import {
  askOnce,
  endHosts,
  type Host,
  ingress,
  makeHosts,
  membersView,
  network,
  serve,
  serveUdp,
} from "./network-kit.ts";

/** `twin` has the subnet of `front`, and the same addresses in it. */
const networks = [
  ingress,
  network({ id: "front", name: "front", base: "10.0.1", vni: 4097 }),
  network({ id: "back", name: "back", base: "10.0.2", vni: 4098 }),
  network({ id: "closed", name: "closed", base: "10.0.3", vni: 4099, isInternal: true }),
  network({ id: "twin", name: "twin", base: "10.0.1", vni: 4100 }),
];
const bases = new Map(
  networks.map(({ ID, IPAM }) => [ID, IPAM?.Config[0]?.Gateway.replace(/\.1$/, "") ?? ""]),
);

interface Box {
  readonly id: string;
  readonly host: number;
  readonly last: number;
  readonly service: string;
  readonly on: readonly string[];
}

const boxes: readonly Box[] = [
  { id: "a1", host: 1, last: 5, service: "web", on: ["ing", "front"] },
  { id: "b1", host: 2, last: 6, service: "web", on: ["ing", "front"] },
  { id: "a2", host: 1, last: 7, service: "both", on: ["front", "back"] },
  { id: "b2", host: 2, last: 8, service: "api", on: ["back"] },
  { id: "a3", host: 1, last: 5, service: "vault", on: ["closed"] },
  { id: "b3", host: 2, last: 6, service: "vault", on: ["closed"] },
  { id: "b4", host: 2, last: 9, service: "guard", on: ["closed", "front"] },
  { id: "a5", host: 1, last: 5, service: "other", on: ["twin"] },
  { id: "b5", host: 2, last: 6, service: "other", on: ["twin"] },
  { id: "a6", host: 1, last: 20, service: "rounds", on: ["front"] },
  { id: "b6", host: 2, last: 21, service: "rounds", on: ["front"] },
];
const mesh = [
  { Name: "", Protocol: "tcp", TargetPort: 80, PublishedPort: 8080, PublishMode: "ingress" },
  { Name: "", Protocol: "udp", TargetPort: 5353, PublishedPort: 8080, PublishMode: "ingress" },
];
/** By the last byte of its virtual address; 0: none (dnsrr). */
const services = [
  { id: "web", last: 2 },
  { id: "api", last: 2 },
  { id: "vault", last: 2 },
  { id: "other", last: 2 },
  { id: "both", last: 3 },
  { id: "guard", last: 4 },
  { id: "rounds", last: 0 },
];

let hosts: readonly Host[] = [];
let outside: Host;
/** Namespaces of everyone by name: boxes, hosts a and b, and the client outside. */
const places = new Map<string, string>();

const isReady = process.getuid?.() === 0;
const skip = isReady ? false : "needs root";

before(async () => {
  if (!isReady) return;
  ({ hosts, outside } = makeHosts());
  for (const host of [...hosts, outside]) places.set(host.name, host.namespace);
  await Promise.all(hosts.map((host, i) => host.do("update", view(i + 1))));
  for (const box of boxes) {
    const namespace = await hostOf(box).create(sandbox(box));
    serveUdp(namespace, box.id, 5353);
    places.set(box.id, namespace);
  }
  await serve(outside.namespace, "outside", 80);
  serveUdp(outside.namespace, "outside", 5353);
});

after(() => endHosts(hosts));

function hostOf(box: Box): Host {
  return hosts[box.host - 1] ?? assert.fail();
}

function sandbox({ id, on, last }: Box): Sandbox {
  const attachments = on.map((networkId) => ({ networkId, address: addressOn(networkId, last) }));
  return { id, attachments, ports: [], upstreamNameServers: [], searchDomains: [] };
}

function addressOn(networkId: string, last: number): string {
  return `${bases.get(networkId)}.${last}`;
}

function view(self: number): ClusterView {
  return {
    ...membersView(self, hosts),
    networks,
    services: services.flatMap(({ id, last }) => {
      const on = boxes.find(({ service }) => service === id)?.on ?? [];
      return on.map((NetworkID) => ({
        ...{ NetworkID, ServiceID: id, Name: id, Aliases: [] },
        VirtualIP: last === 0 ? "" : addressOn(NetworkID, last),
        Ports: NetworkID === "ing" ? mesh : [],
      }));
    }),
    endpoints: boxes.flatMap(({ id, host, last, service, on }) =>
      on.map((NetworkID) => ({
        ...{ NetworkID, ServiceID: service, TaskID: id, NodeID: `node${host}`, NodeIndex: host },
        ...{ Address: addressOn(NetworkID, last), State: "serving", Names: [id], Aliases: [] },
      })),
    ),
  };
}

const at = (name: string) => places.get(name) ?? assert.fail(name);
const nothing = /^(refused|no route)$/;
/** Beyond the host it is for others to say no. */
const silence = /^(refused|no route|failed: .*|)$/;

/** From whom, to where, and what is heard over TCP and over UDP alike: port 80 there is port 5353 here. */
const ways: readonly (readonly [from: string, to: string, hears: RegExp])[] = [
  ["c", "10.88.0.11:8080", /^[ab]1 saw 10\.88\.0\.13$/],
  ["c", "10.88.0.12:8080", /^[ab]1 saw 10\.88\.0\.13$/],
  ["c", "10.0.1.2:80", nothing],
  ["c", "10.0.1.5:80", nothing],
  ["a", "127.0.0.1:8080", /^[ab]1 saw /],
  ["a", "10.88.0.11:8080", /^[ab]1 saw /],
  ["a", "10.88.0.12:8080", /^[ab]1 saw 10\.88\.0\.11$/],
  ["a", "10.0.1.2:80", nothing],
  ["a", "10.0.1.5:80", nothing],
  ["a1", "10.0.1.2:80", /^(a1 saw 10\.0\.1\.1|b1 saw 10\.0\.1\.5)$/],
  ["a1", "10.0.1.6:80", /^b1 saw 10\.0\.1\.5$/],
  ["a1", "10.0.1.7:80", /^a2 saw 10\.0\.1\.5$/],
  ["a1", "10.88.0.11:8080", /^[ab]1 saw /],
  ["a1", "10.88.0.12:8080", /^[ab]1 saw 10\.88\.0\.11$/],
  ["a1", "10.0.2.8:80", silence],
  ["a1", "10.0.1.77:80", nothing],
  // Two networks: each is reached with the address on it.
  ["a2", "10.0.1.2:80", /^[ab]1 saw 10\.0\.1\.7$/],
  ["a2", "10.0.2.2:80", /^b2 saw 10\.0\.2\.7$/],
  ["a2", "10.88.0.12:8080", /^[ab]1 saw 10\.88\.0\.11$/],
  ["a2", "10.88.0.13:80", /^outside saw 10\.88\.0\.11$/],
  ["b2", "10.0.2.7:80", /^a2 saw 10\.0\.2\.8$/],
  ["b2", "10.0.1.2:80", silence],
  ["b2", "10.0.1.5:80", silence],
  ["b2", "10.88.0.11:8080", /^[ab]1 saw 10\.88\.0\.12$/],
  ["b2", "10.88.0.12:8080", /^[ab]1 saw /],
  // An internal network has no way out, and a container on another one too leaves through that.
  ["a3", "10.0.3.2:80", /^(a3 saw 10\.0\.3\.1|b3 saw 10\.0\.3\.5)$/],
  ["a3", "10.0.3.6:80", /^b3 saw 10\.0\.3\.5$/],
  ["a3", "10.88.0.13:80", nothing],
  ["a3", "10.88.0.11:8080", nothing],
  ["a3", "10.0.1.2:80", nothing],
  ["b4", "10.0.3.5:80", /^a3 saw 10\.0\.3\.9$/],
  ["b4", "10.0.1.5:80", /^a1 saw 10\.0\.1\.9$/],
  ["b4", "10.88.0.13:80", /^outside saw 10\.88\.0\.12$/],
  // The same addresses on another network are others.
  ["a5", "10.0.1.2:80", /^(a5 saw 10\.0\.1\.1|b5 saw 10\.0\.1\.5)$/],
  ["a5", "10.0.1.6:80", /^b5 saw 10\.0\.1\.5$/],
  ["a5", "10.0.1.7:80", nothing],
  ["b5", "10.0.1.5:80", /^a5 saw 10\.0\.1\.6$/],
  // A service without a virtual address is reached by its tasks' own.
  ["a1", "10.0.1.20:80", /^a6 saw 10\.0\.1\.5$/],
  ["a1", "10.0.1.21:80", /^b6 saw 10\.0\.1\.5$/],
];

for (const [from, to, hears] of ways)
  test(`from ${from} to ${to}: ${hears.source}`, { skip }, async () => {
    const start = performance.now();
    const stream = askOnce(at(from), to).finally(() => {
      if (hears === nothing) assert.ok(performance.now() - start < 1_000, "refused at once");
    });
    const heard = await Promise.all([
      stream,
      askOnce(at(from), `UDP:${to.replace(/:80$/, ":5353")}`),
    ]);
    const [tcp, udp] = heard;
    assert.match(tcp, hears);
    // A program that uses datagrams is not told of an address that nobody has.
    assert.match(udp, hears === nothing ? silence : hears);
  });

test("a service without a virtual address is known by its tasks' addresses", { skip }, () => {
  const tables = (hosts[0]?.keeperHeard ?? []).flatMap((request) =>
    request.do === "setNames" ? [request.tables["front"]] : [],
  );
  const names = tables.at(-1)?.names ?? {};
  assert.deepEqual(names["rounds"], ["10.0.1.20", "10.0.1.21"]);
  assert.deepEqual(names["tasks.rounds"], ["10.0.1.20", "10.0.1.21"]);
  assert.deepEqual(names["web"], ["10.0.1.2"]);
});

test("whoever asks for what is not there is told each time", { skip }, async () => {
  const start = performance.now();
  for (let i = 0; i < 10; i++) assert.equal(await askOnce(at("a1"), "10.0.1.77:80"), "refused");
  for (let i = 0; i < 10; i++) assert.equal(await askOnce(at("a1"), "UDP:10.0.1.2:99"), "refused");
  assert.ok(performance.now() - start < 3_000);
});
