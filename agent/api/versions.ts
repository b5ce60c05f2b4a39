// Which versions of the Docker Engine API are spoken, and how a path says which one is meant.

import { SwarmError } from "../../proto/kit/errors.ts";

export const apiVersion = "1.50";
export const apiVersionMin = "1.24";

const prefix = /^\/v([0-9.]+)(?=\/)/;

/** The path without its `/v1.xx`. */
export function withoutVersion(url: string): string {
  return url.replace(prefix, "");
}

/** The version the path asks for, or null when it names none. Throws `invalid` when we do not speak it. */
export function versionOf(url: string): string | null {
  const asked = prefix.exec(url)?.[1];
  if (asked === undefined) return null;
  if (compareVersions(asked, apiVersion) > 0)
    throw new SwarmError(
      "invalid",
      `client version ${asked} is too new. Maximum supported API version is ${apiVersion}`,
    );
  if (compareVersions(asked, apiVersionMin) < 0)
    throw new SwarmError(
      "invalid",
      `client version ${asked} is too old. Minimum supported API version is ${apiVersionMin}, please upgrade your client to a newer version`,
    );
  return asked;
}

/** Negative when `left` is older than `right`. */
export function compareVersions(left: string, right: string): number {
  const [ours, theirs] = [numbers(left), numbers(right)];
  return ours.major - theirs.major || ours.minor - theirs.minor;
}

function numbers(version: string): { major: number; minor: number } {
  const [major = "0", minor = "0"] = version.split(".");
  return { major: Number(major) || 0, minor: Number(minor) || 0 };
}
