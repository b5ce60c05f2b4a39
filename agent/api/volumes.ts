// /volumes: the named volumes of this node.

import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { FastifyInstance } from "fastify";
import { errnoOf, SwarmError } from "../../proto/kit/errors.ts";
import { timestamp } from "../../proto/kit/world.ts";
import type { Json } from "./adapt.ts";
import { onlyFilters, parameter, Query } from "./request.ts";
import type { ApiContext } from "./types.ts";

export function addVolumes(app: FastifyInstance, context: ApiContext): void {
  app.get("/volumes", async (request) => {
    const filters = new Query(request).filters();
    onlyFilters(filters, ["dangling", "driver", "label", "name"]);
    const used = usedVolumes(context);
    const dangling = filters["dangling"]?.[0];
    const all = await listVolumes(context.dataRoot);
    const chosen = all.filter(
      ({ Name }) =>
        (filters["name"]?.some((value) => String(Name).includes(value)) ?? true) &&
        (filters["driver"]?.includes("local") ?? true) &&
        filters["label"] === undefined &&
        (dangling === undefined || ["true", "1"].includes(dangling) !== used.has(String(Name))),
    );
    return { Volumes: chosen, Warnings: null };
  });

  app.get("/volumes/:name", async (request) => {
    const name = parameter(request, "name");
    const found = (await listVolumes(context.dataRoot)).find((volume) => volume["Name"] === name);
    if (found === undefined) throw new SwarmError("not_found", `get ${name}: no such volume`);
    return found;
  });
}

function usedVolumes(context: ApiContext): Set<string> {
  const mounts = context.engine.list().flatMap((container) => container.host.Mounts ?? []);
  return new Set(mounts.filter((item) => item.Type === "volume").map((item) => item.Source));
}

export async function listVolumes(dataRoot: string): Promise<Json[]> {
  const folder = join(dataRoot, "volumes");
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  });
  const volumes: Json[] = [];
  for (const { name } of entries.filter((entry) => entry.isDirectory())) {
    const data = join(folder, name, "_data");
    const facts = await stat(data).catch(() => null);
    if (facts === null) continue;
    volumes.push({
      Name: name,
      Driver: "local",
      Mountpoint: data,
      CreatedAt: timestamp(facts.birthtimeMs || facts.mtimeMs),
      Labels: null,
      Options: null,
      Scope: "local",
    });
  }
  return volumes.sort((a, b) => (String(a["Name"]) < String(b["Name"]) ? -1 : 1));
}
