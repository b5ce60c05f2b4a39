// The few calls of the C library that Node has no words for: sockets of kinds it does not know.

import koffi from "koffi";

const F_DUPFD_CLOEXEC = 1030;

/** Each gives −1 on failure; `koffi.errno()` right after it says why. */
export interface SocketCalls {
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array, addressLength: number): number;
  setsockopt(fd: number, level: number, name: number, value: Uint8Array, length: number): number;
  getsockopt(fd: number, level: number, name: number, value: Uint8Array, size: Uint8Array): number;
  /** A second descriptor of the same open file, closed on exec. */
  duplicate(fd: number): number;
  send(fd: number, bytes: Uint8Array, length: number, flags: number): number;
  recv(fd: number, bytes: Uint8Array, length: number, flags: number): number;
  sendto(
    fd: number,
    bytes: Uint8Array,
    length: number,
    flags: number,
    address: Uint8Array,
    addressLength: number,
  ): number;
}

const loaded: { calls?: SocketCalls } = {};

export function libc(): SocketCalls {
  if (loaded.calls === undefined) {
    const library = koffi.load("libc.so.6");
    const fcntl = library.func("int fcntl(int fd, int command, ...)");
    loaded.calls = {
      duplicate: (fd) => fcntl(fd, F_DUPFD_CLOEXEC, "int", 0),
      socket: library.func("int socket(int domain, int type, int protocol)"),
      bind: library.func("int bind(int fd, const uint8_t *address, uint32_t address_length)"),
      setsockopt: library.func(
        "int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)",
      ),
      getsockopt: library.func(
        "int getsockopt(int fd, int level, int name, uint8_t *value, uint8_t *size)",
      ),
      send: library.func("intptr_t send(int fd, const uint8_t *bytes, size_t length, int flags)"),
      recv: library.func("intptr_t recv(int fd, uint8_t *bytes, size_t length, int flags)"),
      sendto: library.func(
        "intptr_t sendto(int fd, const uint8_t *bytes, size_t length, int flags, const uint8_t *address, uint32_t address_length)",
      ),
    };
  }
  return loaded.calls;
}
