// The name servers of this node's containers: one pair of sockets in each network namespace.

import type { Socket as UdpSocket } from "node:dgram";
import type { Server, Socket } from "node:net";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { NameChange, NameTable, ServeNames } from "../../proto/kit/keeper.ts";
import type { Log } from "../../proto/kit/log.ts";
import { changed, lookUp, shuffled } from "./names.ts";
import {
  encodeAddresses,
  encodeError,
  encodeName,
  parseQuery,
  type Query,
  tcpBytesMax,
} from "./packets.ts";
import { framed, Upstream } from "./upstream.ts";

/** Where programs in containers find their resolver; port 53 is redirected to ours, so that they may bind it. */
const resolverAddress = "127.0.0.11";
const resolverPort = 4053;

const sandboxesMax = 10_000;
const tcpConnectionsMax = 64;
const tcpIdleMs = 10_000;

/** Sockets inside a network namespace, listening. Both throw system errors. */
export interface NamespaceSockets {
  udp(namespace: string, address: string, port: number): UdpSocket;
  tcp(namespace: string, address: string, port: number): Server;
}

/** What the name server needs to hold, and to be told again after a restart. */
export interface NameState {
  readonly sandboxes: readonly ServeNames[];
  readonly tables: Readonly<Record<string, NameTable>>;
}

export class NameServer {
  readonly #tables = new Map<string, NameTable>();
  readonly #resolvers = new Map<string, Resolver>();
  readonly #sockets: NamespaceSockets;
  readonly #upstream = new Upstream();
  readonly #random: () => number;
  readonly #log: Log;

  constructor(sockets: NamespaceSockets, random: () => number, log: Log) {
    this.#sockets = sockets;
    this.#random = random;
    this.#log = log;
  }

  /** Throws `unavailable` when the namespace is gone or its port is taken. */
  serve(request: ServeNames): void {
    const present = this.#resolvers.get(request.sandbox);
    if (present !== undefined && present.settings.namespace === request.namespace) {
      present.settings = request;
      return;
    }
    if (this.#resolvers.size >= sandboxesMax)
      throw new SwarmError("exhausted", `names are served to more than ${sandboxesMax} sandboxes`);
    present?.close();
    this.#resolvers.delete(request.sandbox);
    const answer = this.#answer;
    this.#resolvers.set(
      request.sandbox,
      new Resolver(request, this.#sockets, answer, (error) =>
        this.#log.warn({ sandbox: request.sandbox, error }, "a name server's socket failed"),
      ),
    );
  }

  forget(sandbox: string): void {
    this.#resolvers.get(sandbox)?.close();
    this.#resolvers.delete(sandbox);
  }

  setTables(tables: Readonly<Record<string, NameTable | null>>): void {
    for (const [id, table] of Object.entries(tables))
      if (table === null) this.#tables.delete(id);
      else this.#tables.set(id, table);
  }

