// Who reaches whom, and as whom they are seen: the table of all ways between two nodes, a client outside, and containers
// on one, two, internal and equal networks; and the ways strangers try.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { after, before, test } from "node:test";
import { routerMac } from "../../agent/network/addresses.ts";
import type { ClusterView, Sandbox } from "../../agent/network/types.ts";
import { until } from "../../deploy/lab/run.ts";
import { udpSocketIn } from "../../proto/kit/netns.ts";
import {
  addressesOn,
  askOnce,
  endHosts,
  type Host,
  ingress,
  ip,
  makeHosts,
  membersView,
  network,
  prefix,
  serve,
  serveUdp,
} from "./network-kit.ts";

/** `twin` has the subnets of `front`, and the same addresses in them; `four` has no IPv6. */
const networks = [
  ingress,
  network({ id: "front", name: "front", base: "10.0.1", base6: "fd00:1", vni: 4097 }),
  network({ id: "back", name: "back", base: "10.0.2", base6: "fd00:2", vni: 4098 }),
  network({
    ...{ id: "closed", name: "closed", vni: 4099, isInternal: true },
    ...{ base: "10.0.3", base6: "fd00:3" },
  }),
  network({ id: "twin", name: "twin", base: "10.0.1", base6: "fd00:1", vni: 4100 }),
  network({ id: "four", name: "four", base: "10.0.4", vni: 4101 }),
];

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
  { id: "a7", host: 1, last: 5, service: "old", on: ["four"] },
  { id: "b7", host: 2, last: 6, service: "old", on: ["four"] },
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
  { id: "old", last: 2 },
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

const sockets: Socket[] = [];

after(async () => {
  for (const socket of sockets) socket.close();
  await endHosts(hosts);
});

function hostOf(box: Box): Host {
  return hosts[box.host - 1] ?? assert.fail();
}

function sandbox({ id, on, last }: Box): Sandbox {
  const attachments = on.map((networkId) => ({
    networkId,
    addresses: addressesAt(networkId, last),
  }));
  return { id, attachments, ports: [], upstreamNameServers: [], searchDomains: [] };
}

function addressesAt(networkId: string, last: number): readonly string[] {
  return addressesOn(networks.find(({ ID }) => ID === networkId) ?? assert.fail(), last);
}

function view(self: number): ClusterView {
  return {
    ...membersView(self, hosts),
    networks,
    services: services.flatMap(({ id, last }) => {
      const on = boxes.find(({ service }) => service === id)?.on ?? [];
      return on.map((NetworkID) => ({
        ...{ NetworkID, ServiceID: id, Name: id, Aliases: [] },
        VirtualIPs: last === 0 ? [] : addressesAt(NetworkID, last),
        Ports: NetworkID === "ing" ? mesh : [],
      }));
    }),
    endpoints: boxes.flatMap(({ id, host, last, service, on }) =>
      on.map((NetworkID) => ({
        ...{ NetworkID, ServiceID: service, TaskID: id, NodeID: `node${host}`, NodeIndex: host },
        ...{ Addresses: addressesAt(NetworkID, last), State: "serving", Names: [id], Aliases: [] },
      })),
    ),
  };
}

