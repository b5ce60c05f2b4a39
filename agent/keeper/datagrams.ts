// One end of a Unix datagram socket, which Node lacks.

import { closeSync } from "node:fs";
import koffi from "koffi";

interface Calls {
  socket(domain: number, type: number, protocol: number): number;
  connect(fd: number, address: Uint8Array, length: number): number;
  setsockopt(fd: number, level: number, name: number, value: Uint8Array, length: number): number;
  readonly send: {
    (fd: number, bytes: Uint8Array, length: number, flags: number): number;
    /** On a thread of its own. */
    async(
      fd: number,
      bytes: Uint8Array,
      length: number,
      flags: number,
      done: (error: unknown, sent: number) => void,
    ): void;
  };
}

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_SNDTIMEO = 21;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** struct sockaddr_un's path, its final zero counted. */
const pathBytesMax = 108;

export class Datagrams {
  readonly #address: Buffer;
  readonly #waitSeconds: number;
  #calls: Calls | null = null;
  #fd = -1;

  /** Opens at the first `send`. */
  constructor(path: string, waitSeconds: number) {
    if (Buffer.byteLength(path) >= pathBytesMax) throw new TypeError(`${path} is too long`);
    this.#address = Buffer.alloc(2 + pathBytesMax);
    this.#address.writeUInt16LE(AF_UNIX, 0);
    this.#address.write(path, 2);
    this.#waitSeconds = waitSeconds;
  }

  /** One at a time. False when nobody is there, when there is no room for too long, or when it is larger than can be sent. */
  async send(bytes: Uint8Array): Promise<boolean> {
    // Whoever listened may have been started anew since.
    for (let tries = 0; tries < 2; tries++) {
      if (this.#fd < 0 && !this.#open()) return false;
      const { send } = this.#loaded();
      if (send(this.#fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
      if (koffi.errno() === koffi.os.errno["EAGAIN"]) return this.#sendAside(bytes);
      this.close();
    }
    return false;
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  /** Waits for room. */
  async #sendAside(bytes: Uint8Array): Promise<boolean> {
    const sent = await new Promise<number>((resolve) =>
      this.#loaded().send.async(this.#fd, bytes, bytes.length, MSG_NOSIGNAL, (error, result) =>
        resolve(error === null ? result : -1),
      ),
    );
    return sent >= 0;
  }

  #open(): boolean {
    const calls = this.#loaded();
    const fd = calls.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    const wait = Buffer.alloc(16);
    wait.writeBigInt64LE(BigInt(this.#waitSeconds), 0);
    calls.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, wait, wait.length);
    if (calls.connect(fd, this.#address, this.#address.length) !== 0) {
      closeSync(fd);
      return false;
    }
    this.#fd = fd;
    return true;
  }

  #loaded(): Calls {
    if (this.#calls !== null) return this.#calls;
    const library = koffi.load("libc.so.6");
    this.#calls = {
      socket: library.func("int socket(int domain, int type, int protocol)"),
      connect: library.func("int connect(int fd, const uint8_t *address, uint32_t length)"),
      setsockopt: library.func(
        "int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)",
      ),
      send: library.func("long send(int fd, const uint8_t *bytes, ulong length, int flags)"),
    };
    return this.#calls;
  }
}
