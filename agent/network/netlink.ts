// What we say to the kernel's routing socket and what it answers, as plain objects: encoding and decoding only.
// The message bodies are those of the npm package `netlink`; framing, batches and error texts are here.

import * as rt from "netlink/dist/rt/structs.js";
import { AttrStream, formatMessage, parseAttributes, parseMessages } from "netlink/dist/structs.js";
import { type Family, familyOf, ipBytes, ipText, parseCidr } from "../../proto/kit/ip.ts";

/** An object in a namespace's tables. Links (links.ts) go by name here and by index on the wire. */
export type KernelObject =
  | {
      readonly kind: "address";
      readonly link: string;
      readonly address: string;
      readonly prefix: number;
      /** Without the route to the whole prefix that the kernel adds by itself. */
      readonly bare?: boolean;
    }
  | {
      readonly kind: "route";
      /** Of either family, as a subnet. */
      readonly to: string;
      readonly via?: string;
      /** Absent: packets there are refused with "unreachable". */
      readonly link?: string;
      /** In `localTable`, it leads to this namespace itself, for what comes by the link. */
      readonly table?: number;
    }
  | {
      readonly kind: "neighbour";
      readonly link: string;
      readonly address: string;
      readonly mac: string;
    }
  | {
      /** Where a VXLAN device sends frames for a MAC. */
      readonly kind: "forward";
      readonly link: string;
      readonly mac: string;
      readonly to: string;
    }
  | {
      readonly kind: "rule";
      readonly family: Family;
      readonly mark: number;
      readonly mask: number;
      readonly table: number;
    }
  /** What has this address as its sender goes by that table. */
  | { readonly kind: "sourceRule"; readonly from: string; readonly table: number };

/** A request without its sequence number. `about` says in words what it does, for errors. */
export interface Request {
  readonly type: number;
  readonly flags: number;
  readonly body: Uint8Array;
  readonly about: string;
  /** errno names that mean the wanted state is there already. */
  readonly fine: readonly string[];
}

export interface Reply {
  readonly sequence: number;
  readonly type: number;
  readonly flags: number;
  readonly body: Buffer;
}

export const flag = {
  request: 1,
  ack: 4,
  dump: 0x300,
  replace: 0x100,
  exclusive: 0x200,
  create: 0x400,
};
const AF_INET = 2;
const AF_BRIDGE = 7;
const AF_INET6 = 10;
const mainTable = 254;
export const localTable = 255;
const nextHopOnLink = 4;
/** Explicit, because the kernel would give each repetition of a rule a priority of its own. */
const rulePriority = 1000;
export const messageType = { error: 2, done: 3 };
const dumpInterrupted = 0x10;

/** Puts an object in place, replacing one of the same identity. `indexOf` throws for a link that is not there. */
export function put(object: KernelObject, indexOf: (link: string) => number): Request {
  return change(object, "put", indexOf);
}

export function remove(object: KernelObject, indexOf: (link: string) => number): Request {
  return change(object, "remove", indexOf);
}

function change(
  object: KernelObject,
  verb: "put" | "remove",
  indexOf: (link: string) => number,
): Request {
  const isPut = verb === "put";
  const about = `${verb} ${describe(object)}`;
  const fine = isPut ? ["EEXIST"] : ["ENOENT", "ESRCH", "EADDRNOTAVAIL", "ENODEV"];
  const flags = isPut ? flag.create | flag.replace : 0;
  // Several links may lead to the same local address, and a further rule is none if it is not told to be.
  const isOne = object.kind === "route" && object.table === localTable;
  const addFlags = isRule(object) ? flag.create | flag.exclusive : flag.create;
  const request = (added: number, removed: number, body: Buffer): Request => ({
    type: isPut ? added : removed,
    flags: isPut && (isOne || isRule(object)) ? addFlags : flags,
    body,
    about,
    fine,
  });
  const type = rt.MessageType;
  switch (object.kind) {
    case "address":
      return request(type.NEWADDR, type.DELADDR, addressBody(object, indexOf));
    case "route":
      return request(type.NEWROUTE, type.DELROUTE, routeBody(object, indexOf));
    case "neighbour":
    case "forward":
      return request(type.NEWNEIGH, type.DELNEIGH, neighbourBody(object, indexOf));
    case "rule":
      return request(type.NEWRULE, type.DELRULE, ruleBody(object));
    case "sourceRule":
      return request(type.NEWRULE, type.DELRULE, sourceRuleBody(object));
  }
}

