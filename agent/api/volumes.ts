// /volumes: the volumes of this node.

import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { SwarmError } from "../../proto/kit/errors.ts";
import { writePath } from "../engine/archive.ts";
import type { VolumeObject } from "../engine/types.ts";
import type { Json } from "./adapt.ts";
import { sendTar } from "./archive.ts";
import { map } from "./fields.ts";
import { bodyOf } from "./image-transfers.ts";
import {
  flagFilter,
  labelsMatch,
  onlyFilters,
  optionalBody,
  parameter,
  parseBody,
  Query,
} from "./request.ts";
import type { ApiContext } from "./types.ts";

const anonymousLabel = "com.docker.volume.anonymous";

const createBody = z.object({
  Name: z.string().nullish(),
  Driver: z.string().nullish(),
  DriverOpts: map,
  Labels: map,
  ClusterVolumeSpec: z.unknown().optional(),
});

export function addVolumes(app: FastifyInstance, context: ApiContext): void {
  const { engine } = context;

  app.get("/volumes", async (request) => {
    const filters = new Query(request).filters();
    onlyFilters(filters, ["dangling", "driver", "label", "name"]);
    const used = usedVolumes(context);
    const isDangling = flagFilter(filters, "dangling");
    const chosen = (await engine.volumes()).filter(
      ({ name, driver, labels }) =>
        (filters["name"]?.some((value) => name.includes(value)) ?? true) &&
        (filters["driver"]?.includes(driver) ?? true) &&
        labelsMatch(labels, filters["label"]) &&
        (isDangling === undefined || isDangling !== used.has(name)),
    );
    const Volumes = await Promise.all(chosen.map((volume) => volumeJson(context, volume)));
    return { Volumes, Warnings: null };
  });

  app.get("/volumes/:name", async (request) => {
    const name = parameter(request, "name");
    const found = (await engine.volumes()).find((volume) => volume.name === name);
    if (found === undefined) throw new SwarmError("not_found", `get ${name}: no such volume`);
    return volumeJson(context, found);
  });

  app.post("/volumes/create", async (request, reply) => {
    const body = parseBody(createBody, optionalBody(request) ?? {});
    if (body.ClusterVolumeSpec)
      throw new SwarmError("unsupported", "cluster volumes are not available in this version");
    const made = await engine.createVolume({
      name: body.Name ?? "",
      driver: body.Driver ?? "",
      labels: body.Labels,
      options: body.DriverOpts,
    });
    return reply.code(201).send(await volumeJson(context, made));
  });

  app.delete("/volumes/:name", async (request, reply) => {
    const force = new Query(request).flag("force");
    await engine.removeVolume(parameter(request, "name"), force);
    return reply.code(204).send();
  });

  app.get("/tsswarm/volumes/:name/archive", async (request, reply) =>
    engine.withVolume(parameter(request, "name"), (root) => sendTar(reply, root, "/")),
  );

  const streamed = { config: { streamsBody: true } };
  app.put("/tsswarm/volumes/:name/archive", streamed, async (request, reply) => {
    await engine.replaceVolume(parameter(request, "name"), (folder) =>
      writePath(folder, "/", bodyOf(request), { keepsKinds: false }),
    );
    return reply.code(200).send();
  });

  app.post("/volumes/prune", async (request) => {
    const filters = new Query(request).filters();
    onlyFilters(filters, ["all", "label", "label!"]);
    // Those with a name only when all are meant.
    const isAll = flagFilter(filters, "all") === true;
    const used = usedVolumes(context);
    const deleted: string[] = [];
    let bytes = 0;
    for (const { name, driver, labels } of await engine.volumes()) {
      if (driver !== "local") continue;
      if (used.has(name) || !(isAll || Object.hasOwn(labels, anonymousLabel))) continue;
      if (!labelsMatch(labels, filters["label"])) continue;
      if ((filters["label!"] ?? []).some((label) => labelsMatch(labels, [label]))) continue;
      const own = await engine.volumeBytes(name).catch(() => 0);
      try {
        await engine.removeVolume(name, false);
        deleted.push(name);
        bytes += own;
      } catch (error) {
        // Taken into use meanwhile.
        context.log.debug({ volume: name, error }, "not pruned");
      }
    }
    return { VolumesDeleted: deleted, SpaceReclaimed: bytes };
  });
}

function usedVolumes({ engine }: ApiContext): Set<string> {
  const mounts = engine.list().flatMap((container) => container.host.Mounts ?? []);
  return new Set(mounts.filter((item) => item.Type === "volume").map((item) => item.Source));
}

async function volumeJson({ engine }: ApiContext, volume: VolumeObject): Promise<Json> {
  return {
    Name: volume.name,
    Driver: volume.driver,
    Mountpoint: volume.mountpoint,
    ...(volume.created === "" ? {} : { CreatedAt: volume.created }),
    ...(volume.status === undefined ? {} : { Status: volume.status }),
    Labels: Object.keys(volume.labels).length === 0 ? null : volume.labels,
    Options: Object.keys(volume.options).length === 0 ? null : volume.options,
    Scope: await engine.volumeScope(volume.driver),
  };
}

/** With sizes, as `docker system df` wants them. */
export async function volumeUsage(context: ApiContext): Promise<Json[]> {
  const { engine } = context;
  const mounts = engine.list().flatMap((container) => container.host.Mounts ?? []);
  return Promise.all(
    (await engine.volumes()).map(async (volume) => ({
      ...(await volumeJson(context, volume)),
      UsageData: {
        RefCount: mounts.filter(({ Type, Source }) => Type === "volume" && Source === volume.name)
          .length,
        Size: await engine.volumeBytes(volume.name).catch(() => -1),
      },
    })),
  );
}
