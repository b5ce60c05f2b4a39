// Older clients (docker-api for Ruby is one) take over a connection without asking for an upgrade: they send the request, and
// what follows it is a process's input. Node gives a connection away only to who asks, so they are made to ask.

import type { Server } from "node:http";
import type { Socket } from "node:net";

/** What they are made to ask for; their answer says nothing of it. */
export const unaskedProtocol = "tsswarm-unasked";

const headBytesMax = 64 * 1024;
const headMsMax = 20_000;
const startLine = /^POST (\/\S*\/(?:attach\?\S*|start)) HTTP\/1\.1\r\n/;

/**
 * Looks at the first request of each of the server's connections. `isMeant` is asked of the path of one that might take its
 * connection over.
 */
export function letTakeOver(
  server: Server,
  event: "connection" | "secureConnection",
  isMeant: (path: string) => boolean,
): void {
  const serve = server.listeners(event) as ((socket: Socket) => void)[];
  server.removeAllListeners(event);
  server.on(event, (socket: Socket) => {
    // Node's own limit counts only once it has the connection.
    const late = setTimeout(() => socket.destroy(), headMsMax);
    socket.once("close", () => clearTimeout(late));
    socket.on("error", () => {});
    let seen = Buffer.alloc(0);
    const look = () => {
      const more: Buffer | null = socket.read();
      if (more !== null) seen = Buffer.concat([seen, more]);
      if (more !== null && isUnfinished(seen)) {
        socket.once("readable", look);
        return;
      }
      clearTimeout(late);
      if (seen.length > 0) socket.unshift(asking(seen, isMeant));
      for (const each of serve) each.call(server, socket);
    };
    socket.once("readable", look);
  });
}

/** A request that might be one of those, of which the rest is still to come. */
function isUnfinished(seen: Buffer): boolean {
  if (seen.length >= headBytesMax || seen.includes("\r\n\r\n")) return false;
  const text = seen.toString("latin1");
  return text.includes("\r\n") ? startLine.test(text) : "POST /".startsWith(text.slice(0, 6));
}

function asking(seen: Buffer, isMeant: (path: string) => boolean): Buffer {
  const end = seen.indexOf("\r\n\r\n");
  const head = seen.subarray(0, Math.max(end, 0)).toString("latin1");
  const [line, path] = startLine.exec(`${head}\r\n`) ?? [];
  if (line === undefined || path === undefined) return seen;
  if (/\r\n(?:upgrade|transfer-encoding):/i.test(head) || !isMeant(path)) return seen;
  const asked = `Connection: Upgrade\r\nUpgrade: ${unaskedProtocol}\r\n`;
  return Buffer.concat([Buffer.from(line + asked, "latin1"), seen.subarray(line.length)]);
}
