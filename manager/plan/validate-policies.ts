// Whether what a service asks of its managers beyond Docker's services means something: how it is restarted.

import type { ServiceSpec } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { State } from "../store/types.ts";
import { policiesLevel } from "../store/wire.ts";

/** Throws `invalid`, and `unsupported` as long as a manager is too old to know of it. */
export function validatePolicies(state: State, spec: ServiceSpec): void {
  const maxDelay = spec.TaskTemplate?.RestartPolicy?.MaxDelay;
  if ((maxDelay ?? 0) < 0)
    throw new SwarmError("invalid", "TaskSpec: restart-max-delay cannot be negative");
  const isUsed = maxDelay !== undefined;
  if (isUsed && (state.cluster?.FeatureLevel ?? 0) < policiesLevel)
    throw new SwarmError(
      "unsupported",
      `service ${spec.Name} asks for what a manager of this swarm is too old for: upgrade all managers first`,
    );
}
