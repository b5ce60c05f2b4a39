import assert from "node:assert/strict";
import { test } from "node:test";
import { logAttributes } from "../../../../agent/engine/log-attributes.ts";

const container = {
  id: "0123456789abcdef",
  name: "web",
  imageId: "sha256:fedcba9876543210",
  config: {
    Image: "nginx:1",
    Env: ["LEVEL=a=b", "REGION=eu", "BARE"],
    Labels: { tier: "front", team: "x", empty: "" },
  },
};
const rows = [
  { name: "nothing asked for", options: {}, expected: {} },
  {
    name: "labels and variables by name, those there are",
    options: { labels: "tier,none", env: "LEVEL,BARE,NONE" },
    expected: { tier: "front", LEVEL: "a=b", BARE: "" },
  },
  {
    name: "labels and variables by a pattern",
    options: { "labels-regex": "^t", "env-regex": "^(REG|x)" },
    expected: { tier: "front", team: "x", REGION: "eu" },
  },
  {
    name: "a tag",
    options: { tag: "{{.ImageName}}/{{.Name}}/{{ .ID }}/{{.ImageID}}" },
    expected: { tag: "nginx:1/web/0123456789ab/fedcba987654" },
  },
];
for (const { name, options, expected } of rows)
  test(`what stands with each line of a log: ${name}`, () => {
    assert.deepEqual(logAttributes(container, options), expected);
  });
