// One daemon for a network namespace: two would take each other's rules, links and routes away, which bear the same names.

import { createConnection, createServer, type Server } from "node:net";
import { errnoOf, SwarmError } from "../../proto/kit/errors.ts";

/** An abstract socket: the kernel keeps these for each network namespace, and lets go of them with their process. */
const claimed = "\0tsswarm-network";
const answerMsMax = 2_000;
const answerBytesMax = 4_096;
const triesMax = 3;

export interface Claim {
  release(): Promise<void>;
}

/** Throws `conflict`, naming the other daemon, when another has this network namespace. */
export async function claimNetwork(execRoot: string, path = claimed): Promise<Claim> {
  for (let tries = 1; ; tries++) {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.end(`process ${process.pid}, --exec-root ${execRoot}`);
    });
    if (await isBound(server, path))
      return { release: () => new Promise<void>((resolve) => server.close(() => resolve())) };
    const holder = await holderOf(path);
    // It has ended since.
    if (holder === null && tries < triesMax) continue;
    throw new SwarmError(
      "conflict",
      `a tsswarm daemon (${holder || "it does not say which"}) has this machine's network already: stop it, or run this one in a network namespace of its own`,
    );
  }
}

function isBound(server: Server, path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) =>
      errnoOf(error) === "EADDRINUSE" ? resolve(false) : reject(error),
    );
    server.listen(path, () => resolve(true));
  });
}

/** What it says of itself, "" when it says nothing; null: nobody is there. */
function holderOf(path: string): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    let said = "";
    socket.setTimeout(answerMsMax, () => socket.destroy());
    socket.on("data", (chunk) => {
      said += chunk.toString();
      if (said.length > answerBytesMax) socket.destroy();
    });
    socket.on("error", (error) => {
      if (errnoOf(error) === "ECONNREFUSED") resolve(null);
    });
    socket.on("close", () => resolve(said.slice(0, answerBytesMax)));
  });
}
