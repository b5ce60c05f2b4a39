// The log as seen from the loop: a request goes to the log's thread, a promise comes back. First come, first served. A write is waited
// for right here while the disk is fast, within a limit.

import { Worker } from "node:worker_threads";
import { type ErrorCode, SwarmError } from "../../proto/kit/errors.ts";
import type { DataKeys } from "../../proto/kit/seal.ts";
import { HandOver } from "./hand-over.ts";
import type { WalContent, WalOptions } from "./wal.ts";
import type { WalRequest, WalResponse, WalWork } from "./wal-worker.ts";

/** The loop stands still for a write for at most so long, and not at all when the one before took longer. */
const standstillMsMax = 2;

interface Waiter {
  readonly resolve: (response: WalResponse & { readonly kind: "done" | "opened" }) => void;
  readonly reject: (error: SwarmError) => void;
}

/** After any failure every request, also those under way, rejects with it: the process must end. */
export class WalThread {
  readonly #worker: Worker;
  readonly #waiters: Waiter[] = [];
  readonly #exited: Promise<void>;
  readonly #handOver: HandOver;
  #isFast = true;
  #failure: SwarmError | null = null;
  #closing: Promise<void> | null = null;

  private constructor(options: WalOptions) {
    const shared = HandOver.shared();
    this.#handOver = new HandOver(shared);
    this.#worker = new Worker(new URL("./wal-worker.js", import.meta.url), {
      workerData: { options, shared } satisfies WalWork,
      resourceLimits: { maxOldGenerationSizeMb: 256 },
    });
    this.#worker.on("message", (response: WalResponse) => this.#receive(response));
    this.#worker.on("error", (cause) =>
      this.#fail(
        new SwarmError("internal", `the Raft log's thread failed: ${cause.message}`, { cause }),
      ),
    );
    this.#exited = new Promise((resolve) => {
      this.#worker.on("exit", () => {
        this.#fail(new SwarmError("internal", "the Raft log's thread has ended"));
        resolve();
      });
    });
  }

  static async open(
    options: WalOptions,
  ): Promise<{ thread: WalThread; content: WalContent; freeBytes: number }> {
    const thread = new WalThread(options);
    const response = await thread.#expect();
    if (response.kind !== "opened") throw new SwarmError("internal", "the Raft log did not open");
    return { thread, content: response.content, freeBytes: response.freeBytes };
  }

  /** Takes the bytes over: the caller must not use them again. Resolves, when they are durable, with the bytes left free. */
  async append(records: Uint8Array): Promise<number> {
    const isAwaited = this.#isFast && this.#waiters.length === 0;
    this.#handOver.begin(isAwaited);
    const told = this.#ask({ do: "append", records });
    const freeBytes = isAwaited ? this.#handOver.outcome(standstillMsMax) : null;
    // Nobody has asked for anything since.
    if (freeBytes !== null) this.#waiters.pop();
    const answer = freeBytes ?? freeBytesOf(await told);
    this.#isFast = this.#handOver.tookMs <= standstillMsMax;
    return answer;
  }

  async compact(index: number): Promise<void> {
    await this.#ask({ do: "compact", index });
  }

  /** What is appended from now on is sealed with the newest of these. */
  async useKeys(keys: DataKeys): Promise<void> {
    await this.#ask({ do: "useKeys", keys });
  }

  async freeBytes(): Promise<number> {
    return freeBytesOf(await this.#ask({ do: "space" }));
  }

  /** Finishes what was asked before; the thread then ends by itself. It is never stopped in the middle of a system call. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#failure === null) await this.#ask({ do: "close" }).catch(() => {});
    await this.#exited;
  }

  #ask(request: WalRequest): Promise<WalResponse & { readonly kind: "done" | "opened" }> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    const answer = this.#expect();
    const transfer = request.do === "append" ? [request.records.buffer as ArrayBuffer] : [];
    this.#worker.postMessage(request, transfer);
    this.#handOver.wake();
    return answer;
  }

  #expect(): Promise<WalResponse & { readonly kind: "done" | "opened" }> {
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  #receive(response: WalResponse): void {
    if (response.kind === "failed")
      this.#fail(new SwarmError(response.code as ErrorCode, response.message));
    else this.#waiters.shift()?.resolve(response);
  }

  #fail(error: SwarmError): void {
    this.#failure ??= error;
    for (const waiter of this.#waiters.splice(0)) waiter.reject(this.#failure);
  }
}

function freeBytesOf(response: WalResponse): number {
  return response.kind === "done" ? (response.freeBytes ?? 0) : 0;
}