function isRule({ kind }: KernelObject): boolean {
  return kind === "rule" || kind === "sourceRule";
}

type Of<Kind extends KernelObject["kind"]> = Extract<KernelObject, { readonly kind: Kind }>;

function addressBody(object: Of<"address">, indexOf: (link: string) => number): Buffer {
  const address = ipBytes(object.address);
  const family = address.length === 4 ? AF_INET : AF_INET6;
  // Ours are nobody else's: whether one is taken need not be asked (duplicate address detection).
  const nodad = family === AF_INET6 ? { nodad: true as const } : {};
  const attributes: rt.AddressAttrs = { address, local: address, flags: nodad };
  if (object.bare === true) attributes.flags = { ...nodad, noprefixroute: true };
  return bytesOf((out) =>
    rt.formatAddressMessage(
      {
        kind: "address",
        data: { family, prefixlen: object.prefix, index: indexOf(object.link) },
        attrs: attributes,
      },
      out,
    ),
  );
}

function routeBody(object: Of<"route">, indexOf: (link: string) => number): Buffer {
  const { address, prefix } = parseCidr(object.to);
  const attributes: rt.RouteAttrs = { table: object.table ?? mainTable };
  if (prefix > 0) attributes.dst = ipBytes(address);
  if (object.via !== undefined) attributes.gateway = ipBytes(object.via);
  if (object.link !== undefined) attributes.oif = indexOf(object.link);
  const isLocal = object.table === localTable;
  const data: rt.Route = {
    family: numberOf(familyOf(address)),
    dstLen: prefix,
    table: object.table ?? mainTable,
    protocol: "STATIC",
    scope: object.link !== undefined && object.via === undefined ? "LINK" : "UNIVERSE",
    type: isLocal ? "LOCAL" : object.link === undefined ? "UNREACHABLE" : "UNICAST",
  };
  if (object.via !== undefined) data.flags = { __unknown: nextHopOnLink };
  return bytesOf((out) => rt.formatRouteMessage({ kind: "route", data, attrs: attributes }, out));
}

function neighbourBody(
  object: Of<"neighbour"> | Of<"forward">,
  indexOf: (link: string) => number,
): Buffer {
  const isForward = object.kind === "forward";
  const data: rt.Neighbor = {
    family: isForward ? AF_BRIDGE : numberOf(familyOf(object.address)),
    ifindex: indexOf(object.link),
    state: isForward ? { permanent: true, noarp: true } : { permanent: true },
  };
  if (isForward) data.flags = { self: true };
  const attrs: rt.NeighborAttrs = {
    dst: ipBytes(isForward ? object.to : object.address),
    lladdr: macBytes(object.mac),
  };
  return bytesOf((out) => rt.formatNeighborMessage({ kind: "neighbor", data, attrs }, out));
}

function ruleBody(object: Of<"rule">): Buffer {
  return bytesOf((out) =>
    rt.formatRuleMessage(
      {
        kind: "rule",
        data: { family: numberOf(object.family), table: object.table, action: "toTbl" },
        attrs: {
          priority: rulePriority,
          fwmark: object.mark,
          fwmask: object.mask,
          table: object.table,
        },
      },
      out,
    ),
  );
}

