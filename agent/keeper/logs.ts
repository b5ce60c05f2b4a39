// The containers whose output is followed: FIFOs in, rotated files out.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { OpenLogs, TeeLogs } from "../../proto/kit/keeper.ts";
import type { Log } from "../../proto/kit/log.ts";
import { FifoReader } from "./fifo.ts";
import { encodeEntry, encodeFields, Journal } from "./journal.ts";
import { encodeLine, encodeMarks, LineSplitter, Stamps, type StreamName } from "./lines.ts";
import { LogFile } from "./logfile.ts";
import { Tee } from "./tee.ts";

const containersMax = 10_000;
const teesMax = 64;
/** One complaint per container for so many failed writes. */
const complainEvery = 1_000;

export class LogBook {
  readonly #followed = new Map<string, Followed>();
  readonly #log: Log;
  readonly #now: () => number;
  readonly #journal: Journal;

  constructor(log: Log, now: () => number, journal = new Journal()) {
    this.#log = log;
    this.#now = now;
    this.#journal = journal;
  }

  /** Opening twice is opening once. Throws `not_found` when a FIFO is not there. */
  open(request: OpenLogs): void {
    if (this.#followed.has(request.container)) return;
    if (this.#followed.size >= containersMax)
      throw new SwarmError("exhausted", `more than ${containersMax} containers' logs are open`);
    this.#followed.set(
      request.container,
      new Followed(request, this.#now, this.#log, this.#journal),
    );
  }

  /** Resolves once what was in the FIFOs is in the file. */
  async close(container: string): Promise<void> {
    const followed = this.#followed.get(container);
    if (followed === undefined) return;
    this.#followed.delete(container);
    await followed.stop();
  }

  /** Throws `not_found` when the container's output is not followed, or a FIFO has no reader. */
  tee(request: TeeLogs): void {
    const followed = this.#followed.get(request.container);
    if (followed === undefined)
      throw new SwarmError("not_found", `no output of container ${request.container} is followed`);
    if (request.stdout !== undefined) followed.tee("stdout", request.stdout);
    if (request.stderr !== undefined) followed.tee("stderr", request.stderr);
  }

  get requests(): readonly OpenLogs[] {
    return [...this.#followed.values()].map((followed) => followed.request);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#followed.keys()].map((container) => this.close(container)));
    await this.#journal.close();
  }
}

class Followed {
  readonly request: OpenLogs;
  readonly #readers: FifoReader[] = [];
  readonly #tees: Tee[] = [];
  readonly #file: LogFile;
  readonly #stamps: Stamps;
  readonly #log: Log;
  #writing: Promise<void> = Promise.resolve();
  #failedWrites = 0;
  readonly #marks: string;
  readonly #journal: Journal;
  readonly #fields: Buffer;
  /** What waits to be written, where the container does not wait for it. */
  #waitingBytes = 0;
  #lostLines = 0;

  constructor(request: OpenLogs, now: () => number, log: Log, journal: Journal) {
    this.request = request;
    this.#journal = journal;
    this.#fields = encodeFields(request.journal ?? {});
    this.#log = log;
    this.#stamps = new Stamps(now);
    this.#marks = encodeMarks(request.attributes);
    this.#file = new LogFile(request.directory, request);
    try {
      if (request.stdout !== undefined) this.#follow(request.stdout, "stdout");
      if (request.stderr !== undefined) this.#follow(request.stderr, "stderr");
    } catch (error) {
      void this.stop();
      throw new SwarmError(
        "not_found",
        `the output of container ${request.container} cannot be opened`,
        { cause: error },
      );
    }
  }

  tee(stream: StreamName, path: string): void {
    for (let i = this.#tees.length - 1; i >= 0; i--)
      if (this.#tees[i]?.isGone === true) this.#tees.splice(i, 1);
    if (this.#tees.length >= teesMax)
      throw new SwarmError("exhausted", `more than ${teesMax} readers of one container's output`);
    this.#tees.push(new Tee(stream, path));
  }

  async stop(): Promise<void> {
    for (const tee of this.#tees) tee.hurry();
    await Promise.all(this.#readers.map((reader) => reader.stop()));
    for (const tee of this.#tees) tee.end();
    await this.#writing;
    await this.#file.close().catch(() => {});
    if (this.#lostLines > 0)
      this.#log.warn(
        { container: this.request.container, lines: this.#lostLines },
        "lines of a log were lost: its buffer was full",
      );
  }

  #follow(path: string, stream: StreamName): void {
    const splitter = new LineSplitter();
    this.#readers.push(
      new FifoReader(
        path,
        (chunk) => this.#take(chunk, splitter, stream),
        () => this.#write(splitter.end(), stream),
      ),
    );
  }

  async #take(chunk: Buffer, splitter: LineSplitter, stream: StreamName): Promise<void> {
    const written = this.#write(splitter.push(chunk), stream);
    if (this.#tees.length === 0) return written;
    const tees = this.#tees.filter((tee) => tee.stream === stream);
    await Promise.all([written, ...tees.map((tee) => tee.write(chunk))]);
  }

  /** Both streams go into one file, one batch after the other. A full disk costs lines, never the container. */
  #write(lines: readonly Buffer[], stream: StreamName): Promise<void> {
    if (lines.length === 0 || this.request.discards === true) return Promise.resolve();
    const { bufferBytesMax = 0 } = this.request;
    if (bufferBytesMax > 0 && this.#waitingBytes > bufferBytesMax) {
      this.#lost(lines.length);
      return Promise.resolve();
    }
    const { bytes, keep } = this.#kept(lines, stream);
    this.#waitingBytes += bytes;
    this.#writing = this.#writing
      .then(keep)
      .catch(this.#failed)
      .finally(() => {
        this.#waitingBytes -= bytes;
      });
    return bufferBytesMax > 0 ? Promise.resolve() : this.#writing;
  }

  /** Their size as they are kept, and how they are. */
  #kept(
    lines: readonly Buffer[],
    stream: StreamName,
  ): { readonly bytes: number; readonly keep: () => Promise<void> } {
    if (this.request.journal !== undefined) {
      const entries = lines.map((line) =>
        encodeEntry(this.#fields, line, stream, this.#stamps.next()),
      );
      const keep = async () => {
        const lost = await this.#journal.write(entries);
        if (lost > 0) throw new SwarmError("unavailable", `the journal did not take ${lost} lines`);
      };
      return { bytes: entries.reduce((sum, { length }) => sum + length, 0), keep };
    }
    const text = lines
      .map((line) => encodeLine(line, stream, this.#stamps.next(), this.#marks))
      .join("");
    return { bytes: text.length, keep: () => this.#file.append(text) };
  }

  #lost(lines: number): void {
    if (this.#lostLines === 0)
      this.#log.warn(
        { container: this.request.container },
        "a log's buffer is full: lines are lost",
      );
    this.#lostLines += lines;
  }

  readonly #failed = async (error: unknown): Promise<void> => {
    if (this.#failedWrites++ % complainEvery === 0)
      this.#log.warn(
        { container: this.request.container, error, failedWrites: this.#failedWrites },
        "a container's log cannot be written",
      );
    await this.#file.close().catch(() => {});
  };
}
