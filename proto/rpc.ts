// gRPC as the rest of the code wants it: typed methods, promises and async iterables, our errors on both sides.

import { once } from "node:events";
import type { Readable } from "node:stream";
import grpc from "@grpc/grpc-js";
import type protobuf from "protobufjs";
import { codecOf, root } from "./codec.ts";
import type { Services } from "./gen/types.ts";
import { messageOf, SwarmError } from "./kit/errors.ts";
import { fromStatus, toStatus } from "./rpc-status.ts";

export { failure, fateOf, fromStatus } from "./rpc-status.ts";

type Name<Full extends string> = Full extends `tsswarm.${infer Short}` ? Short : never;
export type ServiceName = Name<keyof Services & string>;
type Methods<S extends ServiceName> = Services[`tsswarm.${S}` & keyof Services];
type MethodShape = {
  kind: "unary" | "download" | "upload" | "duplex";
  request: unknown;
  response: unknown;
};
type Shape<S extends ServiceName, M extends keyof Methods<S>> = Methods<S>[M] extends MethodShape
  ? Methods<S>[M]
  : never;
type OfKind<S extends ServiceName, K> = {
  [M in keyof Methods<S>]: Shape<S, M>["kind"] extends K ? M : never;
}[keyof Methods<S>] &
  string;

/** Who calls, as the server sees it. */
export interface Caller {
  /** Aborted when the caller goes away or its deadline passes. */
  readonly signal: AbortSignal;
  /** The verified client certificate, DER; null for callers without one. */
  readonly certificate: Buffer | null;
  /** Why the certificate it has shown is not believed, as OpenSSL calls it; "" for none, or when it is. */
  readonly doubt?: string;
  /** `ip:port`, `[ip]:port`, or the socket's path. */
  readonly address: string;
  /** Request metadata, text values only. */
  readonly metadata: Readonly<Record<string, string>>;
  /** What goes back behind the answer of a unary call. */
  readonly trailer?: Map<string, string>;
}

/** Trailer of an answer that may be older than what others were told: a sentence. */
export const staleKey = "tsswarm-stale";

/** What a server gives for a service: one function per method; streams are async iterables both ways. */
export type Handlers<S extends ServiceName> = { [M in keyof Methods<S>]: Handler<Shape<S, M>> };
type Handler<X extends MethodShape> = X["kind"] extends "unary"
  ? (request: X["request"], caller: Caller) => Promise<X["response"]>
  : X["kind"] extends "download"
    ? (request: X["request"], caller: Caller) => AsyncIterable<X["response"]>
    : X["kind"] extends "upload"
      ? (requests: AsyncIterable<X["request"]>, caller: Caller) => Promise<X["response"]>
      : (
          requests: AsyncIterable<X["request"]>,
          caller: Caller,
        ) => AsyncIterable<X["response"] | Encoded>;

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** Milliseconds; default 10 s for unary calls, none for streams. */
  readonly timeoutMs?: number;
  readonly metadata?: Readonly<Record<string, string>>;
}

export const unaryTimeoutMs = 10_000;
const messageBytesMax = 16 * 1024 * 1024;

const managerName = "swarm-manager";

/** Channel and server options that all our connections share. */
export const channelOptions: grpc.ChannelOptions = {
  "grpc.max_receive_message_length": messageBytesMax,
  "grpc.max_send_message_length": messageBytesMax,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 2_000,
  "grpc.enable_retries": 0,
  "grpc.use_local_subchannel_pool": 1,
};

export function serviceDefinition(name: ServiceName): grpc.ServiceDefinition {
  return definitionOf(root.lookupService(`tsswarm.${name}`));
}

/**
 * Passes for a message of a server's duplex stream, encoded already. As protobuf messages may be put one behind the other, a part
 * that many streams have in common is encoded once.
 */
export class Encoded {
  readonly bytes: Buffer;

  constructor(parts: readonly Uint8Array[]) {
    this.bytes = Buffer.concat(parts);
  }
}

/** Stands for a request that is none: grpc-js would call that an error of the server. */
class Unreadable {
  readonly error: SwarmError;

  constructor(cause: unknown) {
    const why = `the request can not be read: ${messageOf(cause)}`;
    this.error = new SwarmError("invalid", why, { cause });
  }
}

function readable(request: unknown): unknown {
  if (request instanceof Unreadable) throw request.error;
  return request;
}

