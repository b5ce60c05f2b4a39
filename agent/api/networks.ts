// /networks: the swarm's overlay networks, and the three every Docker host has.

import type { FastifyInstance, FastifyReply } from "fastify";
import { z } from "zod";
import { codec } from "../../proto/codec.ts";
import type { Network, NetworkSpec, Node, Service, Task } from "../../proto/gen/types.ts";
import { asSwarmError, SwarmError } from "../../proto/kit/errors.ts";
import { isNodeNetwork, type NodeNetwork } from "../../proto/networks.ts";
import { localDrivers } from "../engine/direct-networks.ts";
import { type Json, networkJson } from "./adapt.ts";
import { controlOf, listRequest, readerOf } from "./control.ts";
import { endpointWish } from "./create.ts";
import { endpointBody } from "./create-body.ts";
import { notYet, StatusError, withStatus } from "./errors.ts";
import {
  checkFrom,
  containersOn,
  createLocal,
  findLocal,
  isInUse,
  isPredefined,
  localNetworks,
} from "./local-networks.ts";
import { predefined } from "./predefined.ts";
import {
  type Filters,
  flagFilter,
  jsonBody,
  labelsMatch,
  onlyFilters,
  parameter,
  parseBody,
  Query,
  untilOf,
} from "./request.ts";
import type { ApiContext } from "./types.ts";

const knownFilters = ["dangling", "driver", "id", "label", "name", "scope", "type"];

export function addNetworks(app: FastifyInstance, context: ApiContext): void {
  app.get("/networks", async (request, reply) => {
    const filters = new Query(request).filters();
    onlyFilters(filters, knownFilters);
    const all = [...localNetworks(context), ...(await swarmNetworks(context, reply))];
    return all.filter((network) => matches(context, network, filters));
  });

  app.post("/networks/create", async (request, reply) => {
    const spec = networkSpec(jsonBody(request));
    if (predefined.some(({ name }) => name === spec.Name))
      throw new StatusError(
        403,
        "denied",
        `operation is not permitted on predefined ${spec.Name} network`,
      );
    if (isLocal(jsonBody(request), spec)) {
      const id = await createLocal(context, jsonBody(request));
      return reply.code(201).send({ Id: id, Warning: "" });
    }
    checkSwarmScope(context, jsonBody(request), spec.Driver);
    const created = await controlOf(context).unary("CreateNetwork", { Spec: spec });
    return reply.code(201).send({ Id: created.ID, Warning: created.Warning });
  });

  app.get("/networks/:id", async (request, reply) => {
    const id = parameter(request, "id");
    const query = new Query(request);
    const scope = query.text("scope");
    const local = ["", "local"].includes(scope) ? findLocal(context, id) : undefined;
    if (local !== undefined) return local;
    if (!["", "swarm"].includes(scope)) throw notFound(id);
    if (isNodeNetwork(id)) return nodeNetwork(context, id);
    const network = await findSwarm(context, id, reply);
    const json = { ...networkJson(network), Containers: containersOn(context, network.ID) };
    // Who else is on it, managers alone know.
    return query.flag("verbose") && context.membership.local().isManager
      ? { ...json, ...(await verbose(context, network, reply)) }
      : json;
  });

  app.delete("/networks/:id", async (request, reply) => {
    const id = parameter(request, "id");
    const local = findLocal(context, id);
    if (local !== undefined && !isPredefined(local["Name"])) {
      await context.engine.removeNetwork(String(local["Id"]));
      return reply.code(204).send();
    }
    if (local !== undefined)
      throw new StatusError(
        403,
        "denied",
        `${local["Name"]} is a pre-defined network and cannot be removed`,
      );
    const network = await findSwarm(context, id, reply);
    await withStatus({ precondition: 403 }, () =>
      controlOf(context).unary("RemoveNetwork", { ID: network.ID, InsertDefaults: false }),
    );
    return reply.code(204).send();
  });

  app.post("/networks/prune", async (request, reply) => {
    const filters = new Query(request).filters();
    onlyFilters(filters, ["label", "label!", "until"]);
    return { NetworksDeleted: await prune(context, filters, reply) };
  });

  app.post("/networks/:id/connect", async (request, reply) => {
    const body = parseBody(connectBody, jsonBody(request));
    const network = networkName(context, parameter(request, "id"));
    const wish = endpointWish(network, body.EndpointConfig ?? {});
    await context.engine.connect(body.Container, network, wish);
    return reply.code(200).send();
  });

  app.post("/networks/:id/disconnect", async (request, reply) => {
    const body = parseBody(disconnectBody, jsonBody(request));
    const network = networkName(context, parameter(request, "id"));
    await context.engine.disconnect(body.Container, network, body.Force ?? false);
    return reply.code(200).send();
  });
}

