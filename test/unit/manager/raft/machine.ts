// A state machine for tests: the list of what was applied, in order.

import type { StateMachine } from "../../../../manager/raft/types.ts";

export class SerialMachine implements StateMachine {
  serials: string[] = [];
  /** Index of the last entry or snapshot. */
  index = 0;
  /** How often it was replaced by a snapshot. */
  restored = 0;

  apply(index: number, data: Uint8Array): number {
    if (index <= this.index) throw new Error(`entry ${index} is applied twice`);
    this.index = index;
    this.serials.push(Buffer.from(data).toString().trim());
    return this.serials.length;
  }

  *snapshot(): Iterable<Uint8Array> {
    const frozen = [...this.serials];
    for (let at = 0; at < frozen.length; at += 100)
      yield Buffer.from(JSON.stringify(frozen.slice(at, at + 100)));
  }

  restore(index: number, pieces: Iterable<Uint8Array>): void {
    this.index = index;
    this.restored += 1;
    this.serials = [];
    for (const piece of pieces)
      this.serials.push(...(JSON.parse(Buffer.from(piece).toString()) as string[]));
  }
}
