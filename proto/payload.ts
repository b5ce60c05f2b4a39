// What a secret or config with Templating "golang" holds for one task: a Go template with Docker's fields and functions. Pure.

import type { FileKind } from "./file-targets.ts";
import { parseGoTemplate, show, type TemplateFunction } from "./go-template.ts";
import { SwarmError } from "./kit/errors.ts";
import type { TemplateFacts } from "./template.ts";

/** Docker's functions: `secret "target"`, `config "target"`, `env "NAME"`. Undefined: the task has none. */
export interface PayloadLookups {
  readonly secret: (target: string) => Uint8Array | undefined;
  readonly config: (target: string) => Uint8Array | undefined;
  readonly env: (name: string) => string | undefined;
}

/** Throws `invalid` for a template that is none. */
export function checkTemplate(kind: FileKind, data: Uint8Array): void {
  const none = () => undefined;
  discreetly(kind, () => parse(data, { secret: none, config: none, env: none }));
}

/** Bytes that are no text pass through unharmed. Throws `invalid`. */
export function expandPayload(
  kind: FileKind,
  data: Uint8Array,
  facts: TemplateFacts,
  lookups: PayloadLookups,
): Uint8Array {
  return discreetly(kind, () => Buffer.from(parse(data, lookups)(asBytes(facts)), "latin1"));
}

/** What is wrong with a secret's template would quote it. */
function discreetly<T>(kind: FileKind, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (kind === "config") throw error;
    throw new SwarmError("invalid", "its template cannot be expanded (what in it, is not told)");
  }
}

/** Each character is a byte, as Go's strings are. */
function parse(data: Uint8Array, lookups: PayloadLookups) {
  const file =
    (kind: "secret" | "config"): TemplateFunction =>
    (target) => {
      const found = lookups[kind](fromBytes(show(target)));
      if (found === undefined)
        throw new SwarmError("invalid", `${kind} target ${fromBytes(show(target))} not found`);
      return Buffer.from(found).toString("latin1");
    };
  const functions: Readonly<Record<string, TemplateFunction>> = {
    secret: file("secret"),
    config: file("config"),
    env: (name) => toBytes(lookups.env(fromBytes(show(name))) ?? ""),
    join: (separator, ...texts) => texts.map(show).join(show(separator)),
  };
  return parseGoTemplate(Buffer.from(data).toString("latin1"), { functions, isStrict: true });
}

function toBytes(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

function fromBytes(text: string): string {
  return Buffer.from(text, "latin1").toString("utf8");
}

function asBytes(value: unknown): unknown {
  if (typeof value === "string") return toBytes(value);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [toBytes(key), asBytes(item)]),
  );
}
