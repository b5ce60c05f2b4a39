// What a build is asked for, and what it says.

import type { Readable } from "node:stream";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { HostConfig } from "../engine/container-types.ts";
import type { Progress, RegistryAuth } from "../engine/image-types.ts";
import type { GitAddress } from "./git.ts";

export interface BuildRequest {
  /** The context as a tar, or a git repository that has it. */
  readonly context: Readable | GitAddress;
  /** In the context; "" is Dockerfile. */
  readonly dockerfile: string;
  readonly names: readonly string[];
  readonly target: string;
  readonly args: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly isWithoutCache: boolean;
  /** When some are named and none of them is here, no step is taken from before. */
  readonly cacheFrom?: readonly string[];
  readonly isPulling: boolean;
  /** "", default, host, none, container:ID, or a network's name. */
  readonly network: string;
  readonly platform: string;
  readonly isQuiet: boolean;
  /** Limits of the steps' containers. */
  readonly host: HostConfig;
  /** By registry host. */
  readonly auths: Readonly<Record<string, RegistryAuth>>;
  /** By id; never kept. */
  readonly secrets: Readonly<Record<string, Buffer>>;
}

export interface Builder {
  /** The image's id. Throws `BuildError` when a command fails, `invalid`, `not_found`. */
  build(request: BuildRequest, report: Progress, signal: AbortSignal): Promise<string>;
  /** Forgets all steps; bytes freed. */
  prune(): Promise<{ readonly deleted: readonly string[]; readonly bytes: number }>;
}

/** A command of the build ended with an exit code, which the client ends with too. */
export class BuildError extends SwarmError {
  readonly exitCode: number;

  constructor(exitCode: number, message: string) {
    super("invalid", message);
    this.exitCode = exitCode;
  }
}
