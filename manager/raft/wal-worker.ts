// The thread that owns the log's files: a slow disk stops this thread and nothing else.

import { parentPort, workerData } from "node:worker_threads";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { DataKeys } from "../../proto/kit/seal.ts";
import { isOutOfSpace, realDisk } from "./disk.ts";
import { Wal, type WalContent, type WalOptions } from "./wal.ts";

export type WalRequest =
  | { readonly do: "append"; readonly records: Uint8Array }
  | { readonly do: "compact"; readonly index: number }
  | { readonly do: "space" }
  | { readonly do: "useKeys"; readonly keys: DataKeys }
  | { readonly do: "close" };

export type WalResponse =
  | { readonly kind: "opened"; readonly content: WalContent; readonly freeBytes: number }
  | { readonly kind: "done"; readonly freeBytes: number | null }
  | { readonly kind: "failed"; readonly code: string; readonly message: string };

const port = parentPort;
if (port !== null) serve(workerData as WalOptions, (response) => port.postMessage(response));

function serve(options: WalOptions, answer: (response: WalResponse) => void): void {
  const fail = (error: unknown) => {
    const code = error instanceof SwarmError ? error.code : "internal";
    answer({ kind: "failed", code, message: messageOf(error) });
    port?.close();
  };
  let wal: Wal;
  try {
    const opened = Wal.open(realDisk, options);
    wal = opened.wal;
    answer({ kind: "opened", content: opened.content, freeBytes: wal.freeBytes });
  } catch (error) {
    fail(error);
    return;
  }
  let preparing: NodeJS.Immediate | null = null;
  const prepare = () => {
    preparing = null;
    try {
      if (wal.prepare()) preparing = setImmediate(prepare);
    } catch (error) {
      // Without room for a spare now, rotation tries again, and refusing proposals keeps what is left.
      if (!isOutOfSpace(error)) fail(error);
    }
  };
  port?.on("message", (request: WalRequest) => {
    try {
      perform(wal, request, answer);
      if (request.do === "close") {
        if (preparing !== null) clearImmediate(preparing);
        port?.close();
      } else if (request.do === "append") preparing ??= setImmediate(prepare);
    } catch (error) {
      fail(error);
    }
  });
}

function perform(wal: Wal, request: WalRequest, answer: (response: WalResponse) => void): void {
  let freeBytes: number | null = null;
  if (request.do === "append") {
    wal.append(request.records);
    freeBytes = wal.freeBytes;
  } else if (request.do === "compact") wal.compact(request.index);
  else if (request.do === "useKeys") wal.useKeys(request.keys);
  else if (request.do === "space") freeBytes = wal.freeBytes;
  else wal.close();
  answer({ kind: "done", freeBytes });
}
