// `service inspect --pretty`: what a service asks of the managers beyond Docker's, and what came of it.

import type { JobRun, Service } from "../proto/gen/types.ts";
import type { Body } from "./body.ts";
import { durationText } from "./values.ts";

const runsShownMax = 5;

export function policies(service: Body<Service>): readonly string[] {
  const { Spec: spec, JobStatus: job, ScalingStatus: scaling } = service;
  const { Rebalance: rebalance, Schedule: schedule, Autoscale: scale } = spec ?? {};
  const lines: string[] = [];
  if (scale !== undefined)
    lines.push(
      "Autoscale:",
      ` Replicas:\t${scale.Min ?? 0} to ${scale.Max ?? 0}`,
      ...(scale.CPU === undefined ? [] : [` CPU:\t\t${scale.CPU} %`]),
      ...(scale.Memory === undefined ? [] : [` Memory:\t${scale.Memory} %`]),
      ...(scale.Window === undefined ? [] : [` Window:\t${durationText(scale.Window)}`]),
      ...(scaling === undefined ? [] : [` Last:\t\t${scaling.At ?? ""}: ${scaling.Message ?? ""}`]),
    );
  if (rebalance?.Enabled === true)
    lines.push(`Rebalance:\tfrom ${rebalance.Threshold ?? 2} tasks of difference`);
  if (schedule !== undefined)
    lines.push(
      "Schedule:",
      ` Times:\t\t${schedule.Cron ?? ""} (${schedule.TimeZone || "UTC"})`,
      ` Concurrency:\t${schedule.Concurrency || "forbid"}`,
      ...(schedule.Deadline === undefined
        ? []
        : [` Deadline:\t${durationText(schedule.Deadline)}`]),
      ...(job?.Runs ?? []).slice(-runsShownMax).map(runText),
    );
  return lines;
}

function runText({ Scheduled = "", State = "", Message = "" }: Body<JobRun>): string {
  return `  ${Scheduled.slice(0, 19)}Z ${State}${Message === "" ? "" : `: ${Message}`}`;
}
