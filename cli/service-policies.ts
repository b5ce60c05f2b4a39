// What services may ask of the managers beyond Docker's: rebalancing, schedules, scaling. Flags for `service create` and `update`.

import type { Autoscale, ServiceSpec } from "../proto/gen/types.ts";
import type { Body } from "./body.ts";
import type { DockerCommand } from "./command.ts";
import { count, duration, UsageError } from "./values.ts";

export interface PolicyFlags {
  readonly rebalance?: boolean;
  readonly rebalanceThreshold?: number;
  readonly autoscale?: Body<Autoscale>;
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
    .option(
      "--autoscale <bounds>",
      "Replicas by what tasks use: min=1,max=10,cpu=70[,memory=80][,window=5m] (percent of a task's limit); off",
      autoscale,
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
): Pick<Body<ServiceSpec>, "Autoscale" | "Rebalance" | "Schedule"> {
  const isOff = flags.autoscale !== undefined && flags.autoscale.Max === undefined;
  return {
    Autoscale:
      isOff && before.Autoscale === undefined ? undefined : (flags.autoscale ?? before.Autoscale),
    Rebalance: rebalance(before.Rebalance, flags),
    Schedule: schedule(before.Schedule, flags),
  };
}

/** min=1,max=10,cpu=70; of "off" nothing is left. */
export function autoscale(text: string): Body<Autoscale> {
  if (text === "off") return {};
  const wrong = (why: string) => new UsageError(`invalid autoscale "${text}": ${why}`);
  const given = new Map<string, string>();
  for (const part of text.split(",")) {
    const [, key = "", content = ""] = /^(min|max|cpu|memory|window)=(.+)$/.exec(part) ?? [];
    if (key === "")
      throw wrong("min=N,max=N,cpu=PERCENT,memory=PERCENT,window=DURATION is expected");
    if (given.has(key)) throw wrong(`${key} is given twice`);
    given.set(key, content);
  }
  const number = (key: string) => {
    const content = given.get(key)?.replace(/%$/, "");
    return content === undefined ? undefined : count(content);
  };
  const [Max, CPU, Memory] = [number("max"), number("cpu"), number("memory")];
  const window = given.get("window");
  if (Max === undefined) throw wrong("max is missing");
  if (CPU === undefined && Memory === undefined) throw wrong("cpu or memory is missing");
  const Window = window === undefined ? undefined : duration(window);
  return { Min: number("min") ?? 1, Max, CPU, Memory, Window };
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
