// The client's end of gRPC: typed calls to one service, as promises and async iterables, failing with our errors.

import grpc from "@grpc/grpc-js";
import { SwarmError } from "./kit/errors.ts";
import {
  channelOptions,
  drained,
  type Methods,
  type ServiceName,
  type Shape,
  serviceDefinition,
  textsOf,
} from "./rpc.ts";
import { fromStatus } from "./rpc-status.ts";

type OfKind<S extends ServiceName, K> = {
  [M in keyof Methods<S>]: Shape<S, M>["kind"] extends K ? M : never;
}[keyof Methods<S>] &
  string;

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** Milliseconds; default 10 s for unary calls, none for streams. */
  readonly timeoutMs?: number;
  readonly metadata?: Readonly<Record<string, string>>;
  /** Of unary calls: told what comes behind the answer, text values only. */
  readonly heard?: (trailer: Readonly<Record<string, string>>) => void;
}

export const unaryTimeoutMs = 10_000;

const managerName = "swarm-manager";

/** Typed calls to one service over one channel. */
export class Client<S extends ServiceName> {
  readonly #client: grpc.Client;
  readonly #definition: grpc.ServiceDefinition;
  /** Whom errors name when nobody answers. */
  protected readonly server: string;

  /** `target`: `ip:port`, `dns:name:port` or `unix:/path`. `server`: whom errors name when nobody answers there. */
  constructor(
    service: S,
    target: string,
    credentials: grpc.ChannelCredentials,
    options: grpc.ChannelOptions = {},
    server = "",
  ) {
    this.server = server;
    this.#definition = serviceDefinition(service);
    // Managers are known by their certificate's role, not by a name; an IP address may not be sent as one.
    const named = credentials._isSecure() ? { "grpc.ssl_target_name_override": managerName } : {};
    this.#client = new grpc.Client(target, credentials, {
      ...channelOptions,
      ...named,
      ...options,
    });
  }

  close(): void {
    this.#client.close();
  }

  /** Resolves when the channel is connected; rejects with `unavailable` when it is not within that time. */
  async connected(timeoutMs: number): Promise<void> {
    await new Promise<void>((resolve, reject) =>
      this.#client.waitForReady(Date.now() + timeoutMs, (error) => {
        if (error === undefined || error === null) resolve();
        else reject(new SwarmError("unavailable", error.message, { cause: error }));
      }),
    );
  }

  async unary<M extends OfKind<S, "unary">>(
    method: M,
    request: Shape<S, M>["request"],
    options: CallOptions = {},
  ): Promise<Shape<S, M>["response"]> {
    const shape = this.#shape(method);
    options.signal?.throwIfAborted();
    const { heard } = options;
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        shape.path,
        shape.requestSerialize,
        shape.responseDeserialize,
        request,
        metadataOf(options),
        { deadline: Date.now() + (options.timeoutMs ?? unaryTimeoutMs) },
        (error, response) => {
          options.signal?.removeEventListener("abort", cancel);
          if (error === null) resolve(response as Shape<S, M>["response"]);
          else reject(fromStatus(error, this.server));
        },
      );
      if (heard !== undefined)
        call.on("status", ({ metadata }: grpc.StatusObject) => heard(textsOf(metadata)));
      const cancel = () => call.cancel();
      options.signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  download<M extends OfKind<S, "download">>(
    method: M,
    request: Shape<S, M>["request"],
    options: CallOptions = {},
  ): AsyncIterable<Shape<S, M>["response"]> {
    const shape = this.#shape(method);
    const call = this.#client.makeServerStreamRequest(
      shape.path,
      shape.requestSerialize,
      shape.responseDeserialize,
      request,
      metadataOf(options),
      deadlineOf(options),
    );
    return responses(call, this.server, options.signal) as AsyncIterable<Shape<S, M>["response"]>;
  }

  /** Rejects as soon as the call has failed, also while the iterable has nothing to give. */
  async upload<M extends OfKind<S, "upload">>(
    method: M,
    requests: AsyncIterable<Shape<S, M>["request"]>,
    options: CallOptions = {},
  ): Promise<Shape<S, M>["response"]> {
    const shape = this.#shape(method);
    const finished = withResolvers<unknown>();
    finished.promise.catch(() => {});
    const call = this.#client.makeClientStreamRequest(
      shape.path,
      shape.requestSerialize,
      shape.responseDeserialize,
      metadataOf(options),
      deadlineOf(options),
      (error, response) =>
        error === null
          ? finished.resolve(response)
          : finished.reject(fromStatus(error, this.server)),
    );
    const pumped = pump(requests, call, options.signal).catch((error: unknown) => {
      call.cancel();
      throw error;
    });
    // Whichever comes first: an answer may come while there is more to send, and what fails the pump fails the call.
    await Promise.race([pumped, finished.promise]);
    return (await finished.promise) as Shape<S, M>["response"];
  }

  /** Requests are written as the iterable yields them; the stream ends when both sides have ended. */
  duplex<M extends OfKind<S, "duplex">>(
    method: M,
    requests: AsyncIterable<Shape<S, M>["request"]>,
    options: CallOptions = {},
  ): AsyncIterable<Shape<S, M>["response"]> {
    const shape = this.#shape(method);
    const call = this.#client.makeBidiStreamRequest(
      shape.path,
      shape.requestSerialize,
      shape.responseDeserialize,
      metadataOf(options),
      deadlineOf(options),
    );
    pump(requests, call, options.signal).catch(() => call.cancel());
    return responses(call, this.server, options.signal) as AsyncIterable<Shape<S, M>["response"]>;
  }

  protected codecs(method: string): {
    readonly encode: (request: unknown) => Buffer;
    readonly decode: (bytes: Uint8Array) => unknown;
  } {
    const { requestSerialize: encode, responseDeserialize } = this.#shape(method);
    return { encode, decode: responseDeserialize as (bytes: Uint8Array) => unknown };
  }

  #shape(method: string): grpc.MethodDefinition<unknown, unknown> {
    const shape = this.#definition[method];
    if (shape === undefined) throw new SwarmError("internal", `no such method: ${method}`);
    return shape as grpc.MethodDefinition<unknown, unknown>;
  }
}

