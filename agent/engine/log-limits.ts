// Whether a container's log is kept, how much of it and with what, as Docker's drivers json-file, local and none are told. Pure.

import { type DaemonConfig, type LogDriver, logDrivers } from "../../proto/config.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { HostConfig } from "./container-types.ts";
import { checkAttributes } from "./log-attributes.ts";

const powers: Readonly<Record<string, number>> = { "": 0, k: 1, m: 2, g: 3 };

/** Of a log that nobody limits; Docker's would grow without end. */
export const logLimitsDefault = { bytesMax: 10 * 1024 ** 2, filesMax: 3 };
/** local's own, as Docker has them. */
const localLimits = { bytesMax: 20 * 1024 ** 2, filesMax: 5, isCompressed: true };

const bufferBytesDefault = 1024 ** 2;
/** What stands with each line; of json-file and journald. */
const attributeOptions = ["tag", "labels", "labels-regex", "env", "env-regex"] as const;

type Options = Readonly<Record<string, string>>;

/** The daemon's own driver and its options. */
export interface LogDefaults {
  readonly driver: LogDriver;
  readonly options: Options;
}

export const plainLogs: LogDefaults = { driver: "json-file", options: {} };

export function logDefaults(config: Pick<DaemonConfig, "log-driver" | "log-opts">): LogDefaults {
  const options = Object.fromEntries(
    Object.entries(config["log-opts"]).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, value]],
    ),
  );
  return { driver: config["log-driver"], options };
}

/** What a container asked for over the daemon's options, which are only those of the daemon's driver. "" is the daemon's driver. */
export function logConfig(
  driver: string,
  asked: Options,
  defaults: LogDefaults,
): { readonly Type: LogDriver; readonly Config: Options } {
  const Type = driverOf(driver) ?? defaults.driver;
  if (Type !== defaults.driver) return { Type, Config: asked };
  // Who waits for its log has no buffer that could be of the daemon's size.
  const { "max-buffer-size": buffer, ...others } = defaults.options;
  const isKept = buffer !== undefined && (asked["mode"] ?? others["mode"]) === "non-blocking";
  return {
    Type,
    Config: { ...others, ...(isKept ? { "max-buffer-size": buffer } : {}), ...asked },
  };
}

/** A driver and its options; "" is the daemon's. Throws `invalid` for a driver or an option that is not there. */
export function logSettings(
  driver: string,
  asked: Options,
  defaults: LogDefaults = plainLogs,
): Pick<HostConfig, "LogLimits" | "LogAttributes"> & { readonly LogDriver: LogDriver } {
  const { Type: name, Config } = logConfig(driver, asked, defaults);
  const { mode, "max-buffer-size": buffer, ...others } = Config;
  const known = optionsOf(name);
  for (const option of Object.keys(others))
    if (!known.includes(option))
      throw new SwarmError("invalid", `unknown log opt '${option}' for ${name} log driver`);
  const limits = {
    ...(name === "local" ? localLimits : {}),
    ...logLimits(others),
    ...bufferOf(mode ?? "", buffer),
  };
  const attributes = Object.fromEntries(
    attributeOptions.flatMap((key) => (others[key] ? [[key, others[key]]] : [])),
  );
  checkAttributes(attributes);
  return {
    LogDriver: name,
    ...(Object.keys(limits).length === 0 ? {} : { LogLimits: limits }),
    ...(Object.keys(attributes).length === 0 ? {} : { LogAttributes: attributes }),
  };
}

function optionsOf(driver: LogDriver): readonly string[] {
  if (driver === "none") return [];
  if (driver === "journald") return attributeOptions;
  const limits = ["max-size", "max-file", "compress"];
  return driver === "local" ? limits : [...limits, ...attributeOptions];
}

/** Docker's modes: in the other one the container never waits for its log. */
function bufferOf(mode: string, size: string | undefined): HostConfig["LogLimits"] {
  if (!["", "blocking", "non-blocking"].includes(mode))
    throw new SwarmError("invalid", `logger: logging mode not supported: ${mode}`);
  if (mode === "non-blocking")
    return {
      bufferBytesMax: size === undefined ? bufferBytesDefault : sizeOf(size, "max-buffer-size"),
    };
  if (size === undefined) return {};
  throw new SwarmError(
    "invalid",
    "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
  );
}

/** Throws `unsupported` in Docker's words where nothing is kept. */
export function checkReadable({ LogDriver }: Pick<HostConfig, "LogDriver">): void {
  if (LogDriver === "none")
    throw new SwarmError("unsupported", "configured logging driver does not support reading");
}

/** null: the daemon's. Throws `invalid` with those there are. */
function driverOf(name: string): LogDriver | null {
  const found = logDrivers.find((driver) => driver === name);
  if (found !== undefined || name === "") return found ?? null;
  throw new SwarmError("invalid", `logger: no log driver named '${name}' is registered`);
}

function logLimits(options: Options): HostConfig["LogLimits"] {
  const { "max-size": size, "max-file": files, compress } = options;
  const filesMax = Number(files ?? 1);
  if (!Number.isInteger(filesMax) || filesMax < 1)
    throw new SwarmError("invalid", `invalid value for max-file: ${files}`);
  const isCompressed = flagOf(compress);
  if (isCompressed && files === "1")
    throw new SwarmError(
      "invalid",
      "compress cannot be true when max-file is less than 2 or max-size is not set",
    );
  return {
    ...(size === undefined ? {} : { bytesMax: sizeOf(size, "max-size") }),
    ...(files === undefined ? {} : { filesMax }),
    ...(compress === undefined ? {} : { isCompressed }),
  };
}

/** Bytes, at least one. */
function sizeOf(text: string, option: string): number {
  const [, digits = "", unit = ""] = /^(\d+)([kmg]?)b?$/i.exec(text) ?? [];
  const bytes = Number(digits) * 1024 ** (powers[unit.toLowerCase()] ?? 0);
  if (!(bytes > 0)) throw new SwarmError("invalid", `invalid value for ${option}: ${text}`);
  return bytes;
}

function flagOf(text = "false"): boolean {
  if (["true", "1", "t"].includes(text.toLowerCase())) return true;
  if (["false", "0", "f"].includes(text.toLowerCase())) return false;
  throw new SwarmError("invalid", `invalid value for compress: ${text}`);
}