  /** Throws `not_found`, with nothing done, when one of the tables was never set. */
  changeTables(changes: Readonly<Record<string, NameChange>>): void {
    const unknown = Object.keys(changes).find((id) => !this.#tables.has(id));
    if (unknown !== undefined)
      throw new SwarmError("not_found", `there is no name table ${unknown} to change`);
    for (const [id, change] of Object.entries(changes)) {
      const table = this.#tables.get(id);
      if (table !== undefined) this.#tables.set(id, changed(table, change));
    }
  }

  get state(): NameState {
    return {
      sandboxes: [...this.#resolvers.values()].map((resolver) => resolver.settings),
      tables: Object.fromEntries(this.#tables),
    };
  }

  stop(): void {
    for (const sandbox of [...this.#resolvers.keys()]) this.forget(sandbox);
  }

  readonly #answer = async (
    bytes: Buffer,
    settings: ServeNames,
    protocol: "udp" | "tcp",
  ): Promise<Buffer | null> => {
    const parsed = parseQuery(bytes);
    if (parsed.kind === "garbage") return null;
    if (parsed.kind === "error") return parsed.reply;
    const { query } = parsed;
    try {
      return (
        this.#fromTables(query, settings, protocol) ??
        (await this.#fromUpstream(bytes, query, settings, protocol))
      );
    } catch (error) {
      // A question we can read but not write back is its asker's problem alone.
      this.#log.debug({ sandbox: settings.sandbox, error }, "a question could not be answered");
      return null;
    }
  };

  #fromTables(query: Query, settings: ServeNames, protocol: "udp" | "tcp"): Buffer | null {
    const tables = settings.tables.flatMap((id) => this.#tables.get(id) ?? []);
    const answer = lookUp(tables, query.type, query.name, settings.aliases);
    const bytesMax = protocol === "udp" ? query.udpBytesMax : tcpBytesMax;
    switch (answer.kind) {
      case "addresses":
        return encodeAddresses(query, shuffled(answer.addresses, this.#random), bytesMax);
      case "name":
        return encodeName(query, answer.name, bytesMax);
      case "unknown":
        return null;
    }
  }

  async #fromUpstream(
    bytes: Buffer,
    query: Query,
    settings: ServeNames,
    protocol: "udp" | "tcp",
  ): Promise<Buffer> {
    if (settings.upstream.length === 0) return encodeError(query, "NXDOMAIN");
    const answer = await this.#upstream.ask(bytes, settings.upstream, protocol);
    return answer ?? encodeError(query, "SERVFAIL");
  }
}

type AnswerTo = (
  bytes: Buffer,
  settings: ServeNames,
  protocol: "udp" | "tcp",
) => Promise<Buffer | null>;

/** The sockets of one sandbox. */
class Resolver {
  settings: ServeNames;
  readonly #udp: UdpSocket;
  readonly #tcp: Server;
  readonly #connections = new Set<Socket>();
  readonly #answer: AnswerTo;
  #closed = false;

  constructor(
    settings: ServeNames,
    sockets: NamespaceSockets,
    answer: AnswerTo,
    failed: (error: unknown) => void,
  ) {
    this.settings = settings;
    this.#answer = answer;
    const { namespace } = settings;
    try {
      this.#udp = sockets.udp(namespace, resolverAddress, resolverPort);
    } catch (error) {
      throw cannotServe(settings, error);
    }
    try {
      this.#tcp = sockets.tcp(namespace, resolverAddress, resolverPort);
    } catch (error) {
      this.#udp.close();
      throw cannotServe(settings, error);
    }
    this.#udp.on("error", failed);
    this.#tcp.on("error", failed);
    this.#udp.on("message", (bytes, client) => void this.#overUdp(bytes, client));
    this.#tcp.on("connection", (socket) => void this.#overTcp(socket));
  }

  close(): void {
    this.#closed = true;
    this.#udp.close();
    this.#tcp.close();
    for (const socket of this.#connections) socket.destroy();
  }

  async #overUdp(bytes: Buffer, client: { address: string; port: number }): Promise<void> {
    const reply = await this.#answer(bytes, this.settings, "udp");
    if (reply !== null && !this.#closed)
      this.#udp.send(reply, client.port, client.address, () => {});
  }

  async #overTcp(socket: Socket): Promise<void> {
    if (this.#connections.size >= tcpConnectionsMax) {
      socket.destroy();
      return;
    }
    this.#connections.add(socket);
    socket.setTimeout(tcpIdleMs, () => socket.destroy());
    socket.on("error", () => {});
    socket.on("close", () => this.#connections.delete(socket));
    try {
      for await (const query of messages(socket)) {
        const reply = await this.#answer(query, this.settings, "tcp");
        if (reply === null) break;
        socket.write(framed(reply));
      }
    } catch {
      // The client went away.
    } finally {
      socket.end();
    }
  }
}

/** The messages of a TCP stream, each behind its length. Bounded by the length's 16 bits. */
async function* messages(socket: Socket): AsyncGenerator<Buffer, void, void> {
  let received: Buffer = Buffer.alloc(0);
  for await (const chunk of socket) {
    received = Buffer.concat([received, chunk as Buffer]);
    while (received.length >= 2) {
      const end = 2 + received.readUInt16BE(0);
      if (received.length < end) break;
      yield received.subarray(2, end);
      received = received.subarray(end);
    }
  }
}

function cannotServe(settings: ServeNames, cause: unknown): SwarmError {
  return new SwarmError(
    "unavailable",
    `names cannot be served in sandbox ${settings.sandbox} (${settings.namespace})`,
    { cause },
  );
}
