// Log subscriptions of the managers: each is one upload, fed by the agent until either side has enough.

import type { LogLine, LogSubscription, PublishLogsMessage } from "../../proto/gen/types.ts";
import { messageOf } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import type { Client } from "../../proto/rpc-client.ts";

const subscriptionsMax = 64;
const retryMs = 500;

export type LogHandler = (
  subscription: LogSubscription,
  signal: AbortSignal,
) => AsyncIterable<readonly LogLine[]>;

export class LogPublisher {
  readonly #open = new Map<string, AbortController>();
  readonly #world: Pick<World, "sleep">;
  readonly #log: Log;
  #handler: LogHandler | null = null;

  constructor(world: Pick<World, "sleep">, log: Log) {
    this.#world = world;
    this.#log = log;
  }

  get isIdle(): boolean {
    return this.#open.size === 0;
  }

  handle(handler: LogHandler): void {
    this.#handler = handler;
  }

  open(subscription: LogSubscription, client: Client<"Dispatch">): void {
    if (this.#open.has(subscription.ID)) return;
    const stop = new AbortController();
    this.#open.set(subscription.ID, stop);
    void this.#publish(subscription, client, stop.signal).finally(() => {
      if (this.#open.get(subscription.ID) === stop) this.#open.delete(subscription.ID);
    });
  }

  /** While nobody leads logs have nowhere to go: who follows them gets them all the same, as long as this session lasts. */
  async #publish(
    subscription: LogSubscription,
    client: Client<"Dispatch">,
    signal: AbortSignal,
  ): Promise<void> {
    for (let next = subscription; !signal.aborted; ) {
      let first = "";
      const noted = (lines: readonly LogLine[]) => {
        if (first === "") first = lines[0]?.Time ?? "";
      };
      try {
        return void (await client.upload("PublishLogs", this.#messages(next, signal, noted), {
          signal,
        }));
      } catch (error) {
        if (signal.aborted) return;
        const about = { subscription: subscription.ID, error: messageOf(error) };
        this.#log.warn(about, "logs could not be sent to the manager");
        if (!subscription.Follow) return;
      }
      // The leader tells again what it has had already.
      if (first !== "") next = { ...subscription, Since: first, Tail: -1 };
      await this.#world.sleep(retryMs, signal).catch(() => {});
    }
  }

  close(id: string): void {
    this.#open.get(id)?.abort();
  }

  closeAll(): void {
    for (const stop of this.#open.values()) stop.abort();
    this.#open.clear();
  }

  async *#messages(
    subscription: LogSubscription,
    signal: AbortSignal,
    noted: (lines: readonly LogLine[]) => void,
  ): AsyncGenerator<PublishLogsMessage, void, void> {
    const SubscriptionID = subscription.ID;
    const last = (Err: string) => ({ SubscriptionID, Lines: [], Close: true, Err });
    if (this.#handler === null) return yield last("this node does not serve logs yet");
    if (this.#open.size > subscriptionsMax)
      return yield last(`this node serves ${subscriptionsMax} log streams already`);
    try {
      for await (const Lines of this.#handler(subscription, signal)) {
        noted(Lines);
        yield { SubscriptionID, Lines, Close: false, Err: "" };
      }
      yield last("");
    } catch (error) {
      if (!signal.aborted) yield last(messageOf(error));
    }
  }
}
