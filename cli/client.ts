// A client of the Docker Engine REST API over a unix socket, TCP, TLS or ssh, with node's own HTTP alone.

import {
  type ClientRequest,
  request as httpRequest,
  type IncomingMessage,
  type RequestOptions,
} from "node:http";
import type { Socket } from "node:net";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type ClientTls, parseTarget, type Target } from "./target.ts";

export const defaultHost = "unix:///run/tsswarm/docker.sock";
/** The API version we speak. */
export const apiVersion = "1.50";

const bodyBytesMax = 256 * 1024 * 1024;

/** The daemon answered with an error. */
export class DaemonError extends Error {
  override readonly name = "DaemonError";
  readonly status: number;

  constructor(status: number, message: string) {
    super(`Error response from daemon: ${message}`);
    this.status = status;
  }
}

/** No answer from a daemon at all. */
export class ConnectionError extends Error {
  override readonly name = "ConnectionError";
}

export interface Query {
  readonly [key: string]: string | number | boolean | readonly string[] | undefined;
}

export interface CallOptions {
  readonly query?: Query;
  readonly body?: unknown;
  /** Sent as they are, instead of a JSON body. */
  readonly bytes?: Buffer;
  /** The same, as it comes. */
  readonly stream?: Readable;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
}

type Send = (options: RequestOptions) => ClientRequest;

export class DaemonClient {
  readonly host: string;
  /** Hears what the daemon warns of beside its answers. */
  onWarning: ((sentence: string) => void) | null = null;
  readonly #version: string;
  readonly #target: Target;

  /** `host`: unix:///path, tcp://host:port or ssh://user@host; throws on anything else. `version`: of the API, for older daemons. */
  constructor(
    host: string = defaultHost,
    version: string = apiVersion,
    tls: ClientTls | null = null,
  ) {
    this.host = host;
    this.#version = version;
    this.#target = parseTarget(host, tls);
  }

  get<T = unknown>(path: string, options: CallOptions = {}): Promise<T> {
    return this.call<T>("GET", path, options);
  }
  post<T = unknown>(path: string, options: CallOptions = {}): Promise<T> {
    return this.call<T>("POST", path, options);
  }
  delete<T = unknown>(path: string, options: CallOptions = {}): Promise<T> {
    return this.call<T>("DELETE", path, options);
  }

  /** The answer's JSON; an answer that is not JSON comes as text, an empty one as null. */
  async call<T>(method: string, path: string, options: CallOptions = {}): Promise<T> {
    const response = await this.open(method, path, options);
    const text = await readText(response);
    if (text === "") return null as T;
    const isJson = response.headers["content-type"]?.includes("json") === true;
    return (isJson ? JSON.parse(text) : text) as T;
  }

  /** The answer as a stream, once its status says that it is a good one. */
  async open(method: string, path: string, options: CallOptions = {}): Promise<IncomingMessage> {
    const { request, body } = this.#request(await this.#sender(), method, path, options);
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request.on("response", resolve);
      request.on("error", (error) => reject(this.#unreachable(error, options.signal)));
      const { stream } = options;
      if (stream === undefined) {
        request.end(body);
        return;
      }
      // What cannot be read is no fault of the connection that ends with it.
      stream.once("error", reject);
      pipeline(stream, request).catch((error: Error) => {
        // A daemon that refuses early closes what it has not read: its answer says why.
        if (!request.destroyed) request.destroy(error);
      });
    });
    if ((response.statusCode ?? 500) >= 400) throw await errorOf(response);
    const warning = /^\d+ \S+ "(.*)"$/.exec(response.headers["warning"]?.toString() ?? "")?.[1];
    if (warning !== undefined) this.onWarning?.(warning);
    return response;
  }

