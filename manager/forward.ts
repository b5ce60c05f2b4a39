// Calls that only the leader can answer: served here when this manager leads, else passed on to the leader, once.

import { CarryingClient } from "../proto/carrier.ts";
import type { PublishLogsMessage } from "../proto/gen/types.ts";
import { messageOf, SwarmError } from "../proto/kit/errors.ts";
import type { World } from "../proto/kit/world.ts";
import { type ServiceName, serviceDefinition } from "../proto/rpc.ts";
import type { Caller, Handlers } from "../proto/rpc-server.ts";
import { fateOf } from "../proto/rpc-status.ts";
import { certifiedNode, toManager } from "../proto/tls.ts";
import { behalfKey, forwardedKey, originKey } from "./identity/admit.ts";
import type { OwnIdentity } from "./own-identity.ts";
import type { Raft } from "./raft/types.ts";

/** An election takes about a second: whoever calls meanwhile waits, and hears then that nobody leads. */
const leaderMsMax = 2_500;
/** When nobody has led for so long, it is no election. */
const leaderlessMsMax = 3_000;
const lastAnswerMsMax = 150;
const retryMs = 50;
const callMsMax = 20_000;
const reconnectMsMax = 500;

export interface ForwardOptions {
  readonly raft: Raft;
  readonly nodeId: string;
  readonly identity: OwnIdentity;
  readonly clusterId: string;
  /** ip:port of a manager; undefined when it is not known (yet). */
  readonly addressOf: (nodeId: string) => string | undefined;
  readonly world: World;
  /** Ends everything. */
  readonly signal: AbortSignal;
}

type Unary = (request: unknown, caller: Caller) => Promise<unknown>;
type Download = (request: unknown, caller: Caller) => AsyncIterable<unknown>;
type AnyClient = {
  unary(method: string, request: unknown, options: object): Promise<unknown>;
  download(method: string, request: unknown, options: object): AsyncIterable<unknown>;
  upload(method: string, requests: AsyncIterable<unknown>, options: object): Promise<unknown>;
  close(): void;
};

/** The way to whoever leads. */
export class Forward {
  readonly #options: ForwardOptions;
  readonly #clients = new Map<string, { readonly address: string; readonly client: AnyClient }>();

  /** Monotonic ms since which nobody leads; null while somebody does. */
  #leaderlessSince: number | null;

  constructor(options: ForwardOptions) {
    this.#options = options;
    const { world, signal, raft } = options;
    this.#leaderlessSince = world.monotonic();
    const unwatch = raft.watchStatus(({ leader }) => {
      this.#leaderlessSince = leader === null ? (this.#leaderlessSince ?? world.monotonic()) : null;
    });
    signal.addEventListener("abort", unwatch, { once: true });
    signal.addEventListener("abort", () => this.#closeAll(), { once: true });
    options.identity.watch(signal, () => this.#renew());
  }

  /**
   * The handlers, of which those that `isForLeader` names work on any manager. Only methods without a stream of requests.
   * New errors: `no_leader` when nobody has led for 2.5 s, `unknown_outcome` when the leader was lost while it answered.
   */
  handlers<S extends ServiceName>(
    service: S,
    handlers: Handlers<S>,
    isForLeader: (method: string) => boolean,
  ): Handlers<S> {
    const definition = serviceDefinition(service);
    const wrapped = Object.entries(handlers).map(([method, handle]) => {
      if (!isForLeader(method)) return [method, handle];
      const isStream = definition[method]?.responseStream === true;
      const passedOn = isStream
        ? (request: unknown, caller: Caller) =>
            this.#download(service, method, handle as Download, request, caller)
        : (request: unknown, caller: Caller) =>
            this.#unary(service, method, handle as Unary, request, caller);
      return [method, passedOn];
    });
    return Object.fromEntries(wrapped) as Handlers<S>;
  }

  /** A node's logs to the leader, as fast as it takes them. */
  async publishLogs(
    nodeId: string,
    messages: AsyncIterable<PublishLogsMessage>,
    signal: AbortSignal,
  ): Promise<void> {
    const { leader } = this.#options.raft.status();
    if (leader === null || leader === this.#options.nodeId)
      throw new SwarmError("no_leader", "nobody leads now: the logs have nowhere to go");
    await this.#client("Dispatch", leader).upload("PublishLogs", messages, {
      signal,
      metadata: { [forwardedKey]: "1", [behalfKey]: nodeId },
    });
  }

  async #unary(
    service: ServiceName,
    method: string,
    handle: Unary,
    request: unknown,
    caller: Caller,
  ): Promise<unknown> {
    const { world, nodeId } = this.#options;
    for (const deadline = world.monotonic() + leaderMsMax; ; ) {
      const leader = await this.#leader(caller, deadline);
      try {
        if (leader === nodeId) return await handle(request, caller);
        return await this.#callLeader(service, method, leader, request, caller);
      } catch (error) {
        // Nothing was written: whoever leads next is asked, unless the call has come from another manager, which asks again.
        const isOver = isForwarded(caller) || world.monotonic() >= deadline;
        if (isOver || !(error instanceof SwarmError) || error.code !== "no_leader") throw error;
      }
      await world.sleep(retryMs, caller.signal);
    }
  }

