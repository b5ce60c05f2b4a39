// A node becomes a manager, or a worker again, when its managers want it to.

import { removeKeyring } from "../proto/identity.ts";
import { messageOf } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import type { Role } from "../proto/tls.ts";
import type { Certificates } from "./certificates.ts";
import type { ManagerProcess } from "./manager-process.ts";
import type { Member } from "./member.ts";

const retryMs = 1_000;

export interface RoleChangeOptions {
  readonly manager: ManagerProcess;
  readonly certificates: Certificates;
  /** data-root/identity */
  readonly directory: string;
  /** Null once the node is in no swarm. */
  readonly member: () => Member | null;
  readonly world: World;
  readonly log: Log;
  /** Ends all trying. */
  readonly signal: AbortSignal;
}

export class RoleChange {
  readonly #options: RoleChangeOptions;
  #wanted: Role = "worker";
  #isUnderWay = false;
  #settled: Promise<void> = Promise.resolve();

  constructor(options: RoleChangeOptions) {
    this.#options = options;
  }

  get isUnderWay(): boolean {
    return this.#isUnderWay;
  }

  /** Resolves when no change is under way. */
  get settled(): Promise<void> {
    return this.#settled;
  }

  /** One change after the other, each tried until it is done, the node leaves, or the managers think again. */
  want(role: Role): void {
    this.#wanted = role;
    if (this.#isUnderWay) return;
    this.#isUnderWay = true;
    this.#settled = this.#change().finally(() => {
      this.#isUnderWay = false;
    });
  }

  async #change(): Promise<void> {
    const { member: current, world, log, signal } = this.#options;
    for (let failures = 0; !signal.aborted; ) {
      const member = current();
      if (member === null) return;
      const role = this.#wanted;
      try {
        await this.#become(role, member);
        log.info({ role: member.session.identity.role }, "this node has its role");
        if (role === this.#wanted) return;
      } catch (error) {
        failures += 1;
        log.warn({ role, failures, error: messageOf(error) }, "the role cannot be changed yet");
        await world.sleep(retryMs, signal).catch(() => {});
      }
    }
  }

  /** The certificate first: a manager without one would be refused, and one that stops needs none. */
  async #become(role: Role, { session, addresses }: Member): Promise<void> {
    const { manager, certificates, directory, signal } = this.#options;
    if (session.identity.role !== role) await certificates.renew(session, signal);
    if (session.identity.role === "manager") {
      await manager.start();
      await manager.join(addresses.listenAddr, addresses.advertiseAddr);
    } else {
      await manager.remove();
      await removeKeyring(directory, session.identity);
    }
  }
}
