// `RUN --mount=type=ssh`: a socket in the container that leads to the ssh agent of who wants the build.

import { once } from "node:events";
import { chmod, chown } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import type { Duplex } from "node:stream";

const connectionsMax = 16;

/** Carries a connection to the agent, and closes it at its end. */
export type AgentDoor = (connection: Duplex) => void;

export async function listenAsAgent(
  place: string,
  { uid, gid, mode }: { readonly uid: number; readonly gid: number; readonly mode: number },
  carry: AgentDoor,
): Promise<Server> {
  const server = createServer((connection) => {
    connection.on("error", () => {});
    carry(connection);
  });
  server.maxConnections = connectionsMax;
  server.listen(place);
  await once(server, "listening");
  await chown(place, uid, gid);
  await chmod(place, mode < 0 ? 0o600 : mode);
  return server;
}
