// Where a node keeps what it knows of its swarm, and under which addresses it is known.

import { join } from "node:path";
import { z } from "zod";
import type { DaemonConfig } from "../proto/config.ts";
import { readOrNull, writePrivately } from "../proto/identity.ts";

const addresses = z.object({
  /** ip:port */
  advertiseAddr: z.string().min(1),
  /** ip */
  dataPathAddr: z.string().min(1),
  /** ip:port, where a manager of this node listens; "" is everywhere. */
  listenAddr: z.string().default(""),
});

export type Addresses = Readonly<z.infer<typeof addresses>>;

const fileName = "addresses.json";

/** `identity`: certificate and key; `agent`: what is wanted of it, and its addresses. */
export function foldersOf(config: Pick<DaemonConfig, "data-root">) {
  const root = config["data-root"];
  return { identity: join(root, "identity"), agent: join(root, "agent") } as const;
}

/** Null when there are none, or not readable. */
export async function readAddresses(folder: string): Promise<Addresses | null> {
  const text = await readOrNull(join(folder, fileName));
  if (text === null) return null;
  try {
    return addresses.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

export async function writeAddresses(folder: string, value: Addresses): Promise<void> {
  await writePrivately(join(folder, fileName), `${JSON.stringify(value)}\n`);
}
