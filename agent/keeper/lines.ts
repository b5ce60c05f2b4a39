// A container's raw output to the lines of Docker's json-file format.

/** Docker splits longer lines; a piece that does not end its line has no newline at its end. */
export const lineBytesMax = 16 * 1024;

const newline = 0x0a;

export type StreamName = "stdout" | "stderr";

/** Cuts one stream into lines. Keeps at most `lineBytesMax` bytes of an unfinished line between calls. */
export class LineSplitter {
  #rest: Buffer = Buffer.alloc(0);

  /** The whole lines (and full pieces of long ones) that `chunk` completes, each with its newline if it has one. */
  push(chunk: Buffer): Buffer[] {
    const lines: Buffer[] = [];
    let data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    while (data.length > 0) {
      const end = data.indexOf(newline);
      const length = end === -1 ? data.length : end + 1;
      if (length - (end === -1 ? 0 : 1) > lineBytesMax) {
        const piece = wholeCharacters(data, lineBytesMax);
        lines.push(data.subarray(0, piece));
        data = data.subarray(piece);
      } else if (end === -1) break;
      else {
        lines.push(data.subarray(0, length));
        data = data.subarray(length);
      }
    }
    // A copy: a small rest must not keep the whole chunk alive.
    this.#rest = Buffer.from(data);
    return lines;
  }

  /** What is left when the stream has ended: an unfinished line, or nothing. */
  end(): Buffer[] {
    const rest = this.#rest;
    this.#rest = Buffer.alloc(0);
    return rest.length === 0 ? [] : [rest];
  }
}

/** The largest length ≤ `length` that does not cut a UTF-8 character in two. */
function wholeCharacters(data: Buffer, length: number): number {
  for (let at = length; at > length - 4; at--) {
    const byte = data[at];
    if (byte === undefined || (byte & 0xc0) !== 0x80) return at;
  }
  return length;
}

/** One line of the file. Bytes that are not UTF-8 become U+FFFD, as Docker's do. `marks`: see `encodeMarks`. */
export function encodeLine(line: Buffer, stream: StreamName, time: string, marks = ""): string {
  return `{"log":${JSON.stringify(line.toString("utf8"))},"stream":"${stream}"${marks},"time":"${time}"}\n`;
}

/** What stands with every line of a container. */
export function encodeMarks(attributes: Readonly<Record<string, string>> = {}): string {
  return Object.keys(attributes).length === 0 ? "" : `,"attrs":${JSON.stringify(attributes)}`;
}

/** Times in RFC 3339 with nanoseconds, each later than the one before, so that lines sort as they came. */
export class Stamps {
  readonly #now: () => number;
  #ms = 0;
  #nanos = 0;

  /** `now`: milliseconds since 1970. */
  constructor(now: () => number) {
    this.#now = now;
  }

  next(): string {
    const now = Math.floor(this.#now());
    if (now > this.#ms) {
      this.#ms = now;
      this.#nanos = 0;
    } else if (++this.#nanos === 1_000_000) {
      this.#ms++;
      this.#nanos = 0;
    }
    const text = new Date(this.#ms).toISOString();
    return `${text.slice(0, -1)}${String(this.#nanos).padStart(6, "0")}Z`;
  }
}
