// The three system calls Node lacks: mkfifo, mount, umount.

import koffi from "koffi";
import { SwarmError } from "../../proto/kit/errors.ts";

export interface Libc {
  /** Existing FIFOs are kept. */
  mkfifo(path: string, mode: number): void;
  mount(source: string, target: string, type: string, flags: number, data: string): void;
  /** Detaches at once, even while something still uses it. */
  unmount(target: string): void;
}

export const mountFlags = {
  readonly: 1,
  noSuid: 2,
  noDevices: 4,
  noExec: 8,
  remount: 32,
  bind: 4096,
  recursive: 16_384,
} as const;
const detach = 2;

export function openLibc(): Libc {
  const library = koffi.load("libc.so.6");
  const mkfifo = library.func("int mkfifo(const char *path, unsigned int mode)");
  const mount = library.func(
    "int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)",
  );
  const umount = library.func("int umount2(const char *target, int flags)");
  const check = (result: unknown, what: string, allowed = 0) => {
    if (result === 0) return;
    const errno = koffi.errno();
    if (errno !== 0 && errno === allowed) return;
    const name = Object.entries(koffi.os.errno).find(([, number]) => number === errno)?.[0];
    throw new SwarmError("internal", `${what}: ${name ?? errno}`);
  };
  return {
    mkfifo: (path, mode) =>
      check(mkfifo(path, mode), `cannot make the FIFO ${path}`, koffi.os.errno["EEXIST"]),
    mount: (source, target, type, flags, data) =>
      check(mount(source, target, type, flags, data), `cannot mount ${source} at ${target}`),
    unmount: (target) => check(umount(target, detach), `cannot unmount ${target}`),
  };
}
