// What `docker stack deploy` and `docker stack config` of the docker command 28.2 made of the files in docker-sends/, recorded by a server on
// loopback: the bodies it sent, without nulls, zeros, empty texts and empty objects. Facts to compare with.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { parse } from "yaml";

interface Recorded {
  readonly name: string;
  readonly services: readonly unknown[];
  readonly networks: readonly unknown[];
  readonly config: unknown;
}

const folder = new URL("../../../../../test/unit/cli/stack/docker-sends/", import.meta.url);
const compose = ".compose.yaml";

function textOf(file: string): string {
  return readFileSync(new URL(file, folder), "utf8");
}

/** Every X.compose.yaml with what is recorded of it, X.sends.yaml. */
export const dockerSends: readonly (Recorded & { readonly yaml: string })[] = readdirSync(folder)
  .filter((file) => file.endsWith(compose))
  .sort()
  .map((file) => {
    const recorded: Recorded = parse(textOf(file.replace(compose, ".sends.yaml")));
    return { ...recorded, yaml: textOf(file) };
  });
assert.notEqual(dockerSends.length, 0, "there are cases to compare with");
