// Typed calls to containerd's services over its unix socket.

import grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";
import { type Codec, codecOf, type Loose } from "../../proto/codec.ts";
import { schema } from "../../proto/gen/containerd-schema.ts";
import type { Messages, Services } from "../../proto/gen/containerd-types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { channelOptions, definitionOf } from "../../proto/rpc.ts";
import { fromStatus } from "../../proto/rpc-status.ts";
import { FramedCall } from "./framed-call.ts";

export type ServiceName = keyof Services & string;
type Shape<S extends ServiceName, M extends keyof Services[S]> = Services[S][M] extends {
  kind: infer K;
  request: infer Q;
  response: infer R;
}
  ? { kind: K; request: Q; response: R }
  : never;
type OfKind<S extends ServiceName, K> = {
  [M in keyof Services[S]]: Shape<S, M>["kind"] extends K ? M : never;
}[keyof Services[S]] &
  string;

export interface CallSettings {
  readonly signal?: AbortSignal;
  /** Default 10 s for unary calls; 0 and streams: none. */
  readonly timeoutMs?: number;
}

/** A call of which each message is answered, in turn. `more`: further fields of the message, encoded. */
export interface Exchange<Q, R> {
  ask(request: Loose<Q>, more?: readonly Uint8Array[]): Promise<R>;
  /** Nobody wants to see the answer. What is in `more` may be used again when it resolves. */
  send(request: Loose<Q>, more: readonly Uint8Array[]): Promise<void>;
  close(): void;
}

const unaryTimeoutMs = 10_000;
const root = protobuf.Root.fromJSON(schema as unknown as protobuf.INamespace);
const definitions = new Map<string, grpc.ServiceDefinition>();

function methodOf(service: string, method: string): grpc.MethodDefinition<unknown, unknown> {
  let definition = definitions.get(service);
  if (definition === undefined) {
    definition = definitionOf(root.lookupService(service));
    definitions.set(service, definition);
  }
  const found = definition[method];
  if (found === undefined) throw new SwarmError("internal", `no such method: ${service}/${method}`);
  return found as grpc.MethodDefinition<unknown, unknown>;
}

/** The codec of one of containerd's messages, for bodies inside an Any. */
export function codecOfMessage<N extends keyof Messages & string>(name: N): Codec<Messages[N]> {
  return codecOf(root.lookupType(name)) as Codec<Messages[N]>;
}

export class Calls {
  readonly #client: grpc.Client;
  readonly #address: string;
  readonly #metadata: Readonly<Record<string, string>>;

  private constructor(
    client: grpc.Client,
    address: string,
    metadata: Readonly<Record<string, string>>,
  ) {
    this.#client = client;
    this.#address = address;
    this.#metadata = metadata;
  }

  static open(address: string, namespace: string): Calls {
    const client = new grpc.Client(`unix:${address}`, grpc.credentials.createInsecure(), {
      ...channelOptions,
      "grpc.max_reconnect_backoff_ms": 500,
    });
    return new Calls(client, address, { "containerd-namespace": namespace });
  }

  /** The same channel with one more metadata entry. */
  with(key: string, value: string): Calls {
    return new Calls(this.#client, this.#address, { ...this.#metadata, [key]: value });
  }

  close(): void {
    this.#client.close();
  }

  async unary<S extends ServiceName, M extends OfKind<S, "unary">>(
    service: S,
    method: M,
    request: Loose<Shape<S, M>["request"]>,
    settings: CallSettings = {},
  ): Promise<Shape<S, M>["response"]> {
    const shape = methodOf(service, method);
    settings.signal?.throwIfAborted();
    return new Promise((resolve, reject) => {
      const timeoutMs = settings.timeoutMs ?? unaryTimeoutMs;
      const call = this.#client.makeUnaryRequest(
        shape.path,
        shape.requestSerialize,
        shape.responseDeserialize,
        request,
        this.#headers(),
        timeoutMs === 0 ? {} : { deadline: Date.now() + timeoutMs },
        (error, response) => {
          settings.signal?.removeEventListener("abort", cancel);
          if (error === null) resolve(response as Shape<S, M>["response"]);
          else
            reject(settings.signal?.aborted === true ? settings.signal.reason : fromStatus(error));
        },
      );
      const cancel = () => call.cancel();
      settings.signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  async *download<S extends ServiceName, M extends OfKind<S, "download">>(
    service: S,
    method: M,
    request: Loose<Shape<S, M>["request"]>,
    settings: CallSettings = {},
  ): AsyncGenerator<Shape<S, M>["response"], void, void> {
    const shape = methodOf(service, method);
    settings.signal?.throwIfAborted();
    const call = this.#client.makeServerStreamRequest(
      shape.path,
      shape.requestSerialize,
      shape.responseDeserialize,
      request,
      this.#headers(),
      settings.timeoutMs === undefined ? {} : { deadline: Date.now() + settings.timeoutMs },
    );
    const cancel = () => call.cancel();
    settings.signal?.addEventListener("abort", cancel, { once: true });
    try {
      for await (const message of call) yield message as Shape<S, M>["response"];
    } catch (error) {
      throw settings.signal?.aborted === true ? settings.signal.reason : fromStatus(error);
    } finally {
      settings.signal?.removeEventListener("abort", cancel);
      // The reader left early or the call failed: a later error has nobody to go to.
      call.on("error", () => {});
      call.cancel();
    }
  }

  /** Sent and received by hand (framed-call.ts). Waits for a server that is being restarted. */
  async exchange<S extends ServiceName, M extends OfKind<S, "duplex">>(
    service: S,
    method: M,
    signal: AbortSignal,
  ): Promise<Exchange<Shape<S, M>["request"], Shape<S, M>["response"]>> {
    const shape = methodOf(service, method);
    const call = await FramedCall.open(this.#address, shape.path, this.#metadata, signal);
    return {
      ask: async (request, more = []) =>
        shape.responseDeserialize(
          await call.ask([shape.requestSerialize(request), ...more]),
        ) as Shape<S, M>["response"],
      send: (request, more) => call.send([shape.requestSerialize(request), ...more]),
      close: () => call.close(),
    };
  }

  #headers(): grpc.Metadata {
    // A containerd that is being restarted is waited for, up to the call's deadline.
    const metadata = new grpc.Metadata({ waitForReady: true });
    for (const [key, value] of Object.entries(this.#metadata)) metadata.set(key, value);
    return metadata;
  }
}
