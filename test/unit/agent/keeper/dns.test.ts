import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { after, before, test } from "node:test";
import dnsPacket, { type Packet } from "dns-packet";
import { NameServer } from "../../../../agent/keeper/dns.ts";
import { framed } from "../../../../agent/keeper/upstream.ts";
import { silentLog } from "../../../../proto/kit/log.ts";

let udpPort = 0;
let tcpPort = 0;
const upstream = createSocket("udp4");
const server = new NameServer(
  {
    udp(_namespace, _address, port) {
      assert.equal(port, 4053);
      const socket = createSocket("udp4").bind(0, "127.0.0.1");
      socket.once("listening", () => {
        udpPort = socket.address().port;
      });
      return socket;
    },
    tcp() {
      const listener = createServer().listen(0, "127.0.0.1", () => {
        tcpPort = (listener.address() as AddressInfo).port;
      });
      return listener;
    },
  },
  Math.random,
  silentLog,
);

const many = Array.from({ length: 100 }, (_, index) => `10.1.0.${index}`);

before(async () => {
  upstream.bind(0, "127.0.0.1");
  await once(upstream, "listening");
  upstream.on("message", (bytes, from) => {
    const query = dnsPacket.decode(bytes);
    const name = query.questions?.[0]?.name ?? "";
    if (name.startsWith("silent")) return;
    const reply = dnsPacket.encode({
      id: query.id ?? 0,
      type: "response",
      flags: name.startsWith("missing") ? 3 : 0,
      questions: query.questions ?? [],
      answers: name.startsWith("missing") ? [] : [{ type: "A", name, data: "192.0.2.9" }],
    });
    upstream.send(reply, from.port, from.address);
  });
  server.setTables({
    net1: {
      names: { web: ["10.1.0.2"], "tasks.web": ["10.1.0.3", "10.1.0.4"], empty: [], many },
      addresses: { "10.1.0.2": "web" },
    },
    net2: {
      names: { web: ["10.2.0.2"], constructor: ["10.2.0.3"], both: ["10.0.1.9", "fd00:1::9"] },
      addresses: { "fd00:1::9": "both.1.id.front" },
    },
  });
  server.serve({
    do: "serveNames",
    sandbox: "s1",
    namespace: "/run/x",
    tables: ["net1", "gone", "net2"],
    upstream: [`127.0.0.1:${upstream.address().port}`],
    search: [],
    aliases: { bar: "web" },
  });
  while (udpPort === 0 || tcpPort === 0) await new Promise((resolve) => setImmediate(resolve));
});
after(() => {
  server.stop();
  upstream.close();
});

async function overUdp(bytes: Buffer): Promise<Packet> {
  const socket = createSocket("udp4");
  try {
    socket.send(bytes, udpPort, "127.0.0.1");
    const [reply] = (await once(socket, "message")) as [Buffer];
    return dnsPacket.decode(reply);
  } finally {
    socket.close();
  }
}

function query(name: string, type: "A" | "AAAA" | "PTR" | "TXT" = "A", udpPayloadSize = 0): Buffer {
  const opt = {
    type: "OPT",
    name: ".",
    udpPayloadSize,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  } as const;
  return dnsPacket.encode({
    id: 77,
    type: "query",
    flags: dnsPacket.RECURSION_DESIRED,
    questions: [{ type, name, class: "IN" }],
    additionals: udpPayloadSize === 0 ? [] : [{ ...opt, options: [] }],
  });
}

const isCut = (packet: Packet) => (packet as { flag_tc?: boolean }).flag_tc === true;
const rcode = (packet: Packet) => (packet as { rcode?: string }).rcode ?? "";
const data = (packet: Packet) =>
  (packet.answers ?? []).map((answer) => ("data" in answer ? String(answer.data) : ""));

