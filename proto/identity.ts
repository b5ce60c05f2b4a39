// A node's identity as files: certificate.pem, key.pem, root.pem and node.json, mode 0600, in data-root/identity.

import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { errnoOf, SwarmError } from "./kit/errors.ts";
import type { Identity, Role } from "./tls.ts";

const nodeFile = z.object({
  nodeId: z.string().min(1),
  clusterId: z.string().min(1),
  role: z.enum(["worker", "manager"]),
  index: z.int().min(1),
  /** host:port of managers, the one that was reached last first. */
  managers: z.array(z.string()),
});

export interface NodeIdentity extends Identity {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly role: Role;
  /** The node's number in the data plane, 1 … 65535. */
  readonly index: number;
  /** host:port */
  readonly managers: readonly string[];
}

/** Null when this machine is no node (node.json is written last, so that half an identity counts as none). */
export async function readIdentity(directory: string): Promise<NodeIdentity | null> {
  const text = await readOrNull(join(directory, "node.json"));
  if (text === null) return null;
  try {
    const [certificate, key, rootCA] = await Promise.all(
      ["certificate.pem", "key.pem", "root.pem"].map((name) =>
        readFile(join(directory, name), "utf8"),
      ),
    );
    if (certificate === undefined || key === undefined || rootCA === undefined) return null;
    return { ...nodeFile.parse(JSON.parse(text)), certificate, key, rootCA };
  } catch (error) {
    throw new SwarmError("internal", `the node's identity in ${directory} can not be read`, {
      cause: error,
    });
  }
}

export async function writeIdentity(directory: string, identity: NodeIdentity): Promise<void> {
  const { certificate, key, rootCA } = identity;
  await writePrivately(join(directory, "key.pem"), key);
  await writePrivately(join(directory, "root.pem"), rootCA);
  await writePrivately(join(directory, "certificate.pem"), certificate);
  await writeNode(directory, identity);
}

/** What is no secret: node.json alone. */
export async function writeNode(directory: string, identity: NodeIdentity): Promise<void> {
  const { certificate: _c, key: _k, rootCA: _r, ...node } = identity;
  await writePrivately(join(directory, "node.json"), `${JSON.stringify(node, null, 2)}\n`);
}

/** Leaving: this machine is no node any more. */
export async function removeIdentity(directory: string): Promise<void> {
  await rm(join(directory, "node.json"), { force: true });
  await rm(directory, { recursive: true, force: true });
}

/** Replaces a file at once and durably: a crash leaves the old or the new content. Mode 0600, folders 0700. */
export async function writePrivately(
  path: string,
  content: string | Uint8Array,
  durably = true,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.new`;
  const file = await open(draft, "w", 0o600);
  try {
    await file.writeFile(content);
    if (durably) await file.datasync();
  } finally {
    await file.close();
  }
  await rename(draft, path);
  if (durably) await syncFolder(dirname(path));
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

export async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  }
}
