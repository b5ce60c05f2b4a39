// The cluster port: takes connections, as many and as fast as is good for the manager, and speaks TLS before anything else.

import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import grpc from "@grpc/grpc-js";
import { messageOf, SwarmError } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import type { Caller } from "../proto/rpc-server.ts";
import { contextOptions, type Identity, raftProtocol, serverTlsOptions } from "../proto/tls.ts";
import { Arrivals, arrivalLimits } from "./identity/arrivals.ts";
import type { Connections } from "./identity/door.ts";

export interface PortLimits {
  /** Who has shown no certificate by then, or sent so much, has had its time: joining takes a few seconds and 100 KiB. */
  readonly strangerMsMax: number;
  readonly strangerBytesMax: number;
  readonly handshakeMsMax: number;
  /** Ended connections may still say why; nothing new is allowed over them meanwhile. */
  readonly goodbyeMs: number;
}

const portLimits: PortLimits = {
  strangerMsMax: 60_000,
  strangerBytesMax: 4 * 1024 * 1024,
  handshakeMsMax: 5_000,
  goodbyeMs: 200,
};
const lookMs = 250;
/** A burst of arrivals that are turned away is one line in the log. */
const tellMs = 10_000;
const backlog = 512;

interface Open {
  readonly socket: Socket;
  readonly host: string;
  readonly since: number;
  secured: TLSSocket | null;
  readonly closed: Set<() => void>;
}

/** Takes a connection that is to carry Raft's messages. */
export type TakeLane = (socket: TLSSocket, caller: Caller) => void;

export interface PortOptions {
  readonly identity: Identity;
  /** Whether a node of the cluster is at this address. */
  readonly isKnown: (host: string) => boolean;
  readonly world: World;
  readonly log: Log;
  readonly limits?: Partial<PortLimits>;
}

export class ClusterPort implements Connections {
  readonly #options: PortOptions;
  readonly #limits: PortLimits;
  readonly #arrivals = new Arrivals(arrivalLimits);
  readonly #open = new Map<string, Open>();
  readonly #tcp: Server;
  readonly #tls: ReturnType<typeof createTlsServer>;
  #turnedAway = 0;
  #toldAt = Number.NEGATIVE_INFINITY;
  #looking: NodeJS.Timeout | null = null;

  constructor(options: PortOptions) {
    this.#options = options;
    this.#limits = { ...portLimits, ...options.limits };
    const { handshakeMsMax } = this.#limits;
    const settings = { ...serverTlsOptions(options.identity), handshakeTimeout: handshakeMsMax };
    this.#tls = createTlsServer(settings);
    // A handshake that fails is the other end's affair; its socket is closed.
    this.#tls.on("tlsClientError", () => {});
    this.#tcp = createServer((socket) => this.#take(socket));
  }

  /** The port it listens at. Throws `unavailable`. */
  async listen(server: grpc.Server, address: string, takeLane: TakeLane): Promise<number> {
    // What is handed on has been through TLS here: the server need not, and must not, do it again.
    const injector = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
    this.#tls.on("secureConnection", (socket) => {
      socket.on("error", () => {});
      const open = this.#open.get(nameOf(socket));
      if (open === undefined) {
        socket.destroy();
        return;
      }
      open.secured = socket;
      this.#arrivals.settled(open.host);
      if (socket.alpnProtocol === raftProtocol) takeLane(socket, callerOf(socket));
      else injector.injectConnection(socket);
    });
    const at = address.lastIndexOf(":");
    const host = address.slice(0, at).replace(/^\[|\]$/g, "");
    await new Promise<void>((resolve, reject) => {
      this.#tcp.once("error", reject);
      this.#tcp.listen({ host, port: Number(address.slice(at + 1)), backlog }, resolve);
    }).catch((error: unknown) => {
      const why = `the cluster port ${address} can not be opened: ${messageOf(error)}`;
      throw new SwarmError("unavailable", why, { cause: error });
    });
    this.#looking = setInterval(() => this.#look(), lookMs);
    this.#looking.unref();
    const bound = this.#tcp.address();
    return typeof bound === "object" && bound !== null ? bound.port : 0;
  }

  /** New connections are met with the renewed identity; open ones go on. */
  renew(identity: Identity): void {
    this.#tls.setSecureContext(contextOptions(identity));
  }

  follow(address: string, closed: () => void): boolean {
    const open = this.#open.get(address);
    open?.closed.add(closed);
    return open !== undefined;
  }

  /** What was written before still goes out. */
  end(address: string): void {
    const open = this.#open.get(address);
    if (open === undefined) return;
    setTimeout(() => open.socket.destroy(), this.#limits.goodbyeMs);
  }

  /** No more are taken, and those there are end. */
  close(): void {
    if (this.#looking !== null) clearInterval(this.#looking);
    this.#tcp.close();
    for (const { socket } of this.#open.values()) socket.destroy();
  }

  #take(socket: Socket): void {
    const { world, isKnown } = this.#options;
    const host = bare(socket.remoteAddress ?? "");
    const name = nameOf(socket);
    socket.on("error", () => {});
    if (!this.#arrivals.arrives(host, isKnown(host), world.monotonic())) {
      this.#turnAway(host);
      socket.resetAndDestroy();
      return;
    }
    const open: Open = {
      socket,
      host,
      since: world.monotonic(),
      secured: null,
      closed: new Set(),
    };
    this.#open.set(name, open);
    socket.once("close", () => {
      this.#open.delete(name);
      if (open.secured === null) this.#arrivals.settled(host);
      this.#arrivals.leaves(host);
      for (const closed of open.closed) closed();
    });
    socket.setNoDelay(true);
    this.#tls.emit("connection", socket);
  }

  #turnAway(host: string): void {
    const { world, log } = this.#options;
    this.#turnedAway += 1;
    if (world.monotonic() - this.#toldAt < tellMs) return;
    this.#toldAt = world.monotonic();
    log.warn(
      { host, turnedAway: this.#turnedAway },
      "more connections than are good for a manager",
    );
    this.#turnedAway = 0;
  }

  #look(): void {
    const { strangerMsMax, strangerBytesMax } = this.#limits;
    const now = this.#options.world.monotonic();
    for (const { socket, secured, since } of this.#open.values())
      if (secured?.authorized !== true) {
        const isOver = now - since > strangerMsMax || socket.bytesRead > strangerBytesMax;
        if (isOver) socket.destroy();
      }
  }
}

/** As grpc-js's `getPeer`, with brackets. */
function nameOf({ remoteAddress = "", remotePort = 0 }: Socket): string {
  return remoteAddress.includes(":")
    ? `[${remoteAddress}]:${remotePort}`
    : `${remoteAddress}:${remotePort}`;
}

/** Who has made a connection that is no call of gRPC. */
function callerOf(socket: TLSSocket): Caller {
  const gone = new AbortController();
  socket.once("close", () => gone.abort(new SwarmError("cancelled", "the caller went away")));
  return {
    signal: gone.signal,
    certificate: socket.authorized ? socket.getPeerCertificate().raw : null,
    doubt: messageOf(socket.authorizationError ?? ""),
    address: nameOf(socket),
    metadata: {},
  };
}

/** IPv4 addresses look alike on sockets of either family. */
function bare(address: string): string {
  return address.startsWith("::ffff:") ? address.slice("::ffff:".length) : address;
}
