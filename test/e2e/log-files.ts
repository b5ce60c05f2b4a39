// Reads a container's log files while they grow and are rotated, and counts numbered lines: lost, doubled, out of order.

import { closeSync, fstatSync, openSync, readdirSync, readSync } from "node:fs";
import { join } from "node:path";
import { type Machine, machine } from "../../deploy/lab/names.ts";

const pieceBytes = 1024 * 1024;
const faultsKept = 20;

/** Where a host keeps the log files of a container, as seen on this machine. */
export function logFolder(host: string, container: string): string {
  const on: Machine = machine(host);
  return join(on.disk, "var-lib", "tsswarm", "containers", container, "logs");
}

/** Lines are `NUMBER HUNDREDTHS …`: counted from 1, with the writer's clock. `read` has to come before two rotations have passed. */
export class NumberedLog {
  readonly #folder: string;
  /** Bytes read and the line begun, by inode: a file keeps that when it is renamed. */
  readonly #files = new Map<number, { offset: number; rest: string }>();
  readonly faults: string[] = [];
  #last = 0;
  #lastAt = 0;
  #stallMs = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The number of the last line. */
  get last(): number {
    return this.#last;
  }

  /** The longest time between two lines that follow each other, by the writer's clock. */
  get stallMs(): number {
    return this.#stallMs;
  }

  /** Takes what has been written since the last time, from the oldest file to the newest. */
  read(): void {
    const names = readdirSync(this.#folder).filter((name) => /^current\.log(\.\d+)?$/.test(name));
    const age = (name: string) => Number(name.split(".")[2] ?? 0);
    // Opened first and read then: a rotation in between changes names, not what is open.
    const open = names.sort((a, b) => age(a) - age(b)).flatMap((name) => this.#open(name));
    for (const fd of open.reverse()) {
      try {
        this.#readFile(fd);
      } finally {
        closeSync(fd);
      }
    }
  }

  /** The newest is opened first, so that none is missed while all become one older: it may come twice. */
  #open(name: string): readonly number[] {
    try {
      return [openSync(join(this.#folder, name), "r")];
    } catch {
      return [];
    }
  }

  #readFile(fd: number): void {
    const { ino, size } = fstatSync(fd);
    const known = this.#files.get(ino);
    // A smaller one is another file, with the number of one that was removed.
    const file = known !== undefined && known.offset <= size ? known : { offset: 0, rest: "" };
    this.#files.set(ino, file);
    const buffer = Buffer.allocUnsafe(pieceBytes);
    for (;;) {
      const bytes = readSync(fd, buffer, 0, pieceBytes, file.offset);
      if (bytes === 0) return;
      file.offset += bytes;
      const lines = (file.rest + buffer.toString("latin1", 0, bytes)).split("\n");
      file.rest = lines.pop() ?? "";
      for (const line of lines) this.#take(line);
    }
  }

  #take(line: string): void {
    const [number = 0, at = 0] = /^\{"log":"(\d+) (\d+) /.exec(line)?.slice(1).map(Number) ?? [];
    if (number !== this.#last + 1 && this.faults.length < faultsKept)
      this.faults.push(`after line ${this.#last} came ${number}: ${line.slice(0, 80)}`);
    if (this.#last > 0) this.#stallMs = Math.max(this.#stallMs, (at - this.#lastAt) * 10);
    this.#last = number;
    this.#lastAt = at;
  }
}
