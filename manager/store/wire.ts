// Transactions as bytes: what goes into the log and into snapshots.

import protobuf from "protobufjs";
import { codec } from "../../proto/codec.ts";
import type { StoreObject, Change as WireChange } from "../../proto/gen/types.ts";
import { AssertionError, assertThat } from "../../proto/kit/assert.ts";
import { baseOf, idOf } from "./apply.ts";
import { kinds } from "./state.ts";
import type { Change, Kind, Objects } from "./types.ts";

/** The newest level of features this build knows: what it may meet in the log. */
export const featureLevel = 3;
/** From here on a cluster may have an unlock key. */
export const autolockLevel = 2;
/** From here on a service may be scheduled, scaled and rebalanced, and its restart delay may grow. */
export const policiesLevel = 3;

export interface DecodedTransaction {
  readonly changes: readonly Change[];
  readonly at: string;
}

const fieldOf: { readonly [K in Kind]: keyof StoreObject } = {
  cluster: "Cluster",
  node: "Node",
  network: "Network",
  service: "Service",
  revision: "Revision",
  task: "Task",
  secret: "Secret",
  config: "Config",
};
const knownKinds: ReadonlySet<string> = new Set(kinds);

/** `level` is what a manager has to know to read it: the level in force where it is written. */
export function encodeTransaction(
  changes: readonly Change[],
  at: string,
  level = featureLevel,
): Buffer {
  return codec("Transaction").encode({
    Changes: changes.map(toWire),
    At: at,
    FeatureLevel: Math.min(level, featureLevel),
  });
}

/** One Raft entry of already encoded transactions. */
export function encodeBatch(transactions: readonly Uint8Array[]): Uint8Array {
  const writer = protobuf.Writer.create();
  for (const transaction of transactions) writer.uint32(tagOfTransactions).bytes(transaction);
  return writer.finish();
}
/** Field 1, length-delimited: Batch.Transactions. */
const tagOfTransactions = (1 << 3) | 2;
/** What a transaction takes in a batch beside its own bytes: the tag and its length. */
export const framingBytesMax = 6;

/** Throws an AssertionError on what a newer build wrote: going on would drop it silently. */
export function decodeBatch(bytes: Uint8Array): readonly DecodedTransaction[] {
  return codec("Batch")
    .decode(bytes)
    .Transactions.map((transaction) => {
      if (transaction.FeatureLevel > featureLevel)
        throw new AssertionError(
          `the log holds feature level ${transaction.FeatureLevel} and this build knows ${featureLevel}: upgrade this manager`,
        );
      return { changes: transaction.Changes.map(fromWire), at: transaction.At };
    });
}

function toWire(change: Change): WireChange {
  const named = { Op: change.op, Kind: change.kind, ID: idOf(change), Base: baseOf(change) };
  if (change.op === "delete") return named;
  if (change.kind === "task")
    assertThat(
      change.object.Spec === undefined,
      "a task in the store has no Spec, its revision has",
    );
  return { ...named, Object: { [fieldOf[change.kind]]: change.object } as StoreObject };
}

function fromWire(change: WireChange): Change {
  if (!knownKinds.has(change.Kind) || (change.Op !== "put" && change.Op !== "delete"))
    throw new AssertionError(
      `the log holds a change "${change.Op} ${change.Kind}" that this build does not know: upgrade this manager`,
    );
  const kind = change.Kind as Kind;
  if (change.Op === "delete") return { op: "delete", kind, id: change.ID, base: change.Base };
  const object = change.Object?.[fieldOf[kind]];
  assertThat(object !== undefined && object.ID === change.ID, "a put carries its object");
  // The object's own version names the base; 0 and absent are the same.
  const based = { ...object, Version: { Index: change.Base } } as Objects[Kind];
  return { op: "put", kind, object: based } as Change;
}
