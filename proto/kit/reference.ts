// Names of images: what `nginx`, `registry.lab:5000/web:2` and `app@sha256:…` stand for.

import { SwarmError } from "./errors.ts";

export interface Reference {
  /** Host of the registry, with its port: docker.io, registry.lab:5000. */
  readonly domain: string;
  /** library/nginx */
  readonly path: string;
  /** "" when only a digest is given. */
  readonly tag: string;
  /** sha256:… or "". */
  readonly digest: string;
}

export const hubDomain = "docker.io";
const hubHost = "registry-1.docker.io";
const nameLengthMax = 255;
const part = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*";
const pathPattern = new RegExp(`^${part}(?:/${part})*$`);
const domainPattern =
  /^(?:\[[0-9a-fA-F:]+\]|[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*)(?::\d+)?$/;
const tagPattern = /^\w[\w.-]{0,127}$/;
const digestPattern = /^sha256:[0-9a-f]{64}$/;

/** Throws `invalid` when it is not the name of an image. Without tag and digest the tag is `latest`. */
export function parseReference(text: string): Reference {
  const wrong = (why: string) =>
    new SwarmError("invalid", `invalid reference format: ${JSON.stringify(text)}: ${why}`);
  const [named = "", digest = "", ...more] = text.split("@");
  if (more.length > 0) throw wrong("more than one @");
  if (text.includes("@") && !digestPattern.test(digest)) throw wrong("the digest is not sha256:…");
  const colon = named.lastIndexOf(":");
  const hasTag = colon > named.lastIndexOf("/");
  const tag = hasTag ? named.slice(colon + 1) : "";
  if (hasTag && !tagPattern.test(tag)) throw wrong("the tag has a character it may not have");
  const name = hasTag ? named.slice(0, colon) : named;
  const slash = name.indexOf("/");
  const first = name.slice(0, Math.max(slash, 0));
  const isDomain = /[.:]/.test(first) || first === "localhost" || first !== first.toLowerCase();
  const domain = isDomain ? first : hubDomain;
  const rest = isDomain ? name.slice(slash + 1) : name;
  if (!domainPattern.test(domain)) throw wrong("the registry's name is not a host name");
  if (rest === "") throw wrong("it has no name");
  if (!pathPattern.test(rest))
    throw wrong(rest === rest.toLowerCase() ? "not a name" : "a name is lower case");
  if (name.length > nameLengthMax) throw wrong(`longer than ${nameLengthMax} characters`);
  const path = domain === hubDomain && !rest.includes("/") ? `library/${rest}` : rest;
  return { domain, path, tag: tag === "" && digest === "" ? "latest" : tag, digest };
}

/** With `:latest` where neither tag nor digest is given; an image's id, and what is no name, as it is. */
export function withTag(text: string): string {
  const isBare = !text.includes("@") && text.lastIndexOf(":") <= text.lastIndexOf("/");
  return isBare && text !== "" && !isImageId(text) ? `${text}:latest` : text;
}

/** As containerd stores it: docker.io/library/nginx:latest. A digest wins over the tag, as in Docker. */
export function fullName(reference: Reference): string {
  const name = `${reference.domain}/${reference.path}`;
  return reference.digest === "" ? `${name}:${reference.tag}` : `${name}@${reference.digest}`;
}

/** As people write it, without tag and digest: nginx, registry.lab:5000/web. */
export function familiarName(reference: Reference): string {
  if (reference.domain !== hubDomain) return `${reference.domain}/${reference.path}`;
  return reference.path.replace(/^library\//, "");
}

/** Host to connect to. */
export function registryHost(domain: string): string {
  return domain === hubDomain ? hubHost : domain;
}

/** Whether the text can only be an image's id: sha256:… or at least 12 hexadecimal digits of it. */
export function isImageId(text: string): boolean {
  return /^sha256:[0-9a-f]{4,64}$/.test(text) || /^[0-9a-f]{64}$/.test(text);
}