const at = (name: string) => places.get(name) ?? assert.fail(name);
const any = "0.0.0.0";
const nothing = /^(refused|no route)$/;
/** Beyond the host it is for others to say no. */
const silence = /^(refused|no route|failed: .*|)$/s;

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
  // The same over IPv6.
  ["c", "[fd4c:88::11]:8080", /^[ab]1 saw fd4c:88::13$/],
  ["c", "[fd4c:88::12]:8080", /^[ab]1 saw fd4c:88::13$/],
  ["c", "[fd00:1::2]:80", nothing],
  ["c", "[fd00:1::5]:80", nothing],
  ["a", "[::1]:8080", /^[ab]1 saw /],
  ["a", "[fd4c:88::11]:8080", /^[ab]1 saw /],
  ["a", "[fd4c:88::12]:8080", /^[ab]1 saw fd4c:88::11$/],
  ["a", "[fd00:1::2]:80", nothing],
  ["a", "[fd00:1::5]:80", nothing],
  ["a1", "[fd00:1::2]:80", /^(a1 saw fd00:1::1|b1 saw fd00:1::5)$/],
  ["a1", "[fd00:1::6]:80", /^b1 saw fd00:1::5$/],
  ["a1", "[fd00:1::7]:80", /^a2 saw fd00:1::5$/],
  ["a1", "[fd4c:88::11]:8080", /^[ab]1 saw /],
  ["a1", "[fd4c:88::12]:8080", /^[ab]1 saw fd4c:88::11$/],
  ["a1", "[fd4c:88::13]:80", /^outside saw fd4c:88::11$/],
  ["a1", "[fd00:2::8]:80", silence],
  ["a1", "[fd00:1::77]:80", nothing],
  ["a2", "[fd00:1::2]:80", /^[ab]1 saw fd00:1::7$/],
  ["a2", "[fd00:2::2]:80", /^b2 saw fd00:2::7$/],
  ["a2", "[fd4c:88::12]:8080", /^[ab]1 saw fd4c:88::11$/],
  ["a2", "[fd4c:88::13]:80", /^outside saw fd4c:88::11$/],
  ["b2", "[fd00:2::7]:80", /^a2 saw fd00:2::8$/],
  ["b2", "[fd00:1::2]:80", silence],
  ["b2", "[fd00:1::5]:80", silence],
  ["b2", "[fd4c:88::11]:8080", /^[ab]1 saw fd4c:88::12$/],
  ["b2", "[fd4c:88::12]:8080", /^[ab]1 saw /],
  ["a3", "[fd00:3::2]:80", /^(a3 saw fd00:3::1|b3 saw fd00:3::5)$/],
  ["a3", "[fd00:3::6]:80", /^b3 saw fd00:3::5$/],
  ["a3", "[fd4c:88::13]:80", nothing],
  ["a3", "[fd4c:88::11]:8080", nothing],
  ["a3", "[fd00:1::2]:80", nothing],
  ["b4", "[fd00:3::5]:80", /^a3 saw fd00:3::9$/],
  ["b4", "[fd00:1::5]:80", /^a1 saw fd00:1::9$/],
  ["b4", "[fd4c:88::13]:80", /^outside saw fd4c:88::12$/],
  ["a5", "[fd00:1::2]:80", /^(a5 saw fd00:1::1|b5 saw fd00:1::5)$/],
  ["a5", "[fd00:1::6]:80", /^b5 saw fd00:1::5$/],
  ["a5", "[fd00:1::7]:80", nothing],
  ["b5", "[fd00:1::5]:80", /^a5 saw fd00:1::6$/],
  ["a1", "[fd00:1::20]:80", /^a6 saw fd00:1::5$/],
  ["a1", "[fd00:1::21]:80", /^b6 saw fd00:1::5$/],
  // A network without IPv6 has none, inside and out.
  ["a7", "10.0.4.2:80", /^(a7 saw 10\.0\.4\.1|b7 saw 10\.0\.4\.5)$/],
  ["a7", "10.88.0.13:80", /^outside saw 10\.88\.0\.11$/],
  ["a7", "[fd4c:88::13]:80", nothing],
];

for (const [from, to, hears] of ways)
  test(`from ${from} to ${to}: ${hears.source}`, { skip }, async () => {
    const datagrams = `UDP:${to.replace(/:80$/, ":5353")}`;
    // A program that uses datagrams is not told of an address that nobody has.
    const answers = hears === nothing ? silence : hears;
    const [tcp, udp] = await Promise.all([
      askOnce(at(from), to, secondsFor(hears)),
      askOnce(at(from), datagrams, secondsFor(answers)),
    ]);
    assert.match(tcp, hears);
    assert.match(udp, answers);
  });

/** Silence is listened to for two seconds; an answer may take longer on a busy machine. */
const secondsFor = (wanted: RegExp) => (wanted === silence ? 2 : 20);

