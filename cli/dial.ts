// Connections to a daemon: a socket, TLS, or a program's standard input and output (ssh).

import { type ChildProcess, spawn } from "node:child_process";
import { connect, isIP } from "node:net";
import { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";

/** What a client shows and believes on TLS. PEM. */
export interface ClientTls {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
  /** Whether the daemon's certificate has to be of this CA and for the host's name. */
  readonly isVerified: boolean;
}

export type Target =
  | { readonly kind: "unix"; readonly socketPath: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "tls"; readonly host: string; readonly port: number; readonly tls: ClientTls }
  | { readonly kind: "ssh"; readonly args: readonly string[] };

const plainPortDefault = 2375;
const tlsPortDefault = 2376;
const sshSecondsMax = 30;
const complaintLengthMax = 2_000;
/** Whatever the other machine has of the two. */
const remoteCommand =
  "if command -v tsswarm >/dev/null 2>&1; then exec tsswarm system dial-stdio; else exec docker system dial-stdio; fi";

/** Throws on what is no host. */
export function parseTarget(host: string, tls: ClientTls | null): Target {
  if (host.startsWith("unix://")) return { kind: "unix", socketPath: host.slice("unix://".length) };
  if (host.startsWith("ssh://")) return { kind: "ssh", args: sshArgs(host) };
  const tcp = /^(?:tcp|http|https):\/\/(\[[^\]]+\]|[^:/]+)(?::(\d+))?\/?$/.exec(host);
  if (tcp === null)
    throw new Error(
      `invalid host "${host}": unix:///path, tcp://host:port or ssh://user@host is expected`,
    );
  const name = (tcp[1] ?? "").replace(/^\[|\]$/g, "");
  if (tls === null) return { kind: "tcp", host: name, port: Number(tcp[2] ?? plainPortDefault) };
  return { kind: "tls", host: name, port: Number(tcp[2] ?? tlsPortDefault), tls };
}

function sshArgs(host: string): readonly string[] {
  const url = URL.canParse(host) ? new URL(host) : null;
  const name = decodeURIComponent(url?.hostname ?? "").replace(/^\[|\]$/g, "");
  const user = decodeURIComponent(url?.username ?? "");
  if (url === null || name === "" || url.password !== "" || `${name}${user}`.startsWith("-"))
    throw new Error(`invalid host "${host}": ssh://[user@]host[:port] is expected`);
  return [
    ...["-o", `ConnectTimeout=${sshSecondsMax}`, "-T"],
    ...(user === "" ? [] : ["-l", user]),
    ...(url.port === "" ? [] : ["-p", url.port]),
    ...["--", name, remoteCommand],
  ];
}

/** A raw connection. */
export function dial(target: Target): Duplex {
  switch (target.kind) {
    case "unix":
      return connect({ path: target.socketPath, allowHalfOpen: true });
    case "tcp":
      return connect({ host: target.host, port: target.port, allowHalfOpen: true });
    case "tls":
      return connectTls({
        host: target.host,
        port: target.port,
        ...tlsOptions(target.host, target.tls),
      });
    case "ssh":
      return new CommandSocket("ssh", target.args);
  }
}

export function tlsOptions(host: string, { ca, cert, key, isVerified }: ClientTls) {
  return {
    // Else the name in the request's Host header would count.
    servername: isIP(host) === 0 ? host : "",
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    rejectUnauthorized: isVerified,
    minVersion: "TLSv1.2" as const,
  };
}

/** A program as a socket: HTTP may run over it. */
export class CommandSocket extends Duplex {
  readonly #child: ChildProcess;
  #complaint = "";

  constructor(command: string, args: readonly string[]) {
    super();
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
    this.#child = child;
    child.stdout.on("data", (chunk: Buffer) => {
      if (!this.push(chunk)) child.stdout.pause();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      this.#complaint = `${this.#complaint}${chunk}`.slice(-complaintLengthMax);
    });
    child.stdin.on("error", () => {});
    child.on("error", (error) => this.destroy(new Error(`${command}: ${error.message}`)));
    child.on("close", (code) => {
      if (code !== 0 && this.#complaint !== "")
        this.destroy(new Error(`${command}: ${this.#complaint.trim()}`));
      else this.push(null);
    });
  }

  override _read(): void {
    this.#child.stdout?.resume();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    // Why it went is said when it has ended.
    this.#child.stdin?.write(chunk, () => done());
  }

  override _final(done: () => void): void {
    this.#child.stdin?.end(done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#child.kill();
    done(error);
  }

  // What node:http asks of a socket.
  setTimeout(): this {
    return this;
  }
  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
}

/** Carries standard input to the daemon and what it says to standard output; for the other end of an `ssh://` host. */
export async function dialStdio(target: Target): Promise<void> {
  const connection = dial(target);
  await new Promise<void>((resolve, reject) => {
    connection.once("error", reject);
    connection.once("close", resolve);
    process.stdin.pipe(connection);
    connection.on("data", (chunk: Buffer) => {
      if (process.stdout.write(chunk)) return;
      connection.pause();
      process.stdout.once("drain", () => connection.resume());
    });
    connection.once("end", () => connection.end());
  });
  process.stdin.destroy();
}
