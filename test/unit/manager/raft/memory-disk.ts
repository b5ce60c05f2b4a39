// A disk of plain memory that forgets at a crash what was not synced, sector by sector, and fails when told to.

import type { Disk, DiskFile } from "../../../../manager/raft/disk.ts";

const sectorBytes = 512;

interface Stored {
  durable: Buffer;
  current: Buffer;
}

export class MemoryDisk implements Disk {
  /** Names are durable only after syncDirectory. */
  #names = new Map<string, Stored>();
  #durableNames = new Map<string, Stored>();
  /** Counts down with each sync; the sync that finds 0 fails. */
  syncsLeft = Number.POSITIVE_INFINITY;
  syncs = 0;
  freeBytesLeft = 1e12;

  list(directory: string): readonly string[] {
    return [...this.#names.keys()]
      .filter((path) => path.startsWith(`${directory}/`))
      .map((path) => path.slice(directory.length + 1))
      .sort();
  }

  read(path: string): Uint8Array {
    return Buffer.from(this.#get(path).current);
  }

  open(path: string): DiskFile {
    const stored = this.#names.get(path) ?? { durable: Buffer.alloc(0), current: Buffer.alloc(0) };
    this.#names.set(path, stored);
    return {
      get size() {
        return stored.current.length;
      },
      write: (bytes, position) => {
        const end = position + bytes.length;
        if (end > stored.current.length)
          stored.current = Buffer.concat([
            stored.current,
            Buffer.alloc(end - stored.current.length),
          ]);
        stored.current.set(bytes, position);
      },
      sync: () => {
        this.#sync();
        stored.durable = Buffer.from(stored.current);
      },
      close: () => {},
    };
  }

  makeDirectory(): void {}

  rename(from: string, to: string): void {
    this.#names.set(to, this.#get(from));
    this.#names.delete(from);
  }

  remove(path: string): void {
    this.#names.delete(path);
  }

  syncDirectory(): void {
    this.#sync();
    this.#durableNames = new Map(this.#names);
  }

  freeBytes(): number {
    return this.freeBytesLeft;
  }

  /** Power off: of what was not synced, each sector is kept or not. */
  crash(random: () => number): void {
    this.#names = random() < 0.5 ? new Map(this.#names) : new Map(this.#durableNames);
    for (const stored of new Set([...this.#names.values()])) {
      const { durable, current } = stored;
      const size = random() < 0.5 ? current.length : durable.length;
      const after = Buffer.alloc(Math.max(size, durable.length));
      durable.copy(after);
      for (let at = 0; at < after.length; at += sectorBytes)
        if (random() < 0.5) current.copy(after, at, at, Math.min(at + sectorBytes, current.length));
      stored.durable = after;
      stored.current = Buffer.from(after);
    }
    this.#durableNames = new Map(this.#names);
    this.syncsLeft = Number.POSITIVE_INFINITY;
  }

  /** Changes bytes beneath everyone. */
  damage(
    path: string,
    at: number,
    bytes = Buffer.from([(this.#get(path).current[at] ?? 0) ^ 0x40]),
  ): void {
    const stored = this.#get(path);
    stored.current.set(bytes, at);
    stored.durable = Buffer.from(stored.current);
  }

  #sync(): void {
    if (this.syncsLeft <= 0) throw new Error("EIO: the disk failed");
    this.syncsLeft -= 1;
    this.syncs += 1;
  }

  #get(path: string): Stored {
    const stored = this.#names.get(path);
    if (stored === undefined) throw new Error(`ENOENT: ${path}`);
    return stored;
  }
}
