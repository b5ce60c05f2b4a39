// The few things the log asks of a disk, synchronously, so that a test can put a failing or forgetting one beneath it.

import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { errnoOf } from "../../proto/kit/errors.ts";

export interface DiskFile {
  readonly size: number;
  write(bytes: Uint8Array, position: number): void;
  /** Makes what was written durable, with the file's size. */
  sync(): void;
  close(): void;
}

/** Errors are Node's system errors. Paths are absolute. */
export interface Disk {
  list(directory: string): readonly string[];
  read(path: string): Uint8Array;
  open(path: string): DiskFile;
  /** With its parents, durably. */
  makeDirectory(path: string): void;
  rename(from: string, to: string): void;
  remove(path: string): void;
  /** Makes names in the directory durable. */
  syncDirectory(path: string): void;
  freeBytes(path: string): number;
}

export const realDisk: Disk = {
  list: (directory) => readdirSync(directory).sort(),
  read: (path) => readFileSync(path),
  open: openFile,
  makeDirectory: (path) => {
    const first = mkdirSync(path, { recursive: true, mode: 0o700 });
    if (first === undefined) return;
    for (let made = path; ; made = dirname(made)) {
      syncDirectory(dirname(made));
      if (made === first) return;
    }
  },
  rename: renameSync,
  remove: (path) => rmSync(path, { force: true }),
  syncDirectory,
  freeBytes: (path) => {
    const { bavail, bsize } = statfsSync(path);
    return bavail * bsize;
  },
};

function syncDirectory(path: string): void {
  const handle = openSync(path, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

function openFile(path: string): DiskFile {
  // Created when missing, never cut.
  const handle = openSync(path, "a", 0o600);
  closeSync(handle);
  const fd = openSync(path, "r+");
  return {
    get size() {
      return fstatSync(fd).size;
    },
    write: (bytes, position) => {
      let done = 0;
      while (done < bytes.length)
        done += writeSync(fd, bytes, done, bytes.length - done, position + done);
    },
    sync: () => fdatasyncSync(fd),
    close: () => closeSync(fd),
  };
}

/** Whether an error only says that there is no room: no reason to distrust what was written. */
export function isOutOfSpace(error: unknown): boolean {
  return ["ENOSPC", "EDQUOT"].includes(errnoOf(error));
}
