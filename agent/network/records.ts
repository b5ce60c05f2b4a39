// The sandboxes there are, kept beside their namespaces: both last until the next boot, and over any restart of ours.

import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { listFolder } from "./apply.ts";
import type { Sandbox } from "./types.ts";

const record = z.object({
  id: z.string().min(1),
  attachments: z.array(
    z.object({
      networkId: z.string(),
      addresses: z.array(z.string()).min(1),
      gatewayPriority: z.int().exactOptional(),
      device: z.string().exactOptional(),
      mac: z.string().exactOptional(),
      linkLocal: z.array(z.string()).exactOptional(),
      names: z.array(z.string()).exactOptional(),
    }),
  ),
  isolated: z.boolean().exactOptional(),
  ports: z.array(
    z.object({
      protocol: z.string(),
      targetPort: z.int(),
      publishedPort: z.int(),
      hostIP: z.string().exactOptional(),
    }),
  ),
  isClosed: z.boolean().exactOptional(),
  exclusive: z.boolean().exactOptional(),
  upstreamNameServers: z.array(z.string()),
  searchDomains: z.array(z.string()),
  aliases: z.record(z.string(), z.string()).exactOptional(),
});

export class SandboxRecords {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** All that can be read; a record cut short by a crash is left out, its sandbox is made again. */
  load(): Map<string, Sandbox> {
    const found = new Map<string, Sandbox>();
    for (const name of listFolder(this.#directory)) {
      if (!name.endsWith(".json")) continue;
      const sandbox = parse(readFileSync(join(this.#directory, name), "utf8"));
      if (sandbox !== null && `${sandbox.id}.json` === name) found.set(sandbox.id, sandbox);
    }
    return found;
  }

  save(sandbox: Sandbox): void {
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    const path = this.#path(sandbox.id);
    writeFileSync(`${path}.new`, JSON.stringify(sandbox), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  remove(id: string): void {
    rmSync(this.#path(id), { force: true });
  }

  #path(id: string): string {
    return join(this.#directory, `${id}.json`);
  }
}

function parse(text: string): Sandbox | null {
  try {
    const parsed = record.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}
