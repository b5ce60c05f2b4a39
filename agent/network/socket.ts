// A netlink socket in a namespace: batches of requests, each with its own error in words, and dumps.

import { close, closeSync } from "node:fs";
import koffi from "koffi";
import { SwarmError } from "../../proto/kit/errors.ts";
import { errnoName, inNamespace } from "../../proto/kit/netns.ts";
import { libc } from "./libc.ts";
import {
  decode,
  encode,
  isInterrupted,
  messageType,
  parseError,
  type Reply,
  type Request,
} from "./netlink.ts";

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;

/** All sockets receive here: each answer is copied out before the next one is waited for. */
const received = Buffer.allocUnsafeSlow(64 * 1024);
const queueBytes = 1024 * 1024;
const batchRequestsMax = 200;
const batchBytesMax = 48 * 1024;
const dumpAttemptsMax = 5;
const answerSecondsMax = 5;

export const netlinkProtocol = { route: 0, netfilter: 12 } as const;

/** What went wrong with one request of a batch. */
export interface Refusal {
  readonly request: Request;
  /** ENODEV, EEXIST … */
  readonly code: string;
  readonly message: string;
}

/**
 * Synchronous: the kernel does the work inside `send`, so that waiting would gain nothing. Must be disposed: an open
 * socket keeps its namespace alive.
 */
export class NetlinkSocket implements Disposable {
  readonly #fd: number;
  readonly #where: string;
  readonly #protocol: number;
  #sequence = 0;

  /** `namespace`: its path, or null for the thread's own. */
  constructor(namespace: string | null, protocol: number = netlinkProtocol.route) {
    this.#where = namespace === null ? "the host" : namespace;
    this.#protocol = protocol;
    this.#fd =
      namespace === null
        ? openSocket(protocol)
        : inNamespace(namespace, () => openSocket(protocol));
  }

