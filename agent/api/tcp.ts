// The API on TCP: with client certificates, or in the clear for this machine alone. Who may ask it is root here.

import { readFileSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { isIP, isIPv6, type Socket } from "node:net";
import { errnoOf, messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { isLoopback } from "../../proto/kit/ip.ts";

/** Paths of PEM files, as Docker's daemon has them: callers must show a certificate that this CA has signed. */
export interface TlsFiles {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

const plainPortDefault = 2375;
const tlsPortDefault = 2376;
const headerBytesMax = 64 * 1024;
/** An archive may take its time. */
const requestMsMax = 6 * 3_600_000;
/** A client that sends its headers slowly holds one of the connections there are. */
const headersMsMax = 20_000;
const handshakeMsMax = 10_000;
/** Connections that have not shown a certificate yet; more are closed at once, so that those who have one find room. */
const handshakesMax = 128;
const connectionsMax = 1024;
/** Of a client that is gone without a word nothing else would be heard. */
const keepAliveMs = 30_000;

/** Throws `unsupported` when the files can not be used. */
export function apiServer(handler: RequestListener, tls: TlsFiles | null): Server {
  const options = {
    maxHeaderSize: headerBytesMax,
    requestTimeout: requestMsMax,
    headersTimeout: headersMsMax,
    keepAlive: true,
    keepAliveInitialDelay: keepAliveMs,
  };
  const server =
    tls === null
      ? createServer(options, handler)
      : (createTlsServer({ ...options, ...secured(tls) }, handler) as unknown as Server);
  server.maxConnections = connectionsMax;
  if (tls !== null) limitHandshakes(server);
  return server;
}

function secured(files: TlsFiles) {
  const read = (flag: string, path: string) => {
    try {
      return readFileSync(path);
    } catch (error) {
      throw new SwarmError(
        "unsupported",
        path === ""
          ? `--tlsverify needs ${flag}: the path of a PEM file`
          : `${flag}: ${path} can not be read: ${messageOf(error)}`,
        { cause: error },
      );
    }
  };
  return {
    ca: read("--tlscacert", files.ca),
    cert: read("--tlscert", files.certificate),
    key: read("--tlskey", files.key),
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: "TLSv1.2",
    handshakeTimeout: handshakeMsMax,
    ALPNProtocols: ["http/1.1"],
  } as const;
}

function limitHandshakes(server: Server): void {
  const open = new Set<Socket>();
  server.prependListener("connection", (socket: Socket) => {
    if (open.size >= handshakesMax) {
      socket.destroy();
      return;
    }
    open.add(socket);
    socket.once("close", () => open.delete(socket));
  });
  server.on("secureConnection", (secure: Socket) => {
    for (const socket of open)
      if (socket.remotePort === secure.remotePort && socket.remoteAddress === secure.remoteAddress)
        open.delete(socket);
  });
}

interface Place {
  readonly address: string;
  readonly port: number;
}

/** Null for what is no tcp host. Throws `invalid`, and `unsupported` for a place from which strangers could ask in the clear. */
export function tcpPlace(host: string, isSecure: boolean): Place | null {
  if (!host.startsWith("tcp://")) return null;
  const found = /^tcp:\/\/(\[[^\]]+\]|[^:/[\]\s]*)(?::(\d{1,5}))?\/?$/.exec(host);
  const address = found?.[1]?.replace(/^\[|\]$/g, "") ?? "";
  const port = Number(found?.[2] ?? (isSecure ? tlsPortDefault : plainPortDefault));
  if (found === null || port > 65_535 || (found[1]?.startsWith("[") && !isIPv6(address)))
    throw new SwarmError("invalid", `cannot listen on ${host}: tcp://HOST:PORT is expected`);
  if (!isSecure && address !== "localhost" && !isLoopback(address))
    throw new SwarmError(
      "unsupported",
      `refusing to listen on ${host} without TLS: whoever can reach it would be root on this machine. Add --tlsverify with --tlscacert, --tlscert and --tlskey, or listen on 127.0.0.1`,
    );
  return { address: address === "" ? "::" : address, port };
}

/** Errors: `conflict` (the port is taken), `unavailable`. */
export async function listenOnTcp(server: Server, { address, port }: Place): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const failed = (cause: Error) => {
      const isTaken = errnoOf(cause) === "EADDRINUSE";
      reject(
        new SwarmError(
          isTaken ? "conflict" : "unavailable",
          `cannot listen on ${address} port ${port}: ${isTaken ? "another process listens there" : messageOf(cause)}`,
          { cause },
        ),
      );
    };
    server.once("error", failed);
    server.listen(port, address, () => {
      server.off("error", failed);
      resolve();
    });
  });
}

/**
 * On plain TCP a browser of this machine can be made to ask: what a page asks has an origin, or (a name that turned into this
 * machine's address) a host that is a name of the internet's. Throws `denied`.
 */
export function refusePages(headers: {
  readonly host?: string | undefined;
  readonly origin?: string | undefined;
}): void {
  const name = (headers.host ?? "").replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  if (headers.origin === undefined && (isIP(name) !== 0 || !name.includes("."))) return;
  throw new SwarmError("denied", "web pages may not use this API");
}
