// Tunnels between the agent beside this manager and agents elsewhere: these call here, and each end gets what the other says.

import type { TunnelData, TunnelRequest } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { newId } from "../../proto/kit/ids.ts";
import type { World } from "../../proto/kit/world.ts";
import { Pipe } from "./pipe.ts";

/** Of 64 KiB each, on their way from one end to the other: who sends faster waits. */
const partsMax = 8;
const tunnelsMax = 256;
const answerMsMax = 10_000;

export interface TunnelsOptions {
  /** ip:port of this manager. */
  readonly address: string;
  /** Throws `unavailable` when the node has no session with any manager. */
  readonly summon: (nodeId: string, tunnel: TunnelRequest, signal: AbortSignal) => Promise<void>;
  /** How people call a node. */
  readonly nameOf: (nodeId: string) => string;
  readonly world: Pick<World, "sleep">;
}

interface Tunnel {
  readonly nodeId: string;
  readonly toNode: Pipe<TunnelData>;
  readonly toAsker: Pipe<TunnelData>;
  /** Called when the node's agent has come. */
  readonly met: () => void;
  isMet: boolean;
}

export class Tunnels {
  readonly #options: TunnelsOptions;
  readonly #open = new Map<string, Tunnel>();

  constructor(options: TunnelsOptions) {
    this.#options = options;
  }

  /** The asker's end. Its first message names the node. Errors: `invalid`, `exhausted`, `unavailable`. */
  async *ask(
    messages: AsyncIterable<TunnelData>,
    signal: AbortSignal,
  ): AsyncGenerator<TunnelData, void, void> {
    if (this.#open.size >= tunnelsMax)
      throw new SwarmError("exhausted", `${tunnelsMax} tunnels are open at this manager already`);
    const { first, rest } = await begun(messages);
    const nodeId = first.To;
    const id = newId();
    const meeting = new AbortController();
    const tunnel: Tunnel = {
      nodeId,
      toNode: new Pipe(partsMax),
      toAsker: new Pipe(partsMax),
      met: () => meeting.abort(),
      isMet: false,
    };
    this.#open.set(id, tunnel);
    try {
      const request = { ID: id, Manager: this.#options.address };
      await this.#options.summon(nodeId, request, signal);
      await this.#meet(tunnel, AbortSignal.any([meeting.signal, signal]));
      yield* exchange(first, rest, tunnel.toNode, tunnel.toAsker, signal);
    } finally {
      this.#open.delete(id);
    }
  }

  /** The node's end. Its first message names the tunnel. Errors: `invalid`, `not_found` (nobody waits for it there). */
  async *answer(
    nodeId: string,
    messages: AsyncIterable<TunnelData>,
    signal: AbortSignal,
  ): AsyncGenerator<TunnelData, void, void> {
    const { first, rest } = await begun(messages);
    const tunnel = this.#open.get(first.To);
    // Another node's is not to be told from none.
    if (tunnel === undefined || tunnel.nodeId !== nodeId || tunnel.isMet)
      throw new SwarmError("not_found", `nobody waits for tunnel ${first.To} (any more)`);
    tunnel.isMet = true;
    tunnel.met();
    yield* exchange(first, rest, tunnel.toAsker, tunnel.toNode, signal);
  }

  async #meet(tunnel: Tunnel, met: AbortSignal): Promise<void> {
    await this.#options.world.sleep(answerMsMax, met).catch(() => {});
    if (tunnel.isMet) return;
    const name = this.#options.nameOf(tunnel.nodeId);
    throw new SwarmError(
      "unavailable",
      `node ${name} did not answer within ${answerMsMax / 1000} s: is its way to this manager's address open?`,
    );
  }
}

async function begun(
  messages: AsyncIterable<TunnelData>,
): Promise<{ readonly first: TunnelData; readonly rest: AsyncIterator<TunnelData> }> {
  const rest = messages[Symbol.asyncIterator]();
  const first = await rest.next();
  if (first.done === true || first.value.To === "")
    throw new SwarmError("invalid", "a tunnel begins with whom it is to");
  return { first: first.value, rest };
}

/**
 * What this end says goes out, what the other says comes in. It is over when both have ended; who goes away before takes the other
 * along.
 */
async function* exchange(
  first: TunnelData,
  rest: AsyncIterator<TunnelData>,
  out: Pipe<TunnelData>,
  incoming: Pipe<TunnelData>,
  signal: AbortSignal,
): AsyncGenerator<TunnelData, void, void> {
  const stop = () => {
    out.end();
    incoming.end();
  };
  signal.addEventListener("abort", stop, { once: true });
  const sent = send(first, rest, out).catch(stop);
  try {
    for await (const part of incoming) {
      yield part;
      if (part.End) return void (await Promise.race([sent, aborted(signal)]));
    }
  } finally {
    signal.removeEventListener("abort", stop);
    stop();
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true }),
  );
}

async function send(
  first: TunnelData,
  rest: AsyncIterator<TunnelData>,
  out: Pipe<TunnelData>,
): Promise<void> {
  for (let next = first; ; ) {
    const isSaid = next.Data.length === 0 && !next.End;
    if (!isSaid && !(await out.put({ To: "", Data: next.Data, End: next.End }))) return;
    const result = await rest.next();
    if (result.done === true) return;
    next = result.value;
  }
}
