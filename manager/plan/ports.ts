// Published ports: which are taken, which are given when the spec leaves the choice.

import type { PortConfig, Service } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { State } from "../store/types.ts";

export const dynamicPortMin = 30_000;
export const dynamicPortMax = 32_767;

export function protocolOf(port: PortConfig): string {
  return port.Protocol === "" ? "tcp" : port.Protocol;
}

export function isIngressPort(port: PortConfig): boolean {
  return port.PublishMode !== "host";
}

export function portKey(protocol: string, port: number): string {
  return `${protocol}/${port}`;
}

/**
 * The service's ports with every choice made; a choice made before for the same port is kept. Host-mode ports that
 * leave the choice stay 0: each task gets its own on its node. Throws `invalid` for a port that another service has,
 * `exhausted` when none of the dynamic ones is free.
 */
export function allocatePorts(
  state: State,
  service: Pick<Service, "ID" | "Endpoint">,
  wanted: readonly PortConfig[],
): readonly PortConfig[] {
  const taken = portsOfOthers(state, service.ID);
  for (const port of wanted) refuseTaken(port, taken);
  const own = new Set(
    wanted
      .filter((port) => port.PublishedPort !== 0)
      .map((port) => portKey(protocolOf(port), port.PublishedPort)),
  );
  return wanted.map((port) => {
    const result = {
      ...port,
      Protocol: protocolOf(port),
      PublishMode: port.PublishMode === "" ? "ingress" : port.PublishMode,
    };
    if (port.PublishedPort !== 0 || !isIngressPort(port)) return result;
    const PublishedPort = dynamicPort(service, port, (key) => taken.has(key) || own.has(key));
    own.add(portKey(protocolOf(port), PublishedPort));
    return { ...result, PublishedPort };
  });
}

function dynamicPort(
  service: Pick<Service, "Endpoint">,
  port: PortConfig,
  isTaken: (key: string) => boolean,
): number {
  const before = (service.Endpoint?.Ports ?? []).find(
    (one) =>
      isIngressPort(one) &&
      one.TargetPort === port.TargetPort &&
      protocolOf(one) === protocolOf(port) &&
      one.PublishedPort >= dynamicPortMin &&
      one.PublishedPort <= dynamicPortMax &&
      !isTaken(portKey(protocolOf(one), one.PublishedPort)),
  );
  if (before !== undefined) return before.PublishedPort;
  for (let candidate = dynamicPortMin; candidate <= dynamicPortMax; candidate++)
    if (!isTaken(portKey(protocolOf(port), candidate))) return candidate;
  throw new SwarmError(
    "exhausted",
    `no port of ${dynamicPortMin}-${dynamicPortMax} is free for ${protocolOf(port)}; publish a port of your choice`,
  );
}

interface Holder {
  readonly service: Service;
  readonly isIngress: boolean;
}

function portsOfOthers(state: State, serviceId: string): Map<string, Holder> {
  const taken = new Map<string, Holder>();
  for (const service of state.table("service").values()) {
    if (service.ID === serviceId) continue;
    for (const port of service.Endpoint?.Ports ?? [])
      if (port.PublishedPort !== 0)
        taken.set(portKey(protocolOf(port), port.PublishedPort), {
          service,
          isIngress: isIngressPort(port),
        });
  }
  return taken;
}

/** Two services may both publish a port in host mode: they then never share a node. */
function refuseTaken(port: PortConfig, taken: ReadonlyMap<string, Holder>): void {
  const holder = taken.get(portKey(protocolOf(port), port.PublishedPort));
  if (port.PublishedPort === 0 || holder === undefined) return;
  if (!isIngressPort(port) && !holder.isIngress) return;
  throw new SwarmError(
    "invalid",
    `port '${port.PublishedPort}' is already in use by service '${holder.service.Spec?.Name ?? ""}' (${holder.service.ID}) as ${holder.isIngress ? "an ingress port" : "a host-published port"}`,
  );
}
