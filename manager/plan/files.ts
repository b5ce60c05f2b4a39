// Secrets and configs: what may be stored, who uses which version, and how a new version comes in. Pure.

import { timingSafeEqual } from "node:crypto";
import { type FileKind, fileReferences } from "../../proto/file-targets.ts";
import type { Config, ConfigSpec, Secret, SecretSpec, Service } from "../../proto/gen/types.ts";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { checkTemplate } from "../../proto/payload.ts";
import type { Change, State } from "../store/types.ts";
import { writeService } from "./write.ts";

export type FileObject = Secret | Config;
type FileSpec = SecretSpec | ConfigSpec;

/** Docker's: the data must be smaller than this. */
const dataBytesMax: Readonly<Record<FileKind, number>> = {
  secret: 500 * 1024,
  config: 1000 * 1024,
};
const namePattern = /^[a-zA-Z0-9]+(?:[a-zA-Z0-9-_.]*[a-zA-Z0-9])?$/;
const nameLengthMax = 64;
/** Of one name, kept because tasks or a way back need them. */
const versionsMax = 16;
/** The feature level from which there may be several versions of one name. */
const rotationLevel = 2;

function invalid(message: string): SwarmError {
  return new SwarmError("invalid", message);
}

export function generationOf(object: FileObject): number {
  return object.Generation || 1;
}

/** Throws `invalid` in Docker's words, `conflict` when the name is taken, `unsupported`. */
export function createFile(
  state: State,
  kind: FileKind,
  spec: FileSpec,
  id: string,
): readonly Change[] {
  if (spec.Name === "") throw invalid("name must be provided");
  if (spec.Name.length > nameLengthMax || !namePattern.test(spec.Name))
    throw invalid(
      `invalid name, only ${nameLengthMax} [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]`,
    );
  if ("Driver" in spec && spec.Driver !== undefined)
    throw new SwarmError(
      "unsupported",
      `secret ${spec.Name}: secret drivers are not supported: give what the secret holds itself`,
    );
  checkData(kind, spec.Name, spec.Data, spec.Templating?.Name);
  if (state.table(kind).named(spec.Name) !== undefined)
    throw new SwarmError("conflict", `${kind} ${spec.Name} already exists`);
  return [put(kind, { ID: id, CreatedAt: "", UpdatedAt: "", Spec: spec, Generation: 0 })];
}

function checkData(
  kind: FileKind,
  name: string,
  data: Uint8Array,
  templating: string | undefined,
): void {
  const max = dataBytesMax[kind];
  if (data.length < 1 || data.length >= max)
    throw invalid(`${kind} data must be larger than 0 and less than ${max} bytes`);
  if (templating === undefined) return;
  if (templating !== "golang")
    throw invalid(
      `${kind} ${name}: unrecognized template type "${templating}": golang is expected`,
    );
  try {
    checkTemplate(kind, data);
  } catch (error) {
    throw invalid(`${kind} ${name}: ${messageOf(error)}`);
  }
}

/** Labels alone. Throws `invalid`. */
export function relabelFile(
  kind: FileKind,
  object: FileObject,
  wanted: FileSpec,
): readonly Change[] {
  const { Spec: spec } = object;
  const isSame =
    spec !== undefined &&
    wanted.Name === spec.Name &&
    (wanted.Data.length === 0 || isSameData(wanted.Data, spec.Data));
  if (!isSame) throw invalid("only updates to Labels are allowed");
  return [put(kind, { ...object, Spec: { ...spec, Labels: wanted.Labels } })];
}

/** All its versions. Throws `invalid` with the names of the services that use one. */
export function removeFile(state: State, kind: FileKind, object: FileObject): readonly Change[] {
  const versions = versionsOf(state, kind, object.Spec?.Name ?? "");
  const ids = new Set(versions.map(({ ID }) => ID));
  const users = [...state.table("service").values()]
    .filter((service) => uses(service, kind, ids))
    .map((service) => service.Spec?.Name ?? service.ID)
    .sort();
  if (users.length > 0)
    throw invalid(
      `${kind} '${object.Spec?.Name}' is in use by the following ${users.length === 1 ? "service" : "services"}: ${users.join(", ")}`,
    );
  return versions.map((version) => gone(kind, version));
}

function uses(service: Service, kind: FileKind, ids: ReadonlySet<string>): boolean {
  return fileReferences(service.Spec?.TaskTemplate?.ContainerSpec).some(
    (reference) => reference.kind === kind && ids.has(reference.id),
  );
}

/** Oldest first. */
function versionsOf(state: State, kind: FileKind, name: string): readonly FileObject[] {
  return [...state.table(kind).values()]
    .filter(({ Spec }) => Spec?.Name === name)
    .sort((a, b) => generationOf(a) - generationOf(b));
}

/**
 * The version that holds `data` under the name of `current`; nothing is written when the newest does. Throws `invalid`, `exhausted`
 * (too many versions are still in use), `unsupported` (an old manager).
 */
