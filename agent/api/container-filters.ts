// `docker ps --filter`: which containers a client wants to see.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { Container } from "../engine/container-types.ts";
import { shownNetworkId } from "./predefined.ts";
import { type Filters, flagFilter, labelsMatch, onlyFilters, untilOf } from "./request.ts";

const known = [
  "ancestor",
  "before",
  "exited",
  "health",
  "id",
  "is-task",
  "label",
  "name",
  "network",
  "since",
  "status",
  "volume",
];
const phases = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/** Newest first. Without `all`, a `status` or an `exited` filter and a limit, only running ones. */
export function selectContainers(
  containers: readonly Container[],
  wanted: { readonly filters: Filters; readonly all: boolean; readonly limit: number },
): Container[] {
  const { filters, limit } = wanted;
  onlyFilters(filters, known);
  for (const status of filters["status"] ?? [])
    if (!phases.includes(status))
      throw new SwarmError("invalid", `invalid filter 'status=${status}'`);
  const stopped =
    wanted.all || limit > 0 || filters["status"] !== undefined || filters["exited"] !== undefined;
  const sorted = [...containers].sort((a, b) => Date.parse(b.created) - Date.parse(a.created));
  const [before, since] = [edge(sorted, filters, "before"), edge(sorted, filters, "since")];
  const chosen = sorted.filter(
    (container) =>
      (stopped || ["running", "paused"].includes(container.state.Status)) &&
      (before === undefined || Date.parse(container.created) < before) &&
      (since === undefined || Date.parse(container.created) > since) &&
      matches(container, filters),
  );
  return limit > 0 ? chosen.slice(0, limit) : chosen;
}

/** What `docker container prune` removes: what has ended or never ran, but no task's. */
export function selectStopped(
  containers: readonly Container[],
  filters: Filters,
  now: number,
): readonly Container[] {
  onlyFilters(filters, ["label", "label!", "until"]);
  const until = untilOf(filters, now);
  return containers.filter(
    ({ state, local, created, config }) =>
      local !== undefined &&
      ["created", "exited", "dead"].includes(state.Status) &&
      (until === undefined || Date.parse(created) < until) &&
      labelsMatch(config.Labels ?? {}, filters["label"]) &&
      !(filters["label!"] ?? []).some((label) => labelsMatch(config.Labels ?? {}, [label])),
  );
}

function edge(all: readonly Container[], filters: Filters, name: string): number | undefined {
  const wanted = filters[name]?.[0];
  if (wanted === undefined) return undefined;
  const found = all.find((item) => item.name === wanted || item.id.startsWith(wanted));
  if (found === undefined) throw new SwarmError("not_found", `No such container: ${wanted}`);
  return Date.parse(found.created);
}

function matches(container: Container, filters: Filters): boolean {
  const has = (name: string, test: (value: string) => boolean) =>
    filters[name] === undefined || filters[name].some(test);
  const labels = container.config.Labels ?? {};
  const isTask = flagFilter(filters, "is-task");
  const networks = Object.entries(container.networks);
  return (
    has("id", (value) => container.id.startsWith(value)) &&
    has("name", (value) => nameMatches(container.name, value)) &&
    has("status", (value) => container.state.Status === value) &&
    has("exited", (value) => hasExitedWith(container, value)) &&
    has("ancestor", (value) => isFrom(container, value)) &&
    has("health", (value) => (container.state.Health?.Status ?? "none") === value) &&
    has("network", (value) =>
      networks.some(
        ([name, item]) => name === value || shownNetworkId(item.NetworkID).startsWith(value),
      ),
    ) &&
    has("volume", (value) =>
      (container.host.Mounts ?? []).some((item) => item.Source === value || item.Target === value),
    ) &&
    (isTask === undefined || isTask === Object.hasOwn(labels, "com.docker.swarm.task.id")) &&
    labelsMatch(labels, filters["label"])
  );
}

/** Docker takes the name as a pattern; one that is none is compared as it stands. */
function nameMatches(name: string, wanted: string): boolean {
  if (name.includes(wanted.replace(/^\//, ""))) return true;
  if (wanted.length > 256 || !/^\^?\/?[\w.-]*\$?$/.test(wanted)) return false;
  const bare = wanted.replace(/^\^/, "").replace(/\$$/, "").replace(/^\//, "");
  const [starts, ends] = [wanted.startsWith("^"), wanted.endsWith("$")];
  if (starts && ends) return name === bare;
  if (starts) return name.startsWith(bare);
  return ends && name.endsWith(bare);
}

function hasExitedWith(container: Container, value: string): boolean {
  if (!/^-?\d+$/.test(value)) throw new SwarmError("invalid", `invalid filter 'exited=${value}'`);
  const { Status, ExitCode } = container.state;
  return Status === "exited" && ExitCode === Number(value);
}

function isFrom(container: Container, wanted: string): boolean {
  const image = container.config.Image;
  const bareId = container.imageId.replace(/^sha256:/, "");
  return (
    image === wanted ||
    image.split("@")[0] === wanted ||
    image.split("@")[0] === `${wanted}:latest` ||
    (wanted.length >= 4 && bareId.startsWith(wanted.replace(/^sha256:/, "")))
  );
}
