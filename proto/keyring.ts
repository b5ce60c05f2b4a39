// A manager's own keys: identity/keyring.json holds the data keys of its log, snapshots and TLS key, sealed by one more key. That one
// lies in the same file (mode 0600) or, with autolock, is the unlock key, which is on no disk.

import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import { readOrNull, writePrivately } from "./files.ts";
import { SwarmError } from "./kit/errors.ts";
import {
  type DataKey,
  type DataKeys,
  keyBytes,
  newDataKey,
  openOnce,
  sealOnce,
} from "./kit/seal.ts";
import { parseUnlockKey } from "./unlock-key.ts";

export const keyringFile = "keyring.json";
const contentLabel = "tsswarm keyring";
const textLabel = "tsswarm node key";
const sealedMark = "tsswarm-sealed ";

export const isLocked =
  'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.';

const fileShape = z.object({
  version: z.literal(1),
  /** What `sealed` opens with: the key beside it, or the unlock key. */
  lock: z.enum(["file", "unlock-key"]),
  /** Base 64; only with lock "file". */
  key: z.base64().optional(),
  sealed: z.base64(),
});
const contentShape = z.object({
  keys: z.array(z.object({ id: z.string(), key: z.base64() })).min(1),
  acceptsClear: z.boolean(),
});

interface Ring {
  readonly dataKeys: DataKeys;
  /** The unlock key in force; "": the key lies in the file. */
  readonly unlockKey: string;
  /** What seals the ring. */
  readonly key: Uint8Array;
}

/** Unlock keys that are known to this machine's memory, the newest first. */
export type HeldKeys = () => Promise<readonly string[]>;

/** All of it reads the file anew: agent and manager have it in common. Errors: `not_manager` (`isLocked`) without the unlock key. */
export class Keyring {
  readonly #directory: string;
  readonly #held: HeldKeys;

  /** `directory`: data-root/identity. */
  constructor(directory: string, held: HeldKeys) {
    this.#directory = directory;
    this.#held = held;
  }

