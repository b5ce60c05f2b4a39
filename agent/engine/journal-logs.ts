// A container's log from systemd's journal, as the keeper has told it, through journalctl.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Container } from "./container-types.ts";
import { logAttributes } from "./log-attributes.ts";
import type { LogQuery, LogRecord } from "./stream-types.ts";

const run = promisify(execFile);
const syncMsMax = 10_000;
const tagDefault = "{{.ID}}";
/** Of ours, or of the journal's own: no attributes of the container's. */
const notAttributes =
  /^(_|MESSAGE$|PRIORITY$|SYSLOG_|CONTAINER_(ID|ID_FULL|NAME|TAG|PARTIAL_MESSAGE)$|IMAGE_NAME$)/;

type Fields = Readonly<Record<string, unknown>>;

/** Docker's names. What else is to stand with each line is in capitals. */
export function journalFields(
  container: Pick<Container, "id" | "name" | "imageId" | "config" | "host">,
): Readonly<Record<string, string>> {
  const { id, name, config, host } = container;
  const options = { ...host.LogAttributes, tag: host.LogAttributes?.tag || tagDefault };
  const { tag = "", ...attributes } = logAttributes(container, options);
  const others = Object.entries(attributes).flatMap(([key, value]) => {
    const plain = key
      .toUpperCase()
      .replace(/[^A-Z0-9]/g, "_")
      .replace(/^[_\d]+/, "");
    return plain === "" ? [] : [[plain, value]];
  });
  return {
    ...Object.fromEntries(others),
    ...{ CONTAINER_ID: id.slice(0, 12), CONTAINER_ID_FULL: id, CONTAINER_NAME: name },
    ...{ CONTAINER_TAG: tag, SYSLOG_IDENTIFIER: tag, IMAGE_NAME: config.Image },
  };
}

/** journalctl's, for what is asked; `after`: a cursor of an entry that is known. */
export function journalArguments(id: string, query: LogQuery, after = ""): readonly string[] {
  const seconds = (ms: number) => `@${(ms / 1000).toFixed(3)}`;
  const tail = query.tail < 0 || after !== "" ? ["--no-tail"] : ["-n", String(query.tail)];
  return [
    ...["-o", "json", "--all", "--quiet", "--no-pager"],
    ...(query.follow ? ["-f", ...tail] : tail.filter((word) => word !== "--no-tail")),
    ...(after === "" ? [] : [`--after-cursor=${after}`]),
    ...(query.since === undefined ? [] : [`--since=${seconds(query.since)}`]),
    ...(query.until === undefined ? [] : [`--until=${seconds(query.until)}`]),
    `CONTAINER_ID_FULL=${id}`,
    ...(query.stdout ? ["PRIORITY=6"] : []),
    ...(query.stderr ? ["PRIORITY=3"] : []),
  ];
}

/** Null for what is no entry of ours. */
export function parseEntry(
  line: string,
): { readonly record: LogRecord; readonly cursor: string } | null {
  let fields: Fields;
  try {
    fields = JSON.parse(line) as Fields;
  } catch {
    return null;
  }
  const message = bytesOf(fields["MESSAGE"]);
  const time = fields["SYSLOG_TIMESTAMP"];
  if (message === null || typeof time !== "string") return null;
  const end = fields["CONTAINER_PARTIAL_MESSAGE"] === "true" ? "" : "\n";
  const attributes = Object.entries(fields).flatMap(([key, value]) =>
    typeof value === "string" && !notAttributes.test(key) ? [[key, value]] : [],
  );
  return {
    cursor: String(fields["__CURSOR"] ?? ""),
    record: {
      stream: fields["PRIORITY"] === "3" ? "stderr" : "stdout",
      time,
      data: Buffer.concat([message, Buffer.from(end)]),
      attributes: Object.fromEntries(attributes),
    },
  };
}

/** What is no text stands as a list of its bytes. */
function bytesOf(value: unknown): Buffer | null {
  if (typeof value === "string") return Buffer.from(value);
  return Array.isArray(value) ? Buffer.from(value as number[]) : null;
}

/** As `readLogs`. Throws `unsupported` where there is no journalctl. */
export async function* readJournal(
  id: string,
  query: LogQuery,
  ended: Promise<unknown>,
  signal: AbortSignal,
): AsyncGenerator<readonly LogRecord[], void, void> {
  let cursor = "";
  const stop = new AbortController();
  const over = () => stop.abort();
  const noted = async function* (asked: LogQuery, until: AbortSignal) {
    for await (const line of journalLines(journalArguments(id, asked, cursor), until)) {
      const entry = parseEntry(line);
      if (entry === null) continue;
      cursor = entry.cursor;
      yield [entry.record];
    }
  };
  if (query.follow) {
    ended.then(over, over);
    yield* noted(query, AbortSignal.any([signal, stop.signal]));
    if (signal.aborted) return;
    // What was told last may not have been there yet.
    await run("journalctl", ["--sync"], { timeout: syncMsMax }).catch(() => {});
  }
  yield* noted({ ...query, follow: false }, signal);
}

async function* journalLines(
  words: readonly string[],
  signal: AbortSignal,
): AsyncGenerator<string, void, void> {
  if (signal.aborted) return;
  const child = spawn("journalctl", words, { stdio: ["ignore", "pipe", "ignore"] });
  const closed = whenClosed(child);
  const end = () => void child.kill();
  signal.addEventListener("abort", end, { once: true });
  try {
    yield* createInterface({ input: child.stdout });
    await closed;
  } finally {
    signal.removeEventListener("abort", end);
    end();
  }
}

function whenClosed(child: ChildProcess): Promise<void> {
  const closed = new Promise<void>((resolve, reject) => {
    child.once("close", () => resolve());
    child.once("error", (cause) =>
      reject(
        new SwarmError("unsupported", "reading logs of the journal needs journalctl here", {
          cause,
        }),
      ),
    );
  });
  closed.catch(() => {});
  return closed;
}
