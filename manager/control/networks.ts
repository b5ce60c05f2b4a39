// Networks at the control door.

import type { Network } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { newId } from "../../proto/kit/ids.ts";
import type { Handlers } from "../../proto/rpc-server.ts";
import { networkWarnings } from "../plan/validate.ts";
import { createNetwork, removeNetwork } from "../plan/write.ts";
import { type ControlContext, change, fresh } from "./context.ts";
import { checkValue, filterBy, hasLabel, type Matchers, truth } from "./filters.ts";
import { find } from "./find.ts";

type NetworkHandlers = Pick<
  Handlers<"Control">,
  "CreateNetwork" | "GetNetwork" | "ListNetworks" | "RemoveNetwork"
>;

export function networkHandlers(context: ControlContext): NetworkHandlers {
  return {
    CreateNetwork: (request, caller) => {
      const id = newId();
      return change(context, caller, (state) => {
        if (request.Spec === undefined) throw new SwarmError("invalid", "network spec is missing");
        const { changes } = createNetwork(state, request.Spec, { id });
        const Warning = networkWarnings(request.Spec).join("; ");
        return { changes, result: { ID: id, Warning } };
      });
    },
    GetNetwork: async (request, caller) =>
      find(await fresh(context, caller), "network", request.ID),
    ListNetworks: async (request, caller) => {
      const state = await fresh(context, caller);
      const passes = filterBy(request.Filters, matchers);
      return { Items: [...state.table("network").values()].filter(passes) };
    },
    RemoveNetwork: (request, caller) =>
      change(context, caller, (state) => {
        const network = find(state, "network", request.ID);
        if (network.Spec?.Ingress === true)
          for (const service of state.table("service").values())
            if ((service.Endpoint?.Ports ?? []).some((port) => port.PublishMode !== "host"))
              throw new SwarmError(
                "precondition",
                `ingress network cannot be removed because service ${service.Spec?.Name ?? service.ID} depends on it`,
              );
        return { changes: removeNetwork(state, network.ID), result: {} };
      }),
  };
}

const matchers: Matchers<Network> = {
  id: (network, value) => network.ID.startsWith(value),
  name: (network, value) => (network.Spec?.Name ?? "").includes(value),
  label: (network, value) => hasLabel(network.Spec?.Labels, value),
  driver: (network, value) => network.Spec?.Driver === value,
  scope: (_network, value) => value === "swarm",
  type: (network, value) => {
    checkValue("type", value, ["custom", "builtin"]);
    return (value === "builtin") === (network.Spec?.Ingress === true);
  },
  dangling: (_network, value) => !truth("dangling", value),
};
