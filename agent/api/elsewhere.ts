// Containers of tasks on other nodes, asked for at a manager: the request goes on to their node, and the answer comes back as it is.

import { once } from "node:events";
import http, { type IncomingMessage, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { toAnswer } from "./errors.ts";
import { mayBeOfTask, reached } from "./tunnel-rules.ts";
import type { ApiContext } from "./types.ts";
import { withoutVersion } from "./versions.ts";

/** Of commands begun elsewhere; the oldest are forgotten. */
const execsMax = 1_000;
const answerBytesMax = 64 * 1024;

export class Elsewhere {
  readonly #context: ApiContext;
  /** Exec id → node id. */
  readonly #execs = new Map<string, string>();

  constructor(context: ApiContext) {
    this.#context = context;
  }

  /** The node to which this request goes; null: this one. Throws `invalid` for an id that several containers share. */
  async nodeOf(method: string, url: string): Promise<string | null> {
    const about = reached(method, withoutVersion(url));
    if (about === null) return null;
    if (about.kind === "exec") return this.#execs.get(about.id) ?? null;
    const { membership, engine, control } = this.#context;
    const { state, isManager, nodeId } = membership.local();
    if (state !== "active" || !isManager || !mayBeOfTask(about.name)) return null;
    if (isHere(engine, about.name)) return null;
    try {
      const request = { ID: about.name, InsertDefaults: false };
      const { NodeID } = await control().unary("GetTaskOfContainer", request);
      return NodeID === "" || NodeID === nodeId ? null : NodeID;
    } catch (error) {
      if (error instanceof SwarmError && error.code === "invalid") throw error;
      // Nobody knows it: it is not here either, which is then the answer.
      return null;
    }
  }

  /** An ordinary request. `url`: with its version. Answers by itself, never rejects. */
  async pass(
    nodeId: string,
    url: string,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const tunnel = this.#context.tunnel(nodeId);
    const failed = new Promise<never>((_, reject) => tunnel.once("error", reject));
    response.once("close", () => tunnel.destroy());
    try {
      const asked = http.request({
        createConnection: () => tunnel,
        method: request.method ?? "GET",
        path: url,
        headers: { ...request.headers, connection: "close" },
      });
      const answered = once(asked, "response") as Promise<[IncomingMessage]>;
      answered.catch(() => {});
      // What it sends may be refused before it has been read.
      pipeline(request, asked).catch(() => {});
      const [answer] = await Promise.race([answered, failed]);
      const head = [answer.statusCode ?? 500, answer.headers] as const;
      if (isCreation(request.method, url)) {
        const body = await wholeAnswer(answer);
        this.#remember(body, nodeId);
        response.writeHead(...head).end(body);
      } else await pipeline(answer, response.writeHead(...head));
    } catch (error) {
      this.#say(response, error);
    }
  }

  /** A request that takes over the connection: from here on it is the two ends' own. Never throws. */
  upgrade(nodeId: string, request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const tunnel = this.#context.tunnel(nodeId);
    const end = () => {
      tunnel.destroy();
      socket.destroy();
    };
    let hasAnswered = false;
    tunnel.once("data", () => {
      hasAnswered = true;
    });
    tunnel.on("error", (error) => {
      if (hasAnswered || socket.destroyed) return end();
      const { status, message } = toAnswer(error);
      const body = JSON.stringify({ message });
      socket.end(
        `HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? "Error"}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
      );
    });
    socket.on("error", end);
    socket.once("close", () => tunnel.destroy());
    tunnel.write(requestHead(request));
    if (head.length > 0) tunnel.write(head);
    socket.pipe(tunnel);
    tunnel.pipe(socket);
  }

  #remember(body: Buffer, nodeId: string): void {
    const id = /"Id":\s*"([0-9A-Za-z]+)"/.exec(body.toString())?.[1];
    if (id === undefined) return;
    this.#execs.set(id, nodeId);
    const [oldest] = this.#execs.keys();
    if (this.#execs.size > execsMax && oldest !== undefined) this.#execs.delete(oldest);
  }

  #say(response: ServerResponse, error: unknown): void {
    if (response.headersSent || response.destroyed) {
      this.#context.log.debug({ error: messageOf(error) }, "another node's answer broke off");
      response.destroy();
      return;
    }
    const { status, message } = toAnswer(error);
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify({ message }));
  }
}

function isHere(engine: ApiContext["engine"], name: string): boolean {
  try {
    engine.inspect(name);
    return true;
  } catch {
    return false;
  }
}

function isCreation(method: string | undefined, url: string): boolean {
  const about = reached(method ?? "", withoutVersion(url));
  return about?.kind === "container" && about.verb === "exec";
}

async function wholeAnswer(answer: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > answerBytesMax) throw new SwarmError("too_large", "the node's answer is too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function requestHead({ method, url, rawHeaders }: IncomingMessage): string {
  const lines = [`${method} ${url} HTTP/1.1`];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2)
    lines.push(`${rawHeaders[at]}: ${rawHeaders[at + 1]}`);
  return `${lines.join("\r\n")}\r\n\r\n`;
}