test("a service without a virtual address is known by its tasks' addresses", { skip }, () => {
  const names = hosts[0]?.namesHeard("front") ?? {};
  const tasks = ["10.0.1.20", "10.0.1.21", "fd00:1::20", "fd00:1::21"];
  assert.deepEqual(names["rounds"], tasks);
  assert.deepEqual(names["tasks.rounds"], tasks);
  assert.deepEqual(names["web"], ["10.0.1.2", "fd00:1::2"]);
});

test("whoever asks for what is not there is told each time", { skip }, async () => {
  // Told once a second, as a kernel does by default, most of them would wait that long.
  let slow = 0;
  for (const target of ["10.0.1.77:80", "UDP:10.0.1.2:99", "[fd00:1::77]:80", "UDP:[fd00:1::2]:99"])
    for (let i = 0; i < 8; i++) {
      const start = performance.now();
      assert.equal(await askOnce(at("a1"), target), "refused");
      if (performance.now() - start > 900) slow += 1;
    }
  assert.ok(slow < 8, `${slow} of 32 were told late`);
});

test("one client port through two nodes at once is two connections", { skip }, async () => {
  await Promise.all(
    [hosts[0], hosts[1]].map(async (host) => {
      for (const address of [host?.address, `[${host?.address6}]`]) {
        const target = `${address}:8080,sourceport=4040,reuseaddr`;
        const hears = /^[ab]1 saw (10\.88\.0\.13|fd4c:88::13)$/;
        assert.match(await askOnce(at("c"), `UDP:${target}`), hears);
        assert.match(await askOnce(at("c"), target), hears);
      }
    }),
  );
});

/** Frames from b1 to a1: from whose host, with which router's address. */
const frames = [
  { name: "from a host that is no member", place: "c", index: 2 },
  { name: "with an unknown router's address", place: "b", index: 9 },
] as const;
for (const [i, { name, place, index }] of frames.entries())
  test(`a frame for the overlay reaches nobody: ${name}`, { skip }, async () => {
    const port = 5400 + i;
    const heard = listen(at("a1"), port);
    const throwIn = (from: string, router: number, text: string) => {
      const frame = { vni: 4097, to: routerMac(1), from: routerMac(router), port };
      return send(at(from), "10.88.0.11", 4789, vxlanFrame(frame, text));
    };
    await throwIn(place, index, "x");
    await untilHeard([heard], "y", () => throwIn("b", 2, "y"));
    assert.ok(!heard.includes("x"), "a stranger was heard");
  });

/** Whose address a container claims when it speaks to one on its own node, to one on another, and to a client outside. */
const forgeries = [
  { name: "one nobody has", source: "10.0.1.99" },
  { name: "the gateway's", source: "10.0.1.1" },
  { name: "a virtual one", source: "10.0.1.2" },
  { name: "another container's", source: "10.0.1.20" },
  { name: "one of another network", source: "10.0.2.8" },
  { name: "its host's", source: "10.88.0.11" },
  { name: "a peer router's", source: "169.254.128.2" },
  { name: "one nobody has, over IPv6", source: "fd00:1::99" },
  { name: "the gateway's, over IPv6", source: "fd00:1::1" },
  { name: "a virtual one, over IPv6", source: "fd00:1::2" },
  { name: "another container's, over IPv6", source: "fd00:1::20" },
  { name: "one of another network, over IPv6", source: "fd00:2::8" },
  { name: "its host's, over IPv6", source: "fd4c:88::11" },
  { name: "its host's end of the link, over IPv6", source: "fd9f:9683:bc6c::1:0" },
];
for (const [i, { name, source }] of forgeries.entries())
  test(`a container with a forged address is not heard: ${name}`, { skip }, async () => {
    const port = 6000 + i;
    const is6 = source.includes(":");
    const targets = is6
      ? { a2: "fd00:1::7", b1: "fd00:1::6", c: "fd4c:88::13" }
      : { a2: "10.0.1.7", b1: "10.0.1.6", c: "10.88.0.13" };
    const heard = Object.keys(targets).map((place) => listen(at(place), port, is6 ? "::" : any));
    const speak = (text: string, as?: string) =>
      Promise.all(Object.values(targets).map((to) => send(at("a1"), to, port, text, as)));
    const onLoopback = (verb: string) =>
      execFileSync("nsenter", [
        ...[
          `--net=${at("a1")}`,
          "ip",
          "address",
          verb,
          `${source}/${is6 ? 128 : 32}`,
          "dev",
          "lo",
          ...(is6 ? ["nodad"] : []),
        ],
      ]);
    onLoopback("add");
    await speak("forged", source);
    onLoopback("del");
    await untilHeard(heard, "true", () => speak("true"));
    assert.deepEqual(
      heard.flat().filter((text) => text === "forged"),
      [],
    );
  });

