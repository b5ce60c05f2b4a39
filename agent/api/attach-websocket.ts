// GET /containers/{id}/attach/ws: a container's own input and output over a WebSocket, as bytes without frames.

import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { FastifyRequest } from "fastify";
import { createWebSocketStream, type WebSocket, WebSocketServer } from "ws";
import { SwarmError } from "../../proto/kit/errors.ts";
import { attachable, openStreams, wantedOf, writePast } from "./attach.ts";
import { converse } from "./conversation.ts";
import { Query } from "./request.ts";
import type { ApiContext } from "./types.ts";

const messageBytesMax = 1024 * 1024;
const greetMsMax = 10_000;

/** Throws `not_found`, `conflict` before the connection is a WebSocket. */
export async function attachWebSocket(
  context: ApiContext,
  asked: { readonly request: IncomingMessage; readonly socket: Duplex; readonly head: Buffer },
  id: string,
): Promise<void> {
  const query = Object.fromEntries(
    new URL(asked.request.url ?? "", "http://localhost").searchParams,
  );
  const wanted = wantedOf(new Query({ query } as Pick<FastifyRequest, "query">));
  const container = attachable(context, id);
  const streams = await openStreams(context, container, wanted);
  const gone = new AbortController();
  try {
    const webSocket = await greet(asked);
    webSocket.once("close", () => gone.abort(new Error("the client went away")));
    const socket = createWebSocketStream(webSocket);
    socket.on("error", () => gone.abort(new Error("the client went away")));
    await writePast(
      context,
      container,
      wanted,
      gone.signal,
      async (data) => void socket.write(data),
      true,
    );
    if (!wanted.stream) {
      socket.end();
      return;
    }
    const keys =
      container.config.OpenStdin === true && container.config.Tty === true ? wanted.keys : null;
    await converse({ socket, gone: gone.signal }, streams, { tty: true, keys, log: context.log });
  } finally {
    streams.close();
  }
}

/** It answers a request that is none by itself, and ends the connection. */
async function greet({
  request,
  socket,
  head,
}: {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  readonly head: Buffer;
}): Promise<WebSocket> {
  const server = new WebSocketServer({
    noServer: true,
    maxPayload: messageBytesMax,
    clientTracking: false,
  });
  const left = new AbortController();
  socket.once("close", () => left.abort(new SwarmError("cancelled", "the client went away")));
  const signal = AbortSignal.any([left.signal, AbortSignal.timeout(greetMsMax)]);
  const greeted = once(server, "greeted", { signal });
  server.handleUpgrade(request, socket, head, (webSocket) => server.emit("greeted", webSocket));
  const [webSocket] = (await greeted) as [WebSocket];
  return webSocket;
}