function sourceRuleBody({ from, table }: Of<"sourceRule">): Buffer {
  const src = ipBytes(from);
  const family = numberOf(familyOf(from));
  return bytesOf((out) =>
    rt.formatRuleMessage(
      {
        kind: "rule",
        data: { family, srcLen: src.length * 8, table, action: "toTbl" },
        attrs: { priority: rulePriority, src, table },
      },
      out,
    ),
  );
}

function numberOf(family: Family): number {
  return family === 4 ? AF_INET : AF_INET6;
}

const families = [AF_INET, AF_INET6];

/** Each as one request per family. */
export const dumps = {
  links: [dumpOf(rt.MessageType.GETLINK, rt.formatLink({}), "list links")],
  addresses: families.map((family) =>
    dumpOf(rt.MessageType.GETADDR, rt.formatAddress({ family }), "list addresses"),
  ),
  routes: families.map((family) =>
    dumpOf(rt.MessageType.GETROUTE, rt.formatRoute({ family }), "list routes"),
  ),
  neighbours: families.map((family) =>
    dumpOf(rt.MessageType.GETNEIGH, rt.formatNeighbor({ family }), "list neighbours"),
  ),
  forwards: [
    dumpOf(
      rt.MessageType.GETNEIGH,
      rt.formatNeighbor({ family: AF_BRIDGE }),
      "list VXLAN forwards",
    ),
  ],
  rules: families.map((family) =>
    dumpOf(rt.MessageType.GETRULE, rt.formatRule({ family }), "list rules"),
  ),
} as const;

function dumpOf(type: number, body: Buffer, about: string): Request {
  return { type, flags: flag.dump, body, about, fine: [] };
}

/** The object of a dumped message, or null when it is none of the kinds we make (the kernel's own, another program's). */
export function parseObject(
  type: number,
  body: Buffer,
  nameOf: (index: number) => string,
): KernelObject | null {
  switch (type) {
    case rt.MessageType.NEWADDR: {
      const { data, attrs } = rt.parseAddressMessage(body);
      const address = attrs.local ?? attrs.address;
      if (address === undefined || isOwnByNature(address)) return null;
      const link = nameOf(data.index ?? 0);
      const prefix = data.prefixlen ?? 0;
      const isBare = attrs.flags?.noprefixroute === true;
      const found = { kind: "address", link, address: ipText(address), prefix } as const;
      return isBare ? { ...found, bare: true } : found;
    }
    case rt.MessageType.NEWROUTE:
      return routeFrom(rt.parseRouteMessage(body), nameOf);
    case rt.MessageType.NEWNEIGH: {
      const { data, attrs } = rt.parseNeighborMessage(body);
      if (data.state?.permanent !== true || attrs.dst === undefined) return null;
      if (attrs.lladdr === undefined) return null;
      const link = nameOf(data.ifindex ?? 0);
      const mac = macText(attrs.lladdr);
      if (data.family === AF_BRIDGE) return { kind: "forward", link, mac, to: ipText(attrs.dst) };
      return { kind: "neighbour", link, address: ipText(attrs.dst), mac };
    }
    case rt.MessageType.NEWRULE: {
      const { data, attrs } = rt.parseRuleMessage(body);
      if (attrs.table !== undefined && attrs.src !== undefined && attrs.priority === rulePriority)
        return { kind: "sourceRule", from: ipText(attrs.src), table: attrs.table };
      if (attrs.fwmark === undefined || attrs.table === undefined) return null;
      const family = data.family === AF_INET6 ? 6 : 4;
      const { fwmark: mark, fwmask: mask = 0, table } = attrs;
      return { kind: "rule", family, mark, mask, table };
    }
    default:
      return null;
  }
}

/** Loopback, and what the kernel gives each link by itself (fe80::/10). */
function isOwnByNature(address: Buffer): boolean {
  if (address.length === 4) return address[0] === 127;
  const isLinkLocal = address[0] === 0xfe && ((address[1] ?? 0) & 0xc0) === 0x80;
  return isLinkLocal || ipText(address) === "::1";
}

