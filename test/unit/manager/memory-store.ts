// The real store over a log that is only a counter: every write is committed at once.

import { openStore } from "../../../manager/store/store.ts";
import type { Change, Store } from "../../../manager/store/types.ts";

const forever = new AbortController().signal;

export async function memoryStore(
  changes: readonly Change[] = [],
  now: () => number = () => 1_700_000_000_000,
): Promise<Store> {
  let index = 0;
  const { store, machine } = openStore({
    propose: async (data) => {
      await Promise.resolve();
      index += 1;
      return { index, result: machine.apply(index, data) };
    },
    now,
    signal: forever,
  });
  if (changes.length > 0) await store.write(changes, forever);
  return store;
}
