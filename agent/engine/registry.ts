// The Docker Registry HTTP API v2, as a client: reading, and the requests that pushing is made of (upload.ts).

import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { errnoOf, messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { hubDomain, type Reference, registryHost } from "../../proto/kit/reference.ts";
import type { World } from "../../proto/kit/world.ts";
import type { Descriptor } from "../runtime/types.ts";
import { Downloader } from "./download.ts";
import type { RegistryAuth } from "./image-types.ts";
import { indexTypes, manifestBytesMax, manifestTypes } from "./manifest.ts";
import { manyTimes, pauseAfter } from "./retry.ts";

export interface RegistryOptions {
  /** host, host:port or a CIDR-less prefix, spoken to over plain HTTP. Loopback always is. */
  readonly insecure: readonly string[];
  /** Base URLs tried before docker.io, for its images only. */
  readonly mirrors: readonly string[];
  readonly world: World;
}

export interface FetchedManifest {
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
}

export interface RegistryRequest {
  readonly method: "GET" | "HEAD" | "POST" | "PATCH" | "PUT";
  readonly headers?: Readonly<Record<string, string>>;
  /** Called again when the request has to be made again. */
  readonly body?: () => NonNullable<RequestInit["body"]>;
  /** Until the answer's head: 30 s unless told. */
  readonly answerMsMax?: number;
}

/** Docker's registry searches under another name. */
const hubIndex = "https://index.docker.io";
const agentName = "tsswarm";
const tagsAtOnce = 1_000;
const tagPagesMax = 100;
const answerTimeoutMs = 30_000;
const tokenBytesMax = 1024 * 1024;
const tokenSecondsDefault = 60;

/** One per pull: holds the tokens it was given, never longer than the pull. */
export class Registry {
  readonly #options: RegistryOptions;
  readonly #auth: RegistryAuth | null;
  readonly #headers = new Map<string, { readonly value: string; readonly untilMs: number }>();
  readonly #downloads = new Downloader();

  constructor(options: RegistryOptions, auth: RegistryAuth | null) {
    this.#options = options;
    this.#auth = auth;
  }

  /** Of connections that are kept for another blob. */
  close(): void {
    this.#downloads.close();
  }

  /** By digest when the reference has one, else by tag. Throws `not_found`, `denied`, `unavailable`, `invalid`. */
  async manifest(reference: Reference, signal: AbortSignal): Promise<FetchedManifest> {
    const wanted = reference.digest === "" ? reference.tag : reference.digest;
    return manyTimes(this.#options.world, signal, async () => {
      const response = await this.#get(
        reference,
        `manifests/${wanted}`,
        { accept: [...manifestTypes, ...indexTypes].join(", ") },
        signal,
      );
      const bytes = await readAll(response, manifestBytesMax, `the manifest of ${reference.path}`);
      const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
      if (reference.digest !== "" && digest !== reference.digest)
        throw new SwarmError(
          "invalid",
          `${reference.domain} sent another manifest than ${reference.digest} for ${reference.path}`,
        );
      const header = response.headers.get("content-type")?.split(";")[0]?.trim() ?? "";
      const mediaType = mediaTypeOf(bytes) ?? header;
      return { bytes, descriptor: { mediaType, digest, size: bytes.length } };
    });
  }

  /** The blob's bytes from `offset` on. Goes on by itself where a connection broke. */
  async *blob(
    reference: Reference,
    descriptor: Descriptor,
    offset: number,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, void> {
    let at = offset;
    let failures = 0;
    for (;;) {
      try {
        for await (const chunk of this.#blobOnce(reference, descriptor, at, signal)) {
          at += chunk.length;
          failures = 0;
          yield chunk;
        }
        return;
      } catch (error) {
        failures++;
        await pauseAfter(error, failures, this.#options.world, signal);
      }
    }
  }

  /** All tags of a repository. Throws as `manifest` does. */
  async tags(reference: Reference, signal: AbortSignal): Promise<readonly string[]> {
    const tags: string[] = [];
    let path = `tags/list?n=${tagsAtOnce}`;
    for (let pages = 0; pages < tagPagesMax; pages++) {
      const response = await manyTimes(this.#options.world, signal, () =>
        this.#get(reference, path, {}, signal),
      );
      const bytes = await readAll(response, manifestBytesMax, `the tags of ${reference.path}`);
      tags.push(...tagsOf(bytes));
      const next = /<([^>]+)>;\s*rel="?next/.exec(response.headers.get("link") ?? "")?.[1];
      if (next === undefined) return tags;
      path = `tags/list${new URL(next, "http://registry").search}`;
    }
    throw new SwarmError("too_large", `${reference.path} has too many tags to pull them all`);
  }

  /** Repositories by a word, where a registry can (Docker's does). Throws `unsupported`, `unavailable`, `invalid`. */
  async search(domain: string, term: string, limit: number, signal: AbortSignal): Promise<unknown> {
    const base = domain === hubDomain ? hubIndex : (this.#bases(domain).at(-1) ?? "");
    const query = new URLSearchParams({ q: term, n: String(limit) });
    const answer = await this.#fetch(
      `${base}/v1/search?${query}`,
      this.#authorization(base),
      signal,
    );
    const bytes = await readAll(answer, manifestBytesMax, `what ${domain} has found`);
    if (!answer.ok)
      throw new SwarmError("unsupported", `${domain} does not search: status ${answer.status}`);
    try {
      return JSON.parse(bytes.toString("utf8"));
    } catch (cause) {
      throw new SwarmError("invalid", `${domain} has answered a search with no JSON`, { cause });
    }
  }

  /**
   * A request to the registry itself, never to a mirror, with what it asks for in the way of authentication. `path`:
   * below the repository, or a URL the registry gave. Resolves with the answer whatever its status.
   */
  async request(
    reference: Reference,
    path: string,
    init: RegistryRequest,
    signal: AbortSignal,
  ): Promise<Response> {
    const base = this.#bases(reference.domain).at(-1) ?? "";
    const url = /^https?:|^\//.test(path)
      ? new URL(path, base).href
      : `${base}/v2/${reference.path}/${path}`;
    const isOwn = new URL(url).origin === new URL(base).origin;
    const send = () =>
      this.#fetch(
        url,
        { ...init.headers, ...(isOwn ? this.#authorization(base) : {}) },
        signal,
        init,
      );
    const first = await send();
    if (first.status !== 401 || !isOwn) return first;
    await first.body?.cancel();
    const challenge = first.headers.get("www-authenticate") ?? "";
    await this.#authorize(base, challenge, reference, signal, "pull,push");
    return send();
  }

  async *#blobOnce(
    reference: Reference,
    descriptor: Descriptor,
    offset: number,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, void> {
    const range: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {};
    let body: AsyncIterable<Uint8Array> = Readable.from([]);
    const response = await this.#get(
      reference,
      `blobs/${descriptor.digest}`,
      range,
      signal,
      async (url, headers) => {
        const download = await this.#asked(url, signal, answerTimeoutMs, (until) =>
          this.#downloads.get(url, { "user-agent": agentName, ...headers }, until),
        );
        body = download.body;
        return download.response;
      },
    );
    // A registry that knows no ranges starts over: skip what we have.
    let skip = response.status === 206 ? 0 : offset;
    try {
      for await (const chunk of body) {
        const fresh = chunk.subarray(skip);
        skip -= chunk.length - fresh.length;
        if (fresh.length > 0) yield fresh;
      }
    } catch (error) {
      if (error instanceof SwarmError) throw error;
      throw new SwarmError(
        "unavailable",
        `${reference.domain} broke off while sending ${descriptor.digest}: ${messageOf(error)}`,
        { cause: error },
      );
    }
  }

  async #get(
    reference: Reference,
    path: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
    send = (url: string, sent: Readonly<Record<string, string>>) => this.#fetch(url, sent, signal),
  ): Promise<Response> {
    let failure: unknown = null;
    for (const base of this.#bases(reference.domain)) {
      try {
        return await this.#getFrom(base, reference, path, headers, signal, send);
      } catch (error) {
        failure = error;
        if (signal.aborted) break;
      }
    }
    throw failure;
  }

  #bases(domain: string): readonly string[] {
    const { mirrors, insecure } = this.#options;
    const scheme = isInsecure(domain, insecure) ? "http" : "https";
    const own = `${scheme}://${registryHost(domain)}`;
    return domain === hubDomain ? [...mirrors.map((m) => m.replace(/\/+$/, "")), own] : [own];
  }

  async #getFrom(
    base: string,
    reference: Reference,
    path: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
    send: (url: string, headers: Readonly<Record<string, string>>) => Promise<Response>,
  ): Promise<Response> {
    const url = `${base}/v2/${reference.path}/${path}`;
    const first = await send(url, { ...headers, ...this.#authorization(base) });
    if (first.status !== 401) return checked(first, reference, path);
    await first.body?.cancel();
    const challenge = first.headers.get("www-authenticate") ?? "";
    await this.#authorize(base, challenge, reference, signal);
    const second = await send(url, { ...headers, ...this.#authorization(base) });
    if (second.status === 401) throw await this.#refused(reference, second);
    return checked(second, reference, path);
  }

  #authorization(base: string): Record<string, string> {
    const header = this.#headers.get(base);
    if (header === undefined || header.untilMs <= this.#options.world.now()) return {};
    return { authorization: header.value };
  }

  async #authorize(
    base: string,
    challenge: string,
    reference: Reference,
    signal: AbortSignal,
    actions = "pull",
  ): Promise<void> {
    const { scheme, parameters } = parseChallenge(challenge);
    const auth = this.#auth;
    if (scheme === "basic") {
      if (!auth?.username) throw noAccess(reference);
      this.#headers.set(base, { value: basic(auth), untilMs: Number.POSITIVE_INFINITY });
      return;
    }
    const realm = parameters["realm"];
    if (scheme !== "bearer" || realm === undefined)
      throw new SwarmError(
        "unsupported",
        `${reference.domain} asks for an authentication we do not know: ${scheme}`,
      );
    const scope =
      reference.path === ""
        ? ""
        : (parameters["scope"] ?? `repository:${reference.path}:${actions}`);
    const service = parameters["service"] ?? "";
    const response = auth?.identitytoken
      ? await this.#refresh(realm, service, scope, auth.identitytoken, signal)
      : await this.#fetch(
          tokenUrl(realm, service, scope),
          auth?.username ? { authorization: basic(auth) } : {},
          signal,
        );
    if (!response.ok) {
      throw await this.#refused(reference, response);
    }
    const body = await readAll(response, tokenBytesMax, "the registry's token");
    const answer = JSON.parse(body.toString("utf8")) as Record<string, unknown>;
    const token = answer["token"] ?? answer["access_token"];
    if (typeof token !== "string") throw noAccess(reference);
    const seconds =
      typeof answer["expires_in"] === "number" ? answer["expires_in"] : tokenSecondsDefault;
    this.#headers.set(base, {
      value: `Bearer ${token}`,
      // A little early, so that it does not run out on its way.
      untilMs: this.#options.world.now() + Math.max(seconds - 5, 5) * 1000,
    });
  }

  /** Whether the registry takes the credentials there are. Throws `denied` with its own words. */
  async login(domain: string, signal: AbortSignal): Promise<void> {
    const reference: Reference = { domain, path: "", tag: "", digest: "" };
    const base = this.#bases(domain).at(-1) ?? "";
    const ask = () => this.#fetch(`${base}/v2/`, this.#authorization(base), signal);
    let response = await ask();
    if (response.status === 401) {
      await response.body?.cancel();
      const challenge = response.headers.get("www-authenticate") ?? "";
      await this.#authorize(base, challenge, reference, signal);
      response = await ask();
    }
    if (response.status === 401 || response.status === 403)
      throw await this.#refused(reference, response);
    await (await checked(response, reference, "")).body?.cancel();
  }

  /** What it said to credentials that it does not take (any more); without any, that some are needed. */
  async #refused(reference: Reference, response: Response): Promise<SwarmError> {
    const body = await readAll(response, tokenBytesMax, "the registry's answer").catch(() => "");
    const auth = this.#auth;
    if (auth === null || (!auth.username && !auth.identitytoken)) return noAccess(reference);
    const said = /"(?:message|details|error_description)"\s*:\s*"([^"]{1,200})"/.exec(
      `${body}`,
    )?.[1];
    return new SwarmError(
      "denied",
      `registry ${reference.domain} refused the login of user ${auth.username || "<token>"}: ${said ?? response.statusText}; log in again (\`login ${reference.domain}\`), and give services the new credentials with \`service update --with-registry-auth\``,
    );
  }

  #refresh(
    realm: string,
    service: string,
    scope: string,
    token: string,
    signal: AbortSignal,
  ): Promise<Response> {
    const body = new URLSearchParams({
      grant_type: "refresh_token",
      refresh_token: token,
      service,
      scope,
      client_id: "tsswarm",
    });
    return this.#fetch(realm, {}, signal, { method: "POST", body: () => body });
  }

  #fetch(
    url: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
    init: Omit<RegistryRequest, "headers"> = { method: "GET" },
  ): Promise<Response> {
    return this.#asked(url, signal, init.answerMsMax ?? answerTimeoutMs, (until) =>
      fetch(url, {
        headers: { "user-agent": agentName, ...headers },
        signal: until,
        method: init.method,
        ...(init.body === undefined ? {} : { body: init.body(), duplex: "half" }),
      }),
    );
  }

  /** Says in people's words why there is no answer. */
  async #asked<T>(
    url: string,
    signal: AbortSignal,
    answerMsMax: number,
    send: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { host } = new URL(url);
    const slow = new AbortController();
    const timer = setTimeout(
      () => slow.abort(new SwarmError("unavailable", `${host} does not answer`)),
      answerMsMax,
    );
    try {
      return await send(AbortSignal.any([signal, slow.signal]));
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (slow.signal.aborted) throw slow.signal.reason;
      if (error instanceof SwarmError) throw error;
      const why = error instanceof Error && error.cause !== undefined ? error.cause : error;
      const sentence =
        errnoOf(why) === "ERR_SSL_WRONG_VERSION_NUMBER"
          ? `the registry ${host} does not speak TLS; to use it all the same, name it in "insecure-registries" (--insecure-registry) of every node's daemon`
          : `the registry ${host} cannot be reached: ${messageOf(why)}`;
      throw new SwarmError("unavailable", sentence, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }
}

