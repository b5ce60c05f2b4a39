// Prometheus' text format, read strictly: what is not allowed in it throws.

import assert from "node:assert/strict";

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export class Exposition {
  readonly types = new Map<string, string>();
  readonly samples: Sample[] = [];

  constructor(text: string) {
    assert.ok(text.endsWith("\n"), "the last line ends");
    let family = "";
    for (const line of text.split("\n")) {
      const [, kind = "", name = "", words = ""] =
        /^# (HELP|TYPE) ([a-zA-Z_:][\w:]*) (.+)$/.exec(line) ?? [];
      if (kind === "TYPE") {
        assert.ok(!this.types.has(name), `${name} is there once`);
        assert.match(words, /^(counter|gauge|histogram|summary|untyped)$/);
        this.types.set(name, words);
        family = name;
      } else if (kind === "" && line !== "") this.#add(line, family);
    }
    for (const [name, type] of this.types) if (type === "histogram") this.#checkHistogram(name);
  }

  /** Throws when there is not exactly one. */
  value(name: string, labels: Readonly<Record<string, string>> = {}): number {
    const found = this.samples.filter(
      (sample) =>
        sample.name === name &&
        Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
    );
    assert.equal(found.length, 1, `one ${name} with ${JSON.stringify(labels)}`);
    return found[0]?.value ?? Number.NaN;
  }

  #add(line: string, family: string): void {
    const [, name = "", , inner = "", value = ""] =
      /^([a-zA-Z_:][\w:]*)(\{(.*)\})? (\S+)$/.exec(line) ?? [];
    assert.notEqual(name, "", `a sample is expected: ${line}`);
    const suffix = /_(bucket|sum|count)$/.exec(name)?.[0] ?? "";
    const base =
      suffix !== "" && this.types.has(name) ? name : name.slice(0, -suffix.length || undefined);
    assert.equal(base, family, `${name} stands below its own TYPE`);
    const labels = [...inner.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)",?/g)];
    assert.equal(labels.map(([all]) => all).join(""), inner, `labels are quoted: ${line}`);
    const number = value === "+Inf" ? Number.POSITIVE_INFINITY : Number(value);
    // Go reads it in any case.
    assert.ok(/^nan$/i.test(value) || !Number.isNaN(number), `a number is expected: ${line}`);
    this.samples.push({
      name,
      labels: Object.fromEntries(labels.map(([, key = "", text = ""]) => [key, text])),
      value: number,
    });
  }

  /** Buckets only grow, and the last one has all. */
  #checkHistogram(name: string): void {
    const series = new Map<string, number[]>();
    for (const { name: of, labels, value } of this.samples) {
      if (of !== `${name}_bucket`) continue;
      const { le: _, ...others } = labels;
      const key = JSON.stringify(others);
      series.set(key, [...(series.get(key) ?? []), value]);
    }
    for (const [key, counts] of series) {
      assert.deepEqual(
        counts,
        [...counts].sort((a, b) => a - b),
        `${name} ${key} grows`,
      );
      assert.equal(counts.at(-1), this.value(`${name}_count`, JSON.parse(key)));
    }
  }
}
