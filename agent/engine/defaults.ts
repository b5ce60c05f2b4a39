// What a container takes from its image where its own configuration is silent. Pure.

import type { ContainerConfig } from "./container-types.ts";
import type { ImageConfig } from "./manifest.ts";

export const pathDefault = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const stopSignalDefault = "SIGTERM";

/** The effective configuration, as inspect shows it. An own entrypoint drops the image's command (Docker's rule). */
export function mergeConfig(own: ContainerConfig, image: ImageConfig, id: string): ContainerConfig {
  const base = image.config;
  const ownEntrypoint = own.Entrypoint ?? [];
  const ownCmd = own.Cmd ?? [];
  // [""] clears the image's entrypoint.
  const clears = ownEntrypoint.length === 1 && ownEntrypoint[0] === "";
  const hasEntrypoint = ownEntrypoint.length > 0;
  const entrypoint = clears ? [] : hasEntrypoint ? ownEntrypoint : base.Entrypoint;
  const cmd = ownCmd.length > 0 || hasEntrypoint ? ownCmd : base.Cmd;
  const { Healthcheck: check, ...rest } = own;
  const asksFor = check !== undefined && check.Test.length > 0;
  const health = asksFor
    ? check
    : base.Healthcheck === null
      ? null
      : { ...base.Healthcheck, ...timesOf(check) };
  return {
    ...rest,
    Hostname: own.Hostname || id.slice(0, 12),
    User: own.User || base.User,
    Env: [...mergeEnv(base.Env, own.Env ?? []), ...(own.Env ?? []).filter(isBare)],
    Entrypoint: entrypoint.length > 0 ? entrypoint : null,
    Cmd: cmd.length > 0 ? cmd : null,
    WorkingDir: own.WorkingDir || base.WorkingDir,
    Labels: { ...base.Labels, ...own.Labels },
    ExposedPorts: [...new Set([...base.ExposedPorts, ...(own.ExposedPorts ?? [])])],
    Volumes: [...new Set([...base.Volumes, ...(own.Volumes ?? [])])],
    StopSignal: own.StopSignal || base.StopSignal || stopSignalDefault,
    ...(health === null || health.Test.length === 0 ? {} : { Healthcheck: health }),
  };
}

/** The image's check with the container's own times. */
function timesOf(
  check: ContainerConfig["Healthcheck"],
): Omit<NonNullable<ContainerConfig["Healthcheck"]>, "Test"> {
  if (check === undefined) return {};
  const { Test: _, ...times } = check;
  return times;
}

/** Later values replace earlier ones in place. A name without `=` removes it. */
export function mergeEnv(base: readonly string[], own: readonly string[]): readonly string[] {
  const values = new Map<string, string>();
  for (const entry of base) values.set(nameOf(entry), entry);
  for (const entry of own)
    if (entry.includes("=")) values.set(nameOf(entry), entry);
    else values.delete(entry);
  return [...values.values()];
}

/** A name alone: the process does not get it; inspect shows it. */
function isBare(entry: string): boolean {
  return !entry.includes("=");
}

/** The environment of the process: PATH, HOSTNAME and TERM where nobody says otherwise. */
export function processEnv(config: ContainerConfig): readonly string[] {
  const base = [pathDefault, `HOSTNAME=${config.Hostname ?? ""}`];
  if (config.Tty === true) base.push("TERM=xterm");
  return mergeEnv(base, config.Env ?? []);
}

export function commandOf(config: ContainerConfig): readonly string[] {
  return [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])];
}

function nameOf(entry: string): string {
  return entry.slice(0, entry.indexOf("="));
}
