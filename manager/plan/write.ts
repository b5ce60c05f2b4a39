// What a request from the door changes: a service with its revision and addresses, a network with its subnet.

import type {
  Cluster,
  Network,
  NetworkAttachmentConfig,
  NetworkSpec,
  Service,
  ServiceEndpoint,
  ServiceSpec,
} from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { timestamp } from "../../proto/kit/world.ts";
import { isNodeNetwork, overlaysOf, vniOption } from "../../proto/networks.ts";
import type { Change, State } from "../store/types.ts";
import { AddressPool } from "./addresses.ts";
import { bounded } from "./autoscale.ts";
import { validateCron } from "./cron.ts";
import { withKept } from "./kept.ts";
import { allocatePorts, isIngressPort } from "./ports.ts";
import { statusOfScheduled } from "./schedule.ts";
import {
  allocateSubnets,
  noAddress,
  usedUp6,
  vniMax,
  vniMin,
  withFurtherSubnet,
} from "./subnets.ts";
import { hasEnded, isJob, isWanted, runsTheSame, specVersionFor } from "./tasks.ts";
import { revisionOf } from "./update.ts";
import { validateNetwork, validateService } from "./validate.ts";
import { withFileDefaults } from "./validate-files.ts";

export interface ServiceWrite {
  readonly changes: readonly Change[];
  readonly service: Service;
}

/**
 * Creates (`previous` undefined) or updates a service: checks the spec, resolves its networks' names, gives its ports
 * and virtual addresses. Write the changes at once; on `conflict` compute them again from the newer state.
 * Throws `invalid`, `not_found` (a network), `conflict` (the name), `exhausted` (ports, addresses), `unsupported`.
 */
export function writeService(
  state: State,
  previous: Service | undefined,
  spec: ServiceSpec,
  options: {
    /** Of a new service. */
    readonly id: string;
    /** Milliseconds since 1970. */
    readonly now: number;
    /** The spec is PreviousSpec, asked for by `service rollback`. */
    readonly isRollback?: boolean;
  },
): ServiceWrite {
  const asked = options.isRollback === true ? spec : withKept(spec, previous?.Spec);
  const complete = withFileDefaults(resolveNetworks(state, asked));
  validateService(state, previous, complete);
  const wanted = bounded(complete);
  if (wanted.Schedule !== undefined) validateCron(wanted.Schedule, options.now);
  if (previous === undefined) return createService(state, wanted, options);
  const isSame = runsTheSame(previous.Spec, wanted);
  const SpecVersion = isSame ? previous.SpecVersion : specVersionFor(state, previous, wanted);
  const { PreviousSpec: _, UpdateStatus: __, JobStatus: ___, ScalingStatus, ...kept } = previous;
  const { endpoint, grown } = allocateService(state, {
    ID: previous.ID,
    Spec: wanted,
    Endpoint: previous.Endpoint,
  });
  const service: Service = {
    ...kept,
    ...(wanted.Autoscale && ScalingStatus && { ScalingStatus }),
    Spec: wanted,
    ...(previous.Spec === undefined ? {} : { PreviousSpec: previous.Spec }),
    SpecVersion,
    Endpoint: endpoint,
    ...jobStatus(previous, wanted, options.now),
    ...(options.isRollback === true && !isJob(wanted)
      ? {
          UpdateStatus: {
            State: "rollback_started",
            StartedAt: timestamp(options.now),
            Message: "manually requested rollback",
          },
        }
      : {}),
  };
  return serviceWrite(state, service, grown);
}

/** Each write of a job's spec is another execution of it, unless it has a schedule. */
function jobStatus(
  previous: Service | undefined,
  spec: ServiceSpec,
  now: number,
): Pick<Service, "JobStatus"> {
  if (!isJob(spec)) return {};
  if (spec.Schedule !== undefined)
    return { JobStatus: statusOfScheduled(previous, spec.Schedule, now) };
  const before = previous?.JobStatus?.JobIteration?.Index ?? -1;
  return {
    JobStatus: { JobIteration: { Index: before + 1 }, LastExecution: timestamp(now), Runs: [] },
  };
}

function createService(
  state: State,
  spec: ServiceSpec,
  { id, now }: { readonly id: string; readonly now: number },
): ServiceWrite {
  const { endpoint, grown } = allocateService(state, { ID: id, Spec: spec, Endpoint: undefined });
  const service: Service = {
    ID: id,
    CreatedAt: "",
    UpdatedAt: "",
    Spec: spec,
    SpecVersion: 1,
    Endpoint: endpoint,
    ...jobStatus(undefined, spec, now),
  };
  return serviceWrite(state, service, grown);
}

