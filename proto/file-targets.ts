// Where a container sees the secrets and configs its task names, and what it may do with them.

import { posix } from "node:path";
import type { ContainerSpec, FileTarget } from "./gen/types.ts";

export type FileKind = "secret" | "config";

/** One secret or config that a container's spec names. */
export interface FileReference {
  readonly kind: FileKind;
  readonly id: string;
  readonly name: string;
  /** Absent in what is malformed, and for what is no file. */
  readonly file?: FileTarget | undefined;
}

export const fileModeDefault = 0o444;
const directories: Readonly<Record<FileKind, string>> = { secret: "/run/secrets", config: "/" };

/** Secrets first, each in the order of the spec. */
export function fileReferences(
  spec: Pick<ContainerSpec, "Secrets" | "Configs"> | undefined,
): readonly FileReference[] {
  return [
    ...(spec?.Secrets ?? []).map(({ SecretID, SecretName, File }) => ({
      kind: "secret" as const,
      id: SecretID,
      name: SecretName,
      file: File,
    })),
    ...(spec?.Configs ?? []).map(({ ConfigID, ConfigName, File }) => ({
      kind: "config" as const,
      id: ConfigID,
      name: ConfigName,
      file: File,
    })),
  ];
}

/** The place in the container, as Docker means it: absolute, without `.`, `..` and double slashes. */
export function targetPath(kind: FileKind, name: string): string {
  return posix.resolve("/", directories[kind], name);
}

/** As it stands in maps and on the agent's stream: `secret/<id>`. */
export function fileKey(kind: string, id: string): string {
  return `${kind}/${id}`;
}
