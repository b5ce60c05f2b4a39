// Clients: each asks one thing at a time of some member, and remembers what it was told.

import type { Dice } from "./chance.ts";
import type { History, Operation } from "./history.ts";
import { encodeCommand } from "./machine.ts";
import type { Member } from "./member.ts";
import type { Schedule } from "./schedule.ts";
import type { Settings } from "./settings.ts";

export class Client {
  readonly #history: History;
  readonly #dice: Dice;
  readonly #settings: Settings;
  readonly #schedule: Schedule;
  /** Value this client last saw in a register: what its swaps expect. */
  readonly #seen = new Map<number, number>();
  #current: Operation | null = null;
  /** Who answered last time. */
  #friend: Member | null = null;

  constructor(history: History, dice: Dice, settings: Settings, schedule: Schedule) {
    this.#history = history;
    this.#dice = dice;
    this.#settings = settings;
    this.#schedule = schedule;
  }

  /** Milliseconds until it looks again. */
  get patienceMs(): number {
    return this.#dice.exponential(this.#settings.thinkMs) + 1;
  }

  /** Asks something new, or goes on waiting, or gives up. `choose` says whom to ask when the one before did not help. */
  act(choose: () => Member | undefined): void {
    const current = this.#current;
    if (current !== null) {
      const waitMs = 20 * this.#settings.thinkMs + 2_000;
      if (current.outcome === "pending" && this.#schedule.now - current.began < waitMs) return;
      if (current.outcome === "pending") current.outcome = "unknown";
      if (current.outcome === "done") this.#seen.set(current.key, seenAfter(current));
      else this.#friend = null;
      this.#current = null;
    }
    const member = this.#friend ?? choose();
    if (member === undefined) return;
    this.#friend = member;
    const key = this.#dice.below(this.#settings.keys);
    if (this.#dice.chance(this.#settings.reads)) this.#read(member, key);
    else this.#write(member, key);
  }

  #read(member: Member, key: number): void {
    const operation = this.#history.begin({ kind: "read", key, expected: 0 }, this.#schedule.now);
    const id = `read ${operation.serial}`;
    member.waiting.read(id, operation);
    const answer = member.ask((core) => core.read(id));
    if (answer?.ok === true) this.#current = operation;
    else {
      member.waiting.readFailed(id);
      this.#friend = null;
    }
  }

  #write(member: Member, key: number): void {
    const kind = this.#dice.chance(0.3) ? "swap" : "write";
    const expected = this.#seen.get(key) ?? 0;
    const operation = this.#history.begin({ kind, key, expected }, this.#schedule.now);
    const { serial, value } = operation;
    const bytes = this.#dice.below(this.#settings.payloadBytes);
    const data = encodeCommand({ kind, serial, key, value, expected }, bytes);
    const answer = member.ask((core) => {
      const proposed = core.propose(data);
      if (!proposed.ok) return proposed;
      this.#history.proposed(operation, proposed.index, proposed.term);
      member.waiting.write(proposed.index, proposed.term, operation);
      return proposed;
    });
    if (answer?.ok === true) this.#current = operation;
    else {
      operation.outcome = "failed";
      this.#friend = null;
    }
  }
}

function seenAfter(operation: Operation): number {
  const { kind, value, expected, result } = operation;
  if (kind === "read") return result;
  return kind === "write" || result === expected ? value : result;
}
