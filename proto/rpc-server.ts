// The server's end of gRPC: handlers are functions, streams async iterables, and what they throw reaches the caller as it is.

import type { Readable } from "node:stream";
import grpc from "@grpc/grpc-js";
import { messageOf, SwarmError } from "./kit/errors.ts";
import {
  drained,
  Encoded,
  type MethodShape,
  type Methods,
  readable,
  type ServiceName,
  type Shape,
  serviceDefinition,
  textsOf,
  written,
} from "./rpc.ts";
import { fromStatus, toStatus } from "./rpc-status.ts";

/** Of messages of this size one at a time is on its way on a stream; of smaller ones as many as grpc-js takes. */
const largeBytesMin = 4 * 1024;

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
          if (message instanceof Encoded && message.byteLength >= largeBytesMin)
            await written(call, message, caller.signal);
          else if (!call.write(message)) await drained(call, caller.signal);
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

/** grpc-js writes IPv6 addresses as `fd00::1:2377`. */
function withBrackets(peer: string): string {
  const [, ip, port] = /^([0-9a-f.]*:[0-9a-f:.]*):(\d+)$/i.exec(peer) ?? [];
  return ip === undefined || port === undefined ? peer : `[${ip}]:${port}`;
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
