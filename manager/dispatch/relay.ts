// Between managers: what the sessions of one that does not lead say goes up one stream to the leader, its answers come down.

import type {
  FromManager,
  NodeFacts as NodeFactsMessage,
  TaskStatus,
  TaskUpdate,
  TaskUsage,
  ToAgent,
  ToManager,
} from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { Queue } from "../../proto/kit/queue.ts";
import type { World } from "../../proto/kit/world.ts";
import type { Client } from "../../proto/rpc-client.ts";
import type { Lead } from "./lead.ts";
import type { NodeFacts } from "./status.ts";
import type { Downward, Upward } from "./upward.ts";

/** Beats of all sessions go together so often, and so does the stream's own. */
const summaryMs = 200;
/** Silence of the other end for so long: the stream is made anew. */
const silenceMsMax = 2_500;
const queueMax = 4_096;
const updatesMax = 500;

type Draft = {
  -readonly [K in keyof FromManager]: FromManager[K] extends readonly (infer T)[]
    ? T[]
    : FromManager[K];
};

function newDraft(): Draft {
  return {
    Opened: [],
    Closed: [],
    Heard: [],
    Leaving: [],
    Facts: [],
    Tasks: [],
    Withdrawn: [],
    Usage: [],
    Beat: false,
  };
}

const nothingDown: ToManager = { Released: [], Messages: [], End: [], Beat: false };

/** The follower's end: an `Upward` for its dispatcher. What is said in one turn goes together. */
export class Relay implements Upward {
  readonly #world: World;
  readonly #down: Downward;
  readonly #queue: Queue<FromManager>;
  readonly #signal: AbortSignal;
  #next: Draft | null = null;
  readonly #heard = new Set<string>();
  #silentMs = 0;
  /** Monotonic ms of the leader's last word; null before its first. */
  heardAt: number | null = null;

  constructor(world: World, down: Downward, signal: AbortSignal) {
    this.#world = world;
    this.#down = down;
    this.#signal = signal;
    this.#queue = new Queue(queueMax, signal);
  }

