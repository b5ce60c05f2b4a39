// POST /containers/{id}/attach: a client at a container's own input and output.

import type { FastifyInstance, FastifyRequest } from "fastify";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Container } from "../engine/container-types.ts";
import type { AttachStreams } from "../engine/stream-types.ts";
import { converse, copyOut } from "./conversation.ts";
import { parseDetachKeys } from "./detach-keys.ts";
import { refuse, sayUpgraded, type Taken } from "./hijack.ts";
import { parameter, Query } from "./request.ts";
import { frame, multiplexedStream, outflow, rawStream } from "./stream.ts";
import type { ApiContext } from "./types.ts";

export interface Wanted {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** What it has written so far first. */
  readonly logs: boolean;
  /** What it writes from now on. */
  readonly stream: boolean;
  readonly keys: Buffer;
}

export function addAttach(app: FastifyInstance, context: ApiContext): void {
  // Without an upgrade: output alone.
  app.post("/containers/:id/attach", async (request, reply) => {
    const wanted = wantedOf(new Query(request));
    const container = attachable(context, parameter(request, "id"));
    const tty = container.config.Tty === true;
    return outflow(
      reply,
      tty ? rawStream : multiplexedStream,
      async (out) => {
        const streams = await openStreams(context, container, { ...wanted, stdin: false });
        out.gone.addEventListener("abort", () => streams.close(), { once: true });
        try {
          out.open();
          await writePast(context, container, wanted, out.gone, (data) => out.write(data));
          if (wanted.stream) await copyOut(streams, (data) => out.write(data), tty);
        } finally {
          streams.close();
        }
      },
      (message) => (tty ? message : frame("stderr", Buffer.from(`${message}\n`))),
    );
  });
}

/** On a connection that was taken over. Answers by itself, never rejects. */
export async function attachUpgraded(context: ApiContext, taken: Taken, id: string): Promise<void> {
  const { socket, gone, headers } = taken;
  let streams: AttachStreams | null = null;
  try {
    const query = Object.fromEntries(new URL(taken.path, "http://localhost").searchParams);
    const wanted = wantedOf(new Query({ query } as Pick<FastifyRequest, "query">));
    const container = attachable(context, id);
    const tty = container.config.Tty === true;
    streams = await openStreams(context, container, wanted);
    sayUpgraded(taken, tty ? rawStream : multiplexedStream);
    await writePast(context, container, wanted, gone, async (data) => void socket.write(data));
    if (!wanted.stream) {
      socket.end();
      return;
    }
    const keys = container.config.OpenStdin === true && tty ? wanted.keys : null;
    const hasDetached = await converse(taken, streams, { tty, keys, log: context.log });
    if (hasDetached) context.log.debug({ container: container.id }, "a client has left");
  } catch (error) {
    refuse(socket, headers, error);
  } finally {
    streams?.close();
  }
}

export function wantedOf(query: Query): Wanted {
  return {
    stdin: query.flag("stdin"),
    stdout: query.flag("stdout"),
    stderr: query.flag("stderr"),
    logs: query.flag("logs"),
    stream: query.flag("stream"),
    keys: parseDetachKeys(query.text("detachKeys")),
  };
}

export function attachable(context: ApiContext, id: string): Container {
  const container = context.engine.inspect(id);
  if (container.state.Status === "paused")
    throw new SwarmError(
      "conflict",
      `container ${container.id} is paused, unpause the container before attach`,
    );
  if (container.state.Status === "restarting")
    throw new SwarmError(
      "conflict",
      `container ${container.id} is restarting, wait until the container is running`,
    );
  return container;
}

export async function openStreams(
  context: ApiContext,
  container: Container,
  wanted: Wanted,
): Promise<AttachStreams> {
  const { stdin, stdout, stderr, stream } = wanted;
  return context.engine.attach(container.id, {
    stdin: stream && stdin,
    stdout: stream && stdout,
    stderr: stream && stderr,
  });
}

export async function writePast(
  context: ApiContext,
  container: Container,
  { logs, stdout, stderr }: Wanted,
  gone: AbortSignal,
  write: (data: Buffer) => Promise<void>,
  isRaw = container.config.Tty === true,
): Promise<void> {
  if (!logs) return;
  const query = { stdout, stderr, follow: false, tail: -1 };
  for await (const records of context.engine.logs(container.id, query, gone))
    await write(
      Buffer.concat(records.map(({ stream, data }) => (isRaw ? data : frame(stream, data)))),
    );
}
