// Whether a container's log is kept, and how much of it, as Docker's drivers json-file, local and none are told. Pure.

import { type LogDriver, logDrivers } from "../../proto/config.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { HostConfig } from "./container-types.ts";

const powers: Readonly<Record<string, number>> = { "": 0, k: 1, m: 2, g: 3 };

/** local's own, as Docker has them. json-file has the daemon's. */
const localLimits = { bytesMax: 20 * 1024 ** 2, filesMax: 5 };

/**
 * A driver and its options; "" is the daemon's. Throws `invalid` for a driver or an option that is not there, `unsupported` for what Docker's
 * have beyond max-size and max-file.
 */
export function logSettings(
  driver: string,
  options: Readonly<Record<string, string>>,
): Pick<HostConfig, "LogLimits" | "LogDriver"> {
  const name = driverOf(driver);
  if (name === "none") {
    const [option] = Object.keys(options);
    if (option === undefined) return { LogDriver: "none" };
    throw new SwarmError("invalid", `unknown log opt '${option}' for none log driver`);
  }
  const { LogLimits } = logLimits(options);
  return {
    ...(name === null ? {} : { LogDriver: name }),
    ...(name === "local"
      ? { LogLimits: { ...localLimits, ...LogLimits } }
      : LogLimits === undefined
        ? {}
        : { LogLimits }),
  };
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

function logLimits(options: Readonly<Record<string, string>>): Pick<HostConfig, "LogLimits"> {
  const { "max-size": size, "max-file": files, compress, ...others } = options;
  const [other] = [...Object.keys(others), ...(isOff(compress) ? [] : ["compress"])];
  if (other !== undefined)
    throw new SwarmError(
      "unsupported",
      `the log option ${other} is not available in this version of tsswarm`,
    );
  if (size === undefined && files === undefined) return {};
  const [, digits = "", unit = ""] = /^(\d+)([kmg]?)b?$/i.exec(size ?? "0") ?? [];
  const bytesMax = Number(digits) * 1024 ** (powers[unit.toLowerCase()] ?? 0);
  if (size !== undefined && !(bytesMax > 0))
    throw new SwarmError("invalid", `invalid value for max-size: ${size}`);
  const filesMax = Number(files ?? 1);
  if (!Number.isInteger(filesMax) || filesMax < 1)
    throw new SwarmError("invalid", `invalid value for max-file: ${files}`);
  return {
    LogLimits: {
      ...(size === undefined ? {} : { bytesMax }),
      ...(files === undefined ? {} : { filesMax }),
    },
  };
}

function isOff(flag: string | undefined): boolean {
  return flag === undefined || flag === "false";
}