function serviceWrite(state: State, service: Service, grown: readonly Network[]): ServiceWrite {
  return {
    service,
    changes: [
      ...grown.map((object): Change => ({ op: "put", kind: "network", object })),
      { op: "put", kind: "service", object: service },
      ...revisionOf(state, service),
    ],
  };
}

/** The planner ends its tasks and forgets its revisions. Throws `not_found`. */
export function removeService(state: State, id: string): readonly Change[] {
  const service = state.table("service").get(id);
  if (service === undefined) throw new SwarmError("not_found", `service ${id} not found`);
  return [{ op: "delete", kind: "service", id, base: service.Version?.Index ?? 0 }];
}

/**
 * Ports and virtual addresses of a service as its spec wants them; what it has already is kept. `grown`: networks that
 * get a further subnet for it, to be written with it. Throws `invalid` (a port is taken, no ingress network), `exhausted`.
 */
function allocateService(
  state: State,
  service: {
    readonly ID: string;
    readonly Spec: ServiceSpec;
    readonly Endpoint: ServiceEndpoint | undefined;
  },
): { readonly endpoint: ServiceEndpoint; readonly grown: readonly Network[] } {
  const spec = service.Spec.EndpointSpec;
  const grown: Network[] = [];
  const Ports = allocatePorts(
    state,
    { ID: service.ID, ...(service.Endpoint === undefined ? {} : { Endpoint: service.Endpoint }) },
    spec?.Ports ?? [],
  );
  const networkIds = overlaysOf(service.Spec.TaskTemplate?.Networks).map((wanted) => wanted.Target);
  if (Ports.some(isIngressPort)) networkIds.push(ingressOf(state).ID);
  const VirtualIPs =
    spec?.Mode === "dnsrr"
      ? []
      : networkIds.flatMap((NetworkID) => {
          const kept = service.Endpoint?.VirtualIPs.filter((vip) => vip.NetworkID === NetworkID);
          if (kept !== undefined && kept.length > 0) return kept;
          return newVirtualIPs(state, NetworkID, grown).map((Addr) => ({ NetworkID, Addr }));
        });
  const endpoint = {
    // Shown: as with Docker, what was not asked for is not there.
    ...(spec === undefined ? {} : { Spec: { ...spec, Mode: spec.Mode || "vip" } }),
    Ports,
    VirtualIPs,
  };
  return { endpoint, grown };
}

/** One of each of its families. When the network is nearly full it is added to `grown`, with one subnet more. */
function newVirtualIPs(state: State, networkId: string, grown: Network[]): readonly string[] {
  const network = state.table("network").get(networkId);
  if (network === undefined) throw new SwarmError("not_found", `network ${networkId} not found`);
  const pool = new AddressPool(state, network);
  const addresses = pool.take();
  if (addresses !== null && !pool.isNearlyFull) return addresses;
  if (addresses === null && !pool.isNearlyFull)
    throw new SwarmError("exhausted", noAddress(network, usedUp6));
  const further = withFurtherSubnet(state, network);
  if ("network" in further) grown.push(further.network);
  if (addresses !== null) return addresses;
  if ("why" in further) throw new SwarmError("exhausted", noAddress(network, further.why));
  const first = new AddressPool(state, further.network).take();
  if (first === null) throw new SwarmError("exhausted", noAddress(network, "try again"));
  return first;
}

export function ingressOf(state: State): Network {
  for (const network of state.table("network").values())
    if (network.Spec?.Ingress === true) return network;
  throw new SwarmError("invalid", "cannot publish ports: there is no ingress network");
}

/**
 * The spec with its networks under TaskTemplate, each by id, or by name if every node has it; also where older clients
 * look for them, when they were given there alone. Throws `not_found`, `invalid`.
 */
function resolveNetworks(state: State, spec: ServiceSpec): ServiceSpec {
  const template = spec.TaskTemplate;
  const isOfTemplate = template !== undefined && template.Networks.length > 0;
  const wanted = isOfTemplate ? template.Networks : spec.Networks;
  if (template === undefined || wanted.length === 0) return spec;
  const seen = new Set<string>();
  const Networks: NetworkAttachmentConfig[] = [];
  for (const one of wanted) {
    const Target = isNodeNetwork(one.Target) ? one.Target : overlayId(state, one.Target);
    if (!seen.has(Target)) Networks.push({ ...one, Target });
    seen.add(Target);
  }
  const above = isOfTemplate ? [] : Networks;
  return { ...spec, Networks: above, TaskTemplate: { ...template, Networks } };
}