export function nextVersion(
  state: State,
  kind: FileKind,
  current: FileObject,
  data: Uint8Array,
  id: string,
): { readonly changes: readonly Change[]; readonly newest: FileObject } {
  const { Spec: spec } = current;
  if (spec === undefined) throw invalid(`${kind} ${current.ID} has no spec`);
  if ((state.cluster?.FeatureLevel ?? 0) < rotationLevel)
    throw new SwarmError(
      "unsupported",
      `${kind} ${spec.Name} cannot be rotated before all managers are upgraded`,
    );
  checkData(kind, spec.Name, data, spec.Templating?.Name);
  const newest = state.table(kind).named(spec.Name) ?? current;
  if (isSameData(newest.Spec?.Data ?? new Uint8Array(), data)) return { changes: [], newest };
  if (versionsOf(state, kind, spec.Name).length >= versionsMax)
    throw new SwarmError(
      "exhausted",
      `${kind} ${spec.Name}: ${versionsMax} versions of it are still in use: wait until the updates under way are over`,
    );
  const next: FileObject = {
    ID: id,
    CreatedAt: "",
    UpdatedAt: "",
    Spec: { ...spec, Labels: newest.Spec?.Labels ?? {}, Data: data },
    Generation: generationOf(newest) + 1,
  };
  return { changes: [put(kind, next)], newest: next };
}

export interface Moved {
  readonly ID: string;
  readonly Name: string;
  /** "" or why it stays with what it has. */
  readonly Err: string;
}

/**
 * Up to `countMax` services that run another version with other data go to the newest, each by its own update policy; those in
 * `done` are passed over.
 */
export function moveServices(
  state: State,
  kind: FileKind,
  name: string,
  options: { readonly now: number; readonly countMax: number; readonly done: ReadonlySet<string> },
): { readonly changes: readonly Change[]; readonly moved: readonly Moved[] } {
  const newest = state.table(kind).named(name);
  if (newest === undefined) return { changes: [], moved: [] };
  const stale = new Set(
    versionsOf(state, kind, name)
      .filter((each) => !isSameData(dataOf(each), dataOf(newest)))
      .map(({ ID }) => ID),
  );
  const changes: Change[] = [];
  const moved: Moved[] = [];
  for (const service of state.table("service").values()) {
    if (moved.length === options.countMax) break;
    if (options.done.has(service.ID) || !uses(service, kind, stale)) continue;
    const Name = service.Spec?.Name ?? service.ID;
    try {
      changes.push(...moveService(state, service, kind, stale, newest.ID, options.now));
      moved.push({ ID: service.ID, Name, Err: "" });
    } catch (error) {
      moved.push({ ID: service.ID, Name, Err: messageOf(error) });
    }
  }
  return { changes, moved };
}

function moveService(
  state: State,
  service: Service,
  kind: FileKind,
  stale: ReadonlySet<string>,
  id: string,
  now: number,
): readonly Change[] {
  const { Spec: spec } = service;
  const container = spec?.TaskTemplate?.ContainerSpec;
  if (spec?.TaskTemplate === undefined || container === undefined) return [];
  const ContainerSpec =
    kind === "secret"
      ? {
          ...container,
          Secrets: container.Secrets.map((each) =>
            stale.has(each.SecretID) ? { ...each, SecretID: id } : each,
          ),
        }
      : {
          ...container,
          Configs: container.Configs.map((each) =>
            stale.has(each.ConfigID) ? { ...each, ConfigID: id } : each,
          ),
        };
  const wanted = { ...spec, TaskTemplate: { ...spec.TaskTemplate, ContainerSpec } };
  return writeService(state, service, wanted, { id: service.ID, now }).changes;
}

/** Deletes former versions that no service runs, none could go back to, and no kept task was made from. */
export function unusedVersions(state: State): readonly Change[] {
  const former: { readonly kind: FileKind; readonly object: FileObject }[] = [];
  for (const kind of ["secret", "config"] as const) {
    const table = state.table(kind);
    // Mostly there are none: nobody looks at thousands to find that out.
    if (table.names === table.size) continue;
    for (const object of table.values())
      if (table.named(object.Spec?.Name ?? "")?.ID !== object.ID) former.push({ kind, object });
  }
  if (former.length === 0) return [];
  const used = new Set<string>();
  const specs = [
    ...[...state.table("service").values()].flatMap(({ Spec, PreviousSpec }) => [
      Spec,
      PreviousSpec,
    ]),
    ...[...state.table("revision").values()].map(({ Spec }) => Spec),
  ];
  for (const spec of specs)
    for (const { id } of fileReferences(spec?.TaskTemplate?.ContainerSpec)) used.add(id);
  return former
    .filter(({ object }) => !used.has(object.ID))
    .map(({ kind, object }) => gone(kind, object));
}

function dataOf(object: FileObject): Uint8Array {
  return object.Spec?.Data ?? new Uint8Array();
}

function isSameData(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

function put(kind: FileKind, object: FileObject): Change {
  return { op: "put", kind, object } as Change;
}

function gone(kind: FileKind, object: FileObject): Change {
  return { op: "delete", kind, id: object.ID, base: object.Version?.Index ?? 0 };
}