const connectBody = z.object({ Container: z.string(), EndpointConfig: endpointBody.nullish() });
const disconnectBody = z.object({ Container: z.string(), Force: z.boolean().nullish() });

/** Throws `not_found`, `denied` for what no container can be connected to by hand. */
function networkName(context: ApiContext, id: string): string {
  // A worker does not know all networks of the swarm: its managers are asked when it joins one.
  const local = findLocal(context, id);
  if (local === undefined && context.membership.local().state !== "active") throw notFound(id);
  const name = String(local?.["Name"] ?? id);
  if (name === "host" || name === "none")
    throw new StatusError(
      403,
      "denied",
      `container cannot be connected to or disconnected from network ${name} while it exists`,
    );
  return name;
}

/** Docker's create body is not the spec itself: some names and the driver's place differ. */
function networkSpec(json: unknown): NetworkSpec {
  const spec = codec("NetworkSpec").parse(json);
  if (spec.Name === "") throw new SwarmError("invalid", "network name cannot be empty");
  return { ...spec, Driver: spec.Driver || "bridge", Scope: spec.Scope || "swarm" };
}

/** Of this node alone: by its driver, unless it is to be the swarm's, and always what others are only made from. */
function isLocal(json: unknown, { Driver }: NetworkSpec): boolean {
  const { ConfigOnly, Scope } = json as Json;
  if (ConfigOnly === true) return true;
  return (localDrivers as readonly string[]).includes(Driver) && Scope !== "swarm";
}

/** Of the whole swarm. Throws as Docker does what cannot be, and `unsupported` for what only Docker can. */
function checkSwarmScope(context: ApiContext, json: unknown, driver: string): void {
  const { ConfigFrom } = json as Json;
  const from = (ConfigFrom as { readonly Network?: string } | null | undefined)?.Network ?? "";
  if (driver === "overlay" && from === "") return;
  if (![...localDrivers, "overlay"].includes(driver))
    throw notYet(`a network with driver ${driver}`);
  checkFrom(context, json);
  const { state, isManager } = context.membership.local();
  if (state !== "active")
    throw new SwarmError("denied", "cannot create a swarm scoped network when swarm is not active");
  if (!isManager)
    throw new SwarmError(
      "denied",
      "Cannot create a multi-host network from a worker node. Please create the network from a manager node.",
    );
  throw new SwarmError(
    "unsupported",
    driver === "overlay"
      ? `an overlay network configured by another (${from}) is not available in this version of tsswarm: give it its subnet and options itself`
      : `a network with driver ${driver} for the whole swarm is not available in this version of tsswarm: make one on each node (without --scope) for containers run there; services have overlay networks, bridge, host and none`,
  );
}

/** Scope swarm: the network that every node has under this name, as services refer to it. */
function nodeNetwork(context: ApiContext, name: NodeNetwork): Json {
  return { ...findLocal(context, name), Id: name, Scope: "swarm" };
}

/** A service's network as the managers know it: what every node has by its name, whatever id it has here. */
export function targetOf(context: ApiContext, target: string): string {
  const name = findLocal(context, target)?.["Name"];
  return typeof name === "string" ? name : target;
}

async function swarmNetworks(context: ApiContext, reply: FastifyReply): Promise<Json[]> {
  const local = context.membership.local();
  if (local.state !== "active") return [];
  if (!local.isManager) return context.membership.networks().map(networkJson);
  const { Items } = await readerOf(context, reply).unary("ListNetworks", listRequest({}));
  return Items.map(networkJson);
}

async function findSwarm(context: ApiContext, id: string, reply: FastifyReply): Promise<Network> {
  const local = context.membership.local();
  if (local.state !== "active") throw notFound(id);
  if (!local.isManager) return findJoined(context, id);
  try {
    return await readerOf(context, reply).unary("GetNetwork", { ID: id, InsertDefaults: false });
  } catch (error) {
    if (asSwarmError(error).code === "not_found") throw notFound(id);
    throw error;
  }
}

/** A worker knows only the networks it takes part in. */
function findJoined(context: ApiContext, id: string): Network {
  const all = context.membership.networks();
  const exact = all.find((network) => network.ID === id || network.Spec?.Name === id);
  if (exact !== undefined) return exact;
  const [only, another] = all.filter((network) => network.ID.startsWith(id));
  if (only === undefined) throw notFound(id);
  if (another !== undefined) throw new SwarmError("invalid", `network ${id} is ambiguous`);
  return only;
}

function notFound(id: string): SwarmError {
  return new SwarmError("not_found", `network ${id} not found`);
}

