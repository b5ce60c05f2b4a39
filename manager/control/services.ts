// Services at the control door.

import type {
  CreateServiceRequest,
  ListRequest,
  RegistryCredentials,
  Service,
  ServiceSpec,
  ServiceStatus,
  Task,
  UpdateServiceRequest,
} from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { newId } from "../../proto/kit/ids.ts";
import type { World } from "../../proto/kit/world.ts";
import { gatewayPriorityOption } from "../../proto/networks.ts";
import type { Handlers } from "../../proto/rpc-server.ts";
import { withDefaults } from "../plan/defaults.ts";
import { pendingTasks, verdictsOf } from "../plan/explain.ts";
import { jobSize } from "../plan/job.ts";
import { rehearse } from "../plan/rehearse.ts";
import { hasEnded, isOfExecution, isWanted, mayRun, slotName } from "../plan/tasks.ts";
import { removeService, type ServiceWrite, writeService } from "../plan/write.ts";
import type { Change, State } from "../store/types.ts";
import { type ControlContext, change, fresh } from "./context.ts";
import { checkValue, filterBy, hasLabel, type Matchers } from "./filters.ts";
import { checkVersion, find } from "./find.ts";

type ServiceHandlers = Pick<
  Handlers<"Control">,
  | "CreateService"
  | "UpdateService"
  | "GetService"
  | "ListServices"
  | "RemoveService"
  | "GetExplanation"
  | "GetRehearsal"
>;

/** A rehearsal takes no longer before others get their turn. */
const sliceMs = 10;

export function serviceHandlers(context: ControlContext): ServiceHandlers {
  return {
    CreateService: async (request, caller) => {
      const id = newId();
      const auth = credentialsOf(request);
      return change(context, caller, (state) => {
        const now = context.world.now();
        const written = writeService(state, undefined, specOf(request), { id, now });
        return {
          changes: withCredentials(written, auth === null ? {} : { RegistryAuth: auth }),
          result: { ID: id, Warnings: warningsOf(request) },
        };
      });
    },
    UpdateService: async (request, caller) => {
      const auth = credentialsOf(request);
      return change(context, caller, (state) => {
        const before = find(state, "service", request.ID);
        const changes = withCredentials(
          update(context, state, request),
          credentialsAfter(before, request, auth),
        );
        return { changes, result: { Warnings: warningsOf(request) } };
      });
    },
    GetExplanation: async (request, caller) => {
      const state = await fresh(context, caller);
      const service = find(state, "service", request.ID);
      const Pending = pendingTasks(state, service).map((task) => ({
        ID: task.ID,
        Name: slotName(service.Spec?.Name ?? "", task),
        Err: task.Status?.Err ?? "",
      }));
      const { ScalingStatus: scaling } = service;
      const Scaling = scaling === undefined ? "" : `${scaling.At}: ${scaling.Message}`;
      return { Pending, Nodes: verdictsOf(state, service, context.world.now()), Scaling };
    },
    GetRehearsal: async (request, caller) => {
      const state = await fresh(context, caller);
      const now = context.world.now();
      const { service, changes } =
        request.ID === ""
          ? writeService(state, undefined, specOf(request), { id: newId(), now })
          : update(context, state, request);
      const play = rehearse(state, changes, service.ID, now, newId);
      const { steps, cut } = await inSlices(play, context.world, caller.signal);
      return { Steps: steps, Cut: cut };
    },
    GetService: async (request, caller) => {
      const service = shown(find(await fresh(context, caller), "service", request.ID));
      if (!request.InsertDefaults || service.Spec === undefined) return service;
      return { ...service, Spec: withDefaults(service.Spec) };
    },
    ListServices: async (request, caller) => {
      const state = await fresh(context, caller);
      return { Items: listServices(state, request).map(shown) };
    },
    RemoveService: (request, caller) =>
      change(context, caller, (state) => ({
        changes: removeService(state, find(state, "service", request.ID).ID),
        result: {},
      })),
  };
}

/** What it returns. Others have their turn every few milliseconds. Rejects when the signal aborts. */
async function inSlices<T>(
  work: Generator<void, T, void>,
  world: World,
  signal: AbortSignal,
): Promise<T> {
  let since = world.monotonic();
  for (let next = work.next(); ; next = work.next()) {
    if (next.done === true) return next.value;
    if (world.monotonic() - since < sliceMs) continue;
    await new Promise((resolve) => setImmediate(resolve));
    signal.throwIfAborted();
    since = world.monotonic();
  }
}

function update(
  context: ControlContext,
  state: State,
  request: Pick<UpdateServiceRequest, "ID" | "Version" | "Spec" | "Rollback">,
): ServiceWrite {
  const service = find(state, "service", request.ID);
  checkVersion(service, request.Version);
  const isRollback = request.Rollback === "previous";
  if (!isRollback && request.Rollback !== "")
    throw new SwarmError("invalid", `unrecognized rollback option: ${request.Rollback}`);
  if (isRollback && service.PreviousSpec === undefined)
    throw new SwarmError("precondition", `service ${service.ID} does not have a previous spec`);
  const spec = isRollback ? service.PreviousSpec : request.Spec;
  const options = { id: service.ID, now: context.world.now(), isRollback };
  return writeService(state, service, spec ?? specOf(request), options);
}

function specOf(request: Pick<CreateServiceRequest, "Spec">) {
  if (request.Spec === undefined) throw new SwarmError("invalid", "service spec is missing");
  return request.Spec;
}