  /** Whether there is one that no key known here opens. */
  async isLocked(): Promise<boolean> {
    return (await this.#read()) === "locked";
  }

  /** Whether this unlock key opens it. Throws `invalid` when it is none. */
  async fits(unlockKey: string): Promise<boolean> {
    const key = parseUnlockKey(unlockKey);
    const file = await this.#file();
    return file?.lock === "unlock-key" && opened(file.sealed, key) !== null;
  }

  /** The data keys; made when there are none. `acceptsClear`: what they are for may be there in the clear. */
  async dataKeys(acceptsClear: boolean): Promise<DataKeys> {
    const ring = await this.#open();
    if (ring !== null) return ring.dataKeys;
    const dataKeys = { keys: [newDataKey()], acceptsClear };
    await this.#write({ dataKeys, unlockKey: "", key: randomBytes(keyBytes) });
    return dataKeys;
  }

  /** From now on nothing in the clear is taken for this manager's own, and of older data keys only those in use are kept. */
  async settle(used: ReadonlySet<string>): Promise<void> {
    const ring = await this.#open();
    if (ring === null) return;
    const { keys: all, acceptsClear } = ring.dataKeys;
    const keys = all.filter((key) => key === all.at(-1) || used.has(key.id));
    if (!acceptsClear && keys.length === all.length) return;
    await this.#write({ ...ring, dataKeys: { keys, acceptsClear: false } });
  }

  /** "": it is not locked. */
  async unlockKey(): Promise<string> {
    return (await this.#open())?.unlockKey ?? "";
  }

  /**
   * Puts it under this unlock key, or ("") under a key in the file. What is written from then on is sealed with a new data key, for
   * whoever could open the ring before may have kept the older ones.
   */
  async relock(unlockKey: string): Promise<DataKeys> {
    const ring = await this.#open();
    const { keys = [], acceptsClear = false } = ring?.dataKeys ?? {};
    const dataKeys = { keys: [...keys, newDataKey()], acceptsClear };
    const key = unlockKey === "" ? randomBytes(keyBytes) : parseUnlockKey(unlockKey);
    await this.#write({ dataKeys, unlockKey, key });
    return dataKeys;
  }

  /** The text sealed with the newest data key; as it is when there is no ring. */
  async seal(text: string): Promise<string> {
    const newest = (await this.#open())?.dataKeys.keys.at(-1);
    if (newest === undefined) return text;
    const sealed = sealOnce(newest.key, textLabel, Buffer.from(text));
    return `${sealedMark}${newest.id} ${sealed.toString("base64")}\n`;
  }

  /** What was sealed, or a text that never was. */
  async unseal(text: string): Promise<string> {
    const id = sealedWith(text);
    if (id === null) return text;
    const ring = await this.#open();
    const key = ring?.dataKeys.keys.find((each) => each.id === id)?.key;
    const sealed = Buffer.from(text.trim().split(" ")[2] ?? "", "base64");
    const bytes = key === undefined ? null : openOnce(key, textLabel, sealed);
    if (bytes === null)
      throw new SwarmError(
        "internal",
        `the node's key in ${this.#directory} can not be opened with its keyring: make this node leave the swarm and join again`,
      );
    return bytes.toString("utf8");
  }

  /** Null: there is none. */
  async #open(): Promise<Ring | null> {
    const ring = await this.#read();
    if (ring === "locked") throw new SwarmError("not_manager", isLocked);
    return ring;
  }

  async #read(): Promise<Ring | null | "locked"> {
    const file = await this.#file();
    if (file === null) return null;
    if (file.lock === "file") {
      const key = Buffer.from(file.key ?? "", "base64");
      const dataKeys = key.length === keyBytes ? opened(file.sealed, key) : null;
      if (dataKeys === null) throw this.#damaged();
      return { dataKeys, unlockKey: "", key };
    }
    for (const unlockKey of await this.#held()) {
      const key = parseUnlockKey(unlockKey);
      const dataKeys = opened(file.sealed, key);
      if (dataKeys !== null) return { dataKeys, unlockKey, key };
    }
    return "locked";
  }

  async #file(): Promise<z.infer<typeof fileShape> | null> {
    const text = await readOrNull(join(this.#directory, keyringFile));
    if (text === null) return null;
    try {
      return fileShape.parse(JSON.parse(text));
    } catch (cause) {
      throw this.#damaged(cause);
    }
  }

  async #write({ dataKeys, unlockKey, key }: Ring): Promise<void> {
    const keys = dataKeys.keys.map((each) => ({
      id: each.id,
      key: Buffer.from(each.key).toString("base64"),
    }));
    const content = JSON.stringify({ keys, acceptsClear: dataKeys.acceptsClear });
    const sealed = sealOnce(key, contentLabel, Buffer.from(content)).toString("base64");
    const file =
      unlockKey === ""
        ? { version: 1, lock: "file", key: Buffer.from(key).toString("base64"), sealed }
        : { version: 1, lock: "unlock-key", sealed };
    await writePrivately(join(this.#directory, keyringFile), `${JSON.stringify(file)}\n`);
  }

  #damaged(cause?: unknown): SwarmError {
    return new SwarmError(
      "internal",
      `the keys in ${join(this.#directory, keyringFile)} can not be read: the file is damaged; put it back, or remove this manager from the cluster and join it again`,
      { cause },
    );
  }
}

/** The id of the data key that such a text needs; null: it is in the clear. */
export function sealedWith(text: string): string | null {
  if (!text.startsWith(sealedMark)) return null;
  return text.split(" ")[1] ?? "";
}

/** Null unless the key opens it. */
function opened(sealed: string, key: Uint8Array): DataKeys | null {
  const bytes = openOnce(key, contentLabel, Buffer.from(sealed, "base64"));
  if (bytes === null) return null;
  const content = contentShape.parse(JSON.parse(bytes.toString("utf8")));
  const keys = content.keys.map(
    (each): DataKey => ({ id: each.id, key: Buffer.from(each.key, "base64") }),
  );
  return { keys, acceptsClear: content.acceptsClear };
}
