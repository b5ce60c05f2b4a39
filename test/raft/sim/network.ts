// Messages between members: delayed, lost, doubled, reordered; links that are cut, one way or both, or clogged.

import type { Message } from "../../../manager/raft/messages.ts";
import type { Dice } from "./chance.ts";
import type { Schedule } from "./schedule.ts";
import type { Settings } from "./settings.ts";

export interface NetworkTotals {
  messages: number;
  lost: number;
  duplicated: number;
}

type Blocks = (from: string, to: string) => boolean;

export class Network {
  readonly totals: NetworkTotals = { messages: 0, lost: 0, duplicated: 0 };
  readonly #schedule: Schedule;
  readonly #dice: Dice;
  readonly #deliver: (message: Message) => void;
  readonly #unreachable: (from: string, to: string) => void;
  #settings: Settings["network"];
  #partition: Blocks = () => false;
  /** Ids that nothing reaches any more. */
  readonly #gone = new Set<string>();
  readonly #clogged = new Map<string, { until: number; ms: number }>();
  readonly #onTheWay = new Map<string, number>();

  constructor(
    schedule: Schedule,
    dice: Dice,
    settings: Settings["network"],
    deliver: (message: Message) => void,
    unreachable: (from: string, to: string) => void,
  ) {
    this.#schedule = schedule;
    this.#dice = dice;
    this.#settings = settings;
    this.#deliver = deliver;
    this.#unreachable = unreachable;
  }

  isCut(from: string, to: string): boolean {
    return this.#gone.has(from) || this.#gone.has(to) || this.#partition(from, to);
  }

  partition(blocks: Blocks): void {
    this.#partition = blocks;
  }

  /** For ever. */
  remove(id: string): void {
    this.#gone.add(id);
  }

  clog(from: string, to: string, forMs: number, ms: number): void {
    this.#clogged.set(`${from}>${to}`, { until: this.#schedule.now + forMs, ms });
  }

  /** The weather becomes fine. */
  calm(): void {
    this.#partition = () => false;
    this.#clogged.clear();
    this.#settings = {
      ...this.#settings,
      delayMs: 1,
      jitterMs: 2,
      loss: 0,
      duplicate: 0,
      straggle: 0,
    };
  }

  /** Part of what is sent that is lost, in the weather as it is. */
  get loss(): number {
    return this.#settings.loss;
  }

  send(message: Message): void {
    this.totals.messages += 1;
    const { from, to } = message;
    const link = `${from}>${to}`;
    const waiting = this.#onTheWay.get(link) ?? 0;
    if (this.isCut(from, to) || waiting >= this.#settings.perLinkMax) {
      this.totals.lost += 1;
      this.tellUnreachable(from, to);
      return;
    }
    if (this.#dice.chance(this.#settings.loss)) {
      this.totals.lost += 1;
      return;
    }
    this.#carry(message, link);
    if (!this.#dice.chance(this.#settings.duplicate)) return;
    this.totals.duplicated += 1;
    this.#carry(message, link);
  }

  #carry(message: Message, link: string): void {
    this.#onTheWay.set(link, (this.#onTheWay.get(link) ?? 0) + 1);
    this.#schedule.after(this.delay(message.from, message.to), () => {
      this.#onTheWay.set(link, (this.#onTheWay.get(link) ?? 1) - 1);
      if (this.isCut(message.from, message.to)) this.totals.lost += 1;
      else this.#deliver(message);
    });
  }

  delay(from: string, to: string): number {
    const { delayMs, jitterMs, straggle } = this.#settings;
    const clogged = this.#clogged.get(`${from}>${to}`);
    const usual = delayMs + this.#dice.random() * jitterMs;
    if (clogged !== undefined && this.#schedule.now < clogged.until) return usual + clogged.ms;
    return straggle > 0 && this.#dice.chance(straggle) ? 10 * usual : usual;
  }

  /** A broken connection is noticed by the sender, sometimes, a little later. */
  tellUnreachable(from: string, to: string): void {
    if (!this.#dice.chance(this.#settings.tellsUnreachable)) return;
    this.#schedule.after(1 + this.#dice.random() * 100, () => this.#unreachable(from, to));
  }
}
