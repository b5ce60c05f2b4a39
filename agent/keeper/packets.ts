// DNS packets: reading queries that may be anything, writing answers that fit.

import dnsPacket, { type OptAnswer, type Packet, type Answer as Record } from "dns-packet";
import { familyOf } from "../../proto/kit/ip.ts";
import { nameTtlSeconds } from "../../proto/kit/keeper.ts";

const plainBytesMax = 512;
const udpBytesMax = 4_096;
export const tcpBytesMax = 65_535;
const headerBytes = 12;

export type ResponseCode = "NOERROR" | "FORMERR" | "SERVFAIL" | "NXDOMAIN" | "NOTIMP" | "REFUSED";
const codeNumbers: { readonly [Code in ResponseCode]: number } = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
};

export interface Query {
  readonly id: number;
  readonly type: string;
  /** As the client wrote it. */
  readonly name: string;
  readonly isRecursive: boolean;
  /** Bytes the client takes over UDP. */
  readonly udpBytesMax: number;
  readonly hasEdns: boolean;
}

export type Parsed =
  | { readonly kind: "query"; readonly query: Query }
  /** Not a query we can read: answer with this. */
  | { readonly kind: "error"; readonly reply: Buffer }
  /** Not even a query: say nothing. */
  | { readonly kind: "garbage" };

/** Total: whatever the bytes are, nothing is thrown. */
export function parseQuery(bytes: Buffer): Parsed {
  if (bytes.length < headerBytes || (bytes.readUInt8(2) & 0x80) !== 0) return { kind: "garbage" };
  if (((bytes.readUInt8(2) >> 3) & 0x0f) !== 0)
    return { kind: "error", reply: bareReply(bytes, "NOTIMP") };
  let packet: Packet;
  try {
    packet = dnsPacket.decode(bytes);
  } catch {
    return { kind: "error", reply: bareReply(bytes, "FORMERR") };
  }
  const question = packet.questions?.[0];
  if (question === undefined || packet.questions?.length !== 1)
    return { kind: "error", reply: bareReply(bytes, "FORMERR") };
  const edns = packet.additionals?.find((record): record is OptAnswer => record.type === "OPT");
  return {
    kind: "query",
    query: {
      id: packet.id ?? 0,
      type: question.type,
      name: question.name,
      isRecursive: ((packet.flags ?? 0) & dnsPacket.RECURSION_DESIRED) !== 0,
      udpBytesMax: Math.min(Math.max(edns?.udpPayloadSize ?? 0, plainBytesMax), udpBytesMax),
      hasEdns: edns !== undefined,
    },
  };
}

/** A header and nothing else, for packets whose question could not be read. */
function bareReply(bytes: Buffer, code: ResponseCode): Buffer {
  const reply = Buffer.alloc(headerBytes);
  reply.writeUInt16BE(bytes.readUInt16BE(0), 0);
  reply.writeUInt8(0x80 | (bytes.readUInt8(2) & 0x79), 2);
  reply.writeUInt8(0x80 | codeNumbers[code], 3);
  return reply;
}

export function encodeError(query: Query, code: ResponseCode): Buffer {
  return encode(query, codeNumbers[code], []);
}

export function encodeAddresses(
  query: Query,
  addresses: readonly string[],
  bytesMax: number,
): Buffer {
  return encodeFitting(
    query,
    addresses.map((data) => ({
      ...{ type: familyOf(data) === 4 ? "A" : "AAAA", name: query.name, ttl: nameTtlSeconds },
      ...{ class: "IN", data },
    })),
    bytesMax,
  );
}

export function encodeName(query: Query, name: string, bytesMax: number): Buffer {
  return encodeFitting(
    query,
    [{ type: "PTR", name: query.name, ttl: nameTtlSeconds, class: "IN", data: name }],
    bytesMax,
  );
}

/** As many answers as fit; the truncation flag then tells the client that TCP has them all. */
function encodeFitting(query: Query, answers: readonly Record[], bytesMax: number): Buffer {
  const whole = encode(query, 0, answers);
  if (whole.length <= bytesMax) return whole;
  const bare = encode(query, 0, []).length;
  const each = Math.ceil((whole.length - bare) / answers.length);
  const fitting = Math.max(0, Math.floor((bytesMax - bare) / each));
  return encode(query, dnsPacket.TRUNCATED_RESPONSE, answers.slice(0, fitting));
}

function encode(query: Query, flags: number, answers: readonly Record[]): Buffer {
  const recursion = query.isRecursive ? dnsPacket.RECURSION_DESIRED : 0;
  return dnsPacket.encode({
    id: query.id,
    type: "response",
    flags: flags | recursion | dnsPacket.RECURSION_AVAILABLE,
    questions: [{ type: query.type as "A", name: query.name, class: "IN" }],
    answers: [...answers],
    additionals: query.hasEdns ? [ednsRecord()] : [],
  });
}

function ednsRecord(): OptAnswer {
  return {
    type: "OPT",
    name: ".",
    udpPayloadSize: udpBytesMax,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  };
}
