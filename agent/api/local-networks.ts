// The networks of this node alone: the three predefined ones, and those somebody made.

import { z } from "zod";
import { SwarmError } from "../../proto/kit/errors.ts";
import { mtuOption } from "../../proto/networks.ts";
import type { Container } from "../engine/container-types.ts";
import { type LocalDriver, localDrivers } from "../engine/direct-networks.ts";
import { networkType } from "../engine/local-networks.ts";
import {
  checkConfiguration,
  operatorFields,
  withConfiguration,
} from "../engine/network-configurations.ts";
import type { AskedSubnet, Subnet } from "../engine/subnets.ts";
import type { LocalNetworkObject, LocalNetworkSpec } from "../engine/types.ts";
import type { Json } from "./adapt.ts";
import { endpointId, macOn } from "./container-json.ts";
import { notYet, withStatus } from "./errors.ts";
import { map } from "./fields.ts";
import { predefined, predefinedId, shownNetworkId } from "./predefined.ts";
import { parseBody } from "./request.ts";
import type { ApiContext } from "./types.ts";

const createBody = z.object({
  Name: z.string(),
  Driver: z.string().nullish(),
  ConfigOnly: z.boolean().nullish(),
  ConfigFrom: z.object({ Network: z.string().nullish() }).nullish(),
  Ingress: z.boolean().nullish(),
  Scope: z.string().nullish(),
  Internal: z.boolean().nullish(),
  EnableIPv6: z.boolean().nullish(),
  Attachable: z.boolean().nullish(),
  Labels: map,
  Options: map,
  IPAM: z
    .object({
      Driver: z.string().nullish(),
      Options: z.record(z.string(), z.string()).nullish(),
      Config: z
        .array(
          z.object({
            Subnet: z.string().nullish(),
            Gateway: z.string().nullish(),
            IPRange: z.string().nullish(),
            AuxiliaryAddresses: z.record(z.string(), z.string()).nullish(),
          }),
        )
        .nullish(),
    })
    .nullish(),
});
const iccOption = "com.docker.network.bridge.enable_icc";
/** How old clients ask for IPv6. */
const ipv6Option = "com.docker.network.enable_ipv6";
/** Said by clients that mean the usual. */
const harmlessOptions = [iccOption, ipv6Option, "com.docker.network.bridge.enable_ip_masquerade"];

/**
 * The new network's id. Throws `invalid`, `conflict`, `denied` (403: its subnet overlaps), `not_found` (its configuration),
 * `precondition` (500, as with Docker: it cannot be on its parent), `unsupported`.
 */
export async function createLocal(context: ApiContext, json: unknown): Promise<string> {
  const body = parseBody(createBody, json);
  const spec = localSpec(body);
  if (spec.isConfiguration !== true) checkOptions(spec.driver ?? "bridge", body.Options);
  else if (body.Ingress === true || (body.Scope ?? "") !== "")
    throw new SwarmError("denied", operatorFields);
  const ipamDriver = body.IPAM?.Driver ?? "";
  if (ipamDriver !== "" && ipamDriver !== "default") throw notYet(`the IPAM driver ${ipamDriver}`);
  return withStatus({ denied: 403, precondition: 500 }, () => context.engine.createNetwork(spec));
}

function localSpec(body: z.infer<typeof createBody>): LocalNetworkSpec {
  const configFrom = body.ConfigFrom?.Network ?? "";
  const subnets = (body.IPAM?.Config ?? []).map((config) => {
    const { Subnet = "", Gateway = "", IPRange = "", AuxiliaryAddresses } = config;
    return {
      ...{ subnet: Subnet ?? "", gateway: Gateway ?? "", range: IPRange ?? "" },
      auxiliary: AuxiliaryAddresses ?? {},
    };
  });
  return {
    name: body.Name,
    driver: localDrivers.find((each) => each === body.Driver) ?? "bridge",
    isAttachable: body.Attachable === true,
    isConfiguration: body.ConfigOnly === true,
    ...(configFrom === "" ? {} : { configFrom }),
    labels: body.Labels,
    options: body.Options,
    isInternal: body.Internal === true,
    isIPv6: body.EnableIPv6 === true || body.Options[ipv6Option] === "true",
    ...(body.IPAM?.Options ? { ipamOptions: body.IPAM.Options } : {}),
    subnets: subnets.filter(({ subnet }) => subnet !== ""),
  };
}

/** As of a network of this node: what it is made from has to be here, and is all it has. Throws `not_found`, `denied`. */
export function checkFrom(context: ApiContext, json: unknown): void {
  const spec = localSpec(parseBody(createBody, json));
  checkConfiguration(spec);
  withConfiguration(spec, context.engine.networks());
}

