// Images into a registry that only hosts of a lab can reach, and the peer's registry.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { BenchError } from "./wait.ts";

/** Runs push.ts in a network namespace, for the image of that name. Throws BenchError. */
export async function pushFrom(namespace: string, ...words: readonly string[]): Promise<void> {
  const script = fileURLToPath(new URL("./push.js", import.meta.url));
  const child = spawn("nsenter", [inside(namespace), process.execPath, script, ...words], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  const code = await new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  if (code !== 0) throw new BenchError(`the image ${words[0] ?? ""} could not be made`);
}

/** Debian's docker-registry, with what it holds under `folder`. It ends with this process, or by `kill`. */
export function startRegistry(namespace: string, folder: string, port: number): ChildProcess {
  mkdirSync(folder, { recursive: true });
  const config = {
    version: "0.1",
    log: { level: "error" },
    storage: { filesystem: { rootdirectory: join(folder, "registry") } },
    http: { addr: `:${port}` },
  };
  const file = join(folder, "registry.yml");
  writeFileSync(file, JSON.stringify(config));
  const words = ["--pdeathsig", "KILL", "nsenter", inside(namespace)];
  return spawn("setpriv", [...words, "docker-registry", "serve", file], { stdio: "ignore" });
}

function inside(namespace: string): string {
  return `--net=/run/netns/${namespace}`;
}
