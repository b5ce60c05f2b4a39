// gRPC as the rest of the code wants it, what both ends share: a service's methods by name and type, and how their messages are coded.

import { once } from "node:events";
import type grpc from "@grpc/grpc-js";
import type protobuf from "protobufjs";
import { codecOf, root } from "./codec.ts";
import type { Services } from "./gen/types.ts";
import { messageOf, SwarmError } from "./kit/errors.ts";

type Name<Full extends string> = Full extends `tsswarm.${infer Short}` ? Short : never;
export type ServiceName = Name<keyof Services & string>;
export type Methods<S extends ServiceName> = Services[`tsswarm.${S}` & keyof Services];
export type MethodShape = {
  kind: "unary" | "download" | "upload" | "duplex";
  request: unknown;
  response: unknown;
};
export type Shape<
  S extends ServiceName,
  M extends keyof Methods<S>,
> = Methods<S>[M] extends MethodShape ? Methods<S>[M] : never;

/** Trailer of an answer that may be older than what others were told: a sentence. */
export const staleKey = "tsswarm-stale";

const messageBytesMax = 16 * 1024 * 1024;

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
  readonly byteLength: number;
  readonly #parts: readonly Uint8Array[];

  constructor(parts: readonly Uint8Array[]) {
    this.#parts = parts;
    this.byteLength = parts.reduce((sum, part) => sum + part.length, 0);
  }

  /** Put together only as it leaves: who waits for its turn holds nothing but what all have in common. */
  bytes(): Buffer {
    return Buffer.concat(this.#parts, this.byteLength);
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

export function readable(request: unknown): unknown {
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
        message instanceof Encoded ? message.bytes() : response.encode(message),
      responseDeserialize: response.decode,
      originalName: method.name,
    };
  }
  return definition;
}

export function textsOf(metadata: grpc.Metadata): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const [key, value] of Object.entries(metadata.getMap()))
    if (typeof value === "string") texts[key] = value;
  return texts;
}

export async function drained(call: NodeJS.EventEmitter, signal: AbortSignal): Promise<void> {
  await once(call, "drain", { signal }).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
}

/** Resolves when the other end has taken it, as far as the transport knows. */
export async function written(
  call: NodeJS.WritableStream,
  message: unknown,
  signal: AbortSignal,
): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = () => {
      signal.removeEventListener("abort", done);
      resolve();
    };
    signal.addEventListener("abort", done, { once: true });
    (call as NodeJS.WritableStream & { write(message: unknown, done: () => void): boolean }).write(
      message,
      done,
    );
  });
}
