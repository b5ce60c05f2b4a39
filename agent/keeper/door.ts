// The keeper's private socket: JSON lines, each answered in the order it came.

import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { errnoOf, messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { KeeperRequest, KeeperResponse } from "../../proto/kit/keeper.ts";
import type { Log } from "../../proto/kit/log.ts";
import { parseRequest } from "./requests.ts";

const requestBytesMax = 64 * 1024 * 1024;
const connectionsMax = 32;
const pendingMax = 1_000;

type Handle = (request: KeeperRequest) => Promise<KeeperResponse>;

/**
 * Serves until `close`. Requests of one connection are begun in their order and answered in it; a slow one does not
 * hold up the work of the next. Throws `conflict` when another keeper answers at the path.
 */
export async function openDoor(path: string, handle: Handle, log: Log): Promise<Door> {
  if (await isAnswered(path))
    throw new SwarmError("conflict", `a tsswarm daemon is running already: it answers at ${path}`);
  mkdirSync(dirname(path), { recursive: true, mode: 0o711 });
  rmSync(path, { force: true });
  const connections = new Set<Socket>();
  const server = createServer((socket) => {
    if (connections.size >= connectionsMax) {
      socket.destroy();
      return;
    }
    connections.add(socket);
    socket.on("close", () => connections.delete(socket));
    converse(socket, handle, log);
  });
  await listening(server, path);
  return {
    async close() {
      for (const socket of connections) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

export interface Door {
  close(): Promise<void>;
}

async function listening(server: Server, path: string): Promise<void> {
  // The socket is made inside listen(): only our own user may ever connect.
  const mask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
  } finally {
    process.umask(mask);
  }
  chmodSync(path, 0o600);
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", (error) => {
      const isNobodyThere = ["ENOENT", "ECONNREFUSED"].includes(errnoOf(error));
      if (isNobodyThere) resolve(false);
      else reject(error);
    });
  });
}

function converse(socket: Socket, handle: Handle, log: Log): void {
  let received: Buffer[] = [];
  let bytes = 0;
  let pending = 0;
  let answered: Promise<void> = Promise.resolve();
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => {
    let rest = chunk;
    for (let end = rest.indexOf(0x0a); end !== -1; end = rest.indexOf(0x0a)) {
      const line = Buffer.concat([...received, rest.subarray(0, end)]);
      rest = rest.subarray(end + 1);
      received = [];
      bytes = 0;
      take(line);
    }
    bytes += rest.length;
    received.push(rest);
    if (bytes > requestBytesMax || pending > pendingMax) {
      log.warn({ bytes, pending }, "a child asked for too much at once");
      socket.destroy();
    }
  });
  const take = (line: Buffer) => {
    pending++;
    const response = respond(line, handle);
    answered = answered.then(async () => {
      const answer = await response;
      pending--;
      if (!socket.destroyed) socket.write(`${JSON.stringify(answer)}\n`);
    });
  };
}

async function respond(line: Buffer, handle: Handle): Promise<KeeperResponse> {
  try {
    return await handle(parseRequest(JSON.parse(line.toString("utf8"))));
  } catch (error) {
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : null;
    const because = cause === null ? "" : `: ${messageOf(cause)}`;
    return { ok: false, message: `${messageOf(error)}${because}` };
  }
}
