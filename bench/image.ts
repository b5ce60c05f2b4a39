// The one image all measurements run: busybox, Perl, iperf3 and our client, made from files of this machine.

import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { pack } from "tar-stream";
import {
  busyboxFiles,
  file,
  type Image,
  type Layer,
  librariesOf,
  makeImage,
  makeLayer,
  searchPath,
  whoamiFiles,
} from "../deploy/lab/images.ts";
import { programFolder } from "../deploy/lab/names.ts";

export const imageName = "bench";
export const layersName = "bench-layers";
export const layersCount = 8;
export const layersMegabytes = 200;
export const clientPath = join(programFolder, "bench", "client.pl");
const iperfPath = "/usr/bin/iperf3";

export async function makeBenchImage(): Promise<Image> {
  const below = [...busyboxFiles(), ...whoamiFiles()];
  const known = new Set(below.map((entry) => entry.path));
  const libraries = librariesOf(iperfPath).filter((path) => !known.has(path));
  const layer = await makeLayer([
    ...below,
    file(iperfPath, iperfPath),
    ...libraries.map((path) => file(path, path)),
    { ...file("/client.pl", clientPath), mode: 0o755 },
  ]);
  return makeImage(imageName, [layer], {
    Cmd: ["/client.pl", "idle"],
    Env: [`PATH=${searchPath}`],
  });
}

/** Of a size that people pull: random bytes, that no compression makes less, in files of a megabyte. */
export async function makeLayersImage(): Promise<Image> {
  const layers: Layer[] = [];
  for (let layer = 0; layer < layersCount; layer++)
    layers.push(
      await makeLayer(
        Array.from({ length: layersMegabytes / layersCount }, (_, i) => ({
          kind: "file" as const,
          path: `/data/${layer}/${i}`,
          mode: 0o644,
          bytes: randomBytes(1024 ** 2),
        })),
      ),
    );
  return makeImage(layersName, layers, { Cmd: ["true"] });
}

/** The image as `docker load` takes it. */
export async function imageArchive(image: Image, reference: string): Promise<Buffer> {
  const plain = (digest: string) => digest.replace("sha256:", "");
  const config = `${plain(image.config.digest)}.json`;
  const layers = image.layers.map(({ digest }) => `${plain(digest)}/layer.tar`);
  const archive = pack();
  image.layers.forEach((layer, i) => {
    archive.entry({ name: layers[i] ?? "" }, layer.bytes);
  });
  archive.entry({ name: config }, image.config.bytes);
  const manifest = [{ Config: config, RepoTags: [reference], Layers: layers }];
  archive.entry({ name: "manifest.json" }, JSON.stringify(manifest));
  archive.finalize();
  const parts: Buffer[] = [];
  for await (const part of archive) parts.push(part as Buffer);
  return Buffer.concat(parts);
}
