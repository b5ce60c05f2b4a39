// What services may ask of the managers beyond Docker's: rebalancing, schedules. Flags for `service create` and `update`.

import type { ServiceSpec } from "../proto/gen/types.ts";
import type { Body } from "./body.ts";
import type { DockerCommand } from "./command.ts";
import { count, duration, UsageError } from "./values.ts";

export interface PolicyFlags {
  readonly rebalance?: boolean;
  readonly rebalanceThreshold?: number;
  readonly schedule?: string;
  readonly scheduleZone?: string;
  readonly scheduleConcurrency?: string;
  readonly scheduleDeadline?: number;
  readonly scheduleHistory?: number;
}

export function addPolicyFlags(command: DockerCommand): DockerCommand {
  return command
    .deniable("--rebalance", "Move running tasks to emptier nodes, each when its successor runs")
    .option(
      "--rebalance-threshold <uint>",
      "How many more tasks a node has to have than another (default 2)",
      count,
    )
    .option("--schedule <cron>", 'Run the job at times: "*/5 * * * *", @daily; "" for none')
    .option("--schedule-zone <zone>", "Time zone of the schedule, as Europe/Berlin (default UTC)")
    .option(
      "--schedule-concurrency <string>",
      "While an earlier run is under way: forbid (default), allow, replace",
    )
    .option(
      "--schedule-deadline <duration>",
      "How late a run may still begin (default 1m)",
      duration,
    )
    .option("--schedule-history <uint>", "How many runs are remembered (default 10)", count);
}

/** The policies after the flags; those that are taken away are empty. */
export function changePolicies(
  before: Body<ServiceSpec>,
  flags: PolicyFlags,
): Pick<Body<ServiceSpec>, "Rebalance" | "Schedule"> {
  return {
    Rebalance: rebalance(before.Rebalance, flags),
    Schedule: schedule(before.Schedule, flags),
  };
}

function schedule(
  before: Body<ServiceSpec>["Schedule"],
  flags: PolicyFlags,
): Body<ServiceSpec>["Schedule"] {
  if (flags.schedule === "") return before === undefined ? undefined : {};
  const given = {
    Cron: flags.schedule,
    TimeZone: flags.scheduleZone,
    Concurrency: flags.scheduleConcurrency,
    Deadline: flags.scheduleDeadline,
    History: flags.scheduleHistory,
  };
  const changed = Object.entries(given).filter(([, value]) => value !== undefined);
  if (changed.length === 0) return before;
  if (given.Cron === undefined && before === undefined)
    throw new UsageError("the other --schedule-… flags need --schedule");
  return { ...before, ...Object.fromEntries(changed) };
}

function rebalance(
  before: Body<ServiceSpec>["Rebalance"],
  { rebalance: isOn, rebalanceThreshold: Threshold }: PolicyFlags,
): Body<ServiceSpec>["Rebalance"] {
  if (isOn === false) return before === undefined ? undefined : {};
  if (isOn === undefined && Threshold === undefined) return before;
  return { Enabled: true, Threshold: Threshold ?? before?.Threshold };
}
