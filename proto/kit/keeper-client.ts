// The agent's end of the keeper's socket.

import { createConnection, type Socket } from "node:net";
import { SwarmError } from "./errors.ts";
import type { Keeper, KeeperRequest, KeeperResponse } from "./keeper.ts";
import type { Log } from "./log.ts";

const pendingMax = 1_000;
/** How long a request waits for the keeper to be there. */
const connectMsMax = 5_000;
const backoffMsMin = 20;
const backoffMsMax = 1_000;
const responseBytesMax = 16 * 1024 * 1024;

interface Pending {
  readonly line: string;
  readonly resolve: (response: KeeperResponse & { readonly ok: true }) => void;
  readonly reject: (error: SwarmError) => void;
}

export class KeeperClient implements Keeper {
  readonly #path: string;
  readonly #log: Log;
  readonly #listeners: (() => void)[] = [];
  /** Sent, not answered; answers come in this order. */
  #sent: Pending[] = [];
  /** Waiting for a connection, each with the timer that gives it up. */
  readonly #waiting = new Map<Pending, NodeJS.Timeout>();
  #socket: Socket | null = null;
  #isConnected = false;
  #wasConnected = false;
  #closed = false;
  #backoffMs = backoffMsMin;
  #retry: NodeJS.Timeout | undefined;

  /** Begins to connect; `close` ends it. */
  constructor(path: string, log: Log) {
    this.#path = path;
    this.#log = log;
    this.#connect();
  }

  ask(request: KeeperRequest): Promise<KeeperResponse & { readonly ok: true }> {
    return new Promise((resolve, reject) => {
      const pending = { line: `${JSON.stringify(request)}\n`, resolve, reject };
      if (this.#closed || this.#sent.length + this.#waiting.size >= pendingMax) {
        reject(this.#unavailable(this.#closed ? "closed" : "has too much to do"));
      } else if (this.#isConnected) this.#send(pending);
      else this.#wait(pending);
    });
  }

  onReconnect(listener: () => void): void {
    this.#listeners.push(listener);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#socket?.destroy();
    this.#giveUp([...this.#sent, ...this.#waiting.keys()], "closed");
    for (const timer of this.#waiting.values()) clearTimeout(timer);
    this.#sent = [];
    this.#waiting.clear();
  }

  #wait(pending: Pending): void {
    const timer = setTimeout(() => {
      this.#waiting.delete(pending);
      this.#giveUp([pending], "does not answer");
    }, connectMsMax);
    this.#waiting.set(pending, timer);
  }

  #send(pending: Pending): void {
    this.#sent.push(pending);
    this.#socket?.write(pending.line);
  }

  #connect(): void {
    const socket = createConnection(this.#path);
    this.#socket = socket;
    let received: Buffer = Buffer.alloc(0);
    socket.on("connect", () => this.#connected());
    socket.on("error", () => {});
    socket.on("close", () => this.#disconnected());
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      for (let end = received.indexOf(0x0a); end !== -1; end = received.indexOf(0x0a)) {
        this.#answered(received.subarray(0, end).toString("utf8"));
        received = received.subarray(end + 1);
      }
      if (received.length > responseBytesMax) socket.destroy();
    });
  }

  #connected(): void {
    this.#isConnected = true;
    this.#backoffMs = backoffMsMin;
    for (const [pending, timer] of this.#waiting) {
      clearTimeout(timer);
      this.#send(pending);
    }
    this.#waiting.clear();
    if (this.#wasConnected) for (const listener of this.#listeners) listener();
    this.#wasConnected = true;
  }

  #disconnected(): void {
    if (this.#closed) return;
    if (this.#isConnected) this.#log.warn("the connection to the keeper is lost");
    this.#isConnected = false;
    const lost = this.#sent;
    this.#sent = [];
    this.#giveUp(lost, "went away");
    this.#retry = setTimeout(() => this.#connect(), this.#backoffMs);
    this.#backoffMs = Math.min(this.#backoffMs * 2, backoffMsMax);
  }

  #answered(line: string): void {
    const pending = this.#sent.shift();
    if (pending === undefined) return;
    let response: KeeperResponse;
    try {
      response = JSON.parse(line) as KeeperResponse;
    } catch (cause) {
      pending.reject(new SwarmError("internal", "the keeper's answer is not JSON", { cause }));
      return;
    }
    if (response.ok) pending.resolve(response);
    else pending.reject(new SwarmError("internal", `keeper: ${response.message}`));
  }

  #giveUp(all: readonly Pending[], why: string): void {
    for (const pending of all) pending.reject(this.#unavailable(why));
  }

  #unavailable(why: string): SwarmError {
    return new SwarmError("unavailable", `the keeper (${this.#path}) ${why}`);
  }
}