/** The grpc-js definition of a service of any schema. */
export function definitionOf(service: protobuf.Service): grpc.ServiceDefinition {
  const definition: Record<string, grpc.MethodDefinition<unknown, unknown>> = {};
  for (const method of service.methodsArray) {
    method.resolve();
    const request = codecOf(method.resolvedRequestType as protobuf.Type);
    const response = codecOf(method.resolvedResponseType as protobuf.Type);
    definition[method.name] = {
      path: `/${service.fullName.slice(1)}/${method.name}`,
      requestStream: method.requestStream === true,
      responseStream: method.responseStream === true,
      requestSerialize: request.encode,
      requestDeserialize: (bytes) => {
        try {
          return request.decode(bytes);
        } catch (error) {
          return new Unreadable(error);
        }
      },
      responseSerialize: (message) =>
        message instanceof Encoded ? message.bytes : response.encode(message),
      responseDeserialize: response.decode,
      originalName: method.name,
    };
  }
  return definition;
}

/** Throws, or rejects, for who may not make this call. Asked before anything else of a call is looked at. */
export type Admit = (service: string, method: string, caller: Caller) => Promise<void> | undefined;

/** Adds a service to a grpc-js server. What a handler throws reaches the caller as a SwarmError of the same code. */
export function serve<S extends ServiceName>(
  server: grpc.Server,
  name: S,
  handlers: Handlers<S>,
  admit: Admit,
): void {
  const definition = serviceDefinition(name);
  const implementation: grpc.UntypedServiceImplementation = {};
  const unary = methodsOf(server);
  for (const [method, shape] of Object.entries(definition)) {
    const handle = (
      handlers as unknown as Record<string, (input: unknown, caller: Caller) => unknown>
    )[method];
    if (handle === undefined) throw new SwarmError("internal", `${name}.${method} has no handler`);
    const admitted = (caller: Caller) => admit(name, method, caller);
    implementation[method] = adapt(shape, handle, admitted);
    if (shape.requestStream || shape.responseStream) continue;
    const decode = (bytes: Uint8Array) => readable(shape.requestDeserialize(bytes as Buffer));
    const encode = shape.responseSerialize;
    unary.set(`${name}.${method}`, { admit: admitted, decode, encode, handle });
  }
  server.addService(definition, implementation);
}

type AnyHandler = (input: unknown, caller: Caller) => unknown;

/** A unary method as it is served. */
export interface UnaryMethod {
  readonly admit: (caller: Caller) => Promise<void> | undefined;
  readonly decode: (bytes: Uint8Array) => unknown;
  readonly encode: (response: unknown) => Buffer;
  readonly handle: AnyHandler;
}

const unaryByServer = new WeakMap<grpc.Server, Map<string, UnaryMethod>>();

/** The unary methods that `serve` has added to this server, and those it will, by `Service.Method`. */
export function unaryMethods(server: grpc.Server): ReadonlyMap<string, UnaryMethod> {
  return methodsOf(server);
}

function methodsOf(server: grpc.Server): Map<string, UnaryMethod> {
  const known = unaryByServer.get(server) ?? new Map<string, UnaryMethod>();
  unaryByServer.set(server, known);
  return known;
}

function adapt(
  shape: grpc.MethodDefinition<unknown, unknown>,
  handle: AnyHandler,
  admit: (caller: Caller) => Promise<void> | undefined,
): grpc.UntypedHandleCall {
  if (shape.responseStream) {
    const answer = async (
      call: grpc.ServerDuplexStream<unknown, unknown> | grpc.ServerWritableStream<unknown, unknown>,
    ) => {
      const caller = callerOf(call);
      // Without a listener a connection that breaks would be an uncaught error.
      call.on("error", () => {});
      try {
        const input = shape.requestStream
          ? readAll(call as grpc.ServerDuplexStream<unknown, unknown>)
          : (call as grpc.ServerWritableStream<unknown, unknown>).request;
        const admitted = admit(caller);
        if (admitted !== undefined) await admitted;
        readable(input);
        for await (const message of handle(input, caller) as AsyncIterable<unknown>) {
          if (caller.signal.aborted) break;
          if (!call.write(message)) await drained(call, caller.signal);
        }
        call.end();
      } catch (error) {
        if (!caller.signal.aborted) call.emit("error", toStatus(error));
      }
    };
    return (call: grpc.ServerDuplexStream<unknown, unknown>) => void answer(call);
  }
  const answerOnce = (call: AnyCall, input: unknown, done: grpc.sendUnaryData<unknown>) => {
    const caller = callerOf(call);
    (call as NodeJS.EventEmitter).on("error", () => {});
    (async () => {
      const admitted = admit(caller);
      if (admitted !== undefined) await admitted;
      return handle(readable(input), caller);
    })().then(
      (response) => {
        caller.isAnswered = true;
        done(null, response, caller.trailerMetadata());
      },
      (error: unknown) => {
        caller.isAnswered = true;
        done(toStatus(error));
      },
    );
  };
  if (shape.requestStream)
    return (call: grpc.ServerReadableStream<unknown, unknown>, done: grpc.sendUnaryData<unknown>) =>
      answerOnce(call, readAll(call), done);
  return (call: grpc.ServerUnaryCall<unknown, unknown>, done: grpc.sendUnaryData<unknown>) =>
    answerOnce(call, call.request, done);
}

