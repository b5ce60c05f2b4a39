// Whether what a service asks of its managers beyond Docker's services means something: restarts, rebalancing, schedules.

import type { ServiceSpec } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { State } from "../store/types.ts";
import { policiesLevel } from "../store/wire.ts";
import { isJob } from "./tasks.ts";

const thresholdMax = 100_000;

/** Throws `invalid`, and `unsupported` as long as a manager is too old to know of it. */
export function validatePolicies(state: State, spec: ServiceSpec): void {
  const maxDelay = spec.TaskTemplate?.RestartPolicy?.MaxDelay;
  if ((maxDelay ?? 0) < 0) throw invalid("TaskSpec: restart-max-delay cannot be negative");
  validateRebalance(spec);
  validateSchedule(spec);
  const isUsed = [maxDelay, spec.Rebalance, spec.Schedule].some((one) => one !== undefined);
  if (isUsed && (state.cluster?.FeatureLevel ?? 0) < policiesLevel)
    throw new SwarmError(
      "unsupported",
      `service ${spec.Name} asks for what a manager of this swarm is too old for: upgrade all managers first`,
    );
}

function validateRebalance({ Rebalance, Mode, TaskTemplate }: ServiceSpec): void {
  if (Rebalance === undefined) return;
  if (
    Mode?.Global !== undefined ||
    Mode?.GlobalJob !== undefined ||
    Mode?.ReplicatedJob !== undefined
  )
    throw invalid("only replicated services can be rebalanced");
  if (TaskTemplate?.Placement?.Preferences.some(({ Binpack }) => Binpack !== undefined))
    throw invalid("a service that fills nodes up (binpack) cannot be rebalanced");
  const threshold = Rebalance.Threshold ?? 2;
  if (threshold < 2 || threshold > thresholdMax)
    throw invalid(`rebalance threshold ${threshold} is not between 2 and ${thresholdMax}`);
}

const historyMax = 100;
const patternCharactersMax = 200;

/** Whether its times make sense is for `validateCron` to say. */
function validateSchedule(spec: ServiceSpec): void {
  const { Schedule } = spec;
  if (Schedule === undefined) return;
  if (!isJob(spec)) throw invalid("only jobs can be scheduled: replicated-job or global-job");
  if (Schedule.Cron.length > patternCharactersMax)
    throw invalid(`a schedule has at most ${patternCharactersMax} characters`);
  if (!["", "forbid", "allow", "replace"].includes(Schedule.Concurrency))
    throw invalid(
      `schedule: invalid concurrency "${Schedule.Concurrency}", one of forbid, allow, replace is expected`,
    );
  if ((Schedule.Deadline ?? 0) < 0) throw invalid("schedule: deadline cannot be negative");
  const history = Schedule.History ?? 1;
  if (history < 1 || history > historyMax)
    throw invalid(`schedule: history ${history} is not between 1 and ${historyMax}`);
}

function invalid(message: string): SwarmError {
  return new SwarmError("invalid", message);
}
