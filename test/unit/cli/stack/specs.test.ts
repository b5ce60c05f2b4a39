// What is sent for a file, field by field beside what Docker's command sends for it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { dockerSends } from "./docker-sends.ts";
import { wanted } from "./kit.ts";

/** Nothing that says nothing, and ports with what they are when nothing is said. */
function bare(value: unknown, key = ""): unknown {
  if (Array.isArray(value)) {
    const items = value.map((item) => bare(item));
    if (key !== "Ports") return items;
    return items.map((port) => ({ Protocol: "tcp", PublishMode: "ingress", ...(port as object) }));
  }
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value)
    .map(([name, item]) => [name, bare(item, name)] as const)
    .filter(([name, item]) => {
      if (item === undefined || item === "" || item === false) return false;
      const isEmpty = typeof item === "object" && item !== null && Object.keys(item).length === 0;
      return !isEmpty || /^(Replicated|Global)/.test(name);
    });
  return Object.fromEntries(entries);
}

for (const { name, yaml, services, networks } of dockerSends)
  test(`${name}: services and networks are those of docker stack deploy`, () => {
    const stack = wanted({ files: { "compose.yaml": yaml } });
    const sent = stack.services
      .map(({ spec }) => bare(spec))
      .sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
    assert.deepEqual(
      sent,
      services
        .map((each) => bare(each))
        .sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)),
    );
    assert.deepEqual(
      stack.networks.map(({ body }) => bare(body)),
      networks.map((each) => bare(each)),
    );
  });