function withResolvers<T>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: unknown) => void;
} {
  let resolve: (value: T) => void = () => {};
  let reject: (error: unknown) => void = () => {};
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

async function* responses(
  call: grpc.ClientReadableStream<unknown> | grpc.ClientDuplexStream<unknown, unknown>,
  server: string,
  signal?: AbortSignal,
): AsyncGenerator<unknown, void, void> {
  const cancel = () => call.cancel();
  if (signal?.aborted === true) cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  try {
    for await (const message of call) yield message;
  } catch (error) {
    throw fromStatus(error, server);
  } finally {
    signal?.removeEventListener("abort", cancel);
    // The reader left early, or the call has failed: a later error event has nobody to go to.
    call.on("error", () => {});
    call.cancel();
  }
}

async function pump(
  requests: AsyncIterable<unknown>,
  call: grpc.ClientWritableStream<unknown> | grpc.ClientDuplexStream<unknown, unknown>,
  signal?: AbortSignal,
): Promise<void> {
  let gone = false;
  const stop = new AbortController();
  const cancel = () => call.cancel();
  if (signal?.aborted === true) cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  call.on("error", () => {});
  call.on("status", () => {
    gone = true;
    stop.abort();
    signal?.removeEventListener("abort", cancel);
  });
  for await (const request of requests) {
    if (gone) return;
    if (!call.write(request)) await drained(call, stop.signal);
  }
  call.end();
}

function metadataOf(options: CallOptions): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const [key, value] of Object.entries(options.metadata ?? {})) metadata.set(key, value);
  return metadata;
}

function deadlineOf(options: CallOptions): grpc.CallOptions {
  return options.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs };
}
