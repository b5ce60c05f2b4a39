// How what a stack consists of is named and labelled, as Docker does it. Pure.

import { createHash } from "node:crypto";

export const namespaceLabel = "com.docker.stack.namespace";
export const imageLabel = "com.docker.stack.image";
/** On a secret or config of ours: the name it has in the file. Its own name ends with a hash of its content. */
export const sourceLabel = "tsswarm.stack.source";
/** On one whose name the file says: the hash its content had. */
export const contentLabel = "tsswarm.stack.content";

const hashLength = 12;

export function scoped(stack: string, name: string): string {
  return `${stack}_${name}`;
}

export function namespaceLabels(stack: string, labels: Readonly<Record<string, string>> = {}) {
  return { ...labels, [namespaceLabel]: stack };
}

/** Of the name too, so that two secrets of one content do not tell on each other. */
export function contentHash(name: string, ...parts: readonly (string | Buffer)[]): string {
  const hash = createHash("sha256").update(name);
  for (const part of parts) hash.update("\0").update(part);
  return hash.digest("hex").slice(0, hashLength);
}

const stackName = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;

/** What is wrong with it, or null. */
export function stackNameProblem(name: string): string | null {
  return stackName.test(name)
    ? null
    : `invalid stack name: "${name}": letters, digits, dots, dashes and underscores are expected, 63 at most`;
}
