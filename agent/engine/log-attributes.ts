// What Docker's log options have stand with each line of a container's log: a tag, some of its labels, some of its variables. Pure.

import { SwarmError } from "../../proto/kit/errors.ts";
import { expandTemplate } from "../../proto/template.ts";
import type { Container, HostConfig } from "./container-types.ts";

type Named = Pick<Container, "id" | "name" | "imageId" | "config">;

/** Throws `invalid` for a template or a pattern that cannot be read. */
export function checkAttributes(options: NonNullable<HostConfig["LogAttributes"]>): void {
  logAttributes({ id: "", name: "", imageId: "", config: { Image: "" } }, options);
}

/** Throws `invalid`. */
export function logAttributes(
  { id, name, imageId, config }: Named,
  options: NonNullable<HostConfig["LogAttributes"]>,
): Readonly<Record<string, string>> {
  const variables = (config.Env ?? []).map((entry) => {
    const at = entry.indexOf("=");
    return at < 0 ? ([entry, ""] as const) : ([entry.slice(0, at), entry.slice(at + 1)] as const);
  });
  const bare = imageId.replace(/^sha256:/, "");
  const facts = {
    ...{ ID: id.slice(0, 12), FullID: id, Name: name, DaemonName: "tsswarm" },
    ...{ ImageID: bare.slice(0, 12), ImageFullID: imageId, ImageName: config.Image },
  };
  return {
    ...chosen(Object.entries(config.Labels ?? {}), options.labels, options["labels-regex"]),
    ...chosen(variables, options.env, options["env-regex"]),
    ...(options.tag ? { tag: expandTemplate(options.tag, facts) } : {}),
  };
}

/** Those named in a list, and those whose name a pattern finds. */
function chosen(
  all: readonly (readonly [string, string])[],
  list = "",
  pattern = "",
): Readonly<Record<string, string>> {
  const names = new Set(list.split(","));
  const finds = pattern === "" ? null : patternOf(pattern);
  return Object.fromEntries(all.filter(([name]) => names.has(name) || finds?.test(name) === true));
}

function patternOf(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (cause) {
    throw new SwarmError("invalid", `a log option's pattern cannot be read: ${text}`, { cause });
  }
}
