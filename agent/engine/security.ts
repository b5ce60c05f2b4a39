// SecurityOpt as Docker writes it. Pure.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { SpecInput } from "../runtime/spec.ts";

export interface Security {
  readonly seccomp: SpecInput["seccomp"];
  readonly appArmor: string;
  readonly noNewPrivileges: boolean;
}

/** `seccomp=unconfined`, `seccomp={…}`, `apparmor=NAME`, `no-new-privileges`. Throws `invalid`, `unsupported`. */
export function parseSecurity(options: readonly string[]): Security {
  let seccomp: Security["seccomp"] = "default";
  let appArmor = "";
  let noNewPrivileges = false;
  for (const option of options) {
    const [, key = "", value = ""] = /^([^=:]+)(?:[=:](.*))?$/s.exec(option) ?? [];
    if (key === "no-new-privileges") noNewPrivileges = value === "" || value === "true";
    else if (key === "apparmor") appArmor = value;
    else if (key === "seccomp") seccomp = parseSeccomp(value);
    else if (key !== "label")
      throw new SwarmError("invalid", `invalid --security-opt: ${JSON.stringify(option)}`);
  }
  return { seccomp, appArmor, noNewPrivileges };
}

function parseSeccomp(value: string): Security["seccomp"] {
  if (value === "unconfined") return "unconfined";
  if (value === "" || value === "builtin") return "default";
  try {
    const profile: unknown = JSON.parse(value);
    if (typeof profile === "object" && profile !== null)
      return profile as Readonly<Record<string, unknown>>;
  } catch (error) {
    throw new SwarmError("invalid", "the seccomp profile is not JSON", { cause: error });
  }
  throw new SwarmError("invalid", "the seccomp profile is not a JSON object");
}
