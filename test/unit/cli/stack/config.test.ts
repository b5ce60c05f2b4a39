// `stack config`, beside what Docker's command prints.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "yaml";
import { fileText } from "../../../../cli/stack/say.ts";
import { dockerSends } from "./docker-sends.ts";
import { merged } from "./kit.ts";

for (const { name, yaml, config } of dockerSends)
  test(`${name}: the file is printed as docker stack config prints it`, () => {
    const text = fileText(merged({ files: { "compose.yaml": yaml } }));
    assert.deepEqual(JSON.parse(JSON.stringify(parse(text, { version: "1.1" }))), config);
  });

test("x-tsswarm is printed with what several files say of it", () => {
  const files = {
    "compose.yaml": "services: {a: {image: x, deploy: {x-tsswarm: {schedule: '@daily'}}}}",
    "more.yaml": "services: {a: {deploy: {x-tsswarm: {schedule_zone: Europe/Berlin}}}}",
  };
  const text = fileText(merged({ files, named: Object.keys(files) }));
  assert.deepEqual(parse(text).services.a.deploy, {
    "x-tsswarm": { schedule: "@daily", schedule_zone: "Europe/Berlin" },
  });
});
