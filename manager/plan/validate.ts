// Whether a spec means something: throws `invalid` with Docker's sentences, `conflict` when the name is taken.

import { isIP } from "node:net";
import type {
  NetworkSpec,
  PlacementPreference,
  PortConfig,
  Service,
  ServiceSpec,
} from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import {
  gatewayPriorityOption,
  mtuOption,
  nodeNetworkOf,
  vniOption,
} from "../../proto/networks.ts";
import type { State } from "../store/types.ts";
import { parseConstraint } from "./constraints.ts";
import { isIngressPort, portKey, protocolOf } from "./ports.ts";
import { askedVniMin, unusedSubnets, validateIPAM, vniMax } from "./subnets.ts";
import { isGlobal, isJob } from "./tasks.ts";
import { checkFilesExist } from "./validate-files.ts";
import { validateHost } from "./validate-host.ts";
import { validatePolicies } from "./validate-policies.ts";
import { validateContainer, validateTemplate } from "./validate-task.ts";

const namePattern = /^[a-zA-Z0-9]+(?:[a-zA-Z0-9\-_]*?[a-zA-Z0-9])?$/;
const nameLengthMax = 63;
const portsMax = 1024;
const replicasMax = 100_000;

export function invalid(message: string): SwarmError {
  return new SwarmError("invalid", message);
}

/** `previous` is undefined for a new service. Networks must be resolved to ids already. */
export function validateService(
  state: State,
  previous: Service | undefined,
  spec: ServiceSpec,
): void {
  validateName(spec.Name);
  const holder = state.table("service").named(spec.Name);
  if (previous === undefined && holder !== undefined)
    throw new SwarmError(
      "conflict",
      `name conflicts with an existing object: service ${spec.Name} already exists`,
    );
  if (previous !== undefined && previous.Spec?.Name !== spec.Name)
    throw new SwarmError("unsupported", "renaming services is not supported");
  validateMode(previous?.Spec, spec);
  const template = spec.TaskTemplate;
  if (template === undefined) throw invalid("TaskSpec: missing task template");
  if (template.Runtime !== "" && template.Runtime !== "container")
    throw new SwarmError("unsupported", `RuntimeSpec: unimplemented runtime ${template.Runtime}`);
  if (template.ContainerSpec === undefined) throw invalid("ContainerSpec: missing in service spec");
  validateContainer(template.ContainerSpec, spec.Labels);
  validateHost(template.ContainerSpec.HostConfig, state.cluster);
  checkFilesExist(state, template.ContainerSpec);
  validateTemplate(template);
  for (const constraint of template.Placement?.Constraints ?? []) parseConstraint(constraint);
  validatePreferences(template.Placement?.Preferences ?? []);
  validatePolicies(state, spec);
  if (isJob(spec) && spec.UpdateConfig !== undefined)
    throw invalid("Jobs may not have an update config");
  validateUpdate("UpdateConfig", spec.UpdateConfig);
  validateUpdate("RollbackConfig", spec.RollbackConfig);
  validateEndpoint(spec);
  for (const { DriverOpts } of template.Networks) {
    const priority = DriverOpts[gatewayPriorityOption];
    if (priority !== undefined && !/^-?\d{1,9}$/.test(priority))
      throw invalid(`driver option ${gatewayPriorityOption}: "${priority}" is no whole number`);
  }
  validateNodeNetwork(spec);
}

/** A network of the node's own is alone, and leaves no way for the mesh. */
function validateNodeNetwork(spec: ServiceSpec): void {
  const networks = spec.TaskTemplate?.Networks ?? [];
  const own = nodeNetworkOf(networks);
  if (own === null) return;
  if (networks.length > 1)
    throw invalid(`a service on the node's network "${own}" cannot be on other networks too`);
  if (own === "bridge") return;
  for (const port of spec.EndpointSpec?.Ports ?? []) {
    if (own === "none") throw invalid(`a service on the network "none" cannot publish ports`);
    if (isIngressPort(port))
      throw invalid(
        `port ${port.TargetPort}: published with ingress mode can't be used with the network "host"; publish it with mode=host or not at all`,
      );
    if (port.PublishedPort !== port.TargetPort)
      throw invalid(
        `port ${port.TargetPort}: on the network "host" a container has the node's own ports, published and target port must be the same`,
      );
  }
}

function validateName(name: string): void {
  if (name === "") throw invalid("name must be provided");
  if (name.length > nameLengthMax)
    throw invalid(`name must be ${nameLengthMax} characters or fewer`);
  if (!namePattern.test(name)) throw invalid("name must be valid as a DNS name component");
}

