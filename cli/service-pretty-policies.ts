// `service inspect --pretty`: what a service asks of the managers beyond Docker's, and what came of it.

import type { JobRun, Service } from "../proto/gen/types.ts";
import type { Body } from "./body.ts";
import { durationText } from "./values.ts";

const runsShownMax = 5;

export function policies({ Spec: spec, JobStatus: job }: Body<Service>): readonly string[] {
  const { Rebalance: rebalance, Schedule: schedule } = spec ?? {};
  const lines: string[] = [];
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
