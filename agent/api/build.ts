// /build and /commit: new images from a Dockerfile, or from a container.

import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { messageOf } from "../../proto/kit/errors.ts";
import { applyChanges } from "../build/config.ts";
import { type BuildEvent, linesOf } from "../build/events.ts";
import { BuildError } from "../build/request.ts";
import type { ContainerDefaults } from "../build/types.ts";
import type { Container } from "../engine/container-types.ts";
import type { Progress } from "../engine/image-types.ts";
import type { Json } from "./adapt.ts";
import { buildRequest, remoteContext } from "./build-request.ts";
import { buildForSession } from "./build-session.ts";
import { progressing } from "./image-transfers.ts";
import { optionalBody, parseBody, Query } from "./request.ts";
import { clientGone } from "./stream.ts";
import type { ApiContext } from "./types.ts";

/** Of the OCI image specification: what a container's configuration may have of it. */
const imageKeys = [
  ...["User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels"],
  ...["StopSignal", "Healthcheck", "OnBuild", "Shell"],
] as const;

export function addBuild(app: FastifyInstance, context: ApiContext): void {
  const { engine, builder, buildKit } = context;

  app.post("/build", { config: { streamsBody: true } }, async (request, reply) => {
    const query = new Query(request);
    if (query.text("version") === "2") {
      await buildForSession(context, request, reply, query);
      return;
    }
    const isQuiet = query.flag("q");
    await progressing(reply, async (report, out) => {
      const wanted = {
        ...buildRequest(request, query),
        context: await remoteContext(request, query.text("remote"), out.gone),
      };
      let hasBegun = false;
      const told = (event: BuildEvent) => {
        if (isQuiet) return;
        hasBegun = true;
        for (const line of linesOf(event)) report(line);
      };
      try {
        const id = await builder.build(wanted, told, out.gone);
        if (isQuiet) report({ stream: `${id}\n` });
      } catch (error) {
        // A Dockerfile that cannot be read is an HTTP error.
        if (out.gone.aborted || !hasBegun) throw error;
        const code = error instanceof BuildError ? error.exitCode : undefined;
        reportFailure(report, messageOf(error), code);
      }
    });
  });

  app.post("/build/prune", async () => {
    const { deleted, bytes } = await builder.prune();
    await buildKit.contexts.prune();
    engine.tell({
      kind: "builder",
      action: "prune",
      id: "",
      attributes: { reclaimed: String(bytes) },
    });
    return { CachesDeleted: deleted, SpaceReclaimed: bytes };
  });

  // The first builder's ends with its client's connection.
  app.post("/build/cancel", async (request, reply) => {
    buildKit.cancel(new Query(request).text("id"));
    return reply.code(204).send();
  });

  app.post("/commit", async (request, reply) => {
    const query = new Query(request);
    const container = engine.inspect(query.text("container"));
    const [repo, tag] = [query.text("repo"), query.text("tag")];
    const given = parseBody(z.record(z.string(), z.unknown()).nullish(), optionalBody(request));
    const config = await committedConfig(context, container, given ?? {});
    const Id = await engine.commit(
      container.id,
      {
        reference: repo === "" || tag === "" ? repo : `${repo}:${tag}`,
        comment: query.text("comment"),
        author: query.text("author"),
        isPaused: query.flag("pause", true),
        config: applyChanges(
          config,
          query.texts("changes").flatMap((text) => text.split("\n")),
        ),
      },
      clientGone(reply.raw),
    );
    return reply.code(201).send({ Id });
  });
}

/** The client ends with the code of the command that failed. */
function reportFailure(report: Progress, message: string, code: number | undefined): void {
  const errorDetail = code === undefined ? { message } : { code, message };
  (report as (line: object) => void)({ errorDetail, error: message });
}

/** The container's own, over what only its image has; what the client sent wins. */
async function committedConfig(
  { engine }: ApiContext,
  container: Container,
  given: Json,
): Promise<ContainerDefaults> {
  const image = await engine.inspectImage(container.imageId);
  const own: Json = {
    ...container.config,
    ExposedPorts: marksOf(container.config.ExposedPorts),
    Volumes: marksOf(container.config.Volumes),
  };
  const parts = [image["Config"] as Json, own, given];
  const config: Record<string, unknown> = {};
  for (const part of parts)
    for (const key of imageKeys) {
      const value = part[key];
      if (value !== undefined && value !== null && value !== "") config[key] = value;
    }
  return config;
}

function marksOf(names: readonly string[] = []): Readonly<Record<string, object>> {
  return Object.fromEntries(names.map((name) => [name, {}]));
}
