// Questions that are not ours, asked of the host's own name servers from the host's namespace.

import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { createConnection, type Socket } from "node:net";

const outstandingMax = 1_024;
const totalMs = 4_000;
/** A server that has not answered by then is joined by the next one. */
const nextServerMs = 1_500;
const serversMax = 3;

/** Forwards raw queries. Sockets are made one a question: random ports, and errors belong to the question. */
export class Upstream {
  #outstanding = 0;

  /** The raw answer; null when there is none in time, no server, or too many questions are under way. */
  async ask(
    query: Buffer,
    servers: readonly string[],
    protocol: "udp" | "tcp",
  ): Promise<Buffer | null> {
    if (servers.length === 0 || this.#outstanding >= outstandingMax) return null;
    this.#outstanding++;
    const stop = new AbortController();
    try {
      return await firstAnswer(query, servers.slice(0, serversMax), protocol, stop.signal);
    } finally {
      stop.abort();
      this.#outstanding--;
    }
  }
}

/** Asks one server after the other, the next when one fails or is slow; whoever answers first wins. */
function firstAnswer(
  query: Buffer,
  servers: readonly string[],
  protocol: "udp" | "tcp",
  signal: AbortSignal,
): Promise<Buffer | null> {
  return new Promise((resolve) => {
    let next = 0;
    let failed = 0;
    let slow: NodeJS.Timeout | undefined;
    const askNext = () => {
      clearTimeout(slow);
      const server = servers[next++];
      if (server === undefined || signal.aborted) return;
      slow = setTimeout(askNext, nextServerMs);
      const ask = protocol === "udp" ? askUdp : askTcp;
      ask(query, server, signal).then(resolve, () => {
        if (++failed === servers.length) resolve(null);
        else askNext();
      });
    };
    const timeout = setTimeout(() => resolve(null), totalMs);
    signal.addEventListener("abort", () => {
      clearTimeout(timeout);
      clearTimeout(slow);
    });
    askNext();
  });
}

function askUdp(query: Buffer, server: string, signal: AbortSignal): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const { host, port } = splitServer(server);
    const socket: UdpSocket = createSocket(host.includes(":") ? "udp6" : "udp4");
    const stop = () => closeQuietly(socket);
    signal.addEventListener("abort", stop, { once: true });
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("closed")));
    socket.on("message", (answer) => {
      if (isAnswerTo(query, answer)) resolve(answer);
    });
    // Connected: only this server's packets arrive, and its refusal is an error at once.
    socket.connect(port, host, () => socket.send(query));
  });
}

function askTcp(query: Buffer, server: string, signal: AbortSignal): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket: Socket = createConnection(splitServer(server));
    const stop = () => socket.destroy();
    signal.addEventListener("abort", stop, { once: true });
    let received: Buffer = Buffer.alloc(0);
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("closed")));
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
      const answer = received.subarray(2, 2 + received.readUInt16BE(0));
      if (isAnswerTo(query, answer)) resolve(answer);
      else reject(new Error("not an answer"));
    });
    socket.write(framed(query));
  });
}

/** A message as TCP carries it: its length first (RFC 1035 §4.2.2). */
export function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

function isAnswerTo(query: Buffer, answer: Buffer): boolean {
  return answer.length >= 12 && answer.readUInt16BE(0) === query.readUInt16BE(0);
}

function splitServer(server: string): { host: string; port: number } {
  const at = server.lastIndexOf(":");
  return { host: server.slice(0, at).replace(/^\[|\]$/g, ""), port: Number(server.slice(at + 1)) };
}

function closeQuietly(socket: UdpSocket): void {
  try {
    socket.close();
  } catch {
    // Closed already.
  }
}
