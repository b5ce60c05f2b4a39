// The whole store as one file.

import { checkBackupKey, encodeBackup } from "../../proto/backup.ts";
import type { BackupPart, BackupRequest } from "../../proto/gen/types.ts";
import { asSwarmError } from "../../proto/kit/errors.ts";
import { timestamp } from "../../proto/kit/world.ts";
import type { Caller } from "../../proto/rpc-server.ts";
import { clusterOf } from "../identity/join.ts";
import { snapshotOf } from "../store/store.ts";
import type { ControlContext } from "./context.ts";

/** Everything that was acknowledged before the call. Without a leader: what this manager knows, and the header says so. */
export async function* backup(
  context: ControlContext,
  { Key }: BackupRequest,
  caller: Caller,
): AsyncGenerator<BackupPart, void, void> {
  checkBackupKey(Key);
  const isStale = await context.barrier(caller.signal).then(
    () => false,
    (error: unknown) => {
      if (asSwarmError(error).code !== "no_leader") throw error;
      return true;
    },
  );
  const { state } = context.store;
  const header = {
    clusterId: clusterOf(state).ID,
    ...context.place(),
    index: state.index,
    createdAt: timestamp(context.world.now()),
    isStale,
  };
  context.log.info({ index: state.index, isStale }, "a backup is taken");
  for await (const Data of encodeBackup(header, snapshotOf(state), Key)) yield { Data };
}
