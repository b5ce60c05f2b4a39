// A node's identity as files: certificate.pem, key.pem, root.pem and node.json, mode 0600, in data-root/identity.

import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { readOrNull, writePrivately } from "./files.ts";
import { Keyring, keyringFile, sealedWith } from "./keyring.ts";
import { SwarmError } from "./kit/errors.ts";
import type { Identity, Role } from "./tls.ts";

export { readOrNull, writePrivately } from "./files.ts";

const keyFile = "key.pem";
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
  /** What its key is sealed with on the disk of a manager. */
  readonly keyring?: Keyring;
}

/**
 * Null when this machine is no node (node.json is written last, so that half an identity counts as none). Throws `not_manager` with
 * Docker's sentence when the key is sealed and nothing in `keyring` opens it.
 */
export async function readIdentity(
  directory: string,
  keyring?: Keyring,
): Promise<NodeIdentity | null> {
  const text = await readOrNull(join(directory, "node.json"));
  if (text === null) return null;
  try {
    const [certificate, key, rootCA] = await Promise.all(
      ["certificate.pem", keyFile, "root.pem"].map((name) =>
        readFile(join(directory, name), "utf8"),
      ),
    );
    if (certificate === undefined || key === undefined || rootCA === undefined) return null;
    const ring = keyring ?? withoutMemory(directory);
    const identity = { certificate, key: await ring.unseal(key), rootCA };
    const node = { ...nodeFile.parse(JSON.parse(text)), ...identity };
    return keyring === undefined ? node : { ...node, keyring };
  } catch (error) {
    if (error instanceof SwarmError) throw error;
    throw new SwarmError("internal", `the node's identity in ${directory} can not be read`, {
      cause: error,
    });
  }
}

/** The key is never written in the clear beside a keyring: throws `not_manager` when that is locked and not the identity's own. */
export async function writeIdentity(directory: string, identity: NodeIdentity): Promise<void> {
  const { key, keyring = withoutMemory(directory) } = identity;
  await writePrivately(join(directory, keyFile), await keyring.seal(key));
  await writeCertificate(directory, identity);
}

/** After a renewal: the key stays as it lies there, so that a crash in between leaves an identity that works. */
export async function writeCertificate(directory: string, identity: NodeIdentity): Promise<void> {
  await writePrivately(join(directory, "root.pem"), identity.rootCA);
  await writePrivately(join(directory, "certificate.pem"), identity.certificate);
  await writeNode(directory, identity);
}

/** What is no secret: node.json alone. */
export async function writeNode(directory: string, identity: NodeIdentity): Promise<void> {
  const { certificate: _c, key: _k, rootCA: _r, keyring: _g, ...node } = identity;
  await writePrivately(join(directory, "node.json"), `${JSON.stringify(node, null, 2)}\n`);
}

/** Puts the key under the keyring's newest data key, if it is not. */
export async function sealKey(directory: string, keyring: Keyring): Promise<void> {
  const path = join(directory, keyFile);
  const text = await readFile(path, "utf8");
  const { keys } = await keyring.dataKeys(false);
  if (sealedWith(text) === keys.at(-1)?.id) return;
  await writePrivately(path, await keyring.seal(await keyring.unseal(text)));
}

/** The id of the data key that the node's key is sealed with; "": it is in the clear, or there is none. */
export async function keyOfKey(directory: string): Promise<string> {
  return sealedWith((await readOrNull(join(directory, keyFile))) ?? "") ?? "";
}

/** A node that is no manager any more has nothing to lock. */
export async function removeKeyring(directory: string, identity: NodeIdentity): Promise<void> {
  await writePrivately(join(directory, keyFile), identity.key);
  await rm(join(directory, keyringFile), { force: true });
}

/** Leaving: this machine is no node any more. */
export async function removeIdentity(directory: string): Promise<void> {
  await rm(join(directory, "node.json"), { force: true });
  await rm(directory, { recursive: true, force: true });
}

function withoutMemory(directory: string): Keyring {
  return new Keyring(directory, async () => []);
}
