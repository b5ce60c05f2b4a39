// What the Docker Engine API has and we do not yet: said in a sentence rather than "page not found".

import type { FastifyInstance } from "fastify";
import { notYet } from "./errors.ts";

const later = [
  ["POST", "/auth", "checking registry credentials (docker login)"],
  ["POST", "/build", "building images"],
  ["POST", "/build/prune", "the build cache"],
  ["POST", "/build/cancel", "building images"],
  ["POST", "/commit", "docker commit"],
  ["POST", "/configs/create", "a config"],
  ["GET", "/configs/:id", "a config"],
  ["DELETE", "/configs/:id", "a config"],
  ["POST", "/configs/:id/update", "a config"],
  ["POST", "/containers/create", "a container by itself (create a service instead)"],
  ["POST", "/containers/prune", "container prune"],
  ["GET", "/containers/:id/archive", "docker cp"],
  ["HEAD", "/containers/:id/archive", "docker cp"],
  ["PUT", "/containers/:id/archive", "docker cp"],
  ["POST", "/containers/:id/attach", "docker attach"],
  ["GET", "/containers/:id/attach/ws", "docker attach"],
  ["GET", "/containers/:id/changes", "docker diff"],
  ["GET", "/containers/:id/export", "docker export"],
  ["POST", "/containers/:id/pause", "docker pause"],
  ["POST", "/containers/:id/unpause", "docker unpause"],
  ["POST", "/containers/:id/rename", "docker rename"],
  ["POST", "/containers/:id/resize", "resizing a container's terminal"],
  ["GET", "/containers/:id/stats", "docker stats"],
  ["GET", "/containers/:id/top", "docker top"],
  ["POST", "/containers/:id/update", "docker update"],
  ["GET", "/images/get", "docker save"],
  ["POST", "/images/load", "docker load"],
  ["POST", "/images/prune", "image prune"],
  ["GET", "/images/search", "docker search"],
  ["GET", "/plugins/:name/json", "a plugin"],
  ["POST", "/plugins/pull", "a plugin"],
  ["POST", "/secrets/create", "a secret"],
  ["GET", "/secrets/:id", "a secret"],
  ["DELETE", "/secrets/:id", "a secret"],
  ["POST", "/secrets/:id/update", "a secret"],
  ["POST", "/session", "building images"],
  ["POST", "/volumes/create", "volume create"],
  ["POST", "/volumes/prune", "volume prune"],
  ["PUT", "/volumes/:name", "volume update"],
  ["DELETE", "/volumes/:name", "volume rm"],
] as const;

/** Kinds of which there are none yet: their lists are empty. */
const empty = ["/configs", "/secrets", "/plugins"] as const;

export function addLater(app: FastifyInstance): void {
  for (const [method, url, what] of later)
    app.route({
      method,
      url,
      exposeHeadRoute: false,
      handler: async () => {
        throw notYet(what);
      },
    });
  for (const url of empty) app.get(url, async () => []);
}
