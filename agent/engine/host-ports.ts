// Which ports of the host a container gets where it leaves that open: any, or one of a range. Pure but for where it went on last.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { HostConfig } from "./container-types.ts";

export type Ports = NonNullable<HostConfig["PublishedPorts"]>;

/** Linux' own range of ports given at will. */
const portMin = 32_768;
const portMax = 60_999;

export class HostPorts {
  #last = portMin - 1;

  /** Ports given at will, and ranges, get one that is not taken. Throws `exhausted`. */
  choose(wanted: Ports, inUse: Iterable<number>): Ports {
    const taken = new Set(inUse);
    return wanted.map((port) => {
      if (!isAtWill(port)) return port;
      const { publishedPortLast, ...single } = port;
      const chosen =
        publishedPortLast === undefined
          ? this.#next(taken)
          : firstFree(port.publishedPort, publishedPortLast, taken);
      taken.add(chosen);
      return { ...single, publishedPort: chosen };
    });
  }

  #next(taken: ReadonlySet<number>): number {
    for (let tries = portMin; tries <= portMax; tries++) {
      this.#last = this.#last >= portMax ? portMin : this.#last + 1;
      if (!taken.has(this.#last)) return this.#last;
    }
    throw allTaken();
  }
}

export function isAtWill(port: Ports[number]): boolean {
  return port.publishedPort === 0 || port.publishedPortLast !== undefined;
}

function firstFree(first: number, last: number, taken: ReadonlySet<number>): number {
  for (let port = first; port <= last; port++) if (!taken.has(port)) return port;
  throw allTaken();
}

function allTaken(): SwarmError {
  return new SwarmError("exhausted", "all dynamic ports have been allocated");
}
