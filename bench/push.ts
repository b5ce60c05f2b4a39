// Started inside the network namespace where the registry is: makes one of the benchmark's images and pushes it.
// Its arguments: the image's name, and where the registry is, if it is not the lab's.

import { pushAll } from "../deploy/lab/registry.ts";
import { imageName, layersName, makeBenchImage, makeLayersImage } from "./image.ts";

const [name = imageName, registry] = process.argv.slice(2);
try {
  const image = name === layersName ? await makeLayersImage() : await makeBenchImage();
  await pushAll([image], registry);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
