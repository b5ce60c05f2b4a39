// The one image all measurements run: busybox, Perl, iperf3 and our client, made from files of this machine.

import { join } from "node:path";
import {
  busyboxFiles,
  file,
  type Image,
  librariesOf,
  makeImage,
  makeLayer,
  searchPath,
  whoamiFiles,
} from "../deploy/lab/images.ts";
import { programFolder } from "../deploy/lab/names.ts";

export const imageName = "bench";
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
