// Started inside the switch's network namespace, where the registry is: makes the benchmark's image and pushes it.

import { pushAll } from "../deploy/lab/registry.ts";
import { makeBenchImage } from "./image.ts";

try {
  await pushAll([await makeBenchImage()]);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