function matches(context: ApiContext, network: Json, filters: Filters): boolean {
  const has = (name: string, test: (value: string) => boolean) =>
    filters[name] === undefined || filters[name].some(test);
  const builtin = isPredefined(network["Name"]) || network["Ingress"] === true;
  const isDangling = flagFilter(filters, "dangling");
  // Whether a swarm network is in use is known to the managers alone; what every host has is never dangling.
  const isUnused =
    !builtin && network["Scope"] === "local" && !isInUse(context, String(network["Id"]));
  return (
    has("id", (value) => String(network["Id"]).startsWith(value)) &&
    has("name", (value) => String(network["Name"]).includes(value)) &&
    has("driver", (value) => network["Driver"] === value) &&
    has("scope", (value) => network["Scope"] === value) &&
    has("type", (value) => value === (builtin ? "builtin" : "custom")) &&
    labelsMatch(network["Labels"] as Record<string, string>, filters["label"]) &&
    (isDangling === undefined || isDangling === isUnused)
  );
}

/** `network inspect --verbose`: services on the network with their tasks, and the nodes that take part. */
async function verbose(context: ApiContext, network: Network, reply: FastifyReply): Promise<Json> {
  const reader = readerOf(context, reply);
  const [services, tasks, nodes] = await Promise.all([
    reader.unary("ListServices", listRequest({})),
    reader.unary("ListTasks", listRequest({ "desired-state": ["running"] })),
    reader.unary("ListNodes", listRequest({})),
  ]);
  const node = new Map(nodes.Items.map((item) => [item.ID, item]));
  const attached = tasks.Items.filter((task) => addressOn(task, network.ID) !== undefined);
  const peers = new Set(attached.map((task) => task.NodeID));
  return {
    Peers: [...peers].flatMap((id) => peerJson(node.get(id))),
    Services: Object.fromEntries(
      services.Items.flatMap((service) => {
        const json = serviceOn(network.ID, service, attached, node);
        return json === null ? [] : [[service.Spec?.Name ?? service.ID, json]];
      }),
    ),
  };
}

function addressOn(task: Task, networkId: string): string | undefined {
  return task.NetworksAttachments.find((item) => item.Network?.ID === networkId)?.Addresses[0];
}

function peerJson(node: Node | undefined): Json[] {
  if (node === undefined) return [];
  return [{ Name: node.ID, IP: node.DataPathAddr || (node.Status?.Addr ?? "") }];
}

function serviceOn(
  networkId: string,
  service: Service,
  attached: readonly Task[],
  nodes: ReadonlyMap<string, Node>,
): Json | null {
  const tasks = attached.filter((task) => task.ServiceID === service.ID);
  const vip = service.Endpoint?.VirtualIPs.find((item) => item.NetworkID === networkId);
  if (tasks.length === 0 && vip === undefined) return null;
  const name = service.Spec?.Name ?? service.ID;
  return {
    VIP: vip?.Addr.split("/")[0] ?? "",
    Ports: (service.Endpoint?.Ports ?? []).map(
      (port) => `Target: ${port.TargetPort}, Publish: ${port.PublishedPort}`,
    ),
    LocalLBIndex: 0,
    Tasks: tasks.map((task) => ({
      Name: `${name}.${task.Slot ?? task.NodeID}.${task.ID}`,
      EndpointID: "",
      EndpointIP: addressOn(task, networkId)?.split("/")[0] ?? "",
      Info: { "Host IP": nodes.get(task.NodeID)?.Status?.Addr ?? "" },
    })),
  };
}

/** Removes what no service uses: the managers refuse the others. */
async function prune(
  context: ApiContext,
  filters: Filters,
  reply: FastifyReply,
): Promise<string[]> {
  const removed: string[] = [];
  const until = untilOf(filters, Date.now());
  for (const network of localNetworks(context)) {
    const labels = network["Labels"] as Record<string, string>;
    if (isPredefined(network["Name"]) || !labelsMatch(labels, filters["label"])) continue;
    // No container is ever on it: that says nothing.
    if (network["ConfigOnly"] === true) continue;
    if ((filters["label!"] ?? []).some((label) => labelsMatch(labels, [label]))) continue;
    if (until !== undefined && Date.parse(String(network["Created"])) > until) continue;
    if (isInUse(context, String(network["Id"]))) continue;
    await context.engine.removeNetwork(String(network["Id"]));
    removed.push(String(network["Name"]));
  }
  if (context.membership.local().isManager !== true) return removed;
  for (const network of await swarmNetworks(context, reply)) {
    const labels = network["Labels"] as Record<string, string>;
    if (network["Ingress"] === true || !labelsMatch(labels, filters["label"])) continue;
    if ((filters["label!"] ?? []).some((label) => labelsMatch(labels, [label]))) continue;
    if (until !== undefined && Date.parse(String(network["Created"])) > until) continue;
    try {
      await controlOf(context).unary("RemoveNetwork", {
        ID: String(network["Id"]),
        InsertDefaults: false,
      });
      removed.push(String(network["Name"]));
    } catch (error) {
      if (!["precondition", "not_found", "conflict"].includes(asSwarmError(error).code))
        throw error;
    }
  }
  return removed;
}
