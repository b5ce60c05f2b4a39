// Secrets and configs at the control door. What a secret holds does not leave through it.

import type { FileKind } from "../../proto/file-targets.ts";
import type {
  Config,
  ConfigSpec,
  GetRequest,
  ListRequest,
  RotateRequest,
  RotateResponse,
  Secret,
  SecretSpec,
} from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { newId } from "../../proto/kit/ids.ts";
import type { Caller, Handlers } from "../../proto/rpc-server.ts";
import {
  createFile,
  type FileObject,
  generationOf,
  type Moved,
  moveServices,
  nextVersion,
  relabelFile,
  removeFile,
} from "../plan/files.ts";
import type { State } from "../store/types.ts";
import { type ControlContext, change, fresh } from "./context.ts";
import { hasLabel } from "./filters.ts";
import { checkVersion, find } from "./find.ts";

type FileHandlers = Pick<
  Handlers<"Control">,
  | `${"Create" | "Get" | "Update" | "Remove" | "Rotate"}${"Secret" | "Config"}`
  | "ListSecrets"
  | "ListConfigs"
>;

/** Services that start their update in one transaction: each is a write of its whole spec three times over. */
const movedAtOnceMax = 20;
/** An answer must fit into a message: configs beyond are listed without what they hold. */
const listedBytesMax = 8 * 1024 * 1024;

export function fileHandlers(context: ControlContext): FileHandlers {
  return {
    CreateSecret: (request, caller) => create(context, "secret", request.Spec, caller),
    GetSecret: async (request, caller) =>
      withoutData(get(await fresh(context, caller), "secret", request)),
    ListSecrets: async (request, caller) => ({
      Items: listed(await fresh(context, caller), "secret", request).map(withoutData),
    }),
    UpdateSecret: (request, caller) => relabel(context, "secret", request, caller),
    RemoveSecret: (request, caller) => remove(context, "secret", request, caller),
    RotateSecret: (request, caller) => rotate(context, "secret", request, caller),
    CreateConfig: (request, caller) => create(context, "config", request.Spec, caller),
    GetConfig: async (request, caller) => get(await fresh(context, caller), "config", request),
    ListConfigs: async (request, caller) => {
      let bytes = 0;
      const Items = listed(await fresh(context, caller), "config", request).map((config) => {
        bytes += config.Spec?.Data.length ?? 0;
        return bytes > listedBytesMax ? withoutData(config) : config;
      });
      return { Items };
    },
    UpdateConfig: (request, caller) => relabel(context, "config", request, caller),
    RemoveConfig: (request, caller) => remove(context, "config", request, caller),
    RotateConfig: (request, caller) => rotate(context, "config", request, caller),
  };
}

function create(
  context: ControlContext,
  kind: FileKind,
  spec: SecretSpec | ConfigSpec | undefined,
  caller: Caller,
): Promise<{ readonly ID: string }> {
  const id = newId();
  return change(context, caller, (state) => {
    if (spec === undefined) throw new SwarmError("invalid", `${kind} spec is missing`);
    return { changes: createFile(state, kind, spec, id), result: { ID: id } };
  });
}

function get<K extends FileKind>(state: State, kind: K, { ID }: GetRequest) {
  if (ID === "") throw new SwarmError("invalid", `${kind} ID must be provided`);
  return find(state, kind, ID);
}

/** The newest of each name. Docker's filters are alternatives here, but for labels. */
function listed<K extends FileKind>(state: State, kind: K, { Filters }: ListRequest) {
  const tests: ((object: FileObject) => boolean)[] = [];
  for (const [name, { Values }] of Object.entries(Filters)) {
    if (!["id", "name", "names", "label"].includes(name))
      throw new SwarmError("invalid", `invalid filter '${name}'`);
    if (name === "label") continue;
    for (const value of Values)
      tests.push(({ ID, Spec }) => {
        if (name === "id") return ID.startsWith(value);
        return name === "name" ? (Spec?.Name ?? "").startsWith(value) : Spec?.Name === value;
      });
  }
  const labels = Filters["label"]?.Values ?? [];
  const table = state.table(kind);
  return [...table.values()].filter(
    (object) =>
      table.named(object.Spec?.Name ?? "")?.ID === object.ID &&
      (tests.length === 0 || tests.some((passes) => passes(object))) &&
      labels.every((label) => hasLabel(object.Spec?.Labels, label)),
  );
}

function relabel(
  context: ControlContext,
  kind: FileKind,
  request: {
    readonly ID: string;
    readonly Version: number;
    readonly Spec?: SecretSpec | ConfigSpec;
  },
  caller: Caller,
): Promise<Record<never, never>> {
  return change(context, caller, (state) => {
    const object = find(state, kind, request.ID);
    if (request.Spec === undefined) throw new SwarmError("invalid", `${kind} spec is missing`);
    checkVersion(object, request.Version);
    return { changes: relabelFile(kind, object, request.Spec), result: {} };
  });
}

function remove(
  context: ControlContext,
  kind: FileKind,
  request: GetRequest,
  caller: Caller,
): Promise<Record<never, never>> {
  return change(context, caller, (state) => ({
    changes: removeFile(state, kind, get(state, kind, request)),
    result: {},
  }));
}

/**
 * The version first, then its services, each transaction of them whole. Cut short, asked for again with the same data it goes on
 * where it was.
 */
async function rotate(
  context: ControlContext,
  kind: FileKind,
  request: RotateRequest,
  caller: Caller,
): Promise<RotateResponse> {
  const id = newId();
  const newest = await change(context, caller, (state) => {
    const made = nextVersion(state, kind, find(state, kind, request.ID), request.Data, id);
    return { changes: made.changes, result: made.newest };
  });
  const name = newest.Spec?.Name ?? "";
  const moved = await move(context, kind, name, caller);
  context.log.info(
    { kind, name, id: newest.ID, generation: generationOf(newest), services: moved.length },
    "rotated",
  );
  return { ID: newest.ID, Generation: generationOf(newest), Services: moved };
}

async function move(
  context: ControlContext,
  kind: FileKind,
  name: string,
  caller: Caller,
): Promise<readonly Moved[]> {
  const all: Moved[] = [];
  for (;;) {
    const done = new Set(all.map(({ ID }) => ID));
    const moved = await change(context, caller, (state) => {
      const options = { now: context.world.now(), countMax: movedAtOnceMax, done };
      const step = moveServices(state, kind, name, options);
      return { changes: step.changes, result: step.moved };
    });
    if (moved.length === 0) return all;
    all.push(...moved);
  }
}

function withoutData<T extends Secret | Config>(object: T): T {
  if (object.Spec === undefined) return object;
  return { ...object, Spec: { ...object.Spec, Data: new Uint8Array() } };
}
