// /containers/{id}/archive and /export: docker cp, and all of a container's files.

import type { IncomingMessage } from "node:http";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { SwarmError } from "../../proto/kit/errors.ts";
import { type PathStat, readPath, statPath, writePath } from "../engine/archive.ts";
import { StatusError, withStatus } from "./errors.ts";
import { parameter, Query } from "./request.ts";
import { outflow } from "./stream.ts";
import type { ApiContext } from "./types.ts";

export function addArchive(app: FastifyInstance, context: ApiContext): void {
  const { engine } = context;
  const url = "/containers/:id/archive";

  app.head(url, async (request, reply) => {
    const { id, path } = asked(context, request);
    withStat(reply, await engine.withFiles(id, (root) => statPath(root, path)));
    return reply.code(200).send();
  });

  app.get(url, { exposeHeadRoute: false }, async (request, reply) => {
    const { id, path } = asked(context, request);
    await engine.withFiles(id, async (root) => {
      withStat(reply, await statPath(root, path));
      await sendTar(reply, root, path);
    });
  });

  app.get("/containers/:id/export", async (request, reply) => {
    const { id } = engine.inspect(parameter(request, "id"));
    await engine.withLayers(id, (root) => sendTar(reply, root, "/"));
  });

  app.put(url, { config: { streamsBody: true } }, async (request, reply) => {
    const { id, path, query } = asked(context, request);
    const container = engine.inspect(id);
    if (container.host.ReadonlyRootfs === true)
      throw new StatusError(403, "denied", "container rootfs is marked read-only");
    // What runs is held still: else it could put a link where a file is just being written.
    await engine.still(id, () =>
      engine.withFiles(id, (root) =>
        // 500, as in Docker: docker-api for Ruby counts on it.
        withStatus({ conflict: 500 }, () =>
          writePath(root, path, request.body as IncomingMessage, {
            keepsKinds: query.flag("noOverwriteDirNonDir"),
          }),
        ),
      ),
    );
    return reply.code(200).send();
  });
}

/** What is at `path` in the folder `root`, as a tar. Throws as `readPath` does while nothing was sent. */
export async function sendTar(reply: FastifyReply, root: string, path: string): Promise<void> {
  await outflow(
    reply,
    "application/x-tar",
    async (out) => {
      for await (const chunk of await readPath(root, path, out.gone)) await out.write(chunk);
    },
    () => "",
  );
}

function asked(context: ApiContext, request: FastifyRequest) {
  const query = new Query(request);
  const path = query.text("path");
  if (path === "") throw new SwarmError("invalid", "bad parameter: 'path' cannot be empty");
  const { id } = context.engine.inspect(parameter(request, "id"));
  return { id, path: path.startsWith("/") ? path : `/${path}`, query };
}

function withStat(reply: FastifyReply, stat: PathStat): void {
  const header = Buffer.from(JSON.stringify(stat)).toString("base64");
  reply.raw.setHeader("X-Docker-Container-Path-Stat", header);
}
