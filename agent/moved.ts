// That this machine's address has changed: noticed, and what it is now.

import { SwarmError } from "../proto/kit/errors.ts";
import { isLoopback } from "../proto/kit/ip.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import { hostOf, type Interfaces, usableAddresses } from "./addresses.ts";
import type { Addresses } from "./settings.ts";

const lookMs = 2_000;
/** The same answer so often: an address that is only being set anew is away for a moment. */
const looksMin = 2;

/** The interface that has the data path's address; null where none has. Loopback, of a cluster of this machine alone, never moves. */
export function deviceOf({ dataPathAddr }: Addresses, interfaces: Interfaces): string | null {
  if (isLoopback(dataPathAddr)) return "lo";
  return usableAddresses(interfaces).find(({ address }) => address === dataPathAddr)?.name ?? null;
}

/**
 * Null as long as this machine has its data path's address, or it is not clear which took its place: that of the interface it was on
 * (`device`), else the one towards the managers (`towards`). An address for others that was another one than the data path's, as in
 * front of a NAT, is no business of this machine's interfaces and stays.
 */
export function movedAddresses(
  own: Addresses,
  device: string | null,
  towards: string | null,
  interfaces: Interfaces,
): Addresses | null {
  if (deviceOf(own, interfaces) !== null) return null;
  const there = usableAddresses(interfaces).filter(({ name }) => name === device);
  const address = there.length === 1 ? there[0]?.address : towards;
  if (address === undefined || address === null || address === own.dataPathAddr) return null;
  const { advertiseAddr, listenAddr, dataPathAddr } = own;
  const follow = (text: string) =>
    hostOf(text) === dataPathAddr ? text.replace(dataPathAddr, address) : text;
  return {
    dataPathAddr: address,
    advertiseAddr: follow(advertiseAddr),
    listenAddr: follow(listenAddr),
  };
}

export interface WatchOptions {
  readonly own: Addresses;
  readonly interfaces: () => Interfaces;
  /** This machine's address towards a manager; null without a way. */
  readonly towards: () => Promise<string | null>;
  readonly save: (addresses: Addresses) => Promise<void>;
  readonly world: Pick<World, "sleep">;
  readonly log: Log;
}

/** Until the signal aborts; throws once this machine has moved, and what it has now is saved: the agent starts anew with it. */
export async function watchAddresses(options: WatchOptions, signal: AbortSignal): Promise<void> {
  const { own, interfaces, towards, save, world, log } = options;
  let device = deviceOf(own, interfaces());
  let seen = "";
  let times = 0;
  for (;;) {
    await world.sleep(lookMs, signal);
    const now = interfaces();
    device = deviceOf(own, now) ?? device;
    const moved = movedAddresses(own, device, null, now) ?? (await elsewhere());
    const text = moved === null ? "" : JSON.stringify(moved);
    times = text === seen ? times + 1 : 1;
    seen = text;
    if (moved === null || times < looksMin) continue;
    log.warn({ before: own, after: moved }, "this machine's address has changed");
    await save(moved);
    throw new SwarmError(
      "precondition",
      `this machine's address was ${own.dataPathAddr} and is ${moved.dataPathAddr} now: the agent starts anew`,
    );
  }

  async function elsewhere(): Promise<Addresses | null> {
    const now = interfaces();
    return deviceOf(own, now) === null ? movedAddresses(own, device, await towards(), now) : null;
  }
}