function tagsOf(bytes: Buffer): readonly string[] {
  const { tags } = JSON.parse(bytes.toString("utf8")) as { readonly tags?: unknown };
  return Array.isArray(tags) ? tags.map(String) : [];
}

function isInsecure(domain: string, insecure: readonly string[]): boolean {
  const name = domain.replace(/:\d+$/, "");
  if (name === "localhost" || /^127\./.test(name) || name === "[::1]") return true;
  return insecure.includes(domain) || insecure.includes(name);
}

/** Throws for what is no success, in a sentence that has the registry's own in it. */
export async function checked(
  response: Response,
  reference: Reference,
  path: string,
): Promise<Response> {
  if (response.ok) return response;
  const body = await response.text().catch(() => "");
  const said = /"message"\s*:\s*"([^"]{1,200})"/.exec(body)?.[1] ?? response.statusText;
  const name = `${reference.domain}/${reference.path}`;
  if (response.status === 401 || response.status === 403) throw noAccess(reference);
  if (response.status === 404)
    throw new SwarmError(
      "not_found",
      path.startsWith("manifests/")
        ? `manifest for ${name}:${path.slice("manifests/".length)} not found: ${said}`
        : `${name} has no ${path}: ${said}`,
    );
  const code = response.status === 429 || response.status >= 500 ? "unavailable" : "invalid";
  throw new SwarmError(code, `${name}: the registry answered ${response.status}: ${said}`);
}