  [Symbol.dispose](): void {
    // The kernel closes one of netfilter's only when it has done away with the rules that were last taken out of the way
    // of packets, some 10 ms later, whoever took them: a thread of the pool waits for that.
    if (this.#protocol === netlinkProtocol.netfilter) close(this.#fd, () => {});
    else closeSync(this.#fd);
  }

  /** Sends all of them, in order; what the kernel refuses does not hold up the rest. `fine` errors are none. */
  batch(requests: readonly Request[]): readonly Refusal[] {
    const refusals: Refusal[] = [];
    for (let start = 0; start < requests.length; ) {
      const first = this.#sequence + 1;
      const parts: Buffer[] = [];
      let bytes = 0;
      while (parts.length < batchRequestsMax && bytes < batchBytesMax) {
        const request = requests[start + parts.length];
        if (request === undefined) break;
        this.#sequence += 1;
        const part = encode(request, this.#sequence);
        bytes += part.length;
        parts.push(part);
      }
      this.#send(Buffer.concat(parts));
      const sent = requests.slice(start, start + parts.length);
      refusals.push(...this.#acknowledgements(sent, first));
      start += parts.length;
    }
    return refusals;
  }

  /** One request or more that must all succeed; throws naming the first that did not. */
  must(...requests: readonly Request[]): void {
    const refusal = this.batch(requests)[0];
    if (refusal !== undefined) throw refused(refusal);
  }

  /** The body of the one answer to a request. Throws the kernel's refusal. */
  ask(request: Request): Buffer {
    this.#sequence += 1;
    this.#send(encode(request, this.#sequence));
    let body: Buffer = Buffer.alloc(0);
    for (;;) {
      for (const reply of this.#receive()) {
        if (reply.sequence !== this.#sequence) continue;
        if (reply.type !== messageType.error) {
          body = reply.body;
          continue;
        }
        const error = parseError(reply);
        if (error.errno !== 0) throw refused(this.#refusal(request, error));
        return body;
      }
    }
  }

  /** The messages of a whole table. Made again when a change came between. */
  dump(request: Request): readonly Reply[] {
    for (let attempt = 0; attempt < dumpAttemptsMax; attempt++) {
      const replies = this.#dumpOnce(request);
      if (replies !== null) return replies;
    }
    throw new SwarmError("unavailable", `${request.about} in ${this.#where}: it keeps changing`);
  }

  #dumpOnce(request: Request): readonly Reply[] | null {
    this.#sequence += 1;
    this.#send(encode(request, this.#sequence));
    const replies: Reply[] = [];
    let isWhole = true;
    for (;;) {
      for (const reply of this.#receive()) {
        if (reply.sequence !== this.#sequence) continue;
        if (isInterrupted(reply)) isWhole = false;
        if (reply.type === messageType.done) return isWhole ? replies : null;
        if (reply.type === messageType.error) {
          throw refused(this.#refusal(request, parseError(reply)));
        }
        replies.push(reply);
      }
    }
  }

  #acknowledgements(requests: readonly Request[], first: number): readonly Refusal[] {
    const refusals: Refusal[] = [];
    for (let seen = 0; seen < requests.length; ) {
      for (const reply of this.#receive()) {
        const request = requests[reply.sequence - first];
        if (request === undefined || reply.type !== messageType.error) continue;
        seen += 1;
        const error = parseError(reply);
        if (error.errno === 0 || request.fine.includes(errnoName(error.errno))) continue;
        refusals.push(this.#refusal(request, error));
      }
    }
    return refusals;
  }

  #refusal(request: Request, error: { readonly errno: number; readonly text: string }): Refusal {
    const code = errnoName(error.errno);
    const why = error.text === "" ? code : `${code}, ${error.text}`;
    return { request, code, message: `cannot ${request.about} in ${this.#where}: ${why}` };
  }

  #send(bytes: Buffer): void {
    if (libc().send(this.#fd, bytes, bytes.length, 0) < 0) {
      const errno = koffi.errno();
      throw new SwarmError("internal", `netlink in ${this.#where}: ${errnoName(errno)} on sending`);
    }
  }

  #receive(): readonly Reply[] {
    const count = libc().recv(this.#fd, received, received.length, 0);
    if (count < 0) {
      const errno = koffi.errno();
      throw new SwarmError(
        "internal",
        `netlink in ${this.#where}: ${errnoName(errno)} on receiving`,
      );
    }
    return decode(Buffer.from(received.subarray(0, count)));
  }
}

/** Does the work with a socket in the namespace (null: the thread's own) and closes it. */
export function withSocket<T>(
  namespace: string | null,
  work: (socket: NetlinkSocket) => T,
  protocol?: number,
): T {
  const socket = new NetlinkSocket(namespace, protocol);
  try {
    return work(socket);
  } finally {
    socket[Symbol.dispose]();
  }
}

export function refused(refusal: Refusal): SwarmError {
  const code =
    refusal.code === "EPERM" ? "denied" : refusal.code === "EEXIST" ? "conflict" : "internal";
  return new SwarmError(code, refusal.message, {
    cause: Object.assign(new Error(refusal.code), { code: refusal.code }),
  });
}

function openSocket(protocol: number): number {
  const fd = libc().socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol);
  if (fd < 0) {
    const errno = koffi.errno();
    throw new SwarmError("internal", `cannot open a netlink socket: ${errnoName(errno)}`);
  }
  const option = (level: number, name: number, value: Buffer) =>
    libc().setsockopt(fd, level, name, value, value.length);
  option(SOL_SOCKET, SO_RCVBUFFORCE, number32(queueBytes));
  option(SOL_NETLINK, NETLINK_CAP_ACK, number32(1));
  option(SOL_NETLINK, NETLINK_EXT_ACK, number32(1));
  const limit = Buffer.alloc(16);
  limit.writeBigInt64LE(BigInt(answerSecondsMax), 0);
  option(SOL_SOCKET, SO_RCVTIMEO, limit);
  return fd;
}

function number32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