/** Those of a bridge network have to mean something here; on a link of the host others are nobody's, as with Docker. */
function checkOptions(driver: LocalDriver, options: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(options))
    if (name === mtuOption) {
      if (!/^\d{2,5}$/.test(value))
        throw new SwarmError("invalid", `invalid MTU ${value}: a number of bytes is expected`);
    } else if (driver !== "bridge") continue;
    else if ([iccOption, ipv6Option].includes(name) && ["true", "false"].includes(value)) continue;
    else if (!harmlessOptions.includes(name) || value !== "true")
      throw notYet(`the option ${name} of a bridge network`);
}

export function localNetworks(context: ApiContext): Json[] {
  const own = predefined.map(({ name, driver }) => ({
    ...common,
    Name: name,
    Id: predefinedId(name),
    Created: "1970-01-01T00:00:00Z",
    Driver: driver,
    IPAM: { Driver: "default", Options: null, Config: name === "bridge" ? [bridgeIpam] : [] },
    Internal: false,
    Containers: containersOn(context, predefinedId(name)),
    Options: {},
    Labels: {},
  }));
  return [...own, ...context.engine.networks().map((network) => networkOf(context, network))];
}

const common = {
  Scope: "local",
  EnableIPv4: true,
  EnableIPv6: false,
  Attachable: false,
  Ingress: false,
  ConfigFrom: { Network: "" },
  ConfigOnly: false,
};
const bridgeIpam = { Subnet: "172.29.0.0/16", Gateway: "172.29.0.1" };

function networkOf(context: ApiContext, network: LocalNetworkObject): Json {
  return {
    ...common,
    Name: network.name,
    Id: network.id,
    Created: network.created,
    Driver: networkType(network),
    EnableIPv6:
      network.configuration?.isIPv6 ?? network.subnets.some(({ cidr }) => cidr.includes(":")),
    IPAM: {
      Driver: "default",
      Options: network.ipamOptions ?? null,
      Config: network.configuration?.subnets.map(askedJson) ?? network.subnets.map(subnetJson),
    },
    Internal: network.isInternal,
    Attachable: network.isAttachable === true,
    ConfigFrom: { Network: network.configFrom ?? "" },
    ConfigOnly: network.configuration !== undefined,
    Containers: containersOn(context, network.id),
    Options: network.options,
    Labels: network.labels,
  };
}

/** As Docker shows it: of a subnet that was asked for, nothing that was not. */
function subnetJson({ cidr, shown, isGatewayChosen, ...rest }: Subnet): Json {
  const gateway = isGatewayChosen === true ? "" : (shown?.gateway ?? rest.gateway);
  return askedJson({ ...rest, subnet: shown?.subnet ?? cidr, gateway });
}

function askedJson({ subnet, gateway, range = "", auxiliary = {} }: AskedSubnet): Json {
  return {
    Subnet: subnet,
    ...(range === "" ? {} : { IPRange: range }),
    ...(gateway === "" ? {} : { Gateway: gateway }),
    ...(Object.keys(auxiliary).length === 0 ? {} : { AuxiliaryAddresses: auxiliary }),
  };
}

export function isPredefined(name: unknown): boolean {
  return predefined.some((network) => network.name === name);
}

/** By name, id, or the beginning of an id. */
export function findLocal(context: ApiContext, id: string): Json | undefined {
  const all = localNetworks(context);
  const exact =
    all.find((network) => network["Id"] === id) ?? all.find((network) => network["Name"] === id);
  if (exact !== undefined || !/^[0-9a-f]{4,64}$/.test(id)) return exact;
  return all.find((network) => String(network["Id"]).startsWith(id));
}

/** Whether a container, running or not, is on it. */
export function isInUse(context: ApiContext, networkId: string): boolean {
  return context.engine.list().some((container) => isOn(container, networkId));
}

function isOn(container: Container, networkId: string): boolean {
  return Object.values(container.networks).some(
    ({ NetworkID }) => shownNetworkId(NetworkID) === networkId,
  );
}

/** Running containers on a network, in the shape of network inspect. */
export function containersOn(context: ApiContext, networkId: string): Json {
  const found: Json = {};
  for (const container of context.engine.list()) {
    if (container.state.Status !== "running") continue;
    for (const [name, attachment] of Object.entries(container.networks))
      if (shownNetworkId(attachment.NetworkID) === networkId)
        found[container.id] = {
          Name: container.name,
          EndpointID: endpointId(container, attachment.NetworkID),
          MacAddress: macOn(container, name),
          IPv4Address: `${attachment.IPAddress}/${attachment.IPPrefixLen}`,
          IPv6Address: attachment.GlobalIPv6Address
            ? `${attachment.GlobalIPv6Address}/${attachment.GlobalIPv6PrefixLen}`
            : "",
        };
  }
  return found;
}
