// Containers' output to systemd's journal, in its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram for each line.

import { journalSocket } from "../../proto/kit/keeper.ts";
import { Datagrams } from "./datagrams.ts";
import type { StreamName } from "./lines.ts";

const waitSeconds = 5;
const newline = 0x0a;
/** syslog's info and error, as Docker has them. */
const priorities: Readonly<Record<StreamName, string>> = { stdout: "6", stderr: "3" };

/** Fields that stand with every line. Names: capitals, digits and underscores. */
export function encodeFields(fields: Readonly<Record<string, string>>): Buffer {
  return Buffer.concat(Object.entries(fields).map(([name, value]) => field(name, value)));
}

/** `fields`: see `encodeFields`. A line without an end is marked as a part, so that it can be read as it was. */
export function encodeEntry(
  fields: Buffer,
  line: Buffer,
  stream: StreamName,
  time: string,
): Buffer {
  const isWhole = line.at(-1) === newline;
  return Buffer.concat([
    fields,
    Buffer.from(`PRIORITY=${priorities[stream]}\nSYSLOG_TIMESTAMP=${time}\n`),
    Buffer.from(isWhole ? "" : "CONTAINER_PARTIAL_MESSAGE=true\n"),
    field("MESSAGE", isWhole ? line.subarray(0, -1) : line),
  ]);
}

/** A value that has line ends in it is preceded by its length. */
function field(name: string, value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  const head = Buffer.from(`${name}${bytes.includes(newline) ? "\n" : "="}`);
  const length = Buffer.alloc(bytes.includes(newline) ? 8 : 0);
  if (length.length > 0) length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([head, length, bytes, Buffer.of(newline)]);
}

export class Journal {
  readonly #datagrams: Datagrams;
  #writing: Promise<unknown> = Promise.resolve();

  constructor(path = journalSocket) {
    this.#datagrams = new Datagrams(path, waitSeconds);
  }

  /** In the order of calls; how many of them could not be told. After one that could not the rest is not tried. */
  write(entries: readonly Buffer[]): Promise<number> {
    const written = this.#writing.then(async () => {
      for (const [at, entry] of entries.entries())
        if (!(await this.#datagrams.send(entry))) return entries.length - at;
      return 0;
    });
    this.#writing = written;
    return written;
  }

  /** Once all is told. */
  async close(): Promise<void> {
    await this.#writing;
    this.#datagrams.close();
  }
}
