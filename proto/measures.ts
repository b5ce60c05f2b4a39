// What a process measures, as Prometheus reads it.

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

const loopLookMs = 100;

/** Labels are to have few values: states, actions, ids of nodes. */
export class Measures {
  readonly #registry = new Registry();
  readonly #registers = [this.#registry];

  /** The process's own are among them, their names after the prefix. */
  constructor(prefix = "") {
    const register = this.#registry;
    collectDefaultMetrics({ register, prefix, eventLoopMonitoringPrecision: loopLookMs });
  }

  counter(name: string, help: string): Counter {
    return new Counter({ name, help, registers: this.#registers });
  }

  histogram(
    name: string,
    help: string,
    buckets: number[],
    labelNames: readonly string[] = [],
  ): Histogram {
    return new Histogram({ name, help, buckets, labelNames, registers: this.#registers });
  }

  /** Looked at when it is read. */
  gauge(name: string, help: string, value: () => number | Promise<number>): void {
    new Gauge({
      ...{ name, help, registers: this.#registers },
      async collect() {
        this.set(await value());
      },
    });
  }

  /** One for each value of the label there is when it is read. */
  gauges(
    name: string,
    help: string,
    label: string,
    values: () => Readonly<Record<string, number>>,
  ): void {
    new Gauge({
      ...{ name, help, labelNames: [label], registers: this.#registers },
      collect() {
        this.reset();
        for (const [of, value] of Object.entries(values())) this.set({ [label]: of }, value);
      },
    });
  }

  /** What something is, told by labels; always 1, or not there. */
  info(
    name: string,
    help: string,
    labelNames: readonly string[],
    labels: () => Readonly<Record<string, string>> | null,
  ): void {
    new Gauge({
      ...{ name, help: `${help}; always 1`, labelNames, registers: this.#registers },
      collect() {
        this.reset();
        const now = labels();
        if (now !== null) this.set(now, 1);
      },
    });
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }
}
