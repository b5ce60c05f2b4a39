// The thread that owns the log's files: a slow disk stops this thread and nothing else. Between requests it sleeps where a request
// wakes it sooner than an event loop would (hand-over.ts).

import {
  type MessagePort,
  parentPort,
  receiveMessageOnPort,
  workerData,
} from "node:worker_threads";
import { unreachable } from "../../proto/kit/assert.ts";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { DataKeys } from "../../proto/kit/seal.ts";
import { isOutOfSpace, realDisk } from "./disk.ts";
import { HandOver } from "./hand-over.ts";
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

export interface WalWork {
  readonly options: WalOptions;
  readonly shared: SharedArrayBuffer;
}

if (parentPort !== null) serve(parentPort, workerData as WalWork);

function serve(port: MessagePort, { options, shared }: WalWork): void {
  const answer = (response: WalResponse) => port.postMessage(response);
  const handOver = new HandOver(shared);
  try {
    const { wal, content } = Wal.open(realDisk, options);
    answer({ kind: "opened", content, freeBytes: wal.freeBytes });
    work(wal, port, handOver, answer);
  } catch (error) {
    const code = error instanceof SwarmError ? error.code : "internal";
    answer({ kind: "failed", code, message: messageOf(error) });
  }
  port.close();
}

/** Until it is told to close. What it throws ends it. */
function work(
  wal: Wal,
  port: MessagePort,
  handOver: HandOver,
  answer: (response: WalResponse) => void,
): void {
  let prepares = false;
  for (;;) {
    const asked = handOver.asked;
    const received = receiveMessageOnPort(port) as { readonly message: WalRequest } | undefined;
    if (received === undefined) {
      prepares = prepares && prepare(wal);
      if (!prepares) handOver.sleep(asked);
      continue;
    }
    const request = received.message;
    const started = performance.now();
    const freeBytes = perform(wal, request);
    const tookMs = performance.now() - started;
    // A part of the next segment with each write.
    prepares ||= request.do === "append";
    if (request.do !== "append" || !handOver.finish(freeBytes ?? 0, tookMs))
      answer({ kind: "done", freeBytes });
    if (request.do === "close") return;
  }
}

/** Says whether more is to be done. */
function prepare(wal: Wal): boolean {
  try {
    return wal.prepare();
  } catch (error) {
    // Without room for a spare now, rotation tries again, and refusing proposals keeps what is left.
    if (!isOutOfSpace(error)) throw error;
    return false;
  }
}

/** The bytes left free, where they were asked for. */
function perform(wal: Wal, request: WalRequest): number | null {
  switch (request.do) {
    case "append":
      wal.append(request.records);
      return wal.freeBytes;
    case "space":
      return wal.freeBytes;
    case "compact":
      wal.compact(request.index);
      return null;
    case "useKeys":
      wal.useKeys(request.keys);
      return null;
    case "close":
      wal.close();
      return null;
    default:
      return unreachable(request);
  }
}
