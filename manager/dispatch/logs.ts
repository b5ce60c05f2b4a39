// The broker between those who ask for logs and the agents that have them.

import type {
  LogSubscription,
  PublishLogsMessage,
  ServiceLogsMessage,
  ServiceLogsRequest,
  Task,
  ToAgent,
} from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { newId } from "../../proto/kit/ids.ts";
import { LogCursor } from "../../proto/log-cursor.ts";
import { isAssigned } from "../plan/tasks.ts";
import type { State } from "../store/types.ts";
import { Pipe } from "./pipe.ts";

const messagesMax = 64;
const readersMax = 256;

export interface LogSource {
  readonly state: () => State;
  /** False when the node has no session. */
  readonly send: (nodeId: string, message: Partial<ToAgent>) => boolean;
}

/** What a node is asked for. */
interface Asked {
  readonly nodeId: string;
  readonly subscription: LogSubscription;
}

/** One who reads logs: what was asked of which node. */
interface Reader {
  readonly request: ServiceLogsRequest;
  readonly pipe: Pipe<ServiceLogsMessage>;
  readonly tasks: Set<string>;
  /** Subscription id → what was asked. */
  readonly open: Map<string, Asked>;
  /** Where to go on after a lost session. */
  readonly cursor: LogCursor;
}

export class LogBroker {
  readonly #source: LogSource;
  readonly #readers = new Set<Reader>();

  constructor(source: LogSource) {
    this.#source = source;
  }

  /** The lines of a service's or one task's containers; without Follow it ends when every node has sent what it has. */
  async *read(
    request: ServiceLogsRequest,
    signal: AbortSignal,
  ): AsyncGenerator<ServiceLogsMessage, void, void> {
    if (this.#readers.size >= readersMax)
      throw new SwarmError("exhausted", `${readersMax} log streams are open already`);
    const reader: Reader = {
      request,
      pipe: new Pipe(messagesMax),
      tasks: new Set(),
      open: new Map(),
      cursor: new LogCursor(),
    };
    const stop = () => reader.pipe.end();
    signal.addEventListener("abort", stop, { once: true });
    this.#readers.add(reader);
    try {
      const missing = this.#ask(
        reader,
        tasksOf(this.#source.state(), request),
        request.Since,
        request.Tail,
      );
      for (const asked of missing) yield this.#away(asked);
      if (signal.aborted || (!request.Follow && reader.open.size === 0)) return;
      yield* reader.pipe;
    } finally {
      signal.removeEventListener("abort", stop);
      this.#readers.delete(reader);
      for (const [id, { nodeId }] of reader.open) this.#source.send(nodeId, { CloseLogs: [id] });
    }
  }

  /** What an agent publishes, until it closes the subscription or nobody reads it any more. */
  async publish(nodeId: string, messages: AsyncIterable<PublishLogsMessage>): Promise<void> {
    let isFirst = true;
    for await (const message of messages) {
      const reader = this.#readerOf(message.SubscriptionID, nodeId);
      if (reader === undefined) return;
      const asked = reader.open.get(message.SubscriptionID)?.subscription.TaskIDs ?? [];
      const [TaskID = ""] = asked;
      // A node whose way here broke begins again with what may be known.
      if (isFirst) reader.cursor.rewind(asked);
      isFirst = false;
      // A node speaks for what it was asked of, and for nobody else.
      const Lines = message.Lines.filter(
        (line) => asked.includes(line.TaskID) && reader.cursor.isNew(line),
      );
      if (Lines.length > 0 || message.Err !== "")
        if (!(await reader.pipe.put({ Lines, Err: message.Err, NodeID: nodeId, TaskID }))) return;
      if (message.Close) return this.#closed(reader, message.SubscriptionID);
    }
  }

  /** New tasks of a followed service are followed too. */
  taskChanged(task: Task): void {
    if (!isAssigned(task)) return;
    for (const reader of this.#readers) {
      if (!reader.request.Follow || reader.request.ServiceID !== task.ServiceID) continue;
      if (!reader.tasks.has(task.ID)) this.#ask(reader, [task], "", -1);
    }
  }

  /** A node's session is back: those who follow go on where they were. */
  nodeConnected(nodeId: string): void {
    for (const reader of this.#readers) {
      const lost = [...reader.open].filter(([, { nodeId: of }]) => of === nodeId);
      for (const [id, { subscription }] of lost) {
        const since = reader.cursor.rewind(subscription.TaskIDs);
        const from = since === "" ? {} : { Since: since, Tail: -1 };
        const again = { ...subscription, ...from };
        reader.open.set(id, { nodeId, subscription: again });
        this.#source.send(nodeId, { Logs: [again] });
      }
    }
  }

  /** A node's session is lost: who does not follow gets no more from it. */
  nodeGone(nodeId: string): void {
    for (const reader of this.#readers) {
      if (reader.request.Follow) continue;
      for (const [id, { nodeId: of, subscription }] of reader.open) {
        if (of !== nodeId) continue;
        void reader.pipe.put(this.#away({ nodeId, subscription }));
        this.#closed(reader, id);
      }
    }
  }

  /** Returns what could not be asked. Who follows gets it when the node's session is back: that of a node which is ready only moves. */
  #ask(reader: Reader, tasks: readonly Task[], since: string, tail: number): readonly Asked[] {
    const byNode = new Map<string, string[]>();
    for (const task of tasks) {
      reader.tasks.add(task.ID);
      const ids = byNode.get(task.NodeID) ?? [];
      ids.push(task.ID);
      byNode.set(task.NodeID, ids);
    }
    const missing: Asked[] = [];
    for (const [nodeId, TaskIDs] of byNode) {
      const { Follow, Until, Stdout, Stderr } = reader.request;
      const subscription: LogSubscription = {
        ID: newId(),
        TaskIDs,
        Follow,
        Tail: tail,
        Since: since,
        Until,
        Stdout,
        Stderr,
      };
      const isAsked = this.#source.send(nodeId, { Logs: [subscription] });
      const asked = { nodeId, subscription };
      if (isAsked || Follow) reader.open.set(subscription.ID, asked);
      if (!isAsked && !(Follow && this.#isReady(nodeId))) missing.push(asked);
    }
    return missing;
  }

  #isReady(nodeId: string): boolean {
    return this.#source.state().table("node").get(nodeId)?.Status?.State === "ready";
  }

  #away({ nodeId, subscription }: Asked): ServiceLogsMessage {
    const node = this.#source.state().table("node").get(nodeId);
    const name = node?.Description?.Hostname || nodeId;
    const Err = `node ${name} is not connected: the logs of its tasks are missing`;
    return { Lines: [], Err, NodeID: nodeId, TaskID: subscription.TaskIDs[0] ?? "" };
  }

  #readerOf(subscriptionId: string, nodeId: string): Reader | undefined {
    for (const reader of this.#readers)
      if (reader.open.get(subscriptionId)?.nodeId === nodeId) return reader;
    return undefined;
  }

  #closed(reader: Reader, subscriptionId: string): void {
    reader.open.delete(subscriptionId);
    if (reader.open.size === 0 && !reader.request.Follow) reader.pipe.end();
  }
}

function tasksOf(state: State, request: ServiceLogsRequest): readonly Task[] {
  const one = state.table("task").get(request.TaskID);
  const all = request.ServiceID === "" ? [] : state.tasksOfService(request.ServiceID);
  return (one === undefined ? all : [one]).filter(isAssigned);
}
