// Whether a host lives: any answer to a new TCP connection says so, also a refusal.

import { connect } from "node:net";
import { errnoOf } from "../../proto/kit/errors.ts";

/** Nobody has to listen there; a firewall that drops it silently makes the host look dead once its agent is. */
const probePort = 7946;
const probeTimeoutMs = 250;

/** `port` is for tests. */
export async function answers(
  address: string,
  signal: AbortSignal,
  port = probePort,
): Promise<boolean> {
  if (address === "" || signal.aborted) return false;
  return new Promise((resolve) => {
    const socket = connect({ host: address, port });
    const finish = (isAlive: boolean) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      socket.destroy();
      resolve(isAlive);
    };
    const stop = () => finish(false);
    const timer = setTimeout(stop, probeTimeoutMs);
    signal.addEventListener("abort", stop, { once: true });
    socket.once("connect", () => finish(true));
    socket.on("error", (error) => finish(["ECONNREFUSED", "ECONNRESET"].includes(errnoOf(error))));
  });
}
