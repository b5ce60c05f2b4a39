// Reading what a client sent: query parameters, filters, JSON bodies, registry credentials.

import type { FastifyRequest } from "fastify";
import { z } from "zod";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { RegistryAuth } from "../engine/image-types.ts";
import { versionOf } from "./versions.ts";

export const authBody = z.object({
  username: z.string().exactOptional(),
  password: z.string().exactOptional(),
  identitytoken: z.string().exactOptional(),
  serveraddress: z.string().exactOptional(),
});

export type Filters = Readonly<Record<string, readonly string[]>>;

/** Query parameters with Docker's ideas of what a boolean and a number look like. */
export class Query {
  readonly #values: Readonly<Record<string, string | readonly string[] | undefined>>;

  constructor(request: Pick<FastifyRequest, "query">) {
    this.#values = request.query as Record<string, string | string[]>;
  }

  text(name: string): string {
    const value = this.#values[name];
    if (value === undefined || typeof value === "string") return value ?? "";
    return value[0] ?? "";
  }

  /** A parameter that may be given several times. */
  texts(name: string): readonly string[] {
    const value = this.#values[name];
    if (value === undefined) return [];
    return typeof value === "string" ? [value] : value;
  }

  /** As Docker: everything but these words is true. */
  flag(name: string, otherwise = false): boolean {
    if (this.#values[name] === undefined) return otherwise;
    return !["", "0", "no", "false", "none"].includes(this.text(name).trim().toLowerCase());
  }

  /** Undefined when absent. Throws `invalid` naming the parameter. */
  integer(name: string): number | undefined {
    const text = this.text(name);
    if (text === "") return undefined;
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(value))
      throw new SwarmError("invalid", `invalid ${name}: "${text}" is not an integer`);
    return value;
  }

  /** A moment as seconds since 1970 (with fraction) or RFC 3339; milliseconds, undefined when absent or 0. */
  time(name: string): number | undefined {
    const text = this.text(name);
    if (text === "" || text === "0") return undefined;
    const ms = /^-?\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text);
    if (!Number.isFinite(ms) || Math.abs(ms) > 8.64e15)
      throw new SwarmError("invalid", `invalid ${name}: "${text}" is not a time`);
    return ms;
  }

  /** `{"name":{"a":true}}` and the older `{"name":["a"]}`. */
  filters(): Filters {
    const text = this.text("filters");
    if (text === "") return {};
    const wrong = new SwarmError("invalid", "invalid filter: a map of names to values is expected");
    const parsed = parseJson(text, "filters");
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) throw wrong;
    const filters: Record<string, readonly string[]> = Object.create(null);
    for (const [name, values] of Object.entries(parsed)) {
      if (Array.isArray(values)) filters[name] = values.map(String);
      else if (typeof values === "object" && values !== null)
        filters[name] = Object.keys(values).filter(
          (key) => (values as Record<string, unknown>)[key] !== false,
        );
      else throw wrong;
    }
    return filters;
  }
}

/** Throws `invalid` when a filter is none of these. */
export function onlyFilters(filters: Filters, known: readonly string[]): void {
  for (const name of Object.keys(filters))
    if (!known.includes(name)) throw new SwarmError("invalid", `invalid filter '${name}'`);
}

const durationMs: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000 };

/** The filter `until`: a time, or how long ago (`24h`, `1h30m`); milliseconds since 1970, undefined when not asked for. */
export function untilOf(filters: Filters, now: number): number | undefined {
  const text = filters["until"]?.[0];
  if (text === undefined) return undefined;
  if (/^(\d+(\.\d+)?[hms])+$/.test(text)) {
    const parts = [...text.matchAll(/(\d+(?:\.\d+)?)([hms])/g)];
    return (
      now - parts.reduce((ms, [, n, unit]) => ms + Number(n) * (durationMs[unit ?? ""] ?? 0), 0)
    );
  }
  return new Query({ query: { until: text } }).time("until");
}

/** A boolean filter such as `dangling`; undefined when not asked for. */
export function flagFilter(filters: Filters, name: string): boolean | undefined {
  const value = filters[name]?.[0];
  if (value === undefined) return undefined;
  if (["1", "true", "True", "t"].includes(value)) return true;
  if (["0", "false", "False", "f"].includes(value)) return false;
  throw new SwarmError("invalid", `invalid filter '${name}=[${value}]'`);
}

