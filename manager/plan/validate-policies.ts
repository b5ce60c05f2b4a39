// Whether what a service asks of its managers beyond Docker's services means something: restarts, rebalancing, schedules, scaling.

import type { ServiceSpec } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { State } from "../store/types.ts";
import { policiesLevel } from "../store/wire.ts";
import { memoryOf } from "./autoscale.ts";
import { isGlobal, isJob } from "./tasks.ts";

const thresholdMax = 100_000;

/** Throws `invalid`, and `unsupported` as long as a manager is too old to know of it. */
export function validatePolicies(state: State, spec: ServiceSpec): void {
  const maxDelay = spec.TaskTemplate?.RestartPolicy?.MaxDelay;
  if ((maxDelay ?? 0) < 0) throw invalid("TaskSpec: restart-max-delay cannot be negative");
  validateRebalance(spec);
  validateSchedule(spec);
  validateAutoscale(spec);
  const isUsed = [maxDelay, spec.Rebalance, spec.Schedule, spec.Autoscale].some(
    (one) => one !== undefined,
  );
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

const replicasMax = 100_000;
const percentMax = 100_000;

function validateAutoscale(spec: ServiceSpec): void {
  const { Autoscale } = spec;
  if (Autoscale === undefined) return;
  if (isGlobal(spec) || isJob(spec)) throw invalid("only replicated services can be scaled by use");
  const { Min, Max, CPU, Memory, Window } = Autoscale;
  if (Min < 1 || Max < Min || Max > replicasMax)
    throw invalid(
      `autoscale: 1 <= min <= max <= ${replicasMax} is expected, not ${Min} and ${Max}`,
    );
  if (CPU === undefined && Memory === undefined)
    throw invalid("autoscale: a target is expected, cpu or memory in percent");
  for (const percent of [CPU ?? 1, Memory ?? 1])
    if (percent < 1 || percent > percentMax)
      throw invalid(`autoscale: ${percent} % is not between 1 and ${percentMax}`);
  if (Memory !== undefined && memoryOf(spec) === 0)
    throw invalid("autoscale: memory is in percent of a limit or reservation: give one of memory");
  if ((Window ?? 0) < 0) throw invalid("autoscale: window cannot be negative");
}

function invalid(message: string): SwarmError {
  return new SwarmError("invalid", message);
}
