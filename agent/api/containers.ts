// /containers: what runs on this node.

import type { FastifyInstance } from "fastify";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { Container, WaitCondition } from "../engine/container-types.ts";
import { selectContainers } from "./container-filters.ts";
import { containerJson, containerSummary } from "./container-json.ts";
import { sizesOf } from "./disk-usage.ts";
import { StatusError, withStatus } from "./errors.ts";
import { streamContainerLogs } from "./logs.ts";
import { askedVersion, parameter, Query } from "./request.ts";
import { clientGone } from "./stream.ts";
import type { ApiContext } from "./types.ts";
import { compareVersions } from "./versions.ts";

const shortAliasesUntil = "1.45";
const stopSecondsDefault = 10;
const stopSecondsMax = 86_400 * 365;
const killedMsMax = 10_000;

export function addContainers(app: FastifyInstance, context: ApiContext): void {
  const { engine } = context;

  app.get("/containers/json", async (request) => {
    const query = new Query(request);
    const chosen = selectContainers(engine.list(), {
      filters: query.filters(),
      all: query.flag("all"),
      limit: query.integer("limit") ?? 0,
    });
    const sizes = query.flag("size") ? await sizesOf(context, chosen) : undefined;
    const now = Date.now();
    return chosen.map((container) => ({
      ...containerSummary(container, context.dataRoot, now),
      ...sizes?.get(container.id),
    }));
  });

  app.get("/containers/:id/json", async (request) => {
    const container = engine.inspect(parameter(request, "id"));
    const isSized = new Query(request).flag("size");
    const sizes = isSized ? await sizesOf(context, [container]) : undefined;
    const shown = withShortAliases(container, askedVersion(request));
    const json = containerJson(shown, context.dataRoot, engine.execsOf(container.id));
    return { ...json, ...sizes?.get(container.id) };
  });

  app.get("/containers/:id/logs", async (request, reply) =>
    streamContainerLogs(context, request, reply, parameter(request, "id")),
  );

  app.post("/containers/:id/start", async (request, reply) => {
    const container = engine.inspect(parameter(request, "id"));
    if (container.state.Status === "running") return reply.code(304).send();
    await startOf(engine, container);
    return reply.code(204).send();
  });

  app.post("/containers/:id/stop", async (request, reply) => {
    const container = engine.inspect(parameter(request, "id"));
    if (!isLive(container)) return reply.code(304).send();
    const graceMs = graceOf(new Query(request), container.config.StopTimeout);
    await engine.stop(container.id, graceMs, clientGone(reply.raw));
    return reply.code(204).send();
  });

  app.post("/containers/:id/restart", async (request, reply) => {
    const container = engine.inspect(parameter(request, "id"));
    if (isLive(container))
      await engine.stop(
        container.id,
        graceOf(new Query(request), container.config.StopTimeout),
        clientGone(reply.raw),
      );
    await startOf(engine, container);
    return reply.code(204).send();
  });

  app.post("/containers/:id/kill", async (request, reply) => {
    const container = engine.inspect(parameter(request, "id"));
    if (!["running", "paused"].includes(container.state.Status))
      throw new StatusError(
        409,
        "conflict",
        `cannot kill container: ${parameter(request, "id")}: container ${container.id} is not running`,
      );
    const signal = signalName(new Query(request).text("signal"));
    const over = AbortSignal.any([clientGone(reply.raw), AbortSignal.timeout(killedMsMax)]);
    const ended = isDeadly(signal) ? engine.wait(container.id, over, "next-exit") : null;
    ended?.catch(() => {});
    await engine.kill(container.id, signal);
    // What is killed for good has ended when the client is told so.
    await ended?.catch(() => {});
    return reply.code(204).send();
  });

  app.post("/containers/:id/wait", async (request, reply) => {
    const container = engine.inspect(parameter(request, "id"));
    const condition = waitCondition(new Query(request).text("condition"));
    const waiting = engine.wait(container.id, clientGone(reply.raw), condition);
    waiting.catch(() => {});
    // The client starts the container only when it knows that we wait.
    reply.hijack();
    reply.raw.writeHead(200, { "content-type": "application/json" });
    reply.raw.flushHeaders();
    const answer = await waiting.then(
      ({ exitCode }) => ({ StatusCode: exitCode }),
      (error: unknown) => ({ StatusCode: -1, Error: { Message: messageOf(error) } }),
    );
    reply.raw.end(`${JSON.stringify(answer)}\n`);
  });

  // docker rm --link NAME/ALIAS
  app.delete("/containers/:id/:alias", async (request, reply) => {
    if (!new Query(request).flag("link")) throw new SwarmError("not_found", "page not found");
    await engine.unlink(parameter(request, "id"), parameter(request, "alias"));
    return reply.code(204).send();
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

/**
 * Until then Docker listed among a container's aliases what it is called without anybody's asking, once it has been started:
 * docker-compose 1.29 gives links and link-local addresses to a container that has none of these yet.
 */
function withShortAliases(container: Container, version: string | null): Container {
  if (version === null || compareVersions(version, shortAliasesUntil) >= 0) return container;
  if (container.state.Status === "created") return container;
  const unasked = [container.id.slice(0, 12), container.config.Hostname ?? ""];
  const networks = Object.entries(container.networks).map(([name, item]) => [
    name,
    name === "bridge" || container.local === undefined
      ? item
      : {
          ...item,
          Aliases: [...new Set([...item.Aliases, ...unasked])].filter((alias) => alias !== ""),
        },
  ]);
  return { ...container, networks: Object.fromEntries(networks) };
}

/** What keeps a container from running is no fault of the request, but for its own command. */
async function startOf(engine: ApiContext["engine"], container: Container): Promise<void> {
  const statuses = container.local === undefined ? {} : ({ conflict: 500 } as const);
  if (container.state.Status === "paused") await engine.start(container.id);
  else await withStatus(statuses, () => engine.start(container.id));
}

function isLive({ state }: Container): boolean {
  return ["running", "paused", "restarting"].includes(state.Status);
}

function waitCondition(text: string): WaitCondition {
  if (text === "" || text === "not-running") return "not-running";
  if (text === "next-exit" || text === "removed") return text;
  throw new SwarmError("invalid", `invalid condition: ${JSON.stringify(text)}`);
}

/** Seconds asked for, the container's own, or Docker's 10; negative waits (almost) for ever. */
function graceOf(query: Query, own: number | undefined): number {
  const seconds = query.integer("t") ?? own ?? stopSecondsDefault;
  return Math.min(seconds < 0 ? stopSecondsMax : seconds, stopSecondsMax) * 1000;
}

function isDeadly(signal: string): boolean {
  return signal === "SIGKILL" || signal === "9";
}

function signalName(text: string): string {
  if (text === "") return "SIGKILL";
  return /^(\d+|SIG.*)$/i.test(text) ? text.toUpperCase() : `SIG${text.toUpperCase()}`;
}
