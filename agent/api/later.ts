// What the Docker Engine API has and we do not yet: said in a sentence rather than "page not found".

import type { FastifyInstance } from "fastify";
import { SwarmError } from "../../proto/kit/errors.ts";
import { notYet } from "./errors.ts";
import { parameter } from "./request.ts";

const later = [
  ["POST", "/plugins/pull", "a plugin"],
  ["PUT", "/volumes/:name", "volume update"],
] as const;

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
  // There are no plugins: their list is empty, and none is found.
  app.get("/plugins", async () => []);
  app.get("/plugins/:name/json", async (request) => {
    throw new SwarmError("not_found", `plugin ${parameter(request, "name")} not found`);
  });
}
