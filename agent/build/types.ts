// The words of a build: instructions as they were written, steps as they are done, and what is known between two steps.

import type { OciImage } from "../engine/make-image.ts";
import type { Layer } from "../runtime/types.ts";

export interface Heredoc {
  readonly name: string;
  readonly content: string;
  readonly expands: boolean;
}

export interface Instruction {
  readonly keyword: string;
  /** From 1. */
  readonly line: number;
  readonly flags: Readonly<Record<string, readonly string[]>>;
  /** Continuation lines joined, flags taken away. */
  readonly text: string;
  readonly heredocs: readonly Heredoc[];
}

/** The container's configuration of the OCI image specification, in Docker's names. */
export interface ContainerDefaults {
  readonly User?: string;
  readonly ExposedPorts?: Readonly<Record<string, object>>;
  readonly Env?: readonly string[];
  readonly Entrypoint?: readonly string[] | null;
  readonly Cmd?: readonly string[] | null;
  readonly Volumes?: Readonly<Record<string, object>>;
  readonly WorkingDir?: string;
  readonly Labels?: Readonly<Record<string, string>>;
  readonly StopSignal?: string;
  readonly Healthcheck?: HealthDefaults;
  readonly OnBuild?: readonly string[] | null;
  readonly Shell?: readonly string[];
  readonly [key: string]: unknown;
}

export interface HealthDefaults {
  readonly Test: readonly string[];
  /** Nanoseconds. */
  readonly Interval?: number;
  readonly Timeout?: number;
  readonly StartPeriod?: number;
  readonly StartInterval?: number;
  readonly Retries?: number;
}

export interface StageText {
  /** The image it starts from, or an earlier stage's name, `scratch` included; build arguments are put in. */
  readonly base: string;
  /** "": it has none. */
  readonly name: string;
  readonly platform: string;
  readonly from: Instruction;
  readonly instructions: readonly Instruction[];
}

export interface RunMount {
  readonly type: "bind" | "cache" | "tmpfs" | "secret" | "ssh";
  readonly target: string;
  readonly source: string;
  /** bind, cache: an earlier stage or an image; "" the context (bind), nothing (cache). */
  readonly from: string;
  readonly id: string;
  readonly isReadonly: boolean;
  readonly isRequired: boolean;
  /** Octal; -1: the type's own. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** tmpfs: bytes, 0 no limit. */
  readonly size: number;
  /** secret: the variable that has it; "": a file at the target. */
  readonly env: string;
}

/** What an instruction comes to once its variables are put in. */
export type Step =
  | { readonly do: "config"; readonly config: ContainerDefaults; readonly author?: string }
  | { readonly do: "workdir"; readonly config: ContainerDefaults; readonly path: string }
  | {
      readonly do: "run";
      readonly command: readonly string[];
      /** Without the shell in front, for messages. */
      readonly shown: string;
      readonly mounts: readonly RunMount[];
      /** "": the build's own. */
      readonly network: string;
      /** A script that begins with #!, put beside the command; "": none. */
      readonly script: string;
    }
  | {
      readonly do: "copy";
      /** ADD: archives are unpacked, addresses fetched. */
      readonly isAdd: boolean;
      readonly sources: readonly string[];
      readonly inline: readonly { readonly name: string; readonly content: string }[];
      readonly target: string;
      /** "": the context. */
      readonly from: string;
      /** As written, "" root. */
      readonly chown: string;
      /** Octal; -1: as they are. */
      readonly chmod: number;
      readonly exclude: readonly string[];
      readonly checksum: string;
      /** Keeps the folders a source lies in. */
      readonly parents: boolean;
    };

/** Between two steps. */
export interface BuiltImage {
  /** sha256:…; "" for scratch. */
  readonly id: string;
  readonly image: OciImage;
  readonly layers: readonly Layer[];
  readonly chainId: string;
  /** Of all that led here. */
  readonly key: string;
}
