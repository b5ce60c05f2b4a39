// Connections to a daemon: a socket, TLS, or a program's standard input and output (ssh).

import { type ChildProcess, spawn } from "node:child_process";
import { connect, isIP } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import { SocketLike } from "../proto/kit/socket-like.ts";
import type { ClientTls, Target } from "./target.ts";

const complaintLengthMax = 2_000;

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
export class CommandSocket extends SocketLike {
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
