// A log in the clear, from before there was a data key, written anew under it.

import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import type { Entry } from "./messages.ts";
import { encode, type WalRecord } from "./record.ts";
import type { WalContent, WalOptions } from "./wal.ts";
import { WalThread } from "./wal-thread.ts";

const entriesPerWrite = 1_000;

/** Puts right what a crash of `sealLog` left: before the exchange the old log counts, after it the new one. */
export function recoverSealing(directory: string): void {
  const { draft, old } = places(directory);
  rmSync(draft, { recursive: true, force: true });
  if (!existsSync(old)) return;
  if (!existsSync(directory)) renameSync(old, directory);
  else rmSync(old, { recursive: true, force: true });
  syncFolder(dirname(directory));
}

/** The log is closed. When it resolves, the folder holds the same log, sealed, and nothing in the clear. */
export async function sealLog(options: WalOptions, content: WalContent): Promise<void> {
  const { directory } = options;
  const { draft, old } = places(directory);
  const { thread } = await WalThread.open({ ...options, directory: draft });
  try {
    for (const records of writesOf(content)) await thread.append(encode(records));
  } finally {
    await thread.close();
  }
  renameSync(directory, old);
  renameSync(draft, directory);
  syncFolder(dirname(directory));
  rmSync(old, { recursive: true, force: true });
}

/** Each begins with the hard state, as every write does. */
function* writesOf({ hardState, base, entries }: WalContent): Generator<WalRecord[], void, void> {
  const first: WalRecord[] = [{ type: "hardState", hardState }];
  if (base.index > 0) first.push({ type: "snapshotMark", ...base });
  yield first;
  for (let from = 0; from < entries.length; from += entriesPerWrite)
    yield [
      { type: "hardState", hardState },
      ...entries.slice(from, from + entriesPerWrite).map(recordOf),
    ];
}

function recordOf(entry: Entry): WalRecord {
  return { type: "entry", entry };
}

function places(directory: string): { readonly draft: string; readonly old: string } {
  return { draft: `${directory}.sealing`, old: `${directory}.clear` };
}

function syncFolder(path: string): void {
  const folder = openSync(path, "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
