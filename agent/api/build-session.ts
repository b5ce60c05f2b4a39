// POST /build of BuildKit's clients: the context, passwords and secrets come out of the client's session, and how the build goes
// is told as BuildKit's status messages.

import { randomUUID } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { registryHost } from "../../proto/kit/reference.ts";
import type { BuildRequest } from "../build/request.ts";
import { SessionContext } from "../buildkit/context.ts";
import { messages } from "../buildkit/messages.ts";
import { deliver, type Output, outputOf } from "../buildkit/outputs.ts";
import type { Session } from "../buildkit/sessions.ts";
import { Trace } from "../buildkit/trace.ts";
import { buildRequest, remoteContext } from "./build-request.ts";
import { bodyOf, progressing } from "./image-transfers.ts";
import { parseJson, type Query } from "./request.ts";
import { clientGone } from "./stream.ts";
import type { ApiContext } from "./types.ts";

const uploadPrefix = "upload-request:";
const statuses = messages("moby.buildkit.v1.StatusResponse");

export async function buildForSession(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  query: Query,
): Promise<void> {
  const { buildKit } = context;
  const buildId = query.text("buildid");
  if (buildId.startsWith(uploadPrefix)) {
    const id = buildId.slice(uploadPrefix.length);
    await buildKit.bring(id, bodyOf(request), clientGone(reply.raw));
    reply.code(200).send();
    return;
  }
  await progressing(reply, (report, out) => {
    let hasBegun = false;
    const say = (line: object) => {
      hasBegun = true;
      (report as (line: object) => void)(line);
    };
    const trace = new Trace(randomUUID(), Date.now, (status) =>
      say({ id: "moby.buildkit.trace", aux: statuses.encode(status).toString("base64") }),
    );
    return buildKit.running(buildId, async (cancelled) => {
      try {
        const signal = AbortSignal.any([out.gone, cancelled]);
        // First of all: a client cannot be refused before it has its session.
        const sessionId = query.text("session");
        const session = sessionId === "" ? null : await buildKit.sessions.find(sessionId, signal);
        const outputs = query.text("outputs");
        const output = outputOf(outputs === "" ? null : parseJson(outputs, "outputs"));
        const id = await build(context, request, query, { session, output, trace }, signal);
        if (output.to !== "image") return;
        say({ id: "moby.image.id", aux: { ID: id } });
        if (query.flag("q")) say({ stream: `${id}\n` });
      } catch (error) {
        // What cannot even begin is an HTTP error.
        if (out.gone.aborted || !hasBegun) throw error;
        const message = messageOf(error);
        trace.fail(message);
        say({ errorDetail: { message }, error: message });
      }
    });
  });
}

/** Who wants the build, and what. */
interface Client {
  readonly session: Session | null;
  readonly output: Output;
  readonly trace: Trace;
}

async function build(
  context: ApiContext,
  request: FastifyRequest,
  query: Query,
  { session, output, trace }: Client,
  signal: AbortSignal,
): Promise<string> {
  const { builder, buildKit } = context;
  // Who has gone cannot be asked.
  const both = session === null ? signal : AbortSignal.any([signal, session.gone]);
  const asked = {
    ...fromSession(buildRequest(request, query), session, both),
    ...resultOf({ session, output, trace }),
  };
  const names = output.to === "image" ? [...asked.names, ...output.names] : [];
  const run = (files: BuildRequest["context"]) =>
    builder.build({ ...asked, names, context: files }, (event) => trace.tell(event), both);
  const remote = query.text("remote");
  if (remote === "upload-request") return buildKit.withUpload(query.text("buildid"), both, run);
  if (remote !== "client-session") return run(await remoteContext(request, remote, both));
  if (session === null)
    throw new SwarmError("invalid", "remote=client-session: the session is not named");
  const kept = await buildKit.contexts.take(session.sharedKey);
  try {
    return await run(new SessionContext(session, trace, kept));
  } finally {
    await kept?.release();
  }
}

function resultOf({ session, output: { to }, trace }: Client): Pick<BuildRequest, "take"> {
  if (to === "image") return {};
  if (session === null && to !== "nowhere")
    throw new SwarmError("invalid", "the build has no session for its result");
  return {
    take: async (root, signal) => {
      trace.rest();
      if (session !== null && to !== "nowhere") await deliver(root, to, session, trace, signal);
    },
  };
}

/** What the request has itself comes first. */
function fromSession(
  request: Omit<BuildRequest, "context">,
  session: Session | null,
  signal: AbortSignal,
): Omit<BuildRequest, "context"> {
  if (session === null) return request;
  return {
    ...request,
    authOf: async (domain) =>
      (await request.authOf(domain)) ?? session.auth(registryHost(domain), signal),
    secret: async (id) => (await request.secret(id)) ?? session.secret(id, signal),
    agent: (id) => session.agent(id, signal),
  };
}
