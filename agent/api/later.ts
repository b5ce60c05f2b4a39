// What the Docker Engine API has and we do not yet: said in a sentence rather than "page not found".

import type { FastifyInstance } from "fastify";
import { notYet } from "./errors.ts";

const later = [["PUT", "/volumes/:name", "volume update"]] as const;

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
}
