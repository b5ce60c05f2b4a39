// Log subscriptions of the managers: each is one upload, fed by the agent until either side has enough.

import type { LogLine, LogSubscription, PublishLogsMessage } from "../../proto/gen/types.ts";
import { messageOf } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { Client } from "../../proto/rpc.ts";

const subscriptionsMax = 64;

export type LogHandler = (
  subscription: LogSubscription,
  signal: AbortSignal,
) => AsyncIterable<readonly LogLine[]>;

export class LogPublisher {
  readonly #open = new Map<string, AbortController>();
  readonly #log: Log;
  #handler: LogHandler | null = null;

  constructor(log: Log) {
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
    client
      .upload("PublishLogs", this.#messages(subscription, stop.signal), { signal: stop.signal })
      .catch((error: unknown) => {
        if (!stop.signal.aborted)
          this.#log.warn(
            { subscription: subscription.ID, error: messageOf(error) },
            "logs could not be sent to the manager",
          );
      })
      .finally(() => this.#open.delete(subscription.ID));
  }

  close(id: string): void {
    this.#open.get(id)?.abort();
  }

  closeAll(): void {
    for (const stop of this.#open.values()) stop.abort();
  }

  async *#messages(
    subscription: LogSubscription,
    signal: AbortSignal,
  ): AsyncGenerator<PublishLogsMessage, void, void> {
    const SubscriptionID = subscription.ID;
    const last = (Err: string) => ({ SubscriptionID, Lines: [], Close: true, Err });
    if (this.#handler === null) return yield last("this node does not serve logs yet");
    if (this.#open.size > subscriptionsMax)
      return yield last(`this node serves ${subscriptionsMax} log streams already`);
    try {
      for await (const Lines of this.#handler(subscription, signal))
        yield { SubscriptionID, Lines, Close: false, Err: "" };
      yield last("");
    } catch (error) {
      if (!signal.aborted) yield last(messageOf(error));
    }
  }
}
