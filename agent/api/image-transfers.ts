// Images on their way: pull and push, save and load, import.

import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import type { ReadableStream } from "node:stream/web";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { applyChanges } from "../build/config.ts";
import type { Progress } from "../engine/image-types.ts";
import { text } from "./fields.ts";
import { parseBody, parseJson, Query, registryAuth } from "./request.ts";
import { answerTar, errorLine, type Outflow, outflow } from "./stream.ts";
import type { ApiContext } from "./types.ts";

const linesWaitingMax = 64;

export function addImageTransfers(app: FastifyInstance, context: ApiContext): void {
  const { engine } = context;
  const streamed = { config: { streamsBody: true } };

  app.post("/images/create", streamed, async (request, reply) => {
    const query = new Query(request);
    await progressing(reply, async (report, out) => {
      if (query.text("fromSrc") !== "") await importFrom(context, request, report, out);
      else await pull(context, request, report, out.gone);
    });
  });

  app.get("/images/get", async (request, reply) => {
    const names = new Query(request).texts("names").flatMap((text) => text.split(","));
    return save(context, request, reply, names);
  });

  app.post("/images/load", streamed, async (request, reply) => {
    const query = new Query(request);
    const isQuiet = query.flag("quiet");
    await progressing(reply, async (report, out) => {
      const told: Progress = (line) => {
        if (!isQuiet || line.stream !== undefined) report(line);
      };
      // As Docker: what is wrong with the archive is told in the answer's lines.
      out.open();
      await engine.loadImages(bodyOf(request), platformOf(query), told, out.gone);
    });
  });
}

export async function save(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  names: readonly string[],
): Promise<void> {
  if (names.length === 0) throw new SwarmError("invalid", "no image was named");
  const platform = platformOf(new Query(request));
  await answerTar(reply, (gone) => context.engine.saveImages(names, platform, gone));
}

export async function push(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  name: string,
): Promise<void> {
  const tag = new Query(request).text("tag");
  const auth = registryAuth(request);
  await progressing(reply, (report, out) =>
    context.engine.pushImage(name, tag, auth, report, out.gone),
  );
}

async function pull(
  { engine }: ApiContext,
  request: FastifyRequest,
  report: Progress,
  gone: AbortSignal,
): Promise<void> {
  const query = new Query(request);
  const tag = query.text("tag");
  // The tag beside it is meant, whatever the name says.
  const image = query.text("fromImage").replace(tag === "" ? /$^/ : /:[^/:@]+$/, "");
  const auth = registryAuth(request);
  const platform = platformOf(query);
  if (image === "") throw new SwarmError("invalid", "fromImage: the image's name is expected");
  if (tag !== "") {
    const reference = tag.includes(":") ? `${image}@${tag}` : `${image}:${tag}`;
    await engine.pull(reference, auth, report, gone, platform);
  } else if (/[:@][^/]+$/.test(image)) await engine.pull(image, auth, report, gone, platform);
  else
    for (const each of await engine.remoteTags(image, auth, gone))
      await engine.pull(`${image}:${each}`, auth, report, gone, platform);
}

async function importFrom(
  { engine }: ApiContext,
  request: FastifyRequest,
  report: Progress,
  out: Outflow,
): Promise<void> {
  const query = new Query(request);
  const [source, repo, tag] = [query.text("fromSrc"), query.text("repo"), query.text("tag")];
  const changes = query.texts("changes").flatMap((text) => text.split("\n"));
  const tar = source === "-" ? bodyOf(request) : await download(source, report, out.gone);
  const id = await engine.importImage(
    tar,
    {
      reference: repo === "" || tag === "" ? repo : `${repo}:${tag}`,
      message: query.text("message") || `Imported from ${source}`,
      platform: query.text("platform"),
      config: applyChanges({}, changes),
    },
    out.gone,
  );
  report({ status: id });
}

async function download(source: string, report: Progress, gone: AbortSignal): Promise<Readable> {
  const url = /^https?:\/\//.test(source) ? source : `http://${source}`;
  report({ status: `Downloading from ${url}` });
  const answer = await fetch(url, { signal: gone }).catch((cause: unknown) => {
    throw new SwarmError("unavailable", `${url} cannot be fetched: ${messageOf(cause)}`, { cause });
  });
  if (!answer.ok || answer.body === null)
    throw new SwarmError("invalid", `${url} cannot be fetched: status ${answer.status}`);
  return Readable.fromWeb(answer.body as ReadableStream);
}

export function bodyOf(request: FastifyRequest): Readable {
  return request.body instanceof Readable ? request.body : (request.raw as IncomingMessage);
}

const platformShape = z.object({ os: text, architecture: text, variant: text });

/** Old clients send words, newer ones JSON. */
function platformOf(query: Query): string {
  const asked = query.text("platform");
  if (!asked.startsWith("{")) return asked;
  const { os, architecture, variant } = parseBody(platformShape, parseJson(asked, "platform"));
  return [os, architecture, variant].filter((part) => part !== "").join("/");
}

/** Runs with a place for lines of progress, which are sent at the client's pace. */
export async function progressing(
  reply: FastifyReply,
  run: (report: Progress, out: Outflow) => Promise<void>,
): Promise<void> {
  await outflow(
    reply,
    "application/json",
    async (out) => {
      // Each line waits its turn; a client that reads slowly misses figures, never a change of state.
      let written = Promise.resolve();
      let waiting = 0;
      const report: Progress = (line) => {
        if (waiting >= linesWaitingMax && line.progressDetail?.current !== undefined) return;
        waiting++;
        written = written
          .then(() => out.write(`${JSON.stringify(line)}\r\n`))
          .then(() => void waiting--);
      };
      await run(report, out).finally(() => written);
    },
    errorLine,
  );
}