  /**
   * Until the stream breaks or the signal aborts. `opened` is called once the leader has answered. Rejects with why it broke.
   */
  async run(client: Client<"Managers">, opened: () => void): Promise<void> {
    const broken = new AbortController();
    const signal = AbortSignal.any([this.#signal, broken.signal]);
    this.#queue.push({ ...newDraft(), Beat: true });
    const beating = this.#beat(broken, signal);
    let isOpen = false;
    try {
      for await (const message of client.duplex("Relay", this.#queue, { signal })) {
        this.#silentMs = 0;
        this.heardAt = this.#world.monotonic();
        if (!isOpen) opened();
        isOpen = true;
        this.#receive(message);
      }
    } catch (error) {
      throw broken.signal.aborted ? broken.signal.reason : error;
    } finally {
      broken.abort(new SwarmError("cancelled", "the stream to the leader has ended"));
      this.#queue.end();
      await beating;
    }
  }

  #receive({ Released, Messages, End }: ToManager): void {
    if (Released.length > 0) this.#down.release(Released);
    for (const { NodeID, Message } of Messages)
      if (Message !== undefined) this.#down.send(NodeID, Message);
    for (const nodeId of End) this.#down.end(nodeId);
  }

  async #beat(broken: AbortController, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#world.sleep(summaryMs, signal).catch(() => {});
      if (signal.aborted) return;
      // Counted, not timed: a pause of this process is not the leader's silence.
      this.#silentMs += summaryMs;
      if (this.#silentMs >= silenceMsMax)
        return broken.abort(
          new SwarmError("unavailable", `the leader has been silent for ${silenceMsMax} ms`),
        );
      this.#draft().Beat = true;
    }
  }

  opened(nodeId: string): void {
    this.#draft().Opened.push(nodeId);
  }

  closed(nodeId: string): void {
    this.#heard.delete(nodeId);
    // Not together with an earlier `opened` of the same node: within a message the order is lost.
    this.#flush();
    this.#draft().Closed.push(nodeId);
    this.#flush();
  }

  /** Goes with the next summary. */
  heard(nodeId: string): void {
    this.#heard.add(nodeId);
  }

  leaving(nodeId: string, reason: string): void {
    this.#draft().Leaving.push({ NodeID: nodeId, Reason: reason });
  }

  facts(nodeId: string, facts: NodeFacts): void {
    const { Routes, State: _, ...others } = facts;
    const wire: NodeFactsMessage = {
      NodeID: nodeId,
      ...others,
      ...(Routes === undefined ? {} : { Routes: { Values: Routes } }),
    };
    this.#draft().Facts.push(wire);
  }

  task(nodeId: string, taskId: string, status: TaskStatus): void {
    const update: TaskUpdate = { ID: taskId, Status: status };
    const { Tasks } = this.#draft();
    Tasks.push({ NodeID: nodeId, Updates: [update] });
    if (Tasks.length >= updatesMax) this.#flush();
  }

  withdrawn(taskIds: readonly string[]): void {
    if (taskIds.length > 0) this.#draft().Withdrawn.push(...taskIds);
  }

  usage(usage: readonly TaskUsage[]): void {
    const { Usage } = this.#draft();
    Usage.push(...usage);
    if (Usage.length >= updatesMax) this.#flush();
  }

  #draft(): Draft {
    if (this.#next === null) queueMicrotask(() => this.#flush());
    this.#next ??= newDraft();
    return this.#next;
  }

  #flush(): void {
    if (this.#next === null) return;
    const message = this.#next;
    this.#next = null;
    if (message.Beat) {
      message.Heard.push(...this.#heard);
      this.#heard.clear();
    }
    this.#queue.push(message);
  }
}

/** The leader's end of one follower's stream, until the follower goes or the signal aborts. */
export async function* serveRelay(
  lead: Lead,
  messages: AsyncIterable<FromManager>,
  signal: AbortSignal,
): AsyncGenerator<ToManager, void, void> {
  const queue = new Queue<ToManager>(queueMax, signal);
  const upward = lead.attach({
    release: (taskIds) => queue.push({ ...nothingDown, Released: taskIds }),
    send: (nodeId, message) => {
      const Message: ToAgent = { ...emptyToAgent, ...message };
      queue.push({ ...nothingDown, Messages: [{ NodeID: nodeId, Message }] });
    },
    end: (nodeId) => queue.push({ ...nothingDown, End: [nodeId] }),
  });
  const reading = read(messages, upward, queue);
  try {
    yield* queue;
  } finally {
    lead.detach(upward);
    queue.end();
    await reading;
  }
}

async function read(
  messages: AsyncIterable<FromManager>,
  upward: Upward,
  queue: Queue<ToManager>,
): Promise<void> {
  try {
    for await (const message of messages) {
      if (message.Beat) queue.push({ ...nothingDown, Beat: true });
      take(message, upward);
    }
  } catch {
    // The stream broke; its other half ends with it.
  }
  queue.end();
}

function take(message: FromManager, upward: Upward): void {
  for (const nodeId of message.Opened) upward.opened(nodeId);
  for (const nodeId of message.Heard) upward.heard(nodeId);
  for (const { NodeID, ...facts } of message.Facts) {
    const { Routes, ...others } = facts;
    upward.facts(NodeID, { ...others, ...(Routes === undefined ? {} : { Routes: Routes.Values }) });
  }
  for (const { NodeID, Updates } of message.Tasks)
    for (const { ID, Status } of Updates) if (Status !== undefined) upward.task(NodeID, ID, Status);
  if (message.Usage.length > 0) upward.usage(message.Usage);
  if (message.Withdrawn.length > 0) upward.withdrawn(message.Withdrawn);
  for (const { NodeID, Reason } of message.Leaving) upward.leaving(NodeID, Reason);
  for (const nodeId of message.Closed) upward.closed(nodeId);
}

const emptyToAgent: ToAgent = {
  Version: "",
  Complete: false,
  Set: [],
  Remove: [],
  Logs: [],
  CloseLogs: [],
  Tunnels: [],
  Beat: false,
  Packed: [],
};
