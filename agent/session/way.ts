// Whether the way to a manager is open, asked by connections of TCP alone: they cost nothing, so they may be tried often.

import { connect } from "node:net";
import type { World } from "../../proto/kit/world.ts";

/** A lost first packet is sent again by TCP after a second only: a new connection is tried sooner. */
export const knockEveryMs = 300;
const knockMsMax = 1_500;

/** Whether something at the address (`host:port`) accepts a connection in time. */
export function accepts(address: string, msMax: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return Promise.resolve(false);
  const at = address.lastIndexOf(":");
  const host = address.slice(0, at).replace(/^\[(.*)\]$/, "$1");
  return new Promise((resolve) => {
    const socket = connect({ host, port: Number(address.slice(at + 1)) });
    const finish = (isOpen: boolean) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      socket.destroy();
      resolve(isOpen);
    };
    const stop = () => finish(false);
    const timer = setTimeout(stop, msMax);
    signal.addEventListener("abort", stop, { once: true });
    socket.once("connect", () => finish(true));
    socket.on("error", stop);
  });
}

/** Tries the addresses in turn until one accepts: that one; null when none has within `msMax`. */
export async function firstToAccept(
  addresses: readonly string[],
  msMax: number,
  world: World,
  signal: AbortSignal,
): Promise<string | null> {
  const done = new AbortController();
  const either = AbortSignal.any([signal, done.signal]);
  const end = world.monotonic() + msMax;
  let found: string | null = null;
  try {
    for (let i = 0; !either.aborted && world.monotonic() < end; i++) {
      const address = addresses[i % addresses.length] ?? "";
      void accepts(address, knockMsMax, either).then((isOpen) => {
        if (!isOpen) return;
        found ??= address;
        done.abort();
      });
      await world.sleep(knockEveryMs * (0.75 + world.random() / 2), either).catch(() => {});
    }
  } finally {
    done.abort();
  }
  return found;
}
