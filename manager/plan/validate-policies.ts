// Whether what a service asks of its managers beyond Docker's services means something: restarts, rebalancing.

import type { ServiceSpec } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { State } from "../store/types.ts";
import { policiesLevel } from "../store/wire.ts";

const thresholdMax = 100_000;

/** Throws `invalid`, and `unsupported` as long as a manager is too old to know of it. */
export function validatePolicies(state: State, spec: ServiceSpec): void {
  const maxDelay = spec.TaskTemplate?.RestartPolicy?.MaxDelay;
  if ((maxDelay ?? 0) < 0) throw invalid("TaskSpec: restart-max-delay cannot be negative");
  validateRebalance(spec);
  const isUsed = [maxDelay, spec.Rebalance].some((one) => one !== undefined);
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

function invalid(message: string): SwarmError {
  return new SwarmError("invalid", message);
}
