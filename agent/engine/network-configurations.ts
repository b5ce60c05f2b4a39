// Networks that are none themselves, but what others are made from (Docker's config-only and config-from). Pure.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { LocalNetworkObject, LocalNetworkSpec } from "./types.ts";

export const operatorFields =
  "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.";

/** Throws `denied` with Docker's sentences: what one may not have, and what one made from another may not have of its own. */
export function checkConfiguration(spec: LocalNetworkSpec): void {
  if (spec.isConfiguration === true) {
    if (spec.isInternal || spec.isAttachable === true) throw denied(operatorFields);
    if (spec.configFrom !== undefined)
      throw denied("a configuration network cannot depend on another configuration network");
  }
  if (spec.configFrom === undefined) return;
  const hasOwn =
    spec.isIPv6 === true ||
    spec.subnets.length > 0 ||
    Object.keys(spec.labels).length > 0 ||
    Object.keys(spec.ipamOptions ?? {}).length > 0;
  if (hasOwn)
    throw denied(
      "user specified configurations are not supported if the network depends on a configuration network",
    );
  if (Object.keys(spec.options).length > 0)
    throw denied(
      "network driver options are not supported if the network depends on a configuration network",
    );
}

/** With the labels, options and subnets of the one it is made from. Throws `not_found`. */
export function withConfiguration(
  spec: LocalNetworkSpec,
  networks: readonly LocalNetworkObject[],
): LocalNetworkSpec {
  if (spec.configFrom === undefined) return spec;
  const from = networks.find(
    ({ name, configuration }) => name === spec.configFrom && configuration !== undefined,
  );
  if (from?.configuration === undefined)
    throw new SwarmError(
      "not_found",
      `configuration network ${JSON.stringify(spec.configFrom)} does not exist`,
    );
  const { labels, options, ipamOptions } = from;
  return {
    ...{ ...spec, ...from.configuration, labels, options },
    ...(ipamOptions === undefined ? {} : { ipamOptions }),
  };
}

/** Throws `denied` while others are made from it. */
export function checkUnused(
  { name, configuration }: LocalNetworkObject,
  networks: readonly LocalNetworkObject[],
): void {
  if (configuration === undefined) return;
  if (networks.some(({ configFrom }) => configFrom === name))
    throw denied(
      `error while removing network: configuration network ${JSON.stringify(name)} is in use`,
    );
}

function denied(message: string): SwarmError {
  return new SwarmError("denied", message);
}
