// The state machine under test: a few registers, and a hash of everything that ever went in.

import type { Entry } from "../../../manager/raft/messages.ts";

export interface Command {
  /** batch: no register, but what follows is for the annex. */
  readonly kind: "write" | "swap" | "batch";
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
  /** The annex's own. */
  readonly annex: unknown;
}

/** A second state machine behind the first: the manager's store, where that is simulated. */
export interface Annex {
  apply(index: number, serial: number, payload: Uint8Array): void;
  /** Of the whole state, now and then; 0 in between. Equal at equal indexes. */
  hashAt(index: number): number;
  freeze(): unknown;
  /** null: begin empty. */
  restore(frozen: unknown): void;
}

const kinds = ["write", "swap", "batch"] as const;
const headerBytes = 14;

export function encodeCommand(command: Command, bytes: number): Uint8Array {
  const data = Buffer.alloc(Math.max(headerBytes, bytes), command.serial & 0xff);
  data[0] = kinds.indexOf(command.kind);
  data[1] = command.key;
  data.writeUInt32LE(command.serial, 2);
  data.writeUInt32LE(command.value, 6);
  data.writeUInt32LE(command.expected, 10);
  return data;
}

export function encodeBatchCommand(serial: number, payload: Uint8Array): Uint8Array {
  const header = encodeCommand({ kind: "batch", serial, key: 0, value: 0, expected: 0 }, 0);
  return Buffer.concat([header, payload]);
}

export function decodeCommand(bytes: Uint8Array): Command {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    kind: kinds[data[0] ?? 0] ?? "write",
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
  readonly #annex: Annex | null;

  constructor(annex: Annex | null) {
    this.#annex = annex;
  }

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
    if (command.kind === "batch") {
      this.#annex?.apply(entry.index, command.serial, entry.data.subarray(headerBytes));
      this.#mix(this.#annex?.hashAt(entry.index) ?? 0);
      return before;
    }
    if (command.kind === "write" || command.expected === before) {
      while (this.#values.length <= command.key) this.#values.push(0);
      this.#values[command.key] = command.value;
    }
    return before;
  }

  freeze(): Frozen {
    const annex = this.#annex?.freeze() ?? null;
    return { index: this.index, hash: this.hash, values: [...this.#values], annex };
  }

  /** null: empty again. */
  restore(frozen: Frozen | null): void {
    this.index = frozen?.index ?? 0;
    this.hash = frozen?.hash ?? 17;
    this.#values = [...(frozen?.values ?? [])];
    this.#annex?.restore(frozen?.annex ?? null);
  }

  #mix(value: number): void {
    this.hash = Math.imul(this.hash ^ value, 16777619) >>> 0;
  }
}
