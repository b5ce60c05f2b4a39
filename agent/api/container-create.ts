// POST /containers/create: a container of its own, made but not started.

import type { FastifyInstance } from "fastify";
import { asSwarmError, SwarmError } from "../../proto/kit/errors.ts";
import { parseCreate } from "./create.ts";
import { discarded } from "./create-limits.ts";
import { withStatus } from "./errors.ts";
import { randomName } from "./random-name.ts";
import { askedVersion, jsonBody, Query } from "./request.ts";
import { clientGone } from "./stream.ts";
import type { ApiContext } from "./types.ts";
import { compareVersions } from "./versions.ts";

const namesTriedMax = 20;
/** The API's version from which a container's shared memory is its own alone. */
const privateIpcFrom = "1.40";

export function addCreate(app: FastifyInstance, context: ApiContext): void {
  const { engine } = context;

  app.post("/containers/create", async (request, reply) => {
    const asked = new Query(request).text("name").replace(/^\//, "");
    const json = jsonBody(request);
    const version = askedVersion(request);
    const isOld = version !== null && compareVersions(version, privateIpcFrom) < 0;
    const ipcMode = isOld ? "shareable" : "private";
    const signal = clientGone(reply.raw);
    for (let tries = 1; ; tries++) {
      const name = asked === "" ? randomName() : asked;
      const { container, warnings } = parseCreate(json, name, { logs: context.logs, ipcMode });
      try {
        const id = await withStatus({ precondition: 409 }, () => engine.create(container, signal));
        const Warnings = [...warnings, ...discarded(container.host, engine.info().canWeighIo)];
        return reply.code(201).send({ Id: id, Warnings });
      } catch (error) {
        const { code, message } = asSwarmError(error);
        const isNameTaken = code === "conflict" && message.includes("is already in use by");
        if (asked !== "" || !isNameTaken) throw error;
        if (tries >= namesTriedMax)
          throw new SwarmError("exhausted", "no free name was found: give one with --name");
      }
    }
  });
}