function noAccess(reference: Reference): SwarmError {
  return new SwarmError(
    "denied",
    `pull access denied for ${reference.domain}/${reference.path}, repository does not exist or may require a login`,
  );
}

function basic(auth: RegistryAuth): string {
  const pair = `${auth.username ?? ""}:${auth.password ?? ""}`;
  return `Basic ${Buffer.from(pair).toString("base64")}`;
}

function tokenUrl(realm: string, service: string, scope: string): string {
  const url = new URL(realm);
  if (service !== "") url.searchParams.set("service", service);
  if (scope !== "") url.searchParams.set("scope", scope);
  return url.href;
}

/** `Bearer realm="https://…",service="…",scope="…"` (RFC 9110, section 11.6.1). */
export function parseChallenge(header: string): {
  readonly scheme: string;
  readonly parameters: Readonly<Record<string, string>>;
} {
  const parameters: Record<string, string> = {};
  for (const [, key = "", quoted, bare] of header.matchAll(
    /([a-zA-Z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))/g,
  ))
    parameters[key.toLowerCase()] = quoted?.replace(/\\(.)/g, "$1") ?? bare ?? "";
  return { scheme: (header.split(/\s/)[0] ?? "").toLowerCase(), parameters };
}

function mediaTypeOf(bytes: Buffer): string | null {
  try {
    const body = JSON.parse(bytes.toString("utf8")) as Record<string, unknown>;
    return typeof body["mediaType"] === "string" ? body["mediaType"] : null;
  } catch {
    return null;
  }
}

async function readAll(response: Response, bytesMax: number, what: string): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  if (response.body !== null)
    for await (const chunk of response.body) {
      bytes += chunk.length;
      if (bytes > bytesMax)
        throw new SwarmError("too_large", `${what} is larger than ${bytesMax} bytes`);
      parts.push(chunk);
    }
  return Buffer.concat(parts);
}
