// Keeps this manager's keyring under the lock that the cluster wants: the unlock key of the cluster object, or none.

import { keyOfKey, type NodeIdentity, sealKey } from "../proto/identity.ts";
import type { Keyring } from "../proto/keyring.ts";
import { messageOf, SwarmError } from "../proto/kit/errors.ts";
import type { Keeper } from "../proto/kit/keeper.ts";
import type { Log } from "../proto/kit/log.ts";
import type { Raft } from "./raft/types.ts";
import type { Store } from "./store/types.ts";

/** What a manager locks, and where the unlock key is remembered while the daemon runs. */
export interface Locks {
  readonly keyring: Keyring;
  /** data-root/identity */
  readonly identityFolder: string;
  /** In memory only: agent and manager may be restarted without being locked. */
  readonly held: HeldKeys;
}

export interface HeldKeys {
  read(): Promise<readonly string[]>;
  write(keys: readonly string[]): Promise<void>;
}

export function heldBy(keeper: Keeper): HeldKeys {
  return {
    read: async () => (await keeper.ask({ do: "heldKeys" })).keys ?? [],
    write: async (keys) => {
      await keeper.ask({ do: "holdKeys", keys });
    },
  };
}

/** Resolves when the signal aborts; rejects when the keyring can not be written. */
export async function followLock(
  parts: { readonly store: Store; readonly raft: Raft; readonly locks: Locks; readonly log: Log },
  signal: AbortSignal,
): Promise<void> {
  let known: string | null = null;
  while (!signal.aborted) {
    try {
      for await (const { state } of parts.store.watch(signal)) {
        // A manager that has just joined knows no cluster yet.
        const wanted = state.cluster?.UnlockKey;
        if (wanted === undefined || wanted === known) continue;
        await relock(parts, wanted);
        known = wanted;
      }
    } catch (error) {
      // Too slow a reader: begin again with the state there is.
      if (!(error instanceof SwarmError && error.code === "exhausted")) throw error;
    }
  }
}

async function relock(
  { raft, locks, log }: { readonly raft: Raft; readonly locks: Locks; readonly log: Log },
  wanted: string,
): Promise<void> {
  const { keyring, identityFolder, held } = locks;
  const remember = (keys: readonly string[]) =>
    held.write(keys).catch((error: unknown) => {
      log.warn({ error: messageOf(error) }, "a restart of the manager will need the unlock key");
    });
  const before = await keyring.unlockKey();
  if (before !== wanted) {
    // First both: whichever the file is under when we crash, it opens.
    if (wanted !== "") await remember([wanted, before].filter((key) => key !== ""));
    const keys = await keyring.relock(wanted);
    await raft.useKeys(keys);
    await sealKey(identityFolder, keyring);
    log.info({ isAutolocked: wanted !== "" }, "the manager's data have another key");
  }
  await remember(wanted === "" ? [] : [wanted]);
}

/** What the log is sealed with; made at a manager's first start, and its node's key is put under it. */
export async function readyKeys(
  { keyring, identityFolder }: Locks,
  identity: NodeIdentity,
  acceptsClear: boolean,
) {
  const keys = await keyring.dataKeys(acceptsClear);
  if (identity.keyring !== undefined) await sealKey(identityFolder, keyring);
  return keys;
}

/** Once all that was there has been read. What nothing is sealed with any more may be forgotten: somebody may have had it. */
export async function settleKeys(
  { keyring, identityFolder }: Locks,
  used: ReadonlySet<string>,
): Promise<void> {
  await keyring.settle(new Set([...used, await keyOfKey(identityFolder)]));
}
