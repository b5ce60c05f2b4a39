// What `docker stack deploy` and `docker stack config` of the docker command 28.2 made of the files in docker-sends/, recorded by a server on
// loopback: the bodies it sent, without nulls, zeros, empty texts and empty objects. Facts to compare with.

import { parse } from "yaml";
import { dataFiles, dataText } from "../../data.ts";

interface Recorded {
  readonly name: string;
  readonly services: readonly unknown[];
  readonly networks: readonly unknown[];
  readonly config: unknown;
}

const folder = "cli/stack/docker-sends/";
const compose = ".compose.yaml";

/** Every X.compose.yaml with what is recorded of it, X.sends.yaml. */
export const dockerSends: readonly (Recorded & { readonly yaml: string })[] = dataFiles(
  folder,
  compose,
).map((file) => {
  const recorded: Recorded = parse(dataText(folder + file.replace(compose, ".sends.yaml")));
  return { ...recorded, yaml: dataText(folder + file) };
});