const rows = [
  { name: "a service's address", ask: "web", says: ["10.1.0.2"], code: "NOERROR" },
  { name: "what it alone calls another", ask: "Bar", says: ["10.1.0.2"], code: "NOERROR" },
  { name: "whatever the case", ask: "WeB", says: ["10.1.0.2"], code: "NOERROR" },
  {
    name: "a name like one of JavaScript's",
    ask: "constructor",
    says: ["10.2.0.3"],
    code: "NOERROR",
  },
  { name: "a name without addresses", ask: "empty", says: [], code: "NOERROR" },
  { name: "another family of a known name", ask: "web", type: "AAAA", says: [], code: "NOERROR" },
  { name: "IPv4 of a name with both", ask: "both", type: "A", says: ["10.0.1.9"], code: "NOERROR" },
  {
    name: "IPv6 of a name with both",
    ask: "Both",
    type: "AAAA",
    says: ["fd00:1::9"],
    code: "NOERROR",
  },
  {
    name: "an IPv6 address's name",
    ask: `9.${"0.".repeat(23)}1.0.0.0.0.0.d.f.ip6.arpa`,
    type: "PTR",
    says: ["both.1.id.front"],
    code: "NOERROR",
  },
  { name: "another type of a known name", ask: "web", type: "TXT", says: [], code: "NOERROR" },
  {
    name: "an address's name",
    ask: "2.0.1.10.in-addr.arpa",
    type: "PTR",
    says: ["web"],
    code: "NOERROR",
  },
  {
    name: "an unknown name, from upstream",
    ask: "example.com",
    says: ["192.0.2.9"],
    code: "NOERROR",
  },
  { name: "a name nobody knows", ask: "missing.example", says: [], code: "NXDOMAIN" },
] as const;

for (const row of rows)
  test(`answers ${row.name}`, async () => {
    const reply = await overUdp(query(row.ask, "type" in row ? row.type : "A"));
    assert.deepEqual(data(reply), row.says);
    assert.equal(rcode(reply), row.code);
    assert.equal(reply.id, 77);
    assert.equal(reply.questions?.[0]?.name, row.ask);
  });

test("several addresses come in random order, with a short life", async () => {
  const orders = new Set<string>();
  for (let i = 0; i < 64 && orders.size < 2; i++) {
    const reply = await overUdp(query("tasks.web"));
    for (const answer of reply.answers ?? []) assert.ok("ttl" in answer && (answer.ttl ?? 9) <= 5);
    orders.add(data(reply).join());
  }
  assert.equal(orders.size, 2);
});

test("an answer too long for UDP is cut and says so; a client that takes more gets more; TCP gives all", async () => {
  const small = await overUdp(query("many"));
  assert.ok(isCut(small));
  assert.ok((small.answers?.length ?? 0) > 10 && (small.answers?.length ?? 0) < 100);
  const large = await overUdp(query("many", "A", 4096));
  assert.ok(!isCut(large));
  assert.equal(large.answers?.length, 100);
  const socket = connect(tcpPort, "127.0.0.1");
  socket.write(framed(query("many")));
  let received = Buffer.alloc(0);
  for await (const chunk of socket) {
    received = Buffer.concat([received, chunk as Buffer]);
    if (received.length > 2 && received.length >= 2 + received.readUInt16BE(0)) break;
  }
  assert.equal(dnsPacket.decode(received.subarray(2)).answers?.length, 100);
});

test("garbage is answered with an error or not at all, and never harms", async () => {
  const socket = createSocket("udp4");
  const good = query("web");
  for (let at = 0; at < good.length; at++) {
    socket.send(good.subarray(0, at), udpPort, "127.0.0.1");
    const bent = Buffer.from(good);
    bent[at] = 0xff;
    socket.send(bent, udpPort, "127.0.0.1");
  }
  // A name that points at itself.
  socket.send(
    Buffer.concat([good.subarray(0, 12), Buffer.from([0xc0, 0x0c, 0, 1, 0, 1])]),
    udpPort,
    "127.0.0.1",
  );
  assert.deepEqual(data(await overUdp(good)), ["10.1.0.2"]);
  socket.close();
});

test("without upstream servers an unknown name does not exist", async () => {
  const present = server.state.sandboxes[0];
  assert.ok(present !== undefined);
  server.serve({ ...present, upstream: [] });
  assert.equal(rcode(await overUdp(query("example.com"))), "NXDOMAIN");
  server.serve(present);
  assert.equal(rcode(await overUdp(query("example.com"))), "NOERROR");
});

test("a removed table's names are gone", async () => {
  server.setTables({ net3: { names: { brief: ["10.3.0.1"] }, addresses: {} } });
  const present = server.state.sandboxes[0];
  assert.ok(present !== undefined);
  server.serve({ ...present, tables: ["net3"], upstream: [] });
  assert.deepEqual(data(await overUdp(query("brief"))), ["10.3.0.1"]);
  server.setTables({ net3: null });
  assert.equal(rcode(await overUdp(query("brief"))), "NXDOMAIN");
  server.serve(present);
});