test("a route of the LAN into the overlay and its links leads nowhere", { skip }, async () => {
  const through = ["via", "10.88.0.11"];
  for (const subnet of ["10.0.0.0/8", "169.254.0.0/16", "172.29.0.0/16"])
    ip("-n", `${prefix}c`, "route", "add", subnet, ...through);
  for (const subnet of ["fd00::/16", "fd9f:9683:bc6c::/48"])
    ip("-n", `${prefix}c`, "route", "add", subnet, "via", "fd4c:88::11");
  for (const target of [
    "10.0.1.2",
    "10.0.1.5",
    "10.0.0.5",
    "10.0.3.5",
    "169.254.1.1",
    "172.29.0.2",
    ...["[fd00:1::2]", "[fd00:1::5]", "[fd00:9::5]", "[fd00:3::5]", "[fd9f:9683:bc6c::1:1]"],
  ])
    for (const port of ["80", "8080"])
      assert.match(await askOnce(at("c"), `${target}:${port},connect-timeout=0.3`), silence);
});

/** What arrives at a port, in order. */
function listen(namespace: string, port: number, address = any): string[] {
  const heard: string[] = [];
  const socket = createSocket(kindFor(address), (message) => heard.push(message.toString()));
  socket.bind({ fd: udpSocketIn(namespace, address, port) });
  sockets.push(socket);
  return heard;
}

function send(
  namespace: string,
  target: string,
  port: number,
  message: string | Buffer,
  source = target.includes(":") ? "::" : any,
): Promise<void> {
  const socket = createSocket(kindFor(target));
  return new Promise((resolve) => {
    const end = () => socket.close(() => resolve());
    socket.bind({ fd: udpSocketIn(namespace, source, 0) }, () =>
      socket.send(message, port, target, end),
    );
  });
}

function kindFor(address: string): "udp4" | "udp6" {
  return address.includes(":") ? "udp6" : "udp4";
}

/** What was sent before has arrived when this has. */
async function untilHeard(
  heard: readonly string[][],
  text: string,
  speak: () => Promise<unknown>,
): Promise<void> {
  await until(`"${text}" is not heard`, 30_000, async () => {
    await speak();
    return heard.every((one) => one.includes(text)) || undefined;
  });
}

/** A datagram in a frame in VXLAN, as one router sends it to another. Checksums that UDP may leave out are left out. */
function vxlanFrame(
  frame: {
    readonly vni: number;
    readonly to: string;
    readonly from: string;
    readonly port: number;
  },
  text: string,
): Buffer {
  const vxlan = Buffer.from([8, 0, 0, 0, frame.vni >> 16, frame.vni >> 8, frame.vni, 0]);
  const mac = (address: string) => Buffer.from(address.replaceAll(":", ""), "hex");
  const udp = Buffer.alloc(8);
  udp.writeUInt16BE(4000, 0);
  udp.writeUInt16BE(frame.port, 2);
  udp.writeUInt16BE(8 + text.length, 4);
  const ipv4 = Buffer.from("4500000000000000401100000a0001060a000105", "hex");
  ipv4.writeUInt16BE(28 + text.length, 2);
  let sum = 0;
  for (let i = 0; i < 20; i += 2) sum += ipv4.readUInt16BE(i);
  ipv4.writeUInt16BE(~((sum & 0xffff) + (sum >> 16)) & 0xffff, 10);
  const kind = Buffer.from([8, 0]);
  return Buffer.concat([vxlan, mac(frame.to), mac(frame.from), kind, ipv4, udp, Buffer.from(text)]);
}
