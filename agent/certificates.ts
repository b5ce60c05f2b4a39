// The node's certificate is renewed in time, follows the cluster's root, and those who use it are told.

import type { SessionInfo } from "../proto/gen/types.ts";
import { type NodeIdentity, writeCertificate } from "../proto/identity.ts";
import { messageOf } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import { csrFor } from "./session/identity.ts";
import { renewCertificate } from "./session/renew.ts";
import { isOutdated, lifeOf, otherRoot, renewAt, whyOver } from "./session/renewal.ts";

const retryMsMin = 1_000;
const retryMsMax = 60_000;
/** Clocks are set: not too long is waited by a timer. */
const lookMsMax = 3_600_000;
/** A manager's work for one certificate: as many nodes as there are spread theirs over as long. */
const signingMs = 8;
const spreadMsMin = 200;

/** What uses the certificate. */
export interface Holder {
  readonly identity: NodeIdentity;
  renewed(identity: NodeIdentity): void;
}

/** The manager process beside us. */
export interface OwnManager {
  start(): Promise<void>;
  /** The next certificate, PEM, when the one there is is over. */
  recertify(csr: string): Promise<string>;
  renewed(): Promise<void>;
}

export interface CertificatesOptions {
  /** data-root/identity */
  readonly directory: string;
  /** Called when the files are written, before the holder hears of it. */
  readonly written: (identity: NodeIdentity) => Promise<void>;
  /** How many nodes there are beside this one. */
  readonly peers: () => number;
  readonly world: World;
  readonly log: Log;
}

export class Certificates {
  readonly #options: CertificatesOptions;
  #info: SessionInfo | null = null;
  #wake = new AbortController();
  /** One after the other: a change of role renews as well. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: CertificatesOptions) {
    this.#options = options;
  }

  /** What a manager has just said. */
  told(info: SessionInfo): void {
    this.#info = info;
    this.#wake.abort();
  }

  /** Gets the certificate for the role the node should have now. Rejects as `renewCertificate`. */
  renew(holder: Holder, signal: AbortSignal): Promise<void> {
    return this.#inTurn(async () => {
      const { directory } = this.#options;
      await this.#use(holder, await renewCertificate(directory, holder.identity, signal));
    });
  }

  /** A manager has the CA's key: one that was off for longer than its certificate lived makes itself another. */
  async revived(identity: NodeIdentity, manager: OwnManager): Promise<NodeIdentity> {
    const { directory, world, log } = this.#options;
    if (identity.role !== "manager" || whyOver(identity, world.now()) === "") return identity;
    try {
      await manager.start();
      const certificate = await manager.recertify(await csrFor(identity.key));
      const revived = { ...identity, certificate };
      await writeCertificate(directory, revived);
      await manager.renewed();
      return revived;
    } catch (error) {
      log.error({ error: messageOf(error) }, "this manager's certificate is over");
      return identity;
    }
  }

  /** Until the signal aborts. */
  async run(holder: Holder, signal: AbortSignal): Promise<void> {
    const { world, log } = this.#options;
    let certificate = "";
    let chance = 0;
    for (let failures = 0; !signal.aborted; ) {
      this.#wake = new AbortController();
      if (certificate !== holder.identity.certificate) {
        certificate = holder.identity.certificate;
        chance = world.random();
      }
      try {
        await this.#followRoot(holder);
        const isWanted = this.#info !== null && isOutdated(holder.identity, this.#info);
        const waitMs = renewAt(certificate, chance) - world.now();
        if (!isWanted && waitMs > 0) {
          await this.#sleep(Math.min(lookMsMax, waitMs), signal);
          continue;
        }
        if (isWanted) await world.sleep(world.random() * this.#spreadMs(), signal);
        await this.renew(holder, signal);
        failures = 0;
        log.info(
          { ends: new Date(lifeOf(holder.identity.certificate).ends) },
          "renewed the certificate",
        );
        // Whatever the managers want: not more often.
        await world.sleep(retryMsMin, signal).catch(() => {});
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        const leftMs = lifeOf(certificate).ends - world.now();
        const base = Math.min(
          retryMsMax,
          Math.max(retryMsMin, leftMs / 20),
          retryMsMin * 2 ** failures,
        );
        log.warn({ error: messageOf(error), failures }, "the certificate could not be renewed yet");
        await world.sleep(base * (0.5 + world.random() / 2), signal).catch(() => {});
      }
    }
  }

  #spreadMs(): number {
    return spreadMsMin + this.#options.peers() * signingMs;
  }

  async #sleep(ms: number, signal: AbortSignal): Promise<void> {
    const woken = AbortSignal.any([signal, this.#wake.signal]);
    await this.#options.world.sleep(ms, woken).catch(() => {});
  }

  async #followRoot(holder: Holder): Promise<void> {
    const rootCA = this.#info === null ? null : otherRoot(holder.identity, this.#info);
    if (rootCA === null) return;
    await this.#inTurn(async () => {
      const identity = { ...holder.identity, rootCA };
      await writeCertificate(this.#options.directory, identity);
      await this.#use(holder, identity);
    });
    this.#options.log.info({}, "the cluster's root certificate is another one now");
  }

  async #use(holder: Holder, identity: NodeIdentity): Promise<void> {
    await this.#options.written(identity);
    holder.renewed(identity);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => {});
    return turn;
  }
}