function unknownOptions(spec: ServiceSpec | undefined): readonly string[] {
  const networks = [...(spec?.TaskTemplate?.Networks ?? []), ...(spec?.Networks ?? [])];
  const names = networks.flatMap(({ DriverOpts }) => Object.keys(DriverOpts));
  return [...new Set(names)].filter((name) => name !== gatewayPriorityOption);
}

const credentialsBytesMax = 64 * 1024;
const secretFields = ["password", "identitytoken", "registrytoken"];

/** Null: none were given, or as in Docker none that can be read. Throws `too_large`. */
function credentialsOf({
  RegistryAuth,
}: {
  readonly RegistryAuth: string;
}): RegistryCredentials | null {
  if (RegistryAuth.length > credentialsBytesMax)
    throw new SwarmError("too_large", "the registry credentials are too long");
  const Data = Buffer.from(RegistryAuth, "base64url");
  if (Data.length === 0) return null;
  try {
    const json: unknown = JSON.parse(Data.toString("utf8"));
    const fields = typeof json === "object" && json !== null ? Object.entries(json) : [];
    const hasSecret = fields.some(([name, value]) => secretFields.includes(name) && value !== "");
    return hasSecret ? { ID: newId(), Data } : null;
  } catch {
    return null;
  }
}

/** What was given; else what its spec had before (`previous-spec`, or with a rollback), or what it has. */
function credentialsAfter(
  service: Service,
  { RegistryAuthFrom, Rollback }: Pick<UpdateServiceRequest, "RegistryAuthFrom" | "Rollback">,
  given: RegistryCredentials | null,
): Credentials {
  const { RegistryAuth: now, PreviousRegistryAuth: before } = service;
  const isPrevious = RegistryAuthFrom === "previous-spec" || Rollback === "previous";
  const kept = isPrevious ? (before ?? now) : now;
  const isSame = given !== null && now !== undefined && Buffer.from(now.Data).equals(given.Data);
  const RegistryAuth = given === null || isSame ? kept : given;
  return {
    ...(RegistryAuth === undefined ? {} : { RegistryAuth }),
    ...(now === undefined ? {} : { PreviousRegistryAuth: now }),
  };
}

type Credentials = Pick<Service, "RegistryAuth" | "PreviousRegistryAuth">;

function withCredentials(
  { service, changes }: ServiceWrite,
  credentials: Credentials,
): readonly Change[] {
  return changes.map((change) =>
    change.op === "put" && change.kind === "service" && change.object.ID === service.ID
      ? { ...change, object: { ...shown(change.object), ...credentials } }
      : change,
  );
}

/** Without its credentials: they are for the nodes that pull, and for nobody who asks. */
function shown(service: Service): Service {
  const { RegistryAuth: _, PreviousRegistryAuth: __, ...rest } = service;
  return rest;
}

function warningsOf(request: { readonly Spec?: ServiceSpec }): readonly string[] {
  return unknownOptions(request.Spec).map(
    (name) => `driver option ${name} of a service's network does nothing`,
  );
}

const matchers: Matchers<Service> = {
  id: (service, value) => service.ID.startsWith(value),
  name: (service, value) => (service.Spec?.Name ?? "").startsWith(value),
  label: (service, value) => hasLabel(service.Spec?.Labels, value),
  mode: (service, value) => {
    checkValue("mode", value, ["replicated", "global", "replicated-job", "global-job"]);
    return modeOf(service) === value;
  },
};

function listServices(state: State, request: ListRequest): Service[] {
  const passes = filterBy(request.Filters, matchers);
  const services = [...state.table("service").values()].filter(passes);
  if (!request.Status) return services;
  return services.map((service) => ({ ...service, ServiceStatus: statusOf(state, service) }));
}

export function modeOf(service: Service): string {
  const mode = service.Spec?.Mode;
  if (mode?.Global !== undefined) return "global";
  if (mode?.ReplicatedJob !== undefined) return "replicated-job";
  if (mode?.GlobalJob !== undefined) return "global-job";
  return "replicated";
}

/** How many tasks run, and how many should: what `service ls` shows as 3/5. Of a job those of its newest execution. */
export function statusOf(state: State, service: Service): ServiceStatus {
  const tasks = state.tasksOfService(service.ID).filter((task) => isOfExecution(service, task));
  const wanted = tasks.filter((task) => isWanted(task) && !hasEnded(task));
  const CompletedTasks = tasks.filter((task) => task.Status?.State === "complete").length;
  return {
    RunningTasks: tasks.filter((task) => isOnLiveNode(state, task) && isCountedRunning(task))
      .length,
    DesiredTasks: desiredTasks(service, wanted.length, CompletedTasks),
    CompletedTasks,
  };
}

function desiredTasks(service: Service, wanted: number, completed: number): number {
  switch (modeOf(service)) {
    case "replicated":
      return service.Spec?.Mode?.Replicated?.Replicas ?? 1;
    case "replicated-job": {
      const runs = service.Spec?.Schedule === undefined ? undefined : service.JobStatus?.Runs;
      if (runs?.every(({ State }) => State !== "running")) return 0;
      const { concurrent, total } = jobSize(service);
      return Math.min(concurrent, Math.max(0, total - completed));
    }
    default:
      return wanted;
  }
}

function isCountedRunning(task: Task): boolean {
  return task.Status?.State === "running" && mayRun(task);
}

function isOnLiveNode(state: State, task: Task): boolean {
  return state.table("node").get(task.NodeID)?.Status?.State !== "down";
}
