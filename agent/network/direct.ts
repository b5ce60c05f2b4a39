// Direct networks (macvlan, ipvlan): their parents, and the containers' devices on them. Everything here may be called again
// on what is already there, whole or half made.

import { closeSync, openSync } from "node:fs";
import { errnoOf, SwarmError } from "../../proto/kit/errors.ts";
import { createNamespace, isNamespace } from "../../proto/kit/netns.ts";
import { findLink, listLinks, setSysctls } from "./apply.ts";
import { deleteLink, newLink, setLink, tryKind } from "./links.ts";
import type { Request } from "./netlink.ts";
import { leftParents, ownAlias, planParent } from "./parents.ts";
import { NetlinkSocket, withSocket } from "./socket.ts";
import type { DirectLink } from "./types.ts";

const switchMtu = 1_500;
const switchEnds = ["sw0", "sw1"] as const;

export interface Parent {
  /** Null: the host's. */
  readonly namespace: string | null;
  readonly index: number;
}

/** Throws `unsupported` where the kernel has no such devices. */
export function checkKind(kind: DirectLink["kind"]): void {
  const refusal = withSocket(null, (socket) => socket.batch([tryKind(kind)]))[0];
  if (refusal !== undefined && isUnsupported(refusal.code)) throw noSuchDevices(kind);
}

/**
 * The link the containers' devices are on. A VLAN's is made where it is not there; so is, at the path, the switch of a network
 * without a parent: a namespace with a pair of links and nothing else. Throws `precondition`, `unsupported`.
 */
export function ensureParent(parent: string, path: string, mtu: number): Parent {
  if (parent === "") return { namespace: path, index: ensureSwitch(path, mtu || switchMtu) };
  return withSocket(null, (socket) => {
    const plan = planParent(parent, listLinks(socket));
    if (plan.do === "use") return { namespace: null, index: plan.index };
    const { name, vlan: id, over } = plan;
    must(socket, "vlan", newLink({ kind: "vlan", name, id, parent: over }));
    socket.must(setLink(name, undefined, ownAlias));
    return { namespace: null, index: findLink(socket, name)?.index ?? 0 };
  });
}

function ensureSwitch(path: string, mtu: number): number {
  if (!isNamespace(path)) createNamespace(path);
  setSysctls(path, { "ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1" });
  const [name, far] = switchEnds;
  const namespace = openSync(path, "r");
  try {
    return withSocket(path, (socket) => {
      if (findLink(socket, name) === undefined)
        socket.must(newLink({ kind: "veth", name, mtu, peer: { name: far, namespace } }));
      socket.must(setLink(name, mtu), setLink(far, mtu));
      return findLink(socket, name)?.index ?? 0;
    });
  } finally {
    closeSync(namespace);
  }
}

/** Removes the VLANs' links that were made for networks which are gone. */
export function removeParents(wanted: ReadonlySet<string>): void {
  withSocket(null, (socket) => {
    const left = leftParents(listLinks(socket), wanted);
    if (left.length > 0) socket.batch(left.map(deleteLink));
  });
}

/** Gives a container its device. */
export function ensureDirectLink(input: {
  readonly direct: DirectLink;
  readonly parent: Parent;
  readonly sandboxPath: string;
  readonly device: string;
  /** "": the parent's. */
  readonly mac: string;
  /** 0: the parent's. */
  readonly mtu: number;
  readonly hasIPv6: boolean;
}): void {
  const { direct, parent, sandboxPath, device } = input;
  const namespace = openSync(sandboxPath, "r");
  const outer = new NetlinkSocket(parent.namespace);
  const sandbox = new NetlinkSocket(sandboxPath);
  try {
    const mtu = input.mtu === 0 ? undefined : input.mtu;
    const found = findLink(sandbox, device);
    const isRight = found?.kind === direct.kind && found.peerIndex === parent.index;
    if (!isRight) {
      if (found !== undefined) sandbox.must(deleteLink(device));
      const { parent: _, ...kind } = direct;
      const more = {
        ...(input.mac === "" ? {} : { mac: input.mac }),
        ...(mtu === undefined ? {} : { mtu }),
      };
      const link = { ...kind, ...more, name: device, parent: parent.index, namespace };
      makeDevice(outer, direct, newLink(link));
    }
    // Neighbours that are not ours are asked from a link-local address.
    setSysctls(sandboxPath, {
      [`ipv6/conf/${device}/addr_gen_mode`]: "0",
      [`ipv6/conf/${device}/disable_ipv6`]: input.hasIPv6 ? "0" : "1",
    });
    sandbox.must(setLink(device, mtu));
  } finally {
    outer[Symbol.dispose]();
    sandbox[Symbol.dispose]();
    closeSync(namespace);
  }
}

/** At once: with its namespace it would go later, and keep its hardware address and its parent until then. */
export function removeDirectLink(sandboxPath: string, device: string): void {
  withSocket(sandboxPath, (socket) => socket.batch([deleteLink(device)]));
}

/** Throws `conflict` where the parent carries what excludes it. */
function makeDevice(socket: NetlinkSocket, direct: DirectLink, request: Request): void {
  try {
    must(socket, direct.kind, request);
  } catch (cause) {
    const code = errnoOf(cause instanceof Error ? cause.cause : cause);
    const isAlone = direct.mode === "passthru" && code === "EINVAL";
    if (code !== "EBUSY" && !isAlone) throw cause;
    const why = isAlone
      ? "in mode passthru it carries one container alone, and has devices already"
      : "macvlan and ipvlan exclude each other on one link, and it carries the other kind";
    throw new SwarmError("conflict", `parent interface ${direct.parent}: ${why}`, { cause });
  }
}

function must(socket: NetlinkSocket, kind: string, request: Request): void {
  try {
    socket.must(request);
  } catch (error) {
    const code = errnoOf(error instanceof Error ? error.cause : error);
    if (isUnsupported(code)) throw noSuchDevices(kind, error);
    throw error;
  }
}

/** Linux has one number for both. */
function isUnsupported(code: string | undefined): boolean {
  return code === "EOPNOTSUPP" || code === "ENOTSUP";
}

function noSuchDevices(kind: string, cause?: unknown): SwarmError {
  const module = kind === "vlan" ? "8021q" : kind;
  const message = `this host's kernel has no ${kind} devices: load its module (modprobe ${module}) or use another kernel`;
  return new SwarmError("unsupported", message, { cause });
}
