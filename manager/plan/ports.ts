// Published ports: which are taken, which are given when the spec leaves the choice.

import type { PortConfig, Service } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { State } from "../store/types.ts";

export const dynamicPortMin = 30_000;
export const dynamicPortMax = 32_767;

export function protocolOf(port: Pick<PortConfig, "Protocol">): string {
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
  for (const port of wanted) refuseTaken(state, service.ID, port);
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
    const protocol = protocolOf(port);
    const PublishedPort = dynamicPort(
      service,
      port,
      (candidate) =>
        own.has(portKey(protocol, candidate)) ||
        holderOf(state, service.ID, protocol, candidate) !== undefined,
    );
    own.add(portKey(protocol, PublishedPort));
    return { ...result, PublishedPort };
  });
}

function dynamicPort(
  service: Pick<Service, "Endpoint">,
  port: PortConfig,
  isTaken: (port: number) => boolean,
): number {
  const before = (service.Endpoint?.Ports ?? []).find(
    (one) =>
      isIngressPort(one) &&
      one.TargetPort === port.TargetPort &&
      protocolOf(one) === protocolOf(port) &&
      one.PublishedPort >= dynamicPortMin &&
      one.PublishedPort <= dynamicPortMax &&
      !isTaken(one.PublishedPort),
  );
  if (before !== undefined) return before.PublishedPort;
  for (let candidate = dynamicPortMin; candidate <= dynamicPortMax; candidate++)
    if (!isTaken(candidate)) return candidate;
  throw new SwarmError(
    "exhausted",
    `no port of ${dynamicPortMin}-${dynamicPortMax} is free for ${protocolOf(port)}; publish a port of your choice`,
  );
}

/** Another service that publishes the port: one that does so on every node before one that does on its tasks' nodes. */
function holderOf(
  state: State,
  serviceId: string,
  protocol: string,
  publishedPort: number,
): { readonly service: Service; readonly isIngress: boolean } | undefined {
  let found: { readonly service: Service; readonly isIngress: boolean } | undefined;
  for (const service of state.servicesOfPort(protocol, publishedPort)) {
    if (service.ID === serviceId) continue;
    const isIngress = (service.Endpoint?.Ports ?? []).some(
      (port) =>
        port.PublishedPort === publishedPort &&
        protocolOf(port) === protocol &&
        isIngressPort(port),
    );
    if (found === undefined || isIngress) found = { service, isIngress };
  }
  return found;
}

/** Two services may both publish a port in host mode: they then never share a node. */
function refuseTaken(state: State, serviceId: string, port: PortConfig): void {
  if (port.PublishedPort === 0) return;
  const holder = holderOf(state, serviceId, protocolOf(port), port.PublishedPort);
  if (holder === undefined) return;
  if (!isIngressPort(port) && !holder.isIngress) return;
  throw new SwarmError(
    "invalid",
    `port '${port.PublishedPort}' is already in use by service '${holder.service.Spec?.Name ?? ""}' (${holder.service.ID}) as ${holder.isIngress ? "an ingress port" : "a host-published port"}`,
  );
}