function validateMode(previous: ServiceSpec | undefined, spec: ServiceSpec): void {
  const mode = spec.Mode;
  if (modesOf(spec).length > 1) throw invalid("must specify only one service mode");
  const { MaxConcurrent = 1, TotalCompletions = 1 } = mode?.ReplicatedJob ?? {};
  if (MaxConcurrent < 0) throw invalid("Maximum concurrent jobs must not be negative");
  if (TotalCompletions < 0) throw invalid("Total completed jobs must not be negative");
  if (Math.max(MaxConcurrent, TotalCompletions) > replicasMax)
    throw invalid(`A job's tasks must be ${replicasMax} or fewer`);
  const replicas = mode?.Replicated?.Replicas ?? 1;
  if (replicas < 0) throw invalid("Number of replicas must be non-negative");
  if (replicas > replicasMax) throw invalid(`Number of replicas must be ${replicasMax} or fewer`);
  if (isGlobal(spec) && (spec.TaskTemplate?.Placement?.MaxReplicas ?? 0) > 0)
    throw invalid("replicas-max-per-node can only be used with replicated or replicated-job mode");
  if (previous !== undefined && modesOf(previous).join() !== modesOf(spec).join())
    throw new SwarmError("unsupported", "service mode change is not allowed");
}

/** A spec that names none is replicated. */
function modesOf({ Mode }: ServiceSpec): readonly string[] {
  const named = (["Replicated", "Global", "ReplicatedJob", "GlobalJob"] as const).filter(
    (mode) => Mode?.[mode] !== undefined,
  );
  return named.length === 0 ? ["Replicated"] : named;
}

const preferencesMax = 16;

function validatePreferences(preferences: readonly PlacementPreference[]): void {
  if (preferences.length > preferencesMax)
    throw invalid(`more than ${preferencesMax} placement preferences`);
  for (const { Spread, Prefer, Binpack } of preferences) {
    if ([Spread, Prefer, Binpack].filter((one) => one !== undefined).length !== 1)
      throw invalid("a placement preference is one of Spread, Prefer and Binpack");
    if (Prefer !== undefined) parseConstraint(Prefer.Constraint);
  }
}

function validateUpdate(name: string, config: ServiceSpec["UpdateConfig"]): void {
  if (config === undefined) return;
  if ((config.Parallelism ?? 0) < 0) throw invalid(`${name}: parallelism cannot be negative`);
  if ((config.Delay ?? 0) < 0) throw invalid(`${name}: delay cannot be negative`);
  if ((config.Monitor ?? 0) < 0) throw invalid(`${name}: monitor cannot be negative`);
  const ratio = config.MaxFailureRatio ?? 0;
  if (!(ratio >= 0 && ratio <= 1))
    throw invalid(`${name}: max failure ratio cannot be less than 0 or bigger than 1`);
  const actions =
    name === "UpdateConfig" ? ["pause", "continue", "rollback"] : ["pause", "continue"];
  oneOf(`${name}: failure action`, config.FailureAction, actions);
  oneOf(`${name}: order`, config.Order, ["stop-first", "start-first"]);
}

export function oneOf(what: string, value: string | undefined, allowed: readonly string[]): void {
  if (value !== undefined && value !== "" && !allowed.includes(value))
    throw invalid(`${what}: invalid value "${value}", one of ${allowed.join(", ")} is expected`);
}

function validateEndpoint(spec: ServiceSpec): void {
  const endpoint = spec.EndpointSpec;
  if (endpoint === undefined) return;
  oneOf("EndpointSpec: mode", endpoint.Mode, ["vip", "dnsrr"]);
  if (endpoint.Ports.length > portsMax) throw invalid(`EndpointSpec: more than ${portsMax} ports`);
  if (endpoint.Mode === "dnsrr" && endpoint.Ports.some(isIngressPort))
    throw invalid("EndpointSpec: port published with ingress mode can't be used with dnsrr mode");
  const published = new Set<string>();
  const all = new Set<string>();
  for (const port of endpoint.Ports) {
    validatePort(port);
    const exact = JSON.stringify([
      port.Protocol,
      port.TargetPort,
      port.PublishedPort,
      port.PublishMode,
    ]);
    if (all.has(exact)) throw invalid("EndpointSpec: duplicate published ports provided");
    all.add(exact);
    if (port.PublishedPort === 0) continue;
    const key = portKey(protocolOf(port), port.PublishedPort);
    if (published.has(key)) throw invalid("EndpointSpec: duplicate published ports provided");
    published.add(key);
  }
}

