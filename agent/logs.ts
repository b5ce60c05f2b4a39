// Answers the managers' questions for tasks' logs from the engine's files.

import type { LogLine, LogSubscription } from "../proto/gen/types.ts";
import { messageOf } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { Container } from "./engine/container-types.ts";
import type { LogQuery } from "./engine/stream-types.ts";
import type { Engine } from "./engine/types.ts";
import { taskLabel } from "./perform.ts";

const linesPerMessageMax = 200;

export interface LogsOptions {
  readonly engine: Pick<Engine, "list" | "logs">;
  readonly nodeId: string;
  readonly log: Log;
}

/**
 * The lines of all asked tasks that have a container here, in batches, each task's in order. Ends when all files have
 * been read, or with the signal when following. Files are read no faster than the batches are taken.
 */
export async function* taskLogs(
  options: LogsOptions,
  subscription: LogSubscription,
  signal: AbortSignal,
): AsyncGenerator<readonly LogLine[], void, void> {
  const asked = new Set(subscription.TaskIDs);
  const containers = options.engine
    .list()
    .filter((container) => asked.has(container.config.Labels?.[taskLabel] ?? ""));
  const stop = new AbortController();
  const ended = AbortSignal.any([signal, stop.signal]);
  const gathered = new Gathered();
  const readers = containers.map((container) =>
    read(options, container, subscription, gathered, ended),
  );
  void Promise.all(readers).then(() => gathered.end());
  try {
    yield* gathered.batches(ended);
  } finally {
    stop.abort();
  }
}

async function read(
  options: LogsOptions,
  container: Container,
  subscription: LogSubscription,
  gathered: Gathered,
  signal: AbortSignal,
): Promise<void> {
  const labels = container.config.Labels ?? {};
  try {
    const of = {
      TaskID: labels[taskLabel] ?? "",
      NodeID: options.nodeId,
      ServiceID: labels["com.docker.swarm.service.id"] ?? "",
    };
    for await (const records of options.engine.logs(container.id, queryOf(subscription), signal))
      for (const { time, stream, data } of records) {
        if (signal.aborted) return;
        await gathered.put({ ...of, Time: time, Stream: stream, Data: data });
      }
  } catch (error) {
    if (signal.aborted) return;
    options.log.warn({ container: container.id, reason: messageOf(error) }, "logs cannot be read");
  }
}

function queryOf(subscription: LogSubscription): LogQuery {
  const since = Date.parse(subscription.Since);
  const until = Date.parse(subscription.Until);
  return {
    stdout: subscription.Stdout,
    stderr: subscription.Stderr,
    follow: subscription.Follow,
    tail: subscription.Tail,
    ...(Number.isNaN(since) ? {} : { since }),
    ...(Number.isNaN(until) ? {} : { until }),
  };
}

/** Several readers into one stream of batches: whoever reads files waits for whoever sends. */
class Gathered {
  #lines: LogLine[] = [];
  #isEnded = false;
  #filled: () => void = () => {};
  #empty: () => void = () => {};
  #emptied: Promise<void> = new Promise((resolve) => {
    this.#empty = resolve;
  });

  async put(line: LogLine): Promise<void> {
    this.#lines.push(line);
    this.#filled();
    if (this.#lines.length < linesPerMessageMax * 2) return;
    await this.#emptied;
  }

  end(): void {
    this.#isEnded = true;
    this.#filled();
  }

  async *batches(signal: AbortSignal): AsyncGenerator<readonly LogLine[], void, void> {
    signal.addEventListener("abort", () => this.#filled(), { once: true });
    while (!signal.aborted) {
      if (this.#lines.length > 0) {
        const batch = this.#lines.slice(0, linesPerMessageMax);
        this.#lines = this.#lines.slice(linesPerMessageMax);
        this.#empty();
        this.#emptied = new Promise((resolve) => (this.#empty = resolve));
        yield batch;
      } else if (this.#isEnded) return;
      else await new Promise<void>((resolve) => (this.#filled = resolve));
    }
    this.#empty();
  }
}
