// When a schedule is due: cron expressions in a time zone. Pure: the time is given.

import { Cron } from "croner";
import type { Schedule } from "../../proto/gen/types.ts";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { timestamp } from "../../proto/kit/world.ts";

/** The first time after `after`, in ms since 1970; null when there is none. Times that a clock leaves out when it is put forward come right after. */
export function nextRun(schedule: Schedule, after: number): number | null {
  return cron(schedule).nextRun(timestamp(after))?.getTime() ?? null;
}

/** Throws `invalid`. */
export function validateCron(schedule: Schedule, now: number): void {
  let next: number | null;
  try {
    next = nextRun(schedule, now);
  } catch (error) {
    const zone = schedule.TimeZone === "" ? "" : ` in ${schedule.TimeZone}`;
    throw new SwarmError("invalid", `schedule "${schedule.Cron}"${zone}: ${messageOf(error)}`);
  }
  if (next === null)
    throw new SwarmError("invalid", `schedule "${schedule.Cron}": there is no such time`);
}

function cron({ Cron: pattern, TimeZone }: Schedule): Cron {
  return new Cron(pattern, { timezone: TimeZone || "UTC", mode: "5-part", paused: true });
}
