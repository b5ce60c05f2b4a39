// What the program can be besides a client of a daemon.

import type { Command } from "commander";
import type { DaemonConfig } from "../proto/config.ts";

/** What the program does besides talking to a daemon; loaded only when asked for. */
export interface Doors {
  daemon(config: DaemonConfig): Promise<never>;
  agent(config: DaemonConfig): Promise<never>;
  manager(config: DaemonConfig): Promise<never>;
  lab(args: readonly string[]): Promise<number>;
  /** The lab's commands, for completion. */
  labCommands(): Promise<Command>;
}