function overlayId(state: State, target: string): string {
  const networks = state.table("network");
  const found = networks.get(target) ?? networks.named(target);
  if (found === undefined) throw new SwarmError("not_found", `network ${target} not found`);
  if (found.Spec?.Ingress === true)
    throw new SwarmError(
      "invalid",
      `Service cannot be explicitly attached to the ingress network "${found.Spec.Name}"`,
    );
  return found.ID;
}

/** Creates a network: its subnet, its VNI and the cluster's next one. Throws as `newNetwork`. */
export function createNetwork(
  state: State,
  spec: NetworkSpec,
  options: { readonly id: string },
): { readonly changes: readonly Change[]; readonly network: Network } {
  const cluster = state.cluster;
  if (cluster === undefined) throw new SwarmError("unavailable", "there is no cluster yet");
  const asked = spec.Options[vniOption];
  const vni = asked === undefined ? freeVNI(state, cluster.NextVNI) : Number(asked);
  const network = newNetwork(state, cluster, spec, { id: options.id, vni });
  const put: Change = { op: "put", kind: "network", object: network };
  if (asked === undefined) {
    const object = { ...cluster, NextVNI: vni + 1 };
    return { network, changes: [put, { op: "put", kind: "cluster", object }] };
  }
  for (const other of state.table("network").values())
    if (other.VNI === vni)
      throw new SwarmError("conflict", `VNI ${vni} is taken by network ${other.Spec?.Name}`);
  return { network, changes: [put] };
}

/**
 * The network object alone, for the transaction that makes the cluster (give the ingress network VNI 4096 and the
 * cluster NextVNI 4097). Throws `invalid`, `conflict` (the name), `exhausted` (no free subnet), `unsupported`.
 */
export function newNetwork(
  state: State,
  cluster: Cluster,
  spec: NetworkSpec,
  options: { readonly id: string; readonly vni: number },
): Network {
  const wanted: NetworkSpec = { ...spec, Driver: spec.Driver || "overlay", Scope: "swarm" };
  validateNetwork(state, { ...wanted, Scope: spec.Scope });
  return {
    ID: options.id,
    CreatedAt: "",
    UpdatedAt: "",
    Spec: wanted,
    IPAM: allocateSubnets(state, cluster, wanted),
    VNI: options.vni,
  };
}

/** What `swarm init` gives the cluster to publish ports with. */
export const ingressSpec: NetworkSpec = {
  Name: "ingress",
  Labels: {},
  Driver: "overlay",
  Options: {},
  Internal: false,
  Attachable: false,
  Ingress: true,
  EnableIPv6: true,
  Scope: "swarm",
};

function freeVNI(state: State, next: number): number {
  const taken = new Set<number>();
  for (const network of state.table("network").values()) taken.add(network.VNI);
  let vni = Math.max(next, vniMin);
  for (let tries = 0; tries <= taken.size; tries++, vni++) {
    if (vni > vniMax) vni = vniMin;
    if (!taken.has(vni)) return vni;
  }
  throw new SwarmError("exhausted", "every VNI is taken");
}

/** Throws `not_found`, and `precondition` while a service or a task that shall go on uses it; what is stopping does not. */
export function removeNetwork(state: State, id: string): readonly Change[] {
  const network = state.table("network").get(id);
  if (network === undefined) throw new SwarmError("not_found", `network ${id} not found`);
  for (const service of state.table("service").values())
    if (usesNetwork(service, network))
      throw new SwarmError("precondition", `network ${id} is in use by service ${service.ID}`);
  const services = state.table("service");
  const task = state
    .tasksOfNetwork(id)
    .find(
      (one) =>
        isWanted(one) &&
        !hasEnded(one) &&
        (one.Attached !== undefined || services.get(one.ServiceID) !== undefined),
    );
  if (task?.Attached !== undefined)
    throw new SwarmError(
      "precondition",
      `network ${id} is in use by container ${task.Name} on node ${task.NodeID}`,
    );
  if (task !== undefined)
    throw new SwarmError("precondition", `network ${id} is in use by task ${task.ID}`);
  return [{ op: "delete", kind: "network", id, base: network.Version?.Index ?? 0 }];
}

function usesNetwork(service: Service, network: Network): boolean {
  return (
    service.Endpoint?.VirtualIPs.some((vip) => vip.NetworkID === network.ID) === true ||
    service.Spec?.TaskTemplate?.Networks.some((wanted) => wanted.Target === network.ID) === true
  );
}
