// The files that a task's secrets and configs become: where, whose, and with what in them. Pure.

import {
  type FileKind,
  fileKey,
  fileModeDefault,
  fileReferences,
  targetPath,
} from "../../proto/file-targets.ts";
import type { Config, Secret, Task } from "../../proto/gen/types.ts";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { expandPayload } from "../../proto/payload.ts";
import { factsOf, type TaskNode } from "./task.ts";

/** What the managers have sent, by `kind/id`; without Spec: it is gone. */
export type HeldFiles = ReadonlyMap<string, Secret | Config>;

export interface TaskFile {
  readonly target: string;
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
  readonly data: Uint8Array;
}

/** Where the container sees each, in order: the files themselves may not be there yet. */
export function fileTargets(task: Task): readonly string[] {
  return fileReferences(task.Spec?.ContainerSpec).flatMap(({ kind, file }) =>
    file === undefined ? [] : [targetPath(kind, file.Name)],
  );
}

/** In the order of `fileTargets`. Throws `not_found` for what is gone or has not come, `invalid`, `unsupported`. */
export function taskFiles(task: Task, node: TaskNode, held: HeldFiles): readonly TaskFile[] {
  return fileReferences(task.Spec?.ContainerSpec).flatMap(({ kind, id, name, file }) =>
    file === undefined
      ? []
      : [
          {
            target: targetPath(kind, file.Name),
            uid: Number(file.UID),
            gid: Number(file.GID),
            mode: file.Mode ?? fileModeDefault,
            data: contentOf(task, node, held, kind, id, name),
          },
        ],
  );
}

function contentOf(
  task: Task,
  node: TaskNode,
  held: HeldFiles,
  kind: FileKind,
  id: string,
  name: string,
): Uint8Array {
  const spec = held.get(fileKey(kind, id))?.Spec;
  if (spec === undefined)
    throw new SwarmError("not_found", `${kind} ${name} (${id}) is gone from the swarm`);
  if (spec.Templating === undefined) return spec.Data;
  if (spec.Templating.Name !== "golang")
    throw new SwarmError(
      "unsupported",
      `${kind} ${name}: unrecognized template type "${spec.Templating.Name}"`,
    );
  try {
    return expandPayload(kind, spec.Data, factsOf(task, node), {
      secret: (target) => dataAt(task, held, "secret", target),
      config: (target) => dataAt(task, held, "config", target),
      env: (variable) => environmentOf(task, variable),
    });
  } catch (error) {
    throw new SwarmError("invalid", `${kind} ${name}: ${messageOf(error)}`);
  }
}

/** Of the task's own alone, by the target its spec names; as it is stored. */
function dataAt(
  task: Task,
  held: HeldFiles,
  kind: FileKind,
  target: string,
): Uint8Array | undefined {
  const found = fileReferences(task.Spec?.ContainerSpec).find(
    (each) => each.kind === kind && each.file?.Name === target,
  );
  return found && held.get(fileKey(kind, found.id))?.Spec?.Data;
}

function environmentOf(task: Task, name: string): string | undefined {
  const start = `${name}=`;
  const line = (task.Spec?.ContainerSpec?.Env ?? []).find((each) => each.startsWith(start));
  return line?.slice(start.length);
}
