// What a build needs of the engine below it.

import type { Image, Images } from "../engine/images.ts";
import type { Libc } from "../engine/libc.ts";
import type { Engine } from "../engine/types.ts";
import type { Runtime } from "../runtime/types.ts";

export interface BuildGround {
  readonly engine: Pick<
    Engine,
    "create" | "start" | "attach" | "wait" | "remove" | "pull" | "list" | "tell" | "kill"
  >;
  readonly runtime: Runtime;
  readonly images: Images;
  readonly libc: Libc;
  /** For what nobody needs after a build; empty when the engine starts. */
  readonly scratch: string;
  /** In memory: for what no disk may have. */
  readonly memory: string;
  /** Folder of `RUN --mount=type=cache`. */
  readonly caches: string;
  /** os/architecture of this machine. */
  readonly platform: string;
  now(): number;
}

export type { Image };