function validatePort(port: PortConfig): void {
  oneOf("EndpointSpec: port protocol", port.Protocol, ["tcp", "udp", "sctp"]);
  oneOf("EndpointSpec: port publish mode", port.PublishMode, ["ingress", "host"]);
  if (port.Protocol === "sctp")
    throw new SwarmError(
      "unsupported",
      `port ${port.TargetPort}/sctp cannot be published: only tcp and udp can; on the overlay network itself SCTP passes between containers`,
    );
  if (!["", undefined].includes(port.HostIP) && isIP(port.HostIP ?? "") === 0)
    throw invalid(`EndpointSpec: host address "${port.HostIP}" is no IP address`);
  if (port.TargetPort < 1 || port.TargetPort > 65_535)
    throw invalid(`EndpointSpec: target port ${port.TargetPort} is not between 1 and 65535`);
  if (port.PublishedPort < 0 || port.PublishedPort > 65_535)
    throw invalid(`EndpointSpec: published port ${port.PublishedPort} is not between 1 and 65535`);
}

const mtuMin = 576;
const mtuMax = 65_485;

function validateNetworkOptions({ Options, IPAM }: NetworkSpec): void {
  const mtu = Options[mtuOption];
  if (mtu !== undefined && !isNumber(mtu, mtuMin, mtuMax))
    throw invalid(`option ${mtuOption}: "${mtu}" is no number from ${mtuMin} to ${mtuMax}`);
  const vni = Options[vniOption];
  if (vni !== undefined && !isNumber(vni, askedVniMin, vniMax))
    throw invalid(`option ${vniOption}: "${vni}" is no number from ${askedVniMin} to ${vniMax}`);
  if (!["", "default"].includes(IPAM?.Driver ?? ""))
    throw new SwarmError(
      "unsupported",
      `IPAM driver "${IPAM?.Driver}" is not supported: addresses are given by the cluster, leave it out`,
    );
}

function isNumber(text: string, min: number, max: number): boolean {
  return /^\d{1,9}$/.test(text) && Number(text) >= min && Number(text) <= max;
}

/** What is accepted, as Docker does, and does nothing. */
export function networkWarnings(spec: NetworkSpec): readonly string[] {
  const { Options, IPAM } = spec;
  const known = [mtuOption, vniOption, "encrypted"];
  const unknown = Object.keys(Options).filter((name) => !known.includes(name));
  return [
    ...unknown.map((name) => `option ${name} is not known to overlay networks: it does nothing`),
    ...Object.keys(IPAM?.Options ?? {}).map((name) => `IPAM option ${name} does nothing here`),
    ...unusedSubnets(spec).map(
      (subnet) => `subnet ${subnet} is not used: the network has no IPv6 (give --ipv6 for both)`,
    ),
  ];
}

export function validateNetwork(state: State, spec: NetworkSpec): void {
  if (spec.Name === "") throw invalid("name must be provided");
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(spec.Name))
    throw invalid(
      `invalid network name ${JSON.stringify(spec.Name)}: letters, digits, "_", "." and "-" are expected, a letter or digit first`,
    );
  if (["host", "bridge", "none", "default"].includes(spec.Name))
    throw new SwarmError("denied", `operation is not permitted on predefined ${spec.Name} network`);
  if (state.table("network").named(spec.Name) !== undefined)
    throw new SwarmError("conflict", `network with name ${spec.Name} already exists`);
  if (spec.Driver !== "overlay")
    throw new SwarmError(
      "unsupported",
      `network driver "${spec.Driver}" is not supported in a cluster: use overlay`,
    );
  if (spec.EnableIPv4 === false)
    throw new SwarmError(
      "unsupported",
      "an overlay network without IPv4 is not supported: with --ipv6 it has both",
    );
  if ("encrypted" in spec.Options && spec.Options["encrypted"] !== "false")
    throw new SwarmError(
      "unsupported",
      "encrypted overlay networks are not supported yet: the network is refused rather than left in the clear",
    );
  if (spec.Ingress)
    for (const network of state.table("network").values())
      if (network.Spec?.Ingress === true)
        throw new SwarmError("conflict", `ingress network (${network.ID}) is already present`);
  if (spec.Ingress && spec.Attachable) throw invalid("ingress network cannot be attachable");
  if (spec.Scope !== "" && spec.Scope !== "swarm")
    throw invalid(`an overlay network has the scope "swarm", not "${spec.Scope}"`);
  validateNetworkOptions(spec);
  validateIPAM(spec);
}
