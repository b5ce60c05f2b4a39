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
