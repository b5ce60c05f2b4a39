// What services may ask of the managers beyond Docker's: rebalancing. Flags for `service create` and `update`.

import type { ServiceSpec } from "../proto/gen/types.ts";
import type { Body } from "./body.ts";
import type { DockerCommand } from "./command.ts";
import { count } from "./values.ts";

export interface PolicyFlags {
  readonly rebalance?: boolean;
  readonly rebalanceThreshold?: number;
}

export function addPolicyFlags(command: DockerCommand): DockerCommand {
  return command
    .deniable("--rebalance", "Move running tasks to emptier nodes, each when its successor runs")
    .option(
      "--rebalance-threshold <uint>",
      "How many more tasks a node has to have than another (default 2)",
      count,
    );
}

/** The policies after the flags; those that are taken away are empty. */
export function changePolicies(
  before: Body<ServiceSpec>,
  flags: PolicyFlags,
): Pick<Body<ServiceSpec>, "Rebalance"> {
  return { Rebalance: rebalance(before.Rebalance, flags) };
}

function rebalance(
  before: Body<ServiceSpec>["Rebalance"],
  { rebalance: isOn, rebalanceThreshold: Threshold }: PolicyFlags,
): Body<ServiceSpec>["Rebalance"] {
  if (isOn === false) return before === undefined ? undefined : {};
  if (isOn === undefined && Threshold === undefined) return before;
  return { Enabled: true, Threshold: Threshold ?? before?.Threshold };
}
