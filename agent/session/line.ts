// One connection to one manager, from Hello until it breaks: beats out, messages in, silence noticed.

import type { FromAgent, Hello, TaskUsage, ToAgent } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { Queue } from "../../proto/kit/queue.ts";
import type { World } from "../../proto/kit/world.ts";
import type { Client } from "../../proto/rpc-client.ts";

/** A beat stays small. */
const portsToldMax = 8;
/** Half of the manager's heartbeat period: how exactly it knows when a host fell silent. It answers every other beat. */
const beatMs = 500;
/** Two seconds and a half without a word of the manager: TCP alone would wait far longer after a cut. */
const unansweredBeatsMax = 5;
/** So many are unanswered only if something is wrong. */
const doubtfulBeats = 3;
/** After a cut TCP may be quicker than we. */
const aliveMsMax = 150;
const outgoingMax = 1024;

export interface LineOptions {
  readonly client: Client<"Dispatch">;
  readonly hello: Hello;
  /** How long the manager may take for its first message. */
  readonly firstAnswerMs: number;
  readonly unreachablePeers: () => readonly string[];
  /** Absent: none. */
  readonly unheldPorts?: () => readonly string[];
  /** What is to be told of tasks' use with this beat. Absent: nothing. */
  readonly usage?: () => readonly TaskUsage[];
  /** Whether the manager's host accepts a connection within some tenths of a second. */
  readonly knock: (signal: AbortSignal) => Promise<boolean>;
  /** Over how many milliseconds the nodes spread what all of them do at once. */
  readonly spreadMs: () => number;
  /** Awaited before the next message is read. */
  readonly receive: (message: ToAgent) => Promise<void>;
  readonly world: World;
}

export class Line {
  readonly #options: LineOptions;
  readonly #outgoing = new Queue<FromAgent>(outgoingMax);
  #unanswered = 0;
  #isKnocking = false;
  /** Monotonic ms of the first message; null before. */
  openedAt: number | null = null;

  constructor(options: LineOptions) {
    this.#options = options;
  }

  /** Lost when the line is not open any more. */
  send(message: Partial<FromAgent>): void {
    this.#outgoing.push({ Tasks: [], ...message });
  }

  /** No more is sent; the manager ends its side too. */
  end(): void {
    this.#outgoing.end();
  }

  /** Ends when either side has ended the stream; rejects with `unavailable` when the manager is silent, or its error. */
  async run(signal: AbortSignal): Promise<void> {
    const { client, hello, world } = this.#options;
    const broken = new AbortController();
    const stop = () => broken.abort(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    this.send({ Hello: hello });
    const watching = this.#watch(broken);
    try {
      const messages = client.duplex("Session", this.#outgoing, { signal: broken.signal });
      for await (const message of messages) {
        this.#unanswered = 0;
        this.openedAt ??= world.monotonic();
        await this.#options.receive(message);
      }
    } catch (error) {
      throw broken.signal.aborted ? broken.signal.reason : error;
    } finally {
      signal.removeEventListener("abort", stop);
      broken.abort(new SwarmError("cancelled", "the session has ended"));
      this.#outgoing.end();
      await watching;
    }
  }

  /** Beats, and counts those that had no answer: counting, unlike comparing times, survives a pause of this process. */
  async #watch(broken: AbortController): Promise<void> {
    const { world, firstAnswerMs, unreachablePeers, unheldPorts = () => [] } = this.#options;
    const usage = this.#options.usage ?? (() => []);
    const silent = (ms: number) =>
      broken.abort(new SwarmError("unavailable", `the manager did not answer for ${ms} ms`));
    try {
      for (let waited = 0; this.openedAt === null; waited += beatMs) {
        if (waited >= firstAnswerMs) return silent(firstAnswerMs);
        await world.sleep(Math.min(beatMs, firstAnswerMs - waited), broken.signal);
      }
      for (;;) {
        if (this.#unanswered >= unansweredBeatsMax) return silent(unansweredBeatsMax * beatMs);
        if (this.#unanswered >= doubtfulBeats) void this.#watchWay(broken);
        this.#unanswered += 1;
        const UnheldPorts = unheldPorts().slice(0, portsToldMax);
        const Usage = usage();
        this.send({ Beat: { UnreachablePeers: unreachablePeers(), UnheldPorts, Usage } });
        await world.sleep(beatMs, broken.signal);
      }
    } catch (error) {
      if (!broken.signal.aborted) broken.abort(error);
    }
  }

  /**
   * What was sent during a cut TCP sends again late, the later the longer the cut was. So a manager that accepts a connection
   * after it had not, and still is silent on this one, is called anew. One that accepts at once is only slow.
   */
  async #watchWay(broken: AbortController): Promise<void> {
    const { world, knock, spreadMs } = this.#options;
    const { signal } = broken;
    const isSilent = () => this.#unanswered >= doubtfulBeats && !signal.aborted;
    if (this.#isKnocking) return;
    this.#isKnocking = true;
    try {
      for (let wasCut = false; isSilent(); wasCut = true) {
        if (!(await knock(signal))) {
          await world.sleep(aliveMsMax, signal);
          continue;
        }
        if (!wasCut) return;
        await world.sleep(aliveMsMax + world.random() * spreadMs(), signal);
        if (isSilent())
          broken.abort(new SwarmError("unavailable", "the way to the manager was cut for a while"));
        return;
      }
    } catch {
      // The line has ended.
    } finally {
      this.#isKnocking = false;
    }
  }
}
