// What a build is asked for, and what it asks in turn.

import type { Readable } from "node:stream";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { HostConfig } from "../engine/container-types.ts";
import type { RegistryAuth } from "../engine/image-types.ts";
import type { AgentDoor } from "./agent-socket.ts";
import type { TellBuild } from "./events.ts";
import type { GitAddress } from "./git.ts";

export interface BuildRequest {
  /** The context as a tar, a git repository that has it, or a client that gives what of it is needed. */
  readonly context: Readable | GitAddress | ClientContext;
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
  /** Limits of the steps' containers. */
  readonly host: HostConfig;
  /** The container of a command that fails stays, as Docker's first builder leaves it. */
  readonly keepsFailed?: boolean;
  /** For a registry, by the domain of images' names. */
  readonly authOf: (domain: string) => Promise<RegistryAuth | null>;
  /** Takes the image's files, mounted until it is done; then the image gets no name. */
  readonly take?: (root: string, signal: AbortSignal) => Promise<void>;
  /** By id; never kept. */
  readonly secret: (id: string) => Promise<Buffer | null>;
  /** A way to an ssh agent, by id. */
  readonly agent?: (id: string) => Promise<AgentDoor | null>;
}

/** Someone who has the context and is asked for it while the build goes on. */
export interface ClientContext {
  /** A folder with the Dockerfile in it, and the lines of what the context is to be without. `scratch` is the build's own. */
  definition(name: string, scratch: string, signal: AbortSignal): Promise<Definition>;
  /**
   * The folder where these of the context's paths are, and all that is below them; patterns and links are followed, and what is
   * not there is left out. "" is everything. One call at a time.
   */
  files(paths: readonly string[], scratch: string, signal: AbortSignal): Promise<string>;
}

export interface Definition {
  readonly folder: string;
  /** Of .dockerignore. */
  readonly ignore: string;
}

export interface Builder {
  /** The image's id. Throws `BuildError` when a command fails, `invalid`, `not_found`. */
  build(request: BuildRequest, tell: TellBuild, signal: AbortSignal): Promise<string>;
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
