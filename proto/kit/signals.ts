// Signals by the names people use. Pure.

import { constants } from "node:os";
import { SwarmError } from "./errors.ts";

const realtimeMin = 34;
const realtimeMax = 64;

/** `SIGTERM`, `term`, `15`, `SIGRTMIN+3`. Throws `invalid`. */
export function signalNumber(name: string): number {
  const upper = name.toUpperCase().replace(/^SIG/, "");
  if (/^\d+$/.test(upper)) {
    const number = Number(upper);
    if (number >= 1 && number <= realtimeMax) return number;
  }
  const realtime = /^RTM(IN|AX)(?:([+-])(\d+))?$/.exec(upper);
  if (realtime !== null) {
    const base = realtime[1] === "IN" ? realtimeMin : realtimeMax;
    const offset = Number(realtime[3] ?? 0) * (realtime[2] === "-" ? -1 : 1);
    const number = base + offset;
    if (number >= realtimeMin && number <= realtimeMax) return number;
  }
  const known = (constants.signals as Readonly<Record<string, number | undefined>>)[`SIG${upper}`];
  if (known === undefined) throw new SwarmError("invalid", `invalid signal: ${name}`);
  return known;
}
