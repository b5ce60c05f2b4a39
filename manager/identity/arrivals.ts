// How many connections an address may have and make: a hostile one must not cost a manager its time. Pure but for its own memory.

export interface ArrivalLimits {
  readonly openMax: number;
  readonly openPerHostMax: number;
  readonly handshakesMax: number;
  readonly handshakesPerHostMax: number;
  /** A handshake costs 1.5 ms. So many at once, and then so many a second. */
  readonly burstPerHost: number;
  readonly perSecondPerHost: number;
  /** Hosts that are no nodes, all together. */
  readonly burstOfStrangers: number;
  readonly perSecondOfStrangers: number;
  /** Known hosts, behind one of which may be several nodes, may do so many times as much as strangers. */
  readonly knownFactor: number;
  /** The manager's own machine, where many agents may be simulated. */
  readonly ownFactor: number;
  readonly hostsMax: number;
}

export const arrivalLimits: ArrivalLimits = {
  openMax: 8_192,
  openPerHostMax: 256,
  handshakesMax: 2_048,
  handshakesPerHostMax: 32,
  burstPerHost: 128,
  perSecondPerHost: 20,
  burstOfStrangers: 256,
  perSecondOfStrangers: 50,
  knownFactor: 4,
  ownFactor: 64,
  hostsMax: 16_384,
};

interface Host {
  open: number;
  handshakes: number;
  bucket: Bucket;
  isKnown: boolean;
}

/** Fills by and by; each arrival takes one. */
class Bucket {
  readonly #burst: number;
  readonly #perSecond: number;
  #left: number;
  #at: number;

  constructor(burst: number, perSecond: number, now: number) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#left = burst;
    this.#at = now;
  }

  isEmpty(now: number): boolean {
    const gained = ((now - this.#at) / 1000) * this.#perSecond;
    this.#left = Math.min(this.#burst, this.#left + gained);
    this.#at = now;
    return this.#left < 1;
  }

  isFull(now: number): boolean {
    return !this.isEmpty(now) && this.#left >= this.#burst;
  }

  take(): void {
    this.#left -= 1;
  }
}

export class Arrivals {
  readonly #limits: ArrivalLimits;
  readonly #hosts = new Map<string, Host>();
  readonly #strangers: Bucket;
  #open = 0;
  #handshakes = 0;

  constructor(limits: ArrivalLimits) {
    this.#limits = limits;
    this.#strangers = new Bucket(limits.burstOfStrangers, limits.perSecondOfStrangers, 0);
  }

  /** False: turn it away. Else `settled` follows, when its handshake is over in whatever way, and at last `leaves`. */
  arrives(address: string, isKnown: boolean, now: number): boolean {
    const limits = this.#limits;
    const host = this.#host(address, isKnown, now);
    if (host === null) return false;
    const factor = this.#factor(address, isKnown);
    const isStranger = factor === 1;
    const isFull =
      this.#open >= limits.openMax ||
      this.#handshakes >= limits.handshakesMax ||
      host.open >= limits.openPerHostMax * factor ||
      host.handshakes >= limits.handshakesPerHostMax * factor ||
      host.bucket.isEmpty(now) ||
      (isStranger && this.#strangers.isEmpty(now));
    if (isFull) return false;
    host.bucket.take();
    if (isStranger) this.#strangers.take();
    host.open += 1;
    host.handshakes += 1;
    this.#open += 1;
    this.#handshakes += 1;
    return true;
  }

  settled(address: string): void {
    const host = this.#hosts.get(hostKey(address));
    if (host !== undefined) host.handshakes -= 1;
    this.#handshakes -= 1;
  }

  leaves(address: string): void {
    const host = this.#hosts.get(hostKey(address));
    if (host !== undefined) host.open -= 1;
    this.#open -= 1;
  }

  #factor(address: string, isKnown: boolean): number {
    const { knownFactor, ownFactor } = this.#limits;
    if (address === "::1" || address.startsWith("127.")) return ownFactor;
    return isKnown ? knownFactor : 1;
  }

  #host(address: string, isKnown: boolean, now: number): Host | null {
    const { burstPerHost, perSecondPerHost, hostsMax } = this.#limits;
    const key = hostKey(address);
    const seen = this.#hosts.get(key);
    if (seen?.isKnown === isKnown) return seen;
    const factor = this.#factor(address, isKnown);
    const bucket = new Bucket(burstPerHost * factor, perSecondPerHost * factor, now);
    if (seen !== undefined) return Object.assign(seen, { bucket, isKnown });
    if (this.#hosts.size >= hostsMax) this.#forget(now);
    if (this.#hosts.size >= hostsMax) return null;
    const host = { open: 0, handshakes: 0, bucket, isKnown };
    this.#hosts.set(key, host);
    return host;
  }

  /** Those of which there is nothing to remember. */
  #forget(now: number): void {
    for (const [key, { open, bucket }] of this.#hosts)
      if (open === 0 && bucket.isFull(now)) this.#hosts.delete(key);
  }
}

/** One customer has a /64 of IPv6. */
function hostKey(address: string): string {
  if (!address.includes(":")) return address;
  const [head = "", tail] = address.split("::");
  const groups = head.split(":").filter((group) => group !== "");
  const missing = tail === undefined ? 0 : 8 - groups.length - tail.split(":").length;
  const whole = [...groups, ...Array<string>(Math.max(0, missing)).fill("0")];
  return whole.slice(0, 4).join(":");
}
