// /services: what should run.

import type { FastifyInstance, FastifyRequest } from "fastify";
import { codec } from "../../proto/codec.ts";
import type { Rehearsal, RehearsalRequest, ServiceSpec } from "../../proto/gen/types.ts";
import { asSwarmError, messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { serviceJson } from "./adapt.ts";
import { controlOf, listRequest, readerOf } from "./control.ts";
import { streamServiceLogs } from "./logs.ts";
import { targetOf } from "./networks.ts";
import { randomName } from "./random-name.ts";
import {
  askedVersion,
  jsonBody,
  parameter,
  Query,
  registryAuth,
  registryAuthHeader,
  requiredVersion,
} from "./request.ts";
import { clientGone } from "./stream.ts";
import type { ApiContext } from "./types.ts";
import { compareVersions } from "./versions.ts";

const namesTriedMax = 10;
const digestMsMax = 15_000;

export function addServices(app: FastifyInstance, context: ApiContext): void {
  app.get("/services", async (request, reply) => {
    const query = new Query(request);
    const { Items } = await readerOf(context, reply).unary(
      "ListServices",
      listRequest(query.filters(), query.flag("status")),
    );
    return Items.map(serviceJson);
  });

  app.post("/services/create", async (request, reply) => {
    const control = controlOf(context);
    const spec = specOf(context, request);
    const resolved = await withDigest(context, request, spec, clientGone(reply.raw));
    if (new Query(request).flag("dryRun"))
      return rehearsed(context, { ID: "", Version: 0, Spec: resolved.spec, Rollback: "" });
    const RegistryAuth = registryAuthHeader(request);
    const created = await withName(resolved.spec, (Spec) =>
      control.unary("CreateService", { Spec, RegistryAuth }),
    );
    return reply.code(201).send({
      ID: created.ID,
      Warnings: warnings([...resolved.warnings, ...created.Warnings]),
    });
  });

  app.get("/services/:id", async (request, reply) => {
    const service = await readerOf(context, reply).unary("GetService", {
      ID: parameter(request, "id"),
      InsertDefaults: new Query(request).flag("insertDefaults"),
    });
    return serviceJson(service);
  });

  app.post("/services/:id/update", async (request, reply) => {
    const control = controlOf(context);
    const query = new Query(request);
    const version = requiredVersion(query, "service");
    const rollback = query.text("rollback");
    if (rollback !== "" && rollback !== "previous")
      throw new SwarmError("invalid", `unrecognized rollback option ${rollback}`);
    const spec = specOf(context, request);
    const resolved =
      rollback === ""
        ? await withDigest(context, request, spec, clientGone(reply.raw), async () => {
            const id = parameter(request, "id");
            const before = await control.unary("GetService", { ID: id, InsertDefaults: false });
            return before.Spec?.TaskTemplate?.ContainerSpec?.Image ?? "";
          })
        : { spec, warnings: [] };
    const ID = parameter(request, "id");
    if (query.flag("dryRun"))
      return rehearsed(context, { ID, Version: version, Spec: resolved.spec, Rollback: rollback });
    const updated = await control.unary("UpdateService", {
      ID,
      Version: version,
      Spec: resolved.spec,
      RegistryAuth: registryAuthHeader(request),
      RegistryAuthFrom: query.text("registryAuthFrom"),
      Rollback: rollback,
    });
    return { Warnings: warnings([...resolved.warnings, ...updated.Warnings]) };
  });

  // Not in Docker's API, as `dryRun` above is not.
  app.get("/services/:id/explain", async (request, reply) =>
    readerOf(context, reply).unary("GetExplanation", {
      ID: parameter(request, "id"),
      InsertDefaults: false,
    }),
  );

  app.delete("/services/:id", async (request, reply) => {
    const id = parameter(request, "id");
    await controlOf(context).unary("RemoveService", { ID: id, InsertDefaults: false });
    return reply.code(200).send();
  });

  app.get("/services/:id/logs", async (request, reply) => {
    const control = controlOf(context);
    const service = await control.unary("GetService", {
      ID: parameter(request, "id"),
      InsertDefaults: false,
    });
    const tty = service.Spec?.TaskTemplate?.ContainerSpec?.TTY === true;
    await streamServiceLogs(context, request, reply, { ServiceID: service.ID, tty });
  });
}

/** What the request would do, if it were made. */
function rehearsed(context: ApiContext, asked: RehearsalRequest): Promise<Rehearsal> {
  return controlOf(context).unary("GetRehearsal", asked);
}

/** A service without a mode is replicated, and without a number it has one replica, as a job has one completion. */
function specOf(context: ApiContext, request: FastifyRequest): ServiceSpec {
  const spec = withTargets(context, codec("ServiceSpec").parse(jsonBody(request)));
  const mode = spec.Mode ?? {};
  if (mode.ReplicatedJob !== undefined) {
    const MaxConcurrent = mode.ReplicatedJob.MaxConcurrent ?? 1;
    const TotalCompletions = mode.ReplicatedJob.TotalCompletions ?? MaxConcurrent;
    return { ...spec, Mode: { ...mode, ReplicatedJob: { MaxConcurrent, TotalCompletions } } };
  }
  const isOther = mode.Global ?? mode.ReplicatedJob ?? mode.GlobalJob;
  if (mode.Replicated === undefined && isOther !== undefined) return spec;
  const Replicas = mode.Replicated?.Replicas ?? 1;
  return { ...spec, Mode: { ...mode, Replicated: { Replicas } } };
}

function withTargets(context: ApiContext, spec: ServiceSpec): ServiceSpec {
  const { TaskTemplate } = spec;
  if (TaskTemplate === undefined) return spec;
  const Networks = TaskTemplate.Networks.map((network) => ({
    ...network,
    Target: targetOf(context, network.Target),
  }));
  return { ...spec, TaskTemplate: { ...TaskTemplate, Networks } };
}

/** A service that was given no name gets one that is free, as in Docker. */
async function withName<T>(
  spec: ServiceSpec,
  create: (spec: ServiceSpec) => Promise<T>,
): Promise<T> {
  if (spec.Name !== "") return create(spec);
  for (let attempt = 1; ; attempt++)
    try {
      return await create({ ...spec, Name: randomName() });
    } catch (error) {
      if (asSwarmError(error).code !== "conflict" || attempt === namesTriedMax) throw error;
    }
}

function warnings(all: readonly string[]): readonly string[] | null {
  return all.length === 0 ? null : all;
}

/**
 * Pins the image's tag to the digest it has now. Since API 1.30 clients do this themselves (and may choose not to), so
 * only older and unversioned requests are helped. A registry that does not answer is a warning, as in Docker.
 */
async function withDigest(
  context: ApiContext,
  request: FastifyRequest,
  spec: ServiceSpec,
  signal: AbortSignal,
  present: () => Promise<string> = async () => "",
): Promise<{ spec: ServiceSpec; warnings: readonly string[] }> {
  const version = askedVersion(request);
  const template = spec.TaskTemplate;
  const container = template?.ContainerSpec;
  const clientsDuty = version !== null && compareVersions(version, "1.30") >= 0;
  if (clientsDuty || template === undefined || container === undefined)
    return { spec, warnings: [] };
  if (container.Image === "" || container.Image.includes("@")) return { spec, warnings: [] };
  // An update that leaves the image as it is must not replace tasks because the tag has moved.
  if ((await present()) === container.Image) return { spec, warnings: [] };
  try {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(digestMsMax)]);
    const { Descriptor } = await context.engine.distribution(
      container.Image,
      registryAuth(request),
      limited,
    );
    const pinned = { ...container, Image: `${container.Image}@${Descriptor.digest}` };
    const TaskTemplate = { ...template, ContainerSpec: pinned };
    return { spec: { ...spec, TaskTemplate }, warnings: [] };
  } catch (error) {
    const warning = `image ${container.Image} could not be accessed on a registry to record its digest. Each node will access ${container.Image} independently, possibly leading to different nodes running different versions of the image.`;
    context.log.warn({ image: container.Image }, messageOf(error));
    return { spec, warnings: [warning] };
  }
}
