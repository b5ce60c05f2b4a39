// /containers: what runs on this node.

import type { FastifyInstance } from "fastify";
import { selectContainers } from "./container-filters.ts";
import { containerJson, containerSummary } from "./container-json.ts";
import { StatusError, withStatus } from "./errors.ts";
import { streamContainerLogs } from "./logs.ts";
import { parameter, Query } from "./request.ts";
import { clientGone } from "./stream.ts";
import type { ApiContext } from "./types.ts";

const stopSecondsDefault = 10;
const stopSecondsMax = 86_400 * 365;

export function addContainers(app: FastifyInstance, context: ApiContext): void {
  const { engine } = context;

  app.get("/containers/json", async (request) => {
    const query = new Query(request);
    const chosen = selectContainers(engine.list(), {
      filters: query.filters(),
      all: query.flag("all"),
      limit: query.integer("limit") ?? 0,
    });
    const now = Date.now();
    return chosen.map((container) => containerSummary(container, context.dataRoot, now));
  });

  app.get("/containers/:id/json", async (request) =>
    containerJson(engine.inspect(parameter(request, "id")), context.dataRoot),
  );

  app.get("/containers/:id/logs", async (request, reply) =>
    streamContainerLogs(context, request, reply, parameter(request, "id")),
  );

  app.post("/containers/:id/start", async (request, reply) => {
    const container = engine.inspect(parameter(request, "id"));
    if (container.state.Status === "running") return reply.code(304).send();
    await engine.start(container.id);
    return reply.code(204).send();
  });

  app.post("/containers/:id/stop", async (request, reply) => {
    const container = engine.inspect(parameter(request, "id"));
    if (container.state.Status !== "running") return reply.code(304).send();
    const graceMs = graceOf(new Query(request), container.config.StopTimeout);
    await engine.stop(container.id, graceMs, clientGone(reply.raw));
    return reply.code(204).send();
  });

  app.post("/containers/:id/restart", async (request, reply) => {
    const container = engine.inspect(parameter(request, "id"));
    if (container.state.Status === "running")
      await engine.stop(
        container.id,
        graceOf(new Query(request), container.config.StopTimeout),
        clientGone(reply.raw),
      );
    await engine.start(container.id);
    return reply.code(204).send();
  });

  app.post("/containers/:id/kill", async (request, reply) => {
    const container = engine.inspect(parameter(request, "id"));
    if (container.state.Status !== "running")
      throw new StatusError(409, "precondition", `container ${container.id} is not running`);
    await engine.kill(container.id, signalName(new Query(request).text("signal")));
    return reply.code(204).send();
  });

  app.post("/containers/:id/wait", async (request, reply) => {
    const container = engine.inspect(parameter(request, "id"));
    const { exitCode } = await engine.wait(container.id, clientGone(reply.raw));
    return { StatusCode: exitCode };
  });

  app.delete("/containers/:id", async (request, reply) => {
    const query = new Query(request);
    await withStatus({ precondition: 409 }, () =>
      engine.remove(parameter(request, "id"), {
        force: query.flag("force"),
        volumes: query.flag("v"),
      }),
    );
    return reply.code(204).send();
  });
}

/** Seconds asked for, the container's own, or Docker's 10; negative waits (almost) for ever. */
function graceOf(query: Query, own: number | undefined): number {
  const seconds = query.integer("t") ?? own ?? stopSecondsDefault;
  return Math.min(seconds < 0 ? stopSecondsMax : seconds, stopSecondsMax) * 1000;
}

function signalName(text: string): string {
  if (text === "") return "SIGKILL";
  return /^(\d+|SIG.*)$/i.test(text) ? text.toUpperCase() : `SIG${text.toUpperCase()}`;
}
