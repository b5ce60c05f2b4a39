// The state machine under test: a few registers, and a hash of everything that ever went in.

import type { Entry } from "../../../manager/raft/messages.ts";

export interface Command {
  readonly kind: "write" | "swap";
  readonly serial: number;
  readonly key: number;
  readonly value: number;
  /** swap: only if this is the value. */
  readonly expected: number;
}

export interface Frozen {
  readonly index: number;
  readonly hash: number;
  readonly values: readonly number[];
}

const headerBytes = 14;

export function encodeCommand(command: Command, bytes: number): Uint8Array {
  const data = Buffer.alloc(Math.max(headerBytes, bytes), command.serial & 0xff);
  data[0] = command.kind === "write" ? 0 : 1;
  data[1] = command.key;
  data.writeUInt32LE(command.serial, 2);
  data.writeUInt32LE(command.value, 6);
  data.writeUInt32LE(command.expected, 10);
  return data;
}

export function decodeCommand(bytes: Uint8Array): Command {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    kind: data[0] === 0 ? "write" : "swap",
    key: data[1] ?? 0,
    serial: data.readUInt32LE(2),
    value: data.readUInt32LE(6),
    expected: data.readUInt32LE(10),
  };
}

export class Machine {
  index = 0;
  hash = 17;
  #values: number[] = [];

  valueOf(key: number): number {
    return this.#values[key] ?? 0;
  }

  /** What the client is told: the value before. */
  apply(entry: Entry): number {
    this.index = entry.index;
    this.#mix(entry.index);
    this.#mix(entry.term);
    if (entry.kind !== "data") return 0;
    const command = decodeCommand(entry.data);
    this.#mix(command.serial);
    const before = this.valueOf(command.key);
    if (command.kind === "write" || command.expected === before) {
      while (this.#values.length <= command.key) this.#values.push(0);
      this.#values[command.key] = command.value;
    }
    return before;
  }

  freeze(): Frozen {
    return { index: this.index, hash: this.hash, values: [...this.#values] };
  }

  restore(frozen: Frozen): void {
    this.index = frozen.index;
    this.hash = frozen.hash;
    this.#values = [...frozen.values];
  }

  #mix(value: number): void {
    this.hash = Math.imul(this.hash ^ value, 16777619) >>> 0;
  }
}
