// The query and headers of POST /build → what is asked of the builder.

import type { IncomingHttpHeaders } from "node:http";
import { Readable } from "node:stream";
import type { ReadableStream } from "node:stream/web";
import type { FastifyRequest } from "fastify";
import { pack } from "tar-stream";
import { z } from "zod";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { registryHost } from "../../proto/kit/reference.ts";
import { parseGitAddress } from "../build/git.ts";
import type { BuildRequest } from "../build/request.ts";
import type { HostConfig } from "../engine/container-types.ts";
import type { RegistryAuth } from "../engine/image-types.ts";
import { notYet } from "./errors.ts";
import { bodyOf } from "./image-transfers.ts";
import { parseBody, parseJson, type Query } from "./request.ts";

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
/** All but the context, which `remote` names. */
export function buildRequest(request: FastifyRequest, query: Query): Omit<BuildRequest, "context"> {
  if (query.flag("squash")) throw notYet("squashing an image's layers");
  const remote = query.text("remote");
  const secrets = secretsOf(request.headers);
  return {
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
    keepsFailed: query.text("version") !== "2" && !query.flag("forcerm"),
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

/** What comes with the request, a git repository, a tar at an address, or a Dockerfile alone. */
export async function remoteContext(
  request: FastifyRequest,
  remote: string,
  gone: AbortSignal,
): Promise<BuildRequest["context"]> {
  if (remote === "") return bodyOf(request);
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
  const parsed = parseBody(texts, parseJson(text, name));
  return Object.fromEntries(
    Object.entries(parsed).flatMap(([key, value]) => (value === null ? [] : [[key, value]])),
  );
}

function cacheFromOf(query: Query): readonly string[] {
  const text = query.text("cachefrom");
  if (text === "") return [];
  return parseBody(z.array(z.string()).nullable(), parseJson(text, "cachefrom")) ?? [];
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
  const json = parseJson(Buffer.from(header, "base64url").toString("utf8"), secretsHeader);
  return Object.fromEntries(
    Object.entries(parseBody(texts, json)).map(([id, value]) => [
      id,
      Buffer.from(value ?? "", "base64"),
    ]),
  );
}