type AnyCall =
  | grpc.ServerUnaryCall<unknown, unknown>
  | grpc.ServerReadableStream<unknown, unknown>
  | grpc.ServerWritableStream<unknown, unknown>
  | grpc.ServerDuplexStream<unknown, unknown>;

function callerOf(call: AnyCall): CallerOf {
  const gone = new AbortController();
  const caller = new CallerOf(call, gone.signal);
  // Comes at the end of every call.
  (call as NodeJS.EventEmitter).on("cancelled", () => {
    if (!caller.isAnswered) gone.abort(callerGone);
  });
  return caller;
}

/** One for all: making it costs more than many a call. */
const callerGone = new SwarmError("cancelled", "the caller went away");

/** What is dear to find out is found out when it is asked for. */
class CallerOf implements Caller {
  readonly signal: AbortSignal;
  isAnswered = false;
  readonly #call: AnyCall;
  #trailer: Map<string, string> | null = null;

  constructor(call: AnyCall, signal: AbortSignal) {
    this.#call = call;
    this.signal = signal;
  }

  get certificate(): Buffer | null {
    const connection = connectionOf(this.#call);
    const known = connection === null ? undefined : certificates.get(connection);
    if (known !== undefined) return known;
    const certificate = this.#call.getAuthContext().sslPeerCertificate?.raw ?? null;
    if (connection !== null && certificate !== null) certificates.set(connection, certificate);
    return certificate;
  }

  get doubt(): string {
    const socket = connectionOf(this.#call)?.socket as { authorizationError?: unknown } | undefined;
    const error = socket?.authorizationError;
    return typeof error === "string" ? error : messageOf(error ?? "");
  }

  get address(): string {
    return withBrackets(this.#call.getPeer());
  }

  get metadata(): Readonly<Record<string, string>> {
    return textsOf(this.#call.metadata);
  }

  get trailer(): Map<string, string> {
    this.#trailer ??= new Map();
    return this.#trailer;
  }

  trailerMetadata(): grpc.Metadata | undefined {
    if (this.#trailer === null) return undefined;
    const metadata = new grpc.Metadata();
    for (const [key, value] of this.#trailer) metadata.set(key, value);
    return metadata;
  }
}

/** By connection: a certificate does not change while one lasts (TLS 1.3), and reading it takes a tenth of a small call's time. */
const certificates = new WeakMap<object, Buffer>();

/** grpc-js does not give its connections away. Where it is built differently the certificate is read with each call. */
function connectionOf(call: AnyCall): { readonly socket?: object } | null {
  type Inner = { readonly stream?: { readonly session?: { readonly socket?: object } } };
  const inner = (call as { readonly call?: Inner }).call;
  return inner?.stream?.session ?? null;
}

function textsOf(metadata: grpc.Metadata): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const [key, value] of Object.entries(metadata.getMap()))
    if (typeof value === "string") texts[key] = value;
  return texts;
}

/** grpc-js writes IPv6 addresses as `fd00::1:2377`. */
function withBrackets(peer: string): string {
  const [, ip, port] = /^([0-9a-f.]*:[0-9a-f:.]*):(\d+)$/i.exec(peer) ?? [];
  return ip === undefined || port === undefined ? peer : `[${ip}]:${port}`;
}

async function drained(call: NodeJS.EventEmitter, signal: AbortSignal): Promise<void> {
  await once(call, "drain", { signal }).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
}

/** Does not destroy the stream when it has ended: the answer still has to go out on its other half. */
async function* readAll(stream: Readable): AsyncGenerator<unknown, void, void> {
  try {
    for await (const message of stream.iterator({ destroyOnReturn: false }))
      yield readable(message);
  } catch (error) {
    throw fromStatus(error);
  }
}

/** Typed calls to one service over one channel. */
export class Client<S extends ServiceName> {
  readonly #client: grpc.Client;
  readonly #definition: grpc.ServiceDefinition;
  /** Whom errors name when nobody answers. */
  protected readonly server: string;
  /** Asked at each unary call for who hears what comes behind its answer, text values only. */
  watchTrailers: (() => (trailer: Readonly<Record<string, string>>) => void) | null = null;

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
    const heard = this.watchTrailers?.();
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
    return { encode, decode: responseDeserialize as UnaryMethod["decode"] };
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
