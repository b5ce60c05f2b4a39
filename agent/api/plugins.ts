// /plugins: Docker's managed plugins, of which there are none here.

import type { FastifyInstance } from "fastify";
import { SwarmError } from "../../proto/kit/errors.ts";
import { notYet } from "./errors.ts";
import { onlyFilters, parameter, Query } from "./request.ts";

const made = ["/plugins/pull", "/plugins/create"] as const;
/** What is done to one that is there: its name may have slashes in it. */
const done = ["enable", "disable", "push", "set", "upgrade"];

export function addPlugins(app: FastifyInstance): void {
  app.get("/plugins", async (request) => {
    onlyFilters(new Query(request).filters(), ["capability", "enabled"]);
    return [];
  });
  app.get("/plugins/privileges", async () => {
    throw notYet("a plugin");
  });
  for (const url of made)
    app.post(url, { config: { streamsBody: true } }, async () => {
      throw notYet("a plugin");
    });
  app.get("/plugins/*", async (request) => {
    throw missing(parameter(request, "*"), ["json"]);
  });
  app.post("/plugins/*", async (request) => {
    throw missing(parameter(request, "*"), done);
  });
  app.delete("/plugins/*", async (request) => {
    throw new SwarmError("not_found", `plugin "${parameter(request, "*")}" not found`);
  });
}

function missing(path: string, verbs: readonly string[]): SwarmError {
  const at = path.lastIndexOf("/");
  if (at <= 0 || !verbs.includes(path.slice(at + 1)))
    return new SwarmError("not_found", "page not found");
  return new SwarmError("not_found", `plugin "${path.slice(0, at)}" not found`);
}
