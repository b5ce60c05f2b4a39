// Network namespaces: work done inside one, synchronously, on the thread that asks; and sockets bound inside one.

import { closeSync, mkdirSync, openSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import koffi from "koffi";
import { SwarmError } from "./errors.ts";
import { familyOf, ipBytes } from "./ip.ts";

/** The calls of the C library we need; each gives −1 and sets errno on failure. */
interface CalledLibc {
  setns(fd: number, kind: number): number;
  unshare(flags: number): number;
  mount(source: string, target: string, type: string, flags: number, data: null): number;
  readonly umount2: {
    (target: string, flags: number): number;
    /** On a thread of its own. */
    async(target: string, flags: number, done: () => void): void;
  };
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array, length: number): number;
  setsockopt(fd: number, level: number, name: number, value: Uint8Array, length: number): number;
}

const CLONE_NEWNET = 0x4000_0000;
const MS_BIND = 4096;
const MNT_DETACH = 2;
const AF_INET = 2;
const AF_INET6 = 10;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const own = "/proc/thread-self/ns/net";

const loaded: { libc?: CalledLibc } = {};

function libc(): CalledLibc {
  if (loaded.libc === undefined) {
    const library = koffi.load("libc.so.6");
    loaded.libc = {
      setns: library.func("int setns(int fd, int kind)"),
      unshare: library.func("int unshare(int flags)"),
      mount: library.func("int mount(str source, str target, str type, ulong flags, void *data)"),
      umount2: library.func("int umount2(str target, int flags)"),
      socket: library.func("int socket(int domain, int type, int protocol)"),
      bind: library.func("int bind(int fd, const uint8_t *address, uint32_t length)"),
      setsockopt: library.func(
        "int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)",
      ),
    };
  }
  return loaded.libc;
}

/** The name of an errno number (ENOENT, EPERM …), or the number itself. */
export function errnoName(errno: number): string {
  for (const [name, value] of Object.entries(koffi.os.errno)) if (value === errno) return name;
  return `errno ${errno}`;
}

/**
 * Runs `work` with the calling thread inside the namespace at `path` and returns what it returns. `work` must be
 * synchronous: sockets it opens stay in the namespace, but nothing it starts in the background does.
 * Throws `not_found` when there is no namespace at the path. Costs a few microseconds.
 */
export function inNamespace<T>(path: string, work: () => T): T {
  const target = openNamespace(path);
  try {
    return restoring(() => {
      if (libc().setns(target, CLONE_NEWNET) !== 0) {
        const errno = koffi.errno();
        throw failure(`cannot enter the network namespace ${path}`, errno);
      }
      const result = work();
      if (result instanceof Promise) {
        throw new SwarmError("internal", `work inside the namespace ${path} must be synchronous`);
      }
      return result;
    });
  } finally {
    closeSync(target);
  }
}

/** Makes a new network namespace and keeps it at `path` by a bind mount. Throws `conflict` when one is there already. */
export function createNamespace(path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  if (isNamespace(path))
    throw new SwarmError("conflict", `there is already a namespace at ${path}`);
  closeSync(openSync(path, "a", 0o444));
  restoring(() => {
    if (libc().unshare(CLONE_NEWNET) !== 0) {
      const errno = koffi.errno();
      throw failure(`cannot make the network namespace ${path}`, errno);
    }
    if (libc().mount(own, path, "none", MS_BIND, null) !== 0) {
      const errno = koffi.errno();
      throw failure(`cannot keep the new network namespace at ${path}`, errno);
    }
  });
}

/** Removes what keeps a namespace at `path`; the kernel ends it when nothing is inside any more. Idempotent. */
export function removeNamespace(path: string): void {
  if (libc().umount2(path, MNT_DETACH) !== 0) {
    const errno = koffi.errno();
    const isGone = errno === koffi.os.errno["EINVAL"] || errno === koffi.os.errno["ENOENT"];
    if (!isGone) throw failure(`cannot remove the network namespace ${path}`, errno);
  }
  rmSync(path, { force: true });
}

/**
 * As `removeNamespace`, but this thread goes on meanwhile: the kernel waits, some milliseconds on a busy machine, until
 * nobody can be under way to what is unmounted.
 */
export async function removeNamespaceAside(path: string): Promise<void> {
  await new Promise<void>((resolve) => libc().umount2.async(path, MNT_DETACH, () => resolve()));
  // Says what was wrong, if anything was.
  removeNamespace(path);
}

/** Whether a live network namespace is mounted at the path; an empty file left by a crash or a reboot is none. */
export function isNamespace(path: string): boolean {
  try {
    inNamespace(path, () => {});
    return true;
  } catch {
    return false;
  }
}

/** A UDP socket bound inside the namespace, for `dgram.bind({fd})`. The caller owns the descriptor. */
export function udpSocketIn(path: string, address: string, port: number): number {
  return inNamespace(path, () => boundSocket(SOCK_DGRAM, path, address, port));
}

/** A TCP socket bound inside the namespace, for `net.Server.listen({fd})`. The caller owns the descriptor. */
export function tcpListenerIn(path: string, address: string, port: number): number {
  return inNamespace(path, () => boundSocket(SOCK_STREAM, path, address, port));
}

function boundSocket(type: number, path: string, address: string, port: number): number {
  const c = libc();
  const is6 = familyOf(address) === 6;
  const host = is6 ? `[${address}]` : address;
  const what = `${type === SOCK_STREAM ? "TCP" : "UDP"} ${host}:${port} in ${path}`;
  const name = socketAddress(address, port);
  const fd = c.socket(is6 ? AF_INET6 : AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    const errno = koffi.errno();
    throw failure(`cannot open a socket for ${what}`, errno);
  }
  if (type === SOCK_STREAM)
    c.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, Uint8Array.of(1, 0, 0, 0), 4);
  if (is6) c.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, Uint8Array.of(1, 0, 0, 0), 4);
  if (c.bind(fd, name, name.length) !== 0) {
    const errno = koffi.errno();
    closeSync(fd);
    throw failure(`cannot bind ${what}`, errno);
  }
  return fd;
}

/** struct sockaddr_in or sockaddr_in6: family in host order, port and address in network order. Throws `invalid`. */
function socketAddress(address: string, port: number): Uint8Array {
  const ip = ipBytes(address);
  const is6 = ip.length === 16;
  const bytes = Buffer.alloc(is6 ? 28 : 16);
  bytes.writeUInt16LE(is6 ? AF_INET6 : AF_INET, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(ip, is6 ? 8 : 4);
  return bytes;
}

/** Runs what may leave the thread's namespace and comes back to it in any case. */
function restoring<T>(work: () => T): T {
  const home = openSync(own, "r");
  try {
    return work();
  } finally {
    // In a foreign namespace everything we did next would hit a container's network or the host's by mistake.
    if (libc().setns(home, CLONE_NEWNET) !== 0) process.abort();
    closeSync(home);
  }
}

function openNamespace(path: string): number {
  try {
    return openSync(path, "r");
  } catch (cause) {
    throw new SwarmError("not_found", `there is no network namespace at ${path}`, { cause });
  }
}

/** `errno` must be read right after the failed call: anything else may change it. */
function failure(what: string, errno: number): SwarmError {
  const name = errnoName(errno);
  const code =
    name === "EPERM" || name === "EACCES"
      ? "denied"
      : name === "EADDRINUSE"
        ? "conflict"
        : name === "EINVAL"
          ? "not_found"
          : "internal";
  return new SwarmError(code, `${what}: ${name}`, {
    cause: Object.assign(new Error(name), { code: name }),
  });
}
