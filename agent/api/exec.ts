// Further processes in running containers: /containers/{id}/exec and /exec.

import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
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
  DetachKeys: text,
});
const startBody = z.object({ Detach: flag, Tty: flag, ConsoleSize: consoleSize, DetachKeys: text });
type Start = z.infer<typeof startBody>;

export function addExec(app: FastifyInstance, context: ApiContext): void {
  const { engine } = context;

  app.post("/containers/:id/exec", async (request, reply) => {
    const body = parseBody(createBody, jsonBody(request));
    parseDetachKeys(body.DetachKeys);
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
        detachKeys: body.DetachKeys,
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
    // As Docker: the start says whether there are frames, whatever the process writes to.
    const tty = start.Tty;
    if (start.Detach) {
      await startDetached(context, state, start);
      return reply.code(200).send();
    }
    checkStartable(context, state);
    return outflow(
      reply,
      tty ? rawStream : multiplexedStream,
      async (out) => {
        // As with an upgrade: a command that cannot run is its output and exit code.
        out.open();
        const streams = await begin(context, state, start, out.gone);
        streams.stdin?.end();
        await copyOut(streams, (data) => out.write(data), tty);
      },
      (message) => wordsOf(message, tty),
    );
  });
}

/** POST /exec/{id}/start on a connection that was taken over. Answers by itself, never rejects. */
export async function startUpgraded(context: ApiContext, taken: Taken, id: string): Promise<void> {
  const { socket, gone } = taken;
  let [isUpgraded, isRaw] = [false, false];
  try {
    const json = taken.body.length === 0 ? {} : parseJson(taken.body.toString(), "request body");
    const start = parseBody(startBody, json);
    const state = context.engine.inspectExec(id);
    const { tty, detachKeys } = state.config;
    const keys = tty ? parseDetachKeys(start.DetachKeys || detachKeys) : null;
    if (start.Detach) {
      await startDetached(context, state, start);
      sayUpgraded(taken, rawStream);
      socket.end();
      return;
    }
    checkStartable(context, state);
    // Before the start, as Docker: clients that read ahead of an answer's head lose what came in one piece with it.
    isRaw = start.Tty;
    sayUpgraded(taken, isRaw ? rawStream : multiplexedStream);
    isUpgraded = true;
    const streams = await begin(context, state, start, gone);
    await converse(taken, streams, { tty: isRaw, keys, log: context.log });
  } catch (error) {
    if (isUpgraded) endWith(taken, messageOf(error), isRaw);
    else refuse(socket, taken.headers, error);
  }
}

/** What is no fault of the command is an HTTP error, and has to be found before HTTP ends. */
function checkStartable({ engine }: ApiContext, state: ExecState): void {
  if (state.running || state.exitCode !== null)
    throw new SwarmError("conflict", `exec ${state.id} has already been started`);
  const { id, state: of } = engine.inspect(state.containerId);
  if (of.Status === "paused")
    throw new SwarmError(
      "conflict",
      `Container ${id} is paused, unpause the container before exec`,
    );
  if (of.Status !== "running") throw new SwarmError("conflict", `container ${id} is not running`);
}

/** As Docker: what went wrong is the command's output; the client learns its exit code, 126 or 127, from inspect. */
function endWith({ socket }: Taken, message: string, tty: boolean): void {
  socket.end(wordsOf(message, tty));
  socket.resume();
}

function wordsOf(message: string, tty: boolean): Buffer {
  const words = Buffer.from(`${message}\r\n`);
  return tty ? words : frame("stdout", words);
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
    DetachKeys: state.config.detachKeys,
    Pid: state.pid,
  };
}
