// What a leader knows of one follower, and how much it may send it.

/** Probe: find where the logs meet, one message at a time. Replicate: stream. Snapshot: wait until it is there. */
type Mode =
  | { readonly kind: "probe"; paused: boolean }
  | { readonly kind: "replicate"; inflight: { readonly last: number; readonly bytes: number }[] }
  | { readonly kind: "snapshot"; readonly index: number; ticks: number };

export class Progress {
  /** Replies that name another stream are about an earlier record of this follower. */
  readonly stream: number;
  /** Everything through here is durable there. */
  match = 0;
  next: number;
  mode: Mode = { kind: "probe", paused: false };
  /** Ticks since it answered anything; new ones start as if they just had. */
  silentTicks = 0;
  /** The highest heartbeat sequence it has answered. */
  acknowledged = 0;
  /** The highest commit index it has been told. */
  commitSent = 0;

  constructor(stream: number, next: number) {
    this.stream = stream;
    this.next = next;
  }

  probe(next: number): void {
    this.mode = { kind: "probe", paused: false };
    this.next = Math.max(next, this.match + 1);
  }

  replicate(): void {
    this.mode = { kind: "replicate", inflight: [] };
    this.next = this.match + 1;
  }

  snapshot(index: number): void {
    this.mode = { kind: "snapshot", index, ticks: 0 };
  }

  /** Whether entries may be sent now. */
  isOpen(messagesMax: number, bytesMax: number): boolean {
    if (this.mode.kind === "probe") return !this.mode.paused;
    if (this.mode.kind === "snapshot") return false;
    const { inflight } = this.mode;
    const bytes = inflight.reduce((sum, sent) => sum + sent.bytes, 0);
    return inflight.length < messagesMax && bytes < bytesMax;
  }

  /** An append with entries through `last` has been handed out. */
  sent(last: number, bytes: number): void {
    if (this.mode.kind === "probe") this.mode.paused = true;
    if (this.mode.kind !== "replicate" || last < this.next) return;
    this.mode.inflight.push({ last, bytes });
    this.next = last + 1;
  }

  pause(): void {
    if (this.mode.kind === "probe") this.mode.paused = true;
  }

  /** The follower answered something: a lost probe is tried again. */
  resume(): void {
    if (this.mode.kind === "probe") this.mode.paused = false;
  }

  /** Everything through `match` is durable there. Says whether that was news. */
  accepted(match: number): boolean {
    const isNews = match > this.match;
    this.match = Math.max(this.match, match);
    this.next = Math.max(this.next, this.match + 1);
    if (this.mode.kind === "replicate")
      this.mode.inflight = this.mode.inflight.filter((sent) => sent.last > this.match);
    return isNews;
  }

  /** The follower lacks `prevIndex`; `meeting` is where the logs may meet. Says whether the answer was about the present. */
  refused(prevIndex: number, meeting: number): boolean {
    if (this.mode.kind === "snapshot" || prevIndex <= this.match) return false;
    if (this.mode.kind === "replicate") {
      this.probe(this.match + 1);
      return true;
    }
    if (prevIndex !== this.next - 1) return false;
    this.probe(Math.min(prevIndex, meeting + 1));
    return true;
  }
}
