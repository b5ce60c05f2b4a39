// Links: asking the kernel for them, and reading what it says of them.

import * as ifla from "netlink/dist/rt/ifla.js";
import * as rt from "netlink/dist/rt/structs.js";
import { type AttrStream, parseAttributes, putU16, putU32 } from "netlink/dist/structs.js";
import { unreachable } from "../../proto/kit/assert.ts";
import { ipBytes, ipText } from "../../proto/kit/ip.ts";
import { bytesOf, cString, flag, macBytes, macText, type Request } from "./netlink.ts";
import type { DirectDevice } from "./types.ts";

export interface Link {
  readonly index: number;
  readonly name: string;
  readonly mtu: number;
  readonly isUp: boolean;
  readonly mac: string;
  /** The other end's index in its own namespace (veth), or that of the link it is on (macvlan, ipvlan, vlan). */
  readonly peerIndex: number;
  /** veth, vxlan …; "": hardware, or what the kernel does not say. */
  readonly kind: string;
  readonly alias: string;
  readonly vxlan: { readonly id: number; readonly local: string; readonly port: number } | null;
}

type NewLink =
  | {
      readonly kind: "veth";
      readonly name: string;
      readonly mtu: number;
      readonly mac?: string;
      readonly peer: {
        readonly name: string;
        readonly mac?: string;
        /** Descriptor of the namespace it goes to. */
        readonly namespace: number;
      };
    }
  | {
      readonly kind: "vxlan";
      readonly name: string;
      readonly mtu: number;
      readonly mac: string;
      readonly id: number;
      readonly local: string;
      readonly port: number;
      readonly namespace: number;
    }
  | ({
      readonly name: string;
      /** Absent: the parent's. */
      readonly mtu?: number;
      readonly mac?: string;
      /** The index of the link it is on, in the namespace the request is sent from. */
      readonly parent: number;
      /** Absent: where the parent is. */
      readonly namespace?: number;
    } & OnParent);

/** What is on another link and sends through it. */
type OnParent = DirectDevice | { readonly kind: "vlan"; readonly id: number };

/** The kernel's numbers. */
const macvlanModes = { private: 1, vepa: 2, bridge: 4, passthru: 8 } as const;
const ipvlanModes = { l2: 0, l3: 1, l3s: 2 } as const;
const ipvlanFlags = { bridge: 0, private: 1, vepa: 2 } as const;

/** Makes a link, up; a veth's peer has to be set up where it went. A VXLAN device's socket stays in the namespace the request is sent from. */
export function newLink(link: NewLink): Request {
  const head = rt.formatLink({ flags: { up: true }, change: { up: true } });
  const attributes: ifla.LinkAttrs = { ifname: link.name };
  if (link.mtu !== undefined) attributes.mtu = link.mtu;
  if ("mac" in link && link.mac !== undefined) attributes.address = macBytes(link.mac);
  if ("parent" in link) attributes.link = putU32(link.parent);
  if ("namespace" in link && link.namespace !== undefined) attributes.netNsFd = link.namespace;
  attributes.linkinfo = bytesOf((out) => {
    out.push(1, Buffer.from(link.kind));
    out.push(2, kindData(link));
  });
  return {
    type: rt.MessageType.NEWLINK,
    flags: flag.create | flag.exclusive,
    body: bytesOf((out) => {
      out.emit(head);
      out.emit(ifla.formatLinkAttrs(attributes));
    }),
    about: `make the ${link.kind} link ${link.name}`,
    fine: [],
  };
}

/** Makes nothing: the kernel refuses it with EOPNOTSUPP where it has no such links, and else for another reason. */
export function tryKind(kind: string): Request {
  const linkinfo = bytesOf((out) => out.push(1, Buffer.from(kind)));
  return {
    type: rt.MessageType.NEWLINK,
    flags: flag.create | flag.exclusive,
    body: bytesOf((out) => {
      out.emit(rt.formatLink({}));
      out.emit(ifla.formatLinkAttrs({ linkinfo }));
    }),
    about: `look for links of kind ${kind}`,
    fine: [],
  };
}

