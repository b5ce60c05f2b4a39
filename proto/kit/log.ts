// Structured logs: one JSON line per decision, with ids and versions. Secrets never come here.

import { type Logger, pino } from "pino";

export type Log = Pick<Logger, "trace" | "debug" | "info" | "warn" | "error" | "fatal"> & {
  child(bindings: Record<string, unknown>): Log;
};

export type LogLevel = "trace" | "debug" | "info" | "warn" | "error";

const linesMax = 500;
const lineLengthMax = 2_000;

/** The newest lines of a log, for who asks what has happened. */
export class LastLines {
  readonly #lines: string[] = [];

  add(line: string): void {
    this.#lines.push(line.length > lineLengthMax ? `${line.slice(0, lineLengthMax)}…\n` : line);
    if (this.#lines.length > linesMax) this.#lines.shift();
  }

  get text(): string {
    return this.#lines.join("");
  }
}

/** Writes to standard error, so that standard output stays free for what a command prints; `last` remembers the newest lines. */
export function openLog(process: string, level: LogLevel = "info", last?: LastLines): Log {
  const stderr = pino.destination({ dest: 2, sync: true });
  const write = (line: string) => {
    stderr.write(line);
    last?.add(line);
  };
  return pino(
    {
      level,
      base: { process },
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { error: sentence },
    },
    last === undefined ? stderr : { write },
  );
}

/** An error as its sentence and those of its causes; what is no Error stays as it is. */
function sentence(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const sentences = [error.message];
  for (let { cause } = error; cause instanceof Error && sentences.length < 4; { cause } = cause)
    if (!sentences.includes(cause.message)) sentences.push(cause.message);
  return sentences.join(": ");
}

/** For tests and callers that want none. */
export const silentLog: Log = pino({ level: "silent" });
