// What the Docker Engine API has and we do not yet: said in a sentence rather than "page not found".

import type { FastifyInstance } from "fastify";
import { SwarmError } from "../../proto/kit/errors.ts";
import { controlOf } from "./control.ts";
import { notYet } from "./errors.ts";
import { parameter } from "./request.ts";
import type { ApiContext } from "./types.ts";

const later = [
  ["POST", "/auth", "checking registry credentials (docker login)"],
  ["POST", "/build", "building images"],
  ["POST", "/build/prune", "the build cache"],
  ["POST", "/build/cancel", "building images"],
  ["POST", "/commit", "docker commit"],
  ["POST", "/configs/create", "a config"],
  ["DELETE", "/configs/:id", "a config"],
  ["POST", "/configs/:id/update", "a config"],
  ["GET", "/containers/:id/attach/ws", "docker attach"],
  ["GET", "/containers/:id/export", "docker export"],
  ["GET", "/images/search", "docker search"],
  ["POST", "/plugins/pull", "a plugin"],
  ["POST", "/secrets/create", "a secret"],
  ["DELETE", "/secrets/:id", "a secret"],
  ["POST", "/secrets/:id/update", "a secret"],
  ["POST", "/session", "building images"],
  ["PUT", "/volumes/:name", "volume update"],
] as const;

/** Kinds of which there are none yet: their lists are empty, and none is found. */
const empty = [
  ["config", "/configs", "/configs/:name"],
  ["secret", "/secrets", "/secrets/:name"],
  ["plugin", "/plugins", "/plugins/:name/json"],
] as const;

export function addLater(app: FastifyInstance, context: ApiContext): void {
  for (const [method, url, what] of later)
    app.route({
      method,
      url,
      exposeHeadRoute: false,
      handler: async () => {
        throw notYet(what);
      },
    });
  for (const [kind, list, one] of empty) {
    const inSwarm = () => (kind === "plugin" ? null : controlOf(context));
    app.get(list, async () => {
      inSwarm();
      return [];
    });
    app.get(one, async (request) => {
      inSwarm();
      throw new SwarmError("not_found", `${kind} ${parameter(request, "name")} not found`);
    });
  }
}
