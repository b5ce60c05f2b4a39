// The kernel's table of connections, asked about one address: what is still open to it, and forgetting what never closes.

import { type AttrStream, formatAttribute, parseAttributes } from "netlink/dist/structs.js";
import { ipBytes, ipText, type Reply, type Request } from "./netlink.ts";
import { netlinkProtocol, withSocket } from "./socket.ts";

const subsystem = 1 << 8;
const message = { get: subsystem | 1, delete: subsystem | 2 };
const dumpFlags = 0x300;
/** struct nfgenmsg: IPv4, version 0, no resource. */
const head = Buffer.from([2, 0, 0, 0]);
const attribute = { original: 1, reply: 2, protocolInfo: 4, id: 12, zone: 18, filter: 25 };
const filterBySource = 1;
const protocolNumber = { tcp: 6, udp: 17 };
/** SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT: one side or both may still send. */
const openTcpStates: readonly number[] = [2, 3, 4, 5];

export interface Connection {
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
  return connectionsTo(namespace, address).filter(
    ({ protocol, tcpState }) => protocol === protocolNumber.tcp && openTcpStates.includes(tcpState),
  ).length;
}

/** Forgets UDP flows to the addresses, so that the next datagram is balanced anew. How many there were. */
export function forgetUdp(namespace: string, addresses: readonly string[]): number {
  const flows = addresses.flatMap((address) =>
    connectionsTo(namespace, address).filter(({ protocol }) => protocol === protocolNumber.udp),
  );
  if (flows.length === 0) return 0;
  const requests = flows.map(({ handle }) => ({
    type: message.delete,
    flags: 0,
    body: Buffer.concat([head, handle]),
    about: "forget a UDP flow",
    fine: ["ENOENT"],
  }));
  withSocket(namespace, (socket) => socket.batch(requests), netlinkProtocol.netfilter);
  return flows.length;
}

function connectionsTo(namespace: string, address: string): readonly Connection[] {
  const list = listRequest(address);
  const replies = withSocket(namespace, (s) => s.dump(list), netlinkProtocol.netfilter);
  return replies.map(parseConnection);
}

/** The kernel itself picks those the address answers: a router may hold very many others. */
export function listRequest(answerer: string): Request {
  const flags = Buffer.alloc(4);
  flags.writeUInt32LE(filterBySource);
  const none = Buffer.alloc(4);
  const source = nested(1, attributeBytes(1, ipBytes(answerer)));
  const filter = Buffer.concat([attributeBytes(1, none), attributeBytes(2, flags)]);
  return {
    type: message.get,
    flags: dumpFlags,
    body: Buffer.concat([head, nested(attribute.reply, source), nested(attribute.filter, filter)]),
    about: `list connections to ${answerer}`,
    fine: [],
  };
}

export function parseConnection({ body }: Reply): Connection {
  const found = { protocol: 0, target: "", answerer: "", tcpState: 0 };
  const handle: Buffer[] = [];
  parseAttributes(body.subarray(head.length), ({ type, nested: isNested, data }) => {
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
        if (item.type === 1) found.source = ipText(item.data);
        if (item.type === 2) found.target = ipText(item.data);
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
