// What a build tells, as clients of BuildKit show it: vertexes with their times, how far they are, what they say. Pure.

import { createHash } from "node:crypto";
import type { Loose } from "../../proto/codec.ts";
import type { StatusResponse } from "../../proto/gen/buildkit-types.ts";
import type { BuildEvent, Place, ProgressLine } from "../build/events.ts";

export type Status = Loose<StatusResponse>;

/** How often a transfer says how far it is. */
const statusEveryMs = 200;

/** Something that is under way. Each of them is ended. */
export interface Vertex {
  /** How far it is with one of its things: bytes, of so many if that is known. */
  status(what: string, current: number, total?: number): void;
  log(stream: 1 | 2, text: string): void;
  end(outcome?: { readonly isCached?: boolean; readonly error?: string }): void;
}

export class Trace {
  readonly #salt: string;
  readonly #now: () => number;
  readonly #send: (status: Status) => void;
  readonly #open = new Set<TracedVertex>();
  /** The builder's own. */
  #step: TracedVertex | null = null;
  #isCached = false;
  #vertexes = 0;

  /** `salt`: makes its vertexes others than those of any other build. */
  constructor(salt: string, now: () => number, send: (status: Status) => void) {
    this.#salt = salt;
    this.#now = now;
    this.#send = send;
  }

  begin(name: string): Vertex {
    return this.#begin(name);
  }

  /** What the builder tells. */
  tell(event: BuildEvent): void {
    switch (event.tell) {
      case "step":
        this.#endStep();
        if (event.place !== null) this.#step = this.#begin(nameOf(event.shown, event.place));
        return;
      case "cached":
        this.#isCached = true;
        return;
      case "output":
        this.#step?.log(event.stream, event.text);
        return;
      case "note":
        this.#step?.log(2, `${event.text}\n`);
        return;
      case "pull":
        this.#step?.pull(event.line);
        return;
      case "built":
        this.#endStep();
        this.#export(event.id, event.names);
        return;
      // Nothing that a client of BuildKit shows.
      case "running":
      case "removed":
      case "image":
        return;
      default:
        event satisfies never;
    }
  }

  /** The builder is through. */
  rest(): void {
    this.#endStep();
  }

  /** All that is under way ends with this. */
  fail(error: string): void {
    for (const vertex of this.#open) vertex.end({ error });
    this.#step = null;
  }

  #begin(name: string): TracedVertex {
    const digest = createHash("sha256")
      .update(`${this.#salt} ${this.#vertexes++}`)
      .digest("hex");
    const vertex = new TracedVertex(`sha256:${digest}`, name, this.#now, this.#send, () =>
      this.#open.delete(vertex),
    );
    this.#open.add(vertex);
    return vertex;
  }

  #endStep(): void {
    this.#step?.end({ isCached: this.#isCached });
    this.#step = null;
    this.#isCached = false;
  }

  #export(id: string, names: readonly string[]): void {
    const vertex = this.#begin("exporting to image");
    for (const what of [`writing image ${id}`, ...names.map((name) => `naming to ${name}`)])
      vertex.status(what, 0);
    vertex.end();
  }
}

interface Progressing {
  readonly started: number;
  /** When it was last told. */
  readonly told: number;
  readonly current: number;
  readonly total: number;
}

class TracedVertex implements Vertex {
  readonly #digest: string;
  readonly #name: string;
  readonly #started: number;
  readonly #now: () => number;
  readonly #send: (status: Status) => void;
  readonly #ended: () => void;
  /** Begun and not ended, by what they are. */
  readonly #statuses = new Map<string, Progressing>();
  /** What is being done to a layer, by its id. */
  readonly #layers = new Map<string, string>();

  constructor(
    digest: string,
    name: string,
    now: () => number,
    send: (status: Status) => void,
    ended: () => void,
  ) {
    this.#digest = digest;
    this.#name = name;
    this.#now = now;
    this.#send = send;
    this.#ended = ended;
    this.#started = now();
    send({ vertexes: [{ digest, name, started: stamp(this.#started) }] });
  }

  status(what: string, current: number, total = 0): void {
    const now = this.#now();
    const known = this.#statuses.get(what);
    const isDue = known === undefined || now - known.told >= statusEveryMs;
    const { started, told } = known ?? { started: now, told: now };
    this.#statuses.set(what, { started, told: isDue ? now : told, current, total });
    if (isDue) this.#tellStatus(what, false);
  }

  log(stream: 1 | 2, text: string): void {
    const timestamp = stamp(this.#now());
    this.#send({ logs: [{ vertex: this.#digest, timestamp, stream, msg: Buffer.from(text) }] });
  }

  pull({ id = "", status = "", progressDetail }: ProgressLine): void {
    if (id === "") return;
    const what = `${status.toLowerCase()} ${id}`;
    const before = this.#layers.get(id);
    if (before !== undefined && before !== what) {
      this.#tellStatus(before, true);
      this.#layers.delete(id);
    }
    if (progressDetail?.current === undefined) return;
    this.#layers.set(id, what);
    this.status(what, progressDetail.current, progressDetail.total);
  }

  end({ isCached = false, error = "" } = {}): void {
    for (const what of [...this.#statuses.keys()]) this.#tellStatus(what, true);
    const times = { started: stamp(this.#started), completed: stamp(this.#now()) };
    const cached = isCached ? { cached: true } : {};
    const failed = error === "" ? {} : { error };
    const vertex = { digest: this.#digest, name: this.#name, ...times, ...cached, ...failed };
    this.#send({ vertexes: [vertex] });
    this.#ended();
  }

  #tellStatus(what: string, isDone: boolean): void {
    const known = this.#statuses.get(what);
    if (known === undefined) return;
    if (isDone) this.#statuses.delete(what);
    const now = stamp(this.#now());
    const times = { timestamp: now, started: stamp(known.started) };
    const done = isDone ? { completed: now } : {};
    const { current, total } = known;
    const status = { ID: what, vertex: this.#digest, current, total };
    this.#send({ statuses: [{ ...status, ...times, ...done }] });
  }
}

/** As people know it: `[build 2/4] RUN make`. */
function nameOf(shown: string, { stage, number, total }: Place): string {
  const where = number === 0 ? "onbuild" : `${number}/${total}`;
  const line = shown.replace(/\s*\n\s*/g, " ").replace(/^(FROM \S+) AS \S+$/, "$1");
  return `[${stage === "" ? "" : `${stage} `}${where}] ${line}`;
}

function stamp(ms: number): { readonly seconds: number; readonly nanos: number } {
  const seconds = Math.floor(ms / 1000);
  return { seconds, nanos: Math.round((ms - seconds * 1000) * 1e6) };
}
