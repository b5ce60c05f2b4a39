// What goes in and out of a container while it runs: its own input and output, its log, and further processes.

import type { Readable, Writable } from "node:stream";

export interface LogQuery {
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly follow: boolean;
  /** Lines; −1 is all. */
  readonly tail: number;
  /** Milliseconds since 1970. */
  readonly since?: number;
  readonly until?: number;
}

export interface LogRecord {
  readonly stream: "stdout" | "stderr";
  /** RFC 3339 with nanoseconds. */
  readonly time: string;
  readonly data: Buffer;
  /** What stands with each line of its container. */
  readonly attributes?: Readonly<Record<string, string>>;
}

/** A client's ends of a container's own input and output. */
export interface AttachStreams {
  readonly stdin: Writable | null;
  readonly stdout: Readable | null;
  /** null with a terminal. */
  readonly stderr: Readable | null;
  /** Lets go of all of it; the container goes on. */
  close(): void;
}

export interface ExecConfig {
  readonly cmd: readonly string[];
  readonly env: readonly string[];
  readonly user: string;
  readonly workingDir: string;
  readonly tty: boolean;
  readonly attachStdin: boolean;
  readonly attachStdout: boolean;
  readonly attachStderr: boolean;
  readonly privileged: boolean;
  /** What a client at its terminal types to leave, if its start does not say; "": the usual. */
  readonly detachKeys: string;
}

export interface ExecState {
  readonly id: string;
  readonly containerId: string;
  readonly config: ExecConfig;
  readonly running: boolean;
  readonly exitCode: number | null;
  readonly pid: number;
}

export interface ExecStreams {
  readonly stdin: Writable | null;
  readonly stdout: Readable;
  /** null with a terminal. */
  readonly stderr: Readable | null;
  readonly exited: Promise<number>;
}