function routeFrom(
  { data, attrs }: rt.RouteMessage,
  nameOf: (index: number) => string,
): KernelObject | null {
  if (data.protocol !== "STATIC") return null;
  const whole = data.family === AF_INET6 ? "::" : "0.0.0.0";
  const to = `${attrs.dst === undefined ? whole : ipText(attrs.dst)}/${data.dstLen ?? 0}`;
  const table = attrs.table ?? data.table ?? mainTable;
  return {
    kind: "route",
    to,
    ...(attrs.gateway === undefined ? {} : { via: ipText(attrs.gateway) }),
    ...(data.type === "UNREACHABLE" || attrs.oif === undefined ? {} : { link: nameOf(attrs.oif) }),
    ...(table === mainTable ? {} : { table }),
  };
}

/** What makes two objects the same place in the kernel's tables, whatever they hold. */
export function identity(object: KernelObject): string {
  switch (object.kind) {
    case "address":
      return `address ${object.link} ${object.address}/${object.prefix}`;
    case "route": {
      const place = `route ${object.to} ${object.table ?? mainTable}`;
      return object.table === localTable ? `${place} ${object.link}` : place;
    }
    case "neighbour":
      return `neighbour ${object.link} ${object.address}`;
    case "forward":
      return `forward ${object.link} ${object.mac}`;
    case "rule":
      return `rule ipv${object.family} ${object.mark}/${object.mask} ${object.table}`;
    case "sourceRule":
      return `rule from ${object.from} ${object.table}`;
  }
}

/** One line in words; equal lines mean equal objects. */
export function describe(object: KernelObject): string {
  switch (object.kind) {
    case "address":
      return `${identity(object)}${object.bare === true ? " bare" : ""}`;
    case "route":
      return `${identity(object)} via ${object.via ?? "-"} dev ${object.link ?? "unreachable"}`;
    case "neighbour":
      return `${identity(object)} at ${object.mac}`;
    case "forward":
      return `${identity(object)} to ${object.to}`;
    case "rule":
    case "sourceRule":
      return identity(object);
  }
}

/** The request's bytes, asking for an acknowledgement unless it is a dump. */
export function encode(request: Request, sequence: number): Buffer {
  const isDump = (request.flags & flag.dump) === flag.dump;
  const flags = flag.request | request.flags | (isDump ? 0 : flag.ack);
  const data = request.body;
  const message = formatMessage({ type: request.type, flags, seq: sequence, port: 0, data });
  const bytes = Buffer.concat(message);
  const padding = -bytes.length & 3;
  return padding === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(padding)]);
}

export function decode(bytes: Buffer): readonly Reply[] {
  return parseMessages(bytes).map(({ seq, type, flags, data }) => ({
    sequence: seq,
    type,
    flags,
    body: data,
  }));
}

/** Whether a dump was disturbed by a change and has to be made again. */
export function isInterrupted(reply: Reply): boolean {
  return (reply.flags & dumpInterrupted) !== 0;
}

/** The errno (0: acknowledged) and the kernel's own sentence, "" if it gave none. */
export function parseError(reply: Reply): { readonly errno: number; readonly text: string } {
  const errno = -reply.body.readInt32LE(0);
  let text = "";
  // 0x200: attributes follow the (capped) header of the request.
  if ((reply.flags & 0x200) !== 0) {
    parseAttributes(reply.body.subarray(20), ({ type, data }) => {
      if (type === 1) text = cString(data);
    });
  }
  return { errno, text };
}

export function macBytes(text: string): Buffer {
  return Buffer.from(text.replaceAll(":", ""), "hex");
}

export function macText(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

export function cString(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString("utf8", 0, end < 0 ? bytes.length : end);
}

export function bytesOf(fill: (out: AttrStream) => void): Buffer {
  const out = new AttrStream();
  fill(out);
  return Buffer.concat(out.bufs);
}
