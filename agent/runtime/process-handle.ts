// Handles of processes: a signal by one reaches that process or nobody, whoever has its number by then (pidfd_open(2)).

import { closeSync } from "node:fs";
import { readFile } from "node:fs/promises";
import koffi from "koffi";

/** The same on every architecture; older C libraries have no words for them. */
const pidfdSendSignal = 424;
const pidfdOpen = 434;

type Syscall = (number: number, ...typesAndValues: readonly unknown[]) => number;
const loaded: { syscall?: Syscall } = {};

function syscall(number: number, ...numbers: readonly number[]): number {
  loaded.syscall ??= koffi.load("libc.so.6").func("long syscall(long number, ...)") as Syscall;
  return loaded.syscall(number, ...numbers.flatMap((value) => ["long", value]));
}

export class ProcessHandle implements Disposable {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /**
   * Of a process in the control group that ends with this name; null where there is none: it has ended, the number is of
   * another pid namespace than ours, or the kernel has no handles (before 5.3).
   */
  static async open(pid: number, group: string): Promise<ProcessHandle | null> {
    const fd = syscall(pidfdOpen, pid, 0);
    if (fd < 0) return null;
    const handle = new ProcessHandle(fd);
    const groups = await readFile(`/proc/${pid}/cgroup`, "utf8").catch(() => "");
    // Alive once the file was read: it is this process's.
    if (groups.split("\n").some((line) => line.endsWith(`/${group}`)) && handle.signal(0))
      return handle;
    handle[Symbol.dispose]();
    return null;
  }

  /** False when it cannot be: it has ended, say. 0 only asks. */
  signal(number: number): boolean {
    return syscall(pidfdSendSignal, this.#fd, number, 0, 0) === 0;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