  /** Turns the connection into a raw two-way stream, as exec and attach do. */
  async hijack(path: string, body: unknown): Promise<{ socket: Socket; head: Buffer }> {
    const headers = { Connection: "Upgrade", Upgrade: "tcp" };
    const send = await this.#sender();
    const { request, body: bytes } = this.#request(send, "POST", path, { body, headers });
    return new Promise((resolve, reject) => {
      request.on("upgrade", (_response, socket, head) =>
        resolve({ socket: socket as Socket, head }),
      );
      request.on("response", (response) => {
        if ((response.statusCode ?? 500) >= 400) errorOf(response).then(reject, reject);
        else reject(new ConnectionError(`the daemon at ${this.host} did not open a stream`));
      });
      request.on("error", (error) => reject(this.#unreachable(error)));
      request.end(bytes);
    });
  }

  #request(
    send: Send,
    method: string,
    path: string,
    options: CallOptions,
  ): { request: ClientRequest; body: Buffer | null } {
    const json = options.body === undefined ? null : Buffer.from(JSON.stringify(options.body));
    const body = options.bytes ?? json;
    const type = options.bytes === undefined ? "application/json" : "application/octet-stream";
    const request = send({
      method,
      path: `/v${this.#version}${path}${queryText(options.query)}`,
      headers: {
        Host: "tsswarm",
        "User-Agent": "tsswarm",
        ...(body === null ? {} : { "Content-Type": type, "Content-Length": body.length }),
        ...(options.stream === undefined ? {} : { "Content-Type": "application/x-tar" }),
        ...options.headers,
      },
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    return { request, body };
  }

  /** What only TLS and ssh need is loaded for these alone: the other ways start the sooner. */
  async #sender(): Promise<Send> {
    const target = this.#target;
    switch (target.kind) {
      case "unix":
        return (options) => httpRequest({ ...options, socketPath: target.socketPath });
      case "tcp":
        return (options) => httpRequest({ ...options, host: target.host, port: target.port });
      case "tls": {
        const { host, port, tls } = target;
        const { request: httpsRequest } = await import("node:https");
        const { tlsOptions } = await import("./dial.ts");
        const way = { host, port, ...tlsOptions(host, tls), agent: false };
        return (options) => httpsRequest({ ...options, ...way });
      }
      case "ssh": {
        const { dial } = await import("./dial.ts");
        return (options) => httpRequest({ ...options, createConnection: () => dial(target) });
      }
    }
  }

  #unreachable(error: Error & { code?: string }, signal?: AbortSignal): Error {
    if (signal?.aborted === true) return signal.reason instanceof Error ? signal.reason : error;
    const code = error.code ?? "";
    if (code === "EACCES")
      return new ConnectionError(
        `permission denied while trying to connect to the tsswarm daemon at ${this.host}`,
      );
    if (["ENOENT", "ECONNREFUSED", "ENOTSOCK", "ENOTFOUND", "EHOSTUNREACH"].includes(code))
      return new ConnectionError(
        `Cannot connect to the tsswarm daemon at ${this.host}. Is the tsswarm daemon running?`,
      );
    return new ConnectionError(
      `the connection to the tsswarm daemon at ${this.host} broke: ${error.message}`,
    );
  }
}

function queryText(query: Query = {}): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query))
    if (typeof value === "object") for (const each of value) search.append(key, each);
    else if (value !== undefined)
      search.set(key, typeof value === "boolean" ? (value ? "1" : "0") : `${value}`);
  const text = search.toString();
  return text === "" ? "" : `?${text}`;
}

async function readText(response: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of response) {
    bytes += (part as Buffer).length;
    if (bytes > bodyBytesMax) throw new ConnectionError("the daemon's answer is too large");
    parts.push(part as Buffer);
  }
  return Buffer.concat(parts).toString("utf8");
}

async function errorOf(response: IncomingMessage): Promise<DaemonError> {
  const text = await readText(response);
  let message = text.trim();
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null && "message" in body)
      message = String(body.message);
  } catch {
    // Not JSON: the text is the message.
  }
  return new DaemonError(response.statusCode ?? 500, message || `status ${response.statusCode}`);
}

/** The lines of a stream of JSON objects. */
export async function* jsonLines(
  response: AsyncIterable<Buffer>,
): AsyncGenerator<unknown, void, void> {
  let rest = "";
  for await (const part of response) {
    rest += part.toString("utf8");
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line.trim() !== "") yield JSON.parse(line);
  }
  if (rest.trim() !== "") yield JSON.parse(rest);
}