function kindData(link: NewLink): (data: AttrStream) => void {
  switch (link.kind) {
    case "veth":
      return (data) => data.push(1, peerData(link));
    case "vxlan":
      return (data) => data.emit(vxlanData(link));
    case "vlan":
      return (data) => data.push(1, putU16(link.id));
    case "macvlan":
      return (data) => data.push(1, putU32(macvlanModes[link.mode]));
    case "ipvlan":
      return (data) => {
        data.push(1, putU16(ipvlanModes[link.mode]));
        data.push(2, putU16(ipvlanFlags[link.flag]));
      };
    default:
      return unreachable(link);
  }
}

function peerData(link: NewLink & { readonly kind: "veth" }): Buffer {
  const attributes: ifla.LinkAttrs = {
    ifname: link.peer.name,
    mtu: link.mtu,
    netNsFd: link.peer.namespace,
  };
  if (link.peer.mac !== undefined) attributes.address = macBytes(link.peer.mac);
  // Not up: the kernel refuses that (ENOTCONN) until both ends are joined.
  return bytesOf((out) => {
    out.emit(rt.formatLink({}));
    out.emit(ifla.formatLinkAttrs(attributes));
  });
}

function vxlanData(link: NewLink & { readonly kind: "vxlan" }) {
  const port = Buffer.alloc(2);
  port.writeUInt16BE(link.port);
  return ifla.formatVxlan({ id: link.id, local: ipBytes(link.local), learning: 0, port });
}

/** Sets an existing link up, with this MTU or alias if one is given. */
export function setLink(name: string, mtu?: number, alias?: string): Request {
  const attributes: ifla.LinkAttrs = { ifname: name };
  if (mtu !== undefined) attributes.mtu = mtu;
  if (alias !== undefined) attributes.ifalias = alias;
  return {
    type: rt.MessageType.NEWLINK,
    flags: 0,
    body: bytesOf((out) => {
      out.emit(rt.formatLink({ flags: { up: true }, change: { up: true } }));
      out.emit(ifla.formatLinkAttrs(attributes));
    }),
    about: `set the link ${name} up`,
    fine: [],
  };
}

/** Asks for one link: `parseLink` reads the answer. */
export function getLink(name: string): Request {
  return {
    type: rt.MessageType.GETLINK,
    flags: 0,
    body: bytesOf((out) => {
      out.emit(rt.formatLink({}));
      out.emit(ifla.formatLinkAttrs({ ifname: name }));
    }),
    about: `look at the link ${name}`,
    fine: [],
  };
}

export function deleteLink(name: string): Request {
  return {
    type: rt.MessageType.DELLINK,
    flags: 0,
    body: bytesOf((out) => {
      out.emit(rt.formatLink({}));
      out.emit(ifla.formatLinkAttrs({ ifname: name }));
    }),
    about: `delete the link ${name}`,
    fine: ["ENODEV"],
  };
}

export function parseLink(body: Buffer): Link {
  const { index = 0, flags = {} } = rt.parseLink(body.subarray(0, rt.__LENGTH_Link));
  const link = {
    ...{ index, name: "", mtu: 0, isUp: flags.up === true, mac: "", peerIndex: 0 },
    ...{ kind: "", alias: "" },
  };
  let vxlan: Link["vxlan"] = null;
  // Read by hand: the package's parser knows the statistics blocks of its own kernel only.
  parseAttributes(body.subarray(rt.__LENGTH_Link), ({ type, data }) => {
    if (type === 1) link.mac = macText(data);
    if (type === 3) link.name = cString(data);
    if (type === 4) link.mtu = data.readUInt32LE();
    if (type === 5) link.peerIndex = data.readUInt32LE();
    if (type === 18) {
      link.kind = kindOf(data);
      vxlan = parseVxlan(data);
    }
    if (type === 20) link.alias = cString(data);
  });
  return { ...link, vxlan };
}

function kindOf(info: Buffer): string {
  let kind = "";
  parseAttributes(info, ({ type, data }) => {
    if (type === 1) kind = cString(data);
  });
  return kind;
}

function parseVxlan(info: Buffer): Link["vxlan"] {
  let kind = "";
  const found = { id: 0, local: "", port: 0 };
  parseAttributes(info, ({ type, data }) => {
    if (type === 1) kind = cString(data);
    if (type !== 2 || kind !== "vxlan") return;
    parseAttributes(data, (item) => {
      if (item.type === 1) found.id = item.data.readUInt32LE();
      if (item.type === 4) found.local = ipText(item.data);
      if (item.type === 15) found.port = item.data.readUInt16BE();
    });
  });
  return kind === "vxlan" ? found : null;
}
