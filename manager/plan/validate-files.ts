// Whether the secrets and configs of a container's spec mean something, and are there; throws `invalid` in Docker's words.

import {
  type FileKind,
  type FileReference,
  fileModeDefault,
  fileReferences,
  targetPath,
} from "../../proto/file-targets.ts";
import type { ContainerSpec, FileTarget, ServiceSpec } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { State } from "../store/types.ts";

const referencesMax = 512;
const idMax = 2 ** 32 - 2;
const modeMax = 0o7777;

function invalid(message: string): SwarmError {
  return new SwarmError("invalid", message);
}

export function validateFiles(spec: ContainerSpec): void {
  const references = fileReferences(spec);
  if (references.length > referencesMax)
    throw invalid(`ContainerSpec: more than ${referencesMax} secrets and configs`);
  for (const { Runtime, ConfigName } of spec.Configs)
    if (Runtime !== undefined)
      throw new SwarmError(
        "unsupported",
        `config ${ConfigName} has a runtime target: credential specs are for Windows only`,
      );
  const mounts = new Set(spec.Mounts.map(({ Target }) => targetPath("config", Target)));
  const taken = new Map<string, FileReference>();
  for (const reference of references) {
    const target = targetOf(reference);
    const other = taken.get(target);
    if (other !== undefined) throw conflicting(other, reference, target);
    if (mounts.has(target))
      throw invalid(`${reference.kind} '${reference.name}' has the target of a mount: '${target}'`);
    taken.set(target, reference);
  }
}

/** Checked: a place in the container. */
function targetOf({ kind, id, name, file }: FileReference): string {
  if (id === "" || name === "") throw invalid(`malformed ${kind} reference`);
  if (file === undefined) throw invalid(`malformed ${kind} reference, no target provided`);
  if (file.Name === "")
    throw invalid(`malformed file ${kind} reference, invalid target file name provided`);
  // A NUL ends a path for the kernel; "." and ".." are folders.
  const target = targetPath(kind, file.Name);
  const isFile = !file.Name.includes("\0") && !/(^|\/)\.{0,2}$/.test(file.Name);
  if (!isFile || target === "/" || file.Name.split("/").includes(".."))
    throw invalid(
      `malformed file ${kind} reference, invalid target file name provided: ${JSON.stringify(file.Name)}`,
    );
  checkId(kind, name, "UID", file.UID);
  checkId(kind, name, "GID", file.GID);
  const mode = file.Mode ?? 0;
  if (mode < 0 || mode > modeMax)
    throw invalid(`${kind} '${name}': mode 0${mode.toString(8)} is not between 0 and 07777`);
  return target;
}

function checkId(kind: FileKind, name: string, what: string, text: string): void {
  if (text !== "" && !(/^\d{1,10}$/.test(text) && Number(text) <= idMax))
    throw invalid(`${kind} '${name}': ${what} "${text}" is no number from 0 to ${idMax}`);
}

function conflicting(one: FileReference, other: FileReference, target: string): SwarmError {
  const shown = one.file?.Name === other.file?.Name ? (one.file?.Name ?? target) : target;
  if (one.kind === other.kind)
    return invalid(
      `${one.kind} references '${one.name}' and '${other.name}' have a conflicting target: '${shown}'`,
    );
  return invalid(
    `secret reference '${one.name}' and config reference '${other.name}' have a conflicting target: '${target}'`,
  );
}

/** Owner and mode said: Docker's client would send back what is absent as a mode of nothing. */
export function withFileDefaults(spec: ServiceSpec): ServiceSpec {
  const container = spec.TaskTemplate?.ContainerSpec;
  if (spec.TaskTemplate === undefined || container === undefined) return spec;
  if (container.Secrets.length + container.Configs.length === 0) return spec;
  const whole = <T extends { readonly File?: FileTarget }>(reference: T): T => {
    const { File: file } = reference;
    if (file === undefined) return reference;
    const File = {
      ...file,
      UID: file.UID || "0",
      GID: file.GID || "0",
      Mode: file.Mode ?? fileModeDefault,
    };
    return { ...reference, File };
  };
  const Secrets = container.Secrets.map(whole);
  const Configs = container.Configs.map(whole);
  const ContainerSpec = { ...container, Secrets, Configs };
  return { ...spec, TaskTemplate: { ...spec.TaskTemplate, ContainerSpec } };
}

/** Each is there under its id, and has the name that goes with it. Throws `invalid`. */
export function checkFilesExist(state: State, spec: ContainerSpec | undefined): void {
  for (const kind of ["secret", "config"] as const) {
    const missing = fileReferences(spec).filter(
      (each) => each.kind === kind && state.table(kind).get(each.id)?.Spec?.Name !== each.name,
    );
    if (missing.length > 0)
      throw invalid(
        `${kind}${missing.length === 1 ? "" : "s"} not found: ${missing.map(({ name }) => name).join(", ")}`,
      );
  }
}

/** Why a task of this spec could not be given what it names; null when it can. */
export function missingFile(state: State, spec: ServiceSpec | undefined): string | null {
  for (const { kind, id, name } of fileReferences(spec?.TaskTemplate?.ContainerSpec))
    if (state.table(kind).get(id) === undefined)
      return `${kind} ${name} (${id}) is gone: update the service to name another`;
  return null;
}
