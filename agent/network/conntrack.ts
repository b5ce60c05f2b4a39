// The kernel's table of connections, asked about one address: what is still open to it, and forgetting what never closes.

import { readFileSync } from "node:fs";
import { type AttrStream, formatAttribute, parseAttributes } from "netlink/dist/structs.js";
import { type Family, familyOf, ipBytes, ipText } from "../../proto/kit/ip.ts";
import { inNamespace } from "../../proto/kit/netns.ts";
import type { Reply, Request } from "./netlink.ts";
import { netlinkProtocol, withSocket } from "./socket.ts";

const subsystem = 1 << 8;
const message = { get: subsystem | 1, delete: subsystem | 2 };
const dumpFlags = 0x300;
const families: readonly Family[] = [4, 6];
const headBytes = 4;
const attribute = { original: 1, reply: 2, protocolInfo: 4, id: 12, zone: 18, filter: 25 };
const filterBy = { source: 1, protocol: 8 };
const protocolNumber = { tcp: 6, udp: 17 };
/** SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT: one side or both may still send. */
const openTcpStates: readonly number[] = [2, 3, 4, 5];

export interface Connection {
  readonly family: Family;
  readonly protocol: number;
  /** Where the connection was meant to go, before any translation. */
  readonly target: string;
  /** Who answers it. */
  readonly answerer: string;
  readonly tcpState: number;
  /** The attributes by which the kernel knows it again. */
  readonly handle: Buffer;
}

/** How many TCP connections to the address are open, by the table of this router. */
export function openConnections(namespace: string, address: string): number {
  return list(namespace, answeredRequest(address)).filter(
    ({ protocol, tcpState }) => protocol === protocolNumber.tcp && openTcpStates.includes(tcpState),
  ).length;
}

/** All UDP flows through this router. A look at the whole table: some milliseconds. */
export function udpFlows(namespace: string): readonly Connection[] {
  return families
    .flatMap((family) => list(namespace, udpRequest(family)))
    .filter((flow) => flow.protocol === protocolNumber.udp);
}

/** Forgets these flows, so that the next datagram of each is balanced anew. */
export function forgetFlows(namespace: string, flows: readonly Connection[]): void {
  if (flows.length === 0) return;
  const requests = flows.map(({ family, handle }) => ({
    type: message.delete,
    flags: 0,
    body: Buffer.concat([headOf(family), handle]),
    about: "forget a UDP flow",
    fine: ["ENOENT"],
  }));
  withSocket(namespace, (socket) => socket.batch(requests), netlinkProtocol.netfilter);
}

function list(namespace: string, request: Request): readonly Connection[] {
  // The kernel would walk through the table of the whole machine: some milliseconds.
  if (isIdle(namespace)) return [];
  const replies = withSocket(namespace, (s) => s.dump(request), netlinkProtocol.netfilter);
  return replies.map(parseConnection);
}

/** Nothing at all is tracked in the namespace. */
function isIdle(namespace: string): boolean {
  const read = () => readFileSync("/proc/sys/net/netfilter/nf_conntrack_count", "utf8");
  return inNamespace(namespace, read).trim() === "0";
}

/** The kernel itself picks those the address answers: a router may hold very many others. */
export function answeredRequest(answerer: string): Request {
  const family = familyOf(answerer);
  const source = nested(1, attributeBytes(family === 4 ? 1 : 3, ipBytes(answerer)));
  const wanted = { family, tuple: nested(attribute.reply, source) };
  return listRequest(wanted, 0, filterBy.source, `list connections to ${answerer}`);
}

function udpRequest(family: Family): Request {
  const protocol = nested(2, attributeBytes(1, Buffer.from([protocolNumber.udp])));
  const wanted = { family, tuple: nested(attribute.original, protocol) };
  return listRequest(wanted, filterBy.protocol, 0, "list UDP flows");
}

/** struct nfgenmsg: AF_INET or AF_INET6, version 0, no resource. */
function headOf(family: Family): Buffer {
  return Buffer.from([family === 4 ? 2 : 10, 0, 0, 0]);
}

/** `original` and `reply` say which parts of the wanted tuple count in each direction. */
function listRequest(
  wanted: { readonly family: Family; readonly tuple: Buffer },
  original: number,
  reply: number,
  about: string,
): Request {
  const filter = [original, reply].map((flags, i) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(flags);
    return attributeBytes(i + 1, bytes);
  });
  const filters = nested(attribute.filter, Buffer.concat(filter));
  const body = Buffer.concat([headOf(wanted.family), wanted.tuple, filters]);
  return { type: message.get, flags: dumpFlags, body, about, fine: [] };
}

export function parseConnection({ body }: Reply): Connection {
  const family: Family = body[0] === 10 ? 6 : 4;
  const found = { family, protocol: 0, target: "", answerer: "", tcpState: 0 };
  const handle: Buffer[] = [];
  parseAttributes(body.subarray(headBytes), ({ type, nested: isNested, data }) => {
    if (type === attribute.original) {
      found.target = tuple(data).target;
      found.protocol = tuple(data).protocol;
    }
    if (type === attribute.reply) found.answerer = tuple(data).source;
    if (type === attribute.protocolInfo) found.tcpState = tcpState(data);
    if (type === attribute.original || type === attribute.zone || type === attribute.id) {
      handle.push(padded(formatAttribute({ type, nested: isNested === true, data })));
    }
  });
  return { ...found, handle: Buffer.concat(handle) };
}

function tuple(bytes: Buffer): {
  readonly source: string;
  readonly target: string;
  readonly protocol: number;
} {
  const found = { source: "", target: "", protocol: 0 };
  parseAttributes(bytes, ({ type, data }) => {
    if (type === 1) {
      parseAttributes(data, (item) => {
        // 1 and 2 over IPv4, 3 and 4 over IPv6.
        if (item.type === 1 || item.type === 3) found.source = ipText(item.data);
        if (item.type === 2 || item.type === 4) found.target = ipText(item.data);
      });
    }
    if (type === 2) {
      parseAttributes(data, (item) => {
        if (item.type === 1) found.protocol = item.data[0] ?? 0;
      });
    }
  });
  return found;
}

function tcpState(bytes: Buffer): number {
  let state = 0;
  parseAttributes(bytes, ({ type, data }) => {
    if (type !== 1) return;
    parseAttributes(data, (item) => {
      if (item.type === 1) state = item.data[0] ?? 0;
    });
  });
  return state;
}

function nested(type: number, data: Buffer): Buffer {
  return padded(formatAttribute({ type, nested: true, data }));
}

function attributeBytes(type: number, data: Buffer): Buffer {
  return padded(formatAttribute({ type, data }));
}

function padded(parts: AttrStream["bufs"]): Buffer {
  const bytes = Buffer.concat(parts);
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
