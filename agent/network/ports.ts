// The host's ports that lead to containers are held open by us, so that a local program and a container never claim the
// same one in silence.

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { closeSync } from "node:fs";
import { createServer } from "node:net";
import koffi from "koffi";
import { errnoOf, SwarmError } from "../../proto/kit/errors.ts";
import { type Family, ipBytes } from "../../proto/kit/ip.ts";
import { errnoName } from "../../proto/kit/netns.ts";
import { libc } from "./libc.ts";
import { holderOf } from "./port-holder.ts";
import type { Port } from "./published.ts";

const anyAddress = { 4: "0.0.0.0", 6: "::" } as const;
/** AF_INET, AF_INET6. */
const families = { 4: 2, 6: 10 } as const;
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;

export function portKey({ protocol, port, family, hostIP }: Port): string {
  const host = family === 6 ? `[${hostIP === "" ? "::" : hostIP}]` : hostIP;
  return `${host === "" ? "" : `${host}:`}${port}/${protocol}`;
}

export class HeldPorts {
  readonly #held = new Map<string, () => void>();
  /** Who has a port, in words, by its key. */
  readonly #taken = new Map<string, string>();

  /** Holds these and lets go of all others. Returns an error, by the port's key, for each that cannot be held. */
  async hold(ports: readonly Port[]): Promise<ReadonlyMap<string, SwarmError>> {
    const wanted = new Map(ports.map((port) => [portKey(port), port]));
    for (const [key, release] of this.#held) {
      if (wanted.has(key)) continue;
      release();
      this.#held.delete(key);
    }
    for (const key of this.#taken.keys()) if (!wanted.has(key)) this.#taken.delete(key);
    const errors = new Map<string, SwarmError>();
    for (const [key, port] of wanted) {
      try {
        await this.#take(port);
        this.#taken.delete(key);
      } catch (error) {
        if (!(error instanceof SwarmError)) throw error;
        errors.set(key, error);
      }
    }
    return errors;
  }

  /** Looked for once, as long as the port is wanted and taken. */
  #whyTaken(key: string, port: Port): string {
    const why = this.#taken.get(key) ?? `${holderOf(port)} on this node uses it already`;
    this.#taken.set(key, why);
    return why;
  }

  release(): void {
    for (const release of this.#held.values()) release();
    this.#held.clear();
  }

  /** Throws, naming the port, `conflict`, or `not_found` where the node has no such address. */
  async #take(port: Port): Promise<void> {
    const key = portKey(port);
    if (this.#held.has(key)) return;
    try {
      this.#held.set(key, await (port.protocol === "udp" ? holdUdp(port) : holdTcp(port)));
    } catch (cause) {
      const code = errnoOf(cause);
      const cannot = `port ${key} cannot be published`;
      if (code === "EADDRNOTAVAIL")
        throw new SwarmError("not_found", `${cannot}: this node has no address ${port.hostIP}`, {
          cause,
        });
      const why = code === "EADDRINUSE" ? this.#whyTaken(key, port) : code;
      throw new SwarmError("conflict", `${cannot}: ${why}`, { cause });
    }
  }
}

/**
 * Bound and not listening: the port is nobody else's, and who comes while no rule leads to a container is refused. As long as
 * connections of the program that had it last are not quite over, only a socket that listens gets it: who comes then is cut off.
 */
async function holdTcp(port: Port): Promise<() => void> {
  const fd = bound(port);
  return fd === null ? listen(port) : () => closeSync(fd);
}

/** null when it is in use, be it by connections that are over. Throws with the kernel's code. */
function bound({ port, family, hostIP }: Port): number | null {
  const calls = libc();
  const fd = calls.socket(families[family], SOCK_STREAM_CLOEXEC, 0);
  const address = socketAddress(hostIP === "" ? anyAddress[family] : hostIP, port, family);
  const only = Uint8Array.of(1, 0, 0, 0);
  const isBound =
    fd >= 0 &&
    (family === 4 || calls.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, only, only.length) === 0) &&
    calls.bind(fd, address, address.length) === 0;
  if (isBound) return fd;
  const code = errnoName(koffi.errno());
  if (fd >= 0) closeSync(fd);
  if (code === "EADDRINUSE") return null;
  throw Object.assign(new Error(`bind: ${code}`), { code });
}

/** struct sockaddr_in, or sockaddr_in6. */
function socketAddress(host: string, port: number, family: Family): Uint8Array {
  const bytes = Buffer.alloc(family === 4 ? 16 : 28);
  bytes.writeUInt16LE(families[family], 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(ipBytes(host), family === 4 ? 4 : 8);
  return bytes;
}

async function listen({ port, family, hostIP }: Port): Promise<() => void> {
  // What gets here came past the rules: nobody is behind it.
  const server = createServer((socket) => socket.destroy());
  const host = hostIP === "" ? anyAddress[family] : hostIP;
  server.listen({ port, host, ipv6Only: true, exclusive: true });
  await once(server, "listening");
  server.unref();
  return () => server.close();
}

async function holdUdp({ port, family, hostIP }: Port): Promise<() => void> {
  const type = family === 4 ? "udp4" : "udp6";
  const socket = createSocket({ type, ipv6Only: family === 6 });
  socket.bind({ port, address: hostIP === "" ? anyAddress[family] : hostIP, exclusive: true });
  await once(socket, "listening");
  socket.unref();
  return () => socket.close();
}
