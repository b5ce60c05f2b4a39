// How much of a container's log is kept, as Docker's json-file driver is told. Pure.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { HostConfig } from "./container-types.ts";

const powers: Readonly<Record<string, number>> = { "": 0, k: 1, m: 2, g: 3 };

/** json-file's max-size and max-file. Throws `invalid`, `unsupported` for its other options. */
export function logLimits(
  options: Readonly<Record<string, string>>,
): Pick<HostConfig, "LogLimits"> {
  const { "max-size": size, "max-file": files, ...others } = options;
  const [other] = Object.keys(others);
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

/** Throws `invalid` for a log driver that is not there. */
export function checkLogDriver(name: string): void {
  if (name !== "" && name !== "json-file")
    throw new SwarmError(
      "invalid",
      `logger: no log driver named '${name}' is registered: this node has json-file`,
    );
}
