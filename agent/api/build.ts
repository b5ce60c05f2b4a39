// /build and /commit: new images from a Dockerfile, or from a container.

import type { IncomingHttpHeaders } from "node:http";
import { Readable } from "node:stream";
import type { ReadableStream } from "node:stream/web";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { pack } from "tar-stream";
import { z } from "zod";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { registryHost } from "../../proto/kit/reference.ts";
import { applyChanges } from "../build/config.ts";
import { type BuildEvent, linesOf } from "../build/events.ts";
import { parseGitAddress } from "../build/git.ts";
import { BuildError, type BuildRequest } from "../build/request.ts";
import type { ContainerDefaults } from "../build/types.ts";
import type { Container, HostConfig } from "../engine/container-types.ts";
import type { Progress, RegistryAuth } from "../engine/image-types.ts";
import type { Json } from "./adapt.ts";
import { notYet } from "./errors.ts";
import { bodyOf, progressing } from "./image-transfers.ts";
import { optionalBody, parseBody, Query } from "./request.ts";
import { clientGone } from "./stream.ts";
import type { ApiContext } from "./types.ts";

const remoteTextBytesMax = 1024 * 1024;
const secretsHeader = "x-tsswarm-build-secrets";
const texts = z.record(z.string(), z.string().nullable());
const auths = z.record(
  z.string(),
  z.object({
    username: z.string().exactOptional(),
    password: z.string().exactOptional(),
    identitytoken: z.string().exactOptional(),
    auth: z.string().exactOptional(),
  }),
);
/** Of the OCI image specification: what a container's configuration may have of it. */
const imageKeys = [
  ...["User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels"],
  ...["StopSignal", "Healthcheck", "OnBuild", "Shell"],
] as const;