/** Docker's label filter: `key` or `key=value`, all of which must hold. */
export function labelsMatch(
  labels: Readonly<Record<string, string>>,
  wanted: readonly string[] | undefined,
): boolean {
  return (wanted ?? []).every((filter) => {
    const at = filter.indexOf("=");
    if (at < 0) return Object.hasOwn(labels, filter);
    return labels[filter.slice(0, at)] === filter.slice(at + 1);
  });
}

/** The body as JSON. Throws `invalid` when it is none; an empty body is `undefined`. */
export function optionalBody(request: FastifyRequest): unknown {
  const bytes = request.body;
  if (!Buffer.isBuffer(bytes) || bytes.length === 0) return undefined;
  const type = request.headers["content-type"] ?? "";
  if (type !== "" && !/^application\/json\s*(;|$)/i.test(type) && !/^text\/plain/i.test(type))
    throw new SwarmError(
      "invalid",
      `unsupported Content-Type header (${type}): must be 'application/json'`,
    );
  return parseJson(bytes.toString("utf8"), "request body");
}

export function jsonBody(request: FastifyRequest): unknown {
  const body = optionalBody(request);
  if (body === undefined)
    throw new SwarmError("invalid", "invalid JSON: got EOF while reading request body");
  return body;
}

export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new SwarmError("invalid", `invalid JSON in ${what}`, { cause: error });
  }
}

/** The `version` of the object a change was made from. */
export function requiredVersion(query: Query, kind: string): number {
  const version = query.integer("version");
  if (version === undefined || version < 0)
    throw new SwarmError(
      "invalid",
      `invalid ${kind} version '${query.text("version")}': a number is expected`,
    );
  return version;
}

/** Keys in any case, as Go takes them. Throws `invalid` naming each wrong field. */
export function parseBody<T>(shape: z.ZodType<T>, json: unknown): T {
  const parsed = shape.safeParse(spelled(shape, json));
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(
    (issue) => `${issue.path.join(".") || "request body"}: ${issue.message}`,
  );
  throw new SwarmError("invalid", problems.join("; "));
}

/** With the keys of objects as their shape has them; one that is spelled so already wins. */
function spelled(shape: z.core.$ZodType, json: unknown): unknown {
  const inner = unwrapped(shape);
  if (typeof json !== "object" || json === null) return json;
  if (inner instanceof z.ZodArray)
    return Array.isArray(json) ? json.map((item) => spelled(inner.element, item)) : json;
  if (!(inner instanceof z.ZodObject) || Array.isArray(json)) return json;
  const fields = inner.shape as Readonly<Record<string, z.core.$ZodType>>;
  const names = new Map(Object.keys(fields).map((name) => [name.toLowerCase(), name]));
  const result: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(json)) {
    const name = Object.hasOwn(fields, key) ? key : (names.get(key.toLowerCase()) ?? key);
    if (name !== key && Object.hasOwn(json, name)) continue;
    if (name === "__proto__") continue;
    const field = fields[name];
    result[name] = field === undefined ? value : spelled(field, value);
  }
  return result;
}

/** What is inside of optional, nullable and transformed shapes. */
function unwrapped(shape: z.core.$ZodType): z.core.$ZodType {
  if (shape instanceof z.ZodOptional || shape instanceof z.ZodNullable)
    return unwrapped(shape.unwrap());
  return shape instanceof z.ZodPipe ? unwrapped(shape.in) : shape;
}

/** A path parameter. */
export function parameter(request: FastifyRequest, name: string): string {
  return (request.params as Record<string, string | undefined>)[name] ?? "";
}

/** The API version the client asked for, null for none. */
export function askedVersion(request: FastifyRequest): string | null {
  return versionOf(request.originalUrl);
}

export function registryAuthHeader(request: FastifyRequest): string {
  const header = request.headers["x-registry-auth"];
  return (Array.isArray(header) ? header[0] : header) ?? "";
}

/** The X-Registry-Auth header: base64url of JSON. Unreadable credentials count as none, as in Docker. */
export function registryAuth(request: FastifyRequest): RegistryAuth | null {
  const header = registryAuthHeader(request);
  if (header === "") return null;
  try {
    const json: unknown = JSON.parse(Buffer.from(header, "base64url").toString("utf8"));
    const auth: RegistryAuth = authBody.parse(json);
    return Object.keys(auth).length === 0 ? null : auth;
  } catch {
    return null;
  }
}