  async *#download(
    service: ServiceName,
    method: string,
    handle: Download,
    request: unknown,
    caller: Caller,
  ): AsyncGenerator<unknown, void, void> {
    const { world, nodeId } = this.#options;
    const leader = await this.#leader(caller, world.monotonic() + leaderMsMax);
    if (leader === nodeId) return yield* handle(request, caller);
    const lost = this.#untilLost(leader);
    try {
      yield* this.#client(service, leader).download(method, request, {
        signal: AbortSignal.any([caller.signal, lost.signal]),
        metadata: metadataFor(caller),
      });
    } catch (cause) {
      if (!lost.signal.aborted || caller.signal.aborted) throw cause;
      throw new SwarmError("no_leader", "the leader has changed: ask again", { cause });
    } finally {
      lost.stop();
    }
  }

  async #callLeader(
    service: ServiceName,
    method: string,
    leader: string,
    request: unknown,
    caller: Caller,
  ): Promise<unknown> {
    const lost = this.#untilLost(leader);
    try {
      return await this.#client(service, leader).unary(method, request, {
        signal: AbortSignal.any([caller.signal, lost.signal]),
        timeoutMs: callMsMax,
        metadata: metadataFor(caller),
      });
    } catch (error) {
      if (!(error instanceof SwarmError) || fateOf(error) === "answered") throw error;
      if (fateOf(error) === "unsent")
        throw new SwarmError("no_leader", `the leader ${leader} can not be reached`, {
          cause: error,
        });
      throw new SwarmError(
        "unknown_outcome",
        `the leader was lost while it carried this out (${messageOf(error)}): it may or may not have happened; look before you repeat it`,
        { cause: error },
      );
    } finally {
      lost.stop();
    }
  }

  /** Aborts when Raft has another leader, or none: a dead one's silence would be waited out. */
  #untilLost(leader: string): { readonly signal: AbortSignal; stop(): void } {
    const controller = new AbortController();
    let late: NodeJS.Timeout | undefined;
    const stop = this.#options.raft.watchStatus((status) => {
      if (status.leader === leader) return;
      // One that only hands over still answers, and knows what has become of it.
      late ??= setTimeout(
        () => controller.abort(new Error("the leader has changed")),
        lastAnswerMsMax,
      );
    });
    const end = () => {
      clearTimeout(late);
      stop();
    };
    return { signal: controller.signal, stop: end };
  }

  async #leader(caller: Caller, deadline: number): Promise<string> {
    const { raft, world, nodeId } = this.#options;
    for (;;) {
      const { leader } = raft.status();
      if (leader !== null && (leader === nodeId || !isForwarded(caller))) return leader;
      const since = this.#leaderlessSince;
      const isHopeless = since !== null && world.monotonic() - since >= leaderlessMsMax;
      if (world.monotonic() >= deadline || isForwarded(caller) || isHopeless)
        throw new SwarmError(
          "no_leader",
          isForwarded(caller)
            ? `manager ${nodeId} does not lead (any more): try again`
            : "no manager leads: more than half of the managers have to be running and reach each other",
        );
      await world.sleep(retryMs, caller.signal);
    }
  }

  #client(service: ServiceName, leader: string): AnyClient {
    const { addressOf, identity, clusterId } = this.#options;
    const address = addressOf(leader);
    if (address === undefined)
      throw new SwarmError("no_leader", `the address of the leader ${leader} is not known here`);
    const key = `${service} ${leader}`;
    const known = this.#clients.get(key);
    if (known?.address === address) return known.client;
    known?.client.close();
    const client = new CarryingClient(service, address, toManager(identity.current, clusterId), {
      "grpc.max_reconnect_backoff_ms": reconnectMsMax,
    }) as unknown as AnyClient;
    this.#clients.set(key, { address, client });
    return client;
  }

  /** Calls that are on their way are answered; the next ones go over connections with the new certificate. */
  #renew(): void {
    const { world, signal } = this.#options;
    const old = [...this.#clients.values()];
    this.#clients.clear();
    const close = () => {
      for (const { client } of old) client.close();
    };
    world.sleep(callMsMax, signal).then(close, close);
  }

  #closeAll(): void {
    for (const { client } of this.#clients.values()) client.close();
    this.#clients.clear();
  }
}

function isForwarded(caller: Caller): boolean {
  return caller.metadata[forwardedKey] !== undefined;
}

/** Whose call it is goes along: by its certificate, which whoever forwards has seen. */
function metadataFor(caller: Caller): Readonly<Record<string, string>> {
  const certified = caller.certificate === null ? null : certifiedNode(caller.certificate);
  return {
    [forwardedKey]: "1",
    [originKey]: caller.address,
    ...(certified === null ? {} : { [behalfKey]: certified.nodeId }),
  };
}