export function addBuild(app: FastifyInstance, context: ApiContext): void {
  const { engine, builder } = context;

  app.post("/build", { config: { streamsBody: true } }, async (request, reply) => {
    const query = new Query(request);
    // A client of BuildKit that sends its context with the request gets an ordinary build.
    if (query.text("version") === "2" && query.text("remote") === "client-session")
      throw new SwarmError(
        "unsupported",
        "BuildKit's protocol is not available: build with DOCKER_BUILDKIT=0",
      );
    const isQuiet = query.flag("q");
    await progressing(reply, async (report, out) => {
      const wanted = await buildRequest(request, query, out.gone);
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
    engine.tell({
      kind: "builder",
      action: "prune",
      id: "",
      attributes: { reclaimed: String(bytes) },
    });
    return { CachesDeleted: deleted, SpaceReclaimed: bytes };
  });

  // A build ends with its client's connection.
  app.post("/build/cancel", async (_request, reply) => reply.code(204).send());

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

async function buildRequest(
  request: FastifyRequest,
  query: Query,
  gone: AbortSignal,
): Promise<BuildRequest> {
  if (query.flag("squash")) throw notYet("squashing an image's layers");
  const remote = query.text("remote");
  const secrets = secretsOf(request.headers);
  return {
    context: remote === "" ? bodyOf(request) : await remoteContext(remote, gone),
    dockerfile: remoteDockerfile(remote, query.text("dockerfile")),
    names: query.texts("t").filter((name) => name !== ""),
    target: query.text("target"),
    args: mapOf(query, "buildargs"),
    labels: mapOf(query, "labels"),
    isWithoutCache: query.flag("nocache"),
    cacheFrom: cacheFromOf(query),
    isPulling: query.flag("pull"),
    network: query.text("networkmode"),
    platform: query.text("platform"),
    host: hostOf(query),
    authOf: authIn(authsOf(request.headers)),
    secret: async (id) => secrets[id] ?? null,
  };
}

/** By the domain, the registry's host, or as `docker login` has called it. */
function authIn(auths: Readonly<Record<string, RegistryAuth>>): BuildRequest["authOf"] {
  return async (domain) => {
    const login = domain === "docker.io" ? "https://index.docker.io/v1/" : `https://${domain}`;
    return auths[domain] ?? auths[registryHost(domain)] ?? auths[login] ?? null;
  };
}

function remoteDockerfile(remote: string, dockerfile: string): string {
  return remote === "" || dockerfile !== "" ? dockerfile : "Dockerfile";
}

/** A git repository, a tar at an address, or a Dockerfile alone. */
async function remoteContext(remote: string, gone: AbortSignal): Promise<BuildRequest["context"]> {
  const repository = parseGitAddress(remote);
  if (repository !== null) return repository;
  if (!/^https?:/.test(remote))
    throw new SwarmError(
      "invalid",
      `${remote} is no build context: an http(s) address of a tar or a Dockerfile is, or a git repository's`,
    );
  const answer = await fetch(remote, { signal: gone }).catch((cause: unknown) => {
    throw new SwarmError("unavailable", `${remote} cannot be fetched: ${messageOf(cause)}`, {
      cause,
    });
  });
  if (!answer.ok || answer.body === null)
    throw new SwarmError("invalid", `${remote} cannot be fetched: status ${answer.status}`);
  if (!/^text\//.test(answer.headers.get("content-type") ?? ""))
    return Readable.fromWeb(answer.body as ReadableStream);
  const tar = pack();
  tar.entry({ name: "Dockerfile" }, await shortText(answer.body, remote));
  tar.finalize();
  return Readable.from(tar);
}

/** Throws `too_large`. */
async function shortText(body: NonNullable<Response["body"]>, remote: string): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of Readable.fromWeb(body as ReadableStream)) {
    bytes += (part as Buffer).length;
    if (bytes > remoteTextBytesMax)
      throw new SwarmError("too_large", `${remote} is larger than ${remoteTextBytesMax} bytes`);
    parts.push(part as Buffer);
  }
  return Buffer.concat(parts);
}

/** A build argument without a value is one that was not given. */
function mapOf(query: Query, name: string): Readonly<Record<string, string>> {
  const text = query.text(name);
  if (text === "") return {};
  const parsed = parseBody(texts, parseText(text, name));
  return Object.fromEntries(
    Object.entries(parsed).flatMap(([key, value]) => (value === null ? [] : [[key, value]])),
  );
}

function cacheFromOf(query: Query): readonly string[] {
  const text = query.text("cachefrom");
  if (text === "") return [];
  return parseBody(z.array(z.string()).nullable(), parseText(text, "cachefrom")) ?? [];
}

function parseText(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new SwarmError("invalid", `${name}: JSON is expected`, { cause });
  }
}

function hostOf(query: Query): HostConfig {
  const numbers = {
    ...{ Memory: "memory", MemorySwap: "memswap", CpuShares: "cpushares" },
    ...{ CpuPeriod: "cpuperiod", CpuQuota: "cpuquota", ShmSize: "shmsize" },
  };
  const set = Object.entries(numbers).flatMap(([key, name]) => {
    const value = query.integer(name) ?? 0;
    return value === 0 ? [] : [[key, value]];
  });
  const hosts = query.texts("extrahosts").flatMap((text) => text.split(","));
  return {
    ...Object.fromEntries(set),
    ...(hosts.length === 0 ? {} : { ExtraHosts: hosts }),
    ...(query.text("cpusetcpus") === "" ? {} : { CpusetCpus: query.text("cpusetcpus") }),
  };
}

/** X-Registry-Config: base64 of JSON, by registry. Unreadable ones count as none, as in Docker. */
function authsOf(headers: IncomingHttpHeaders): Readonly<Record<string, RegistryAuth>> {
  const header = headers["x-registry-config"];
  if (typeof header !== "string") return {};
  try {
    const json: unknown = JSON.parse(Buffer.from(header, "base64url").toString("utf8"));
    return auths.parse(json);
  } catch {
    return {};
  }
}

function secretsOf(headers: IncomingHttpHeaders): Readonly<Record<string, Buffer>> {
  const header = headers[secretsHeader];
  if (typeof header !== "string") return {};
  const json = parseText(Buffer.from(header, "base64url").toString("utf8"), secretsHeader);
  return Object.fromEntries(
    Object.entries(parseBody(texts, json)).map(([id, value]) => [
      id,
      Buffer.from(value ?? "", "base64"),
    ]),
  );
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
