// `--format`: Go's templates with the functions that Docker's client adds.

import {
  parseGoTemplate,
  show,
  type Template,
  type TemplateFunction,
} from "../proto/go-template.ts";
import { SwarmError } from "../proto/kit/errors.ts";
import { UsageError } from "./values.ts";

/** Parses once; throws UsageError on what is not understood, as the template does. */
export function parseTemplate(source: string): Template {
  const unescaped = source.replace(/\\t/g, "\t").replace(/\\n/g, "\n");
  const template = usage(() => parseGoTemplate(unescaped, { functions, isStrict: false }));
  return (data) => usage(() => template(data));
}

function usage<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof SwarmError ? new UsageError(error.message) : error;
  }
}

const functions: Readonly<Record<string, TemplateFunction>> = {
  json: (value) => JSON.stringify(value ?? null),
  upper: (value) => show(value).toUpperCase(),
  lower: (value) => show(value).toLowerCase(),
  title: (value) => show(value).replace(/\b\w/g, (letter) => letter.toUpperCase()),
  join: (list, separator) => (Array.isArray(list) ? list.map(show).join(show(separator)) : ""),
  split: (text, separator) => show(text).split(show(separator)),
  truncate: (value, length) => show(value).slice(0, Number(length)),
  index: (value, ...keys) =>
    keys.reduce(
      (current, key) => (current as Record<string, unknown> | undefined)?.[String(key)],
      value,
    ),
};
