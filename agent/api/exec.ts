// Further processes in running containers: /containers/{id}/exec and /exec.

import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { asSwarmError, messageOf } from "../../proto/kit/errors.ts";
import type { ExecState, ExecStreams } from "../engine/stream-types.ts";
import type { Json } from "./adapt.ts";
import { converse, copyOut, drain } from "./conversation.ts";
import { parseDetachKeys } from "./detach-keys.ts";
import { withStatus } from "./errors.ts";
import { flag, text, texts } from "./fields.ts";
import { refuse, sayUpgraded, type Taken } from "./hijack.ts";
import { jsonBody, optionalBody, parameter, parseBody, parseJson, Query } from "./request.ts";
import { frame, multiplexedStream, outflow, rawStream } from "./stream.ts";
import type { ApiContext } from "./types.ts";

const consoleSize = z.tuple([z.int().min(0), z.int().min(0)]).nullish();

const createBody = z.object({
  Cmd: texts,
  Env: texts,
  User: text,
  WorkingDir: text,
  Tty: flag,
  AttachStdin: flag,
  AttachStdout: flag,
  AttachStderr: flag,
  Privileged: flag,
});
const startBody = z.object({ Detach: flag, Tty: flag, ConsoleSize: consoleSize, DetachKeys: text });
type Start = z.infer<typeof startBody>;

export function addExec(app: FastifyInstance, context: ApiContext): void {
  const { engine } = context;

  app.post("/containers/:id/exec", async (request, reply) => {
    const body = parseBody(createBody, jsonBody(request));
    const id = await withStatus({ precondition: 409 }, () =>
      engine.createExec(parameter(request, "id"), {
        cmd: body.Cmd,
        env: body.Env,
        user: body.User,
        workingDir: body.WorkingDir,
        tty: body.Tty,
        attachStdin: body.AttachStdin,
        attachStdout: body.AttachStdout,
        attachStderr: body.AttachStderr,
        privileged: body.Privileged,
      }),
    );
    return reply.code(201).send({ Id: id });
  });

  app.get("/exec/:id/json", async (request) =>
    execJson(engine.inspectExec(parameter(request, "id"))),
  );

  app.post("/exec/:id/resize", async (request, reply) => {
    const query = new Query(request);
    const [rows, columns] = [query.integer("h") ?? 0, query.integer("w") ?? 0];
    await withStatus({ precondition: 409 }, () =>
      engine.resizeExec(parameter(request, "id"), rows, columns),
    );
    return reply.code(200).send();
  });

  // Without an upgrade: detached, or output alone.
  app.post("/exec/:id/start", async (request, reply) => {
    const start = parseBody(startBody, optionalBody(request) ?? {});
    const state = engine.inspectExec(parameter(request, "id"));
    const tty = state.config.tty;
    if (start.Detach) {
      await startDetached(context, state, start);
      return reply.code(200).send();
    }
    return outflow(
      reply,
      tty ? rawStream : multiplexedStream,
      async (out) => {
        const streams = await begin(context, state, start, out.gone);
        out.open();
        streams.stdin?.end();
        await copyOut(streams, (data) => out.write(data), tty);
      },
      (message) => (tty ? message : frame("stderr", Buffer.from(`${message}\n`))),
    );
  });
}

/** POST /exec/{id}/start on a connection that was taken over. Answers by itself, never rejects. */
export async function startUpgraded(context: ApiContext, taken: Taken, id: string): Promise<void> {
  const { socket, gone } = taken;
  try {
    const json = taken.body.length === 0 ? {} : parseJson(taken.body.toString(), "request body");
    const start = parseBody(startBody, json);
    const state = context.engine.inspectExec(id);
    const keys = state.config.tty ? parseDetachKeys(start.DetachKeys) : null;
    if (start.Detach) {
      await startDetached(context, state, start);
      sayUpgraded(taken, rawStream);
      socket.end();
      return;
    }
    const streams = await begin(context, state, start, gone);
    sayUpgraded(taken, state.config.tty ? rawStream : multiplexedStream);
    await converse(taken, streams, { tty: state.config.tty, keys, log: context.log });
  } catch (error) {
    if (hasFailedToRun(context, id, error)) answerFailure(taken, id, error, context);
    else refuse(socket, taken.headers, error);
  }
}

/** Whether it is the command's own fault: then the client wants its exit code, 126 or 127. */
function hasFailedToRun(context: ApiContext, id: string, error: unknown): boolean {
  const { code } = asSwarmError(error);
  if (code === "not_found" || code === "conflict" || code === "precondition") return false;
  try {
    return context.engine.inspectExec(id).exitCode !== null;
  } catch {
    return false;
  }
}

/** As Docker: what went wrong is the command's output. */
function answerFailure(taken: Taken, id: string, error: unknown, context: ApiContext): void {
  const { tty } = context.engine.inspectExec(id).config;
  const words = Buffer.from(`${messageOf(error)}\r\n`);
  sayUpgraded(taken, tty ? rawStream : multiplexedStream);
  taken.socket.end(tty ? words : frame("stdout", words));
  taken.socket.resume();
}

async function begin(
  context: ApiContext,
  state: ExecState,
  start: Start,
  gone: AbortSignal,
): Promise<ExecStreams> {
  const streams = await withStatus({ precondition: 409 }, () =>
    context.engine.startExec(state.id, gone),
  );
  const [rows, columns] = start.ConsoleSize ?? [0, 0];
  if (state.config.tty && rows > 0 && columns > 0)
    context.engine.resizeExec(state.id, rows, columns).catch((error: unknown) => {
      context.log.debug({ exec: state.id }, `cannot resize: ${messageOf(error)}`);
    });
  return streams;
}

async function startDetached(context: ApiContext, state: ExecState, start: Start): Promise<void> {
  const streams = await begin(context, state, start, new AbortController().signal);
  streams.stdin?.end();
  drain(streams);
  streams.exited.catch(() => {});
}

function execJson(state: ExecState): Json {
  const [entrypoint = "", ...args] = state.config.cmd;
  return {
    ID: state.id,
    Running: state.running,
    ExitCode: state.exitCode,
    ProcessConfig: {
      tty: state.config.tty,
      entrypoint,
      arguments: args,
      privileged: state.config.privileged,
      ...(state.config.user === "" ? {} : { user: state.config.user }),
    },
    OpenStdin: state.config.attachStdin,
    OpenStderr: state.config.attachStderr,
    OpenStdout: state.config.attachStdout,
    CanRemove: state.exitCode !== null,
    ContainerID: state.containerId,
    DetachKeys: "",
    Pid: state.pid,
  };
}
