// The programs that run containers here (runc, crun, those of the configuration), and which of them is the default.

import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { SwarmError } from "../../proto/kit/errors.ts";

const run = promisify(execFile);
const versionMsMax = 5_000;
/** containerd's shim for all that take runc's arguments. */
export const runcShim = "io.containerd.runc.v2";

export interface OciRuntime {
  /** Docker's `--runtime`. */
  readonly name: string;
  /** containerd's name of the shim. */
  readonly shim: string;
  /** The program that the runc shim calls; "": another shim, that has its own. */
  readonly path: string;
}

export interface OciRuntimes {
  /** By their names; always with runc. */
  readonly known: Readonly<Record<string, OciRuntime>>;
  /** The name of the one that is taken when nobody says. */
  readonly byDefault: string;
}

/** What decides whether crun may be taken unasked. */
export interface OciFacts {
  /** "" where it is not installed. */
  readonly crunVersion: string;
  /** mixed: controllers of version 1, and others of version 2 beside them. */
  readonly cgroups: "v1" | "mixed" | "v2";
}

/** Configured runtimes by name, as in Docker's daemon.json. */
export type ConfiguredRuntimes = Readonly<
  Record<string, { readonly path: string } | { readonly runtimeType: string }>
>;

/**
 * crun starts a container in half of runc's time and is taken where it can work: it refuses mixed control groups, and gives
 * up version 1 after 1.18. Throws `invalid` when the configuration names a default that is not there. Pure.
 */
export function chooseRuntimes(
  facts: OciFacts,
  configured: ConfiguredRuntimes,
  defaultName: string,
): OciRuntimes {
  const known: Record<string, OciRuntime> = {
    runc: { name: "runc", shim: runcShim, path: "runc" },
  };
  if (facts.crunVersion !== "") known["crun"] = { name: "crun", shim: runcShim, path: "crun" };
  for (const [name, runtime] of Object.entries(configured))
    known[name] =
      "path" in runtime
        ? { name, shim: runcShim, path: runtime.path }
        : { name, shim: runtime.runtimeType, path: "" };
  const byDefault = defaultName || (mayUseCrun(facts) ? "crun" : "runc");
  return { known, byDefault: findRuntime({ known, byDefault }, byDefault).name };
}

function mayUseCrun({ crunVersion, cgroups }: OciFacts): boolean {
  const [major = 0, minor = 0] = crunVersion.split(".").map(Number);
  if (major < 1 || cgroups === "mixed") return false;
  return cgroups === "v2" || (major === 1 && minor <= 18);
}

/** "": the default. A shim of containerd (io.containerd.NAME.v2) need not be configured. Throws `invalid`. */
export function findRuntime(runtimes: OciRuntimes, name: string): OciRuntime {
  const wanted = name || runtimes.byDefault;
  const found = Object.hasOwn(runtimes.known, wanted) ? runtimes.known[wanted] : undefined;
  if (found !== undefined) return found;
  if (/^io\.containerd\.[a-z0-9-]+\.v\d+$/.test(wanted))
    return { name: wanted, shim: wanted, path: "" };
  throw new SwarmError("invalid", `unknown or invalid runtime name: ${wanted}`);
}

/** "" where the program is not there or does not say. */
export async function programVersion(program: string): Promise<string> {
  const answer = await run(program, ["--version"], { timeout: versionMsMax }).catch(() => null);
  return /version (\S+)/.exec(answer?.stdout ?? "")?.[1] ?? "";
}

export async function readOciFacts(): Promise<OciFacts> {
  const controllers = (folder: string) =>
    readFile(`/sys/fs/cgroup/${folder}cgroup.controllers`, "utf8").then(
      (text) => text.trim() !== "",
      () => null,
    );
  const [crunVersion, unified, beside] = await Promise.all([
    programVersion("crun"),
    controllers(""),
    controllers("unified/"),
  ]);
  const cgroups = unified !== null ? "v2" : beside === true ? "mixed" : "v1";
  return { crunVersion, cgroups };
}
