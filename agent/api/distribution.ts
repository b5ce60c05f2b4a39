// /distribution: what a registry says about an image, without pulling it.

import type { FastifyInstance } from "fastify";
import { SwarmError } from "../../proto/kit/errors.ts";
import { parameter, registryAuth } from "./request.ts";
import { clientGone } from "./stream.ts";
import type { ApiContext } from "./types.ts";

const registryMsMax = 30_000;

export function addDistribution(app: FastifyInstance, context: ApiContext): void {
  app.get("/distribution/*", async (request, reply) => {
    const path = parameter(request, "*");
    if (!path.endsWith("/json")) throw new SwarmError("not_found", "page not found");
    const signal = AbortSignal.any([clientGone(reply.raw), AbortSignal.timeout(registryMsMax)]);
    return context.engine.distribution(
      path.slice(0, -"/json".length),
      registryAuth(request),
      signal,
    );
  });
}
