// Started inside the switch's network namespace, where the registry is: makes the lab's images and pushes them.

import { makeImages } from "./images.ts";
import { pushAll } from "./registry.ts";

try {
  await pushAll(await makeImages());
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
