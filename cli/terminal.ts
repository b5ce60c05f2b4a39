// What a command has around it: the daemon's client, where to print, whether anybody watches.

import { type CallOptions, DaemonClient, defaultHost } from "./client.ts";

export interface Terminal {
  readonly client: DaemonClient;
  print(text: string): void;
  warn(text: string): void;
  /** Whether standard output is a terminal: progress is redrawn in place. */
  readonly isInteractive: boolean;
  /** Milliseconds since 1970. */
  now(): number;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export function openTerminal(host: string | undefined): Terminal {
  const { env } = process;
  const named = host ?? env["TSSWARM_HOST"] ?? env["DOCKER_HOST"];
  return {
    client: new DaemonClient(named === undefined || named === "" ? defaultHost : named),
    print: (text) => process.stdout.write(text),
    warn: (text) => process.stderr.write(text),
    isInteractive: process.stdout.isTTY === true,
    now: () => Date.now(),
    environment: env,
  };
}

/** Does the same for every name, goes on after a failure, and says at the end which code it comes to. */
export async function forEach(
  terminal: Terminal,
  names: readonly string[],
  act: (name: string) => Promise<void>,
): Promise<number> {
  let code = 0;
  for (const name of names) {
    try {
      await act(name);
    } catch (error) {
      terminal.warn(`${error instanceof Error ? error.message : String(error)}\n`);
      code = 1;
    }
  }
  return code;
}

/** Inspects objects by name; what is not found is said, and the rest printed all the same. */
export async function inspectAll(
  terminal: Terminal,
  names: readonly string[],
  path: (name: string) => string,
  options: CallOptions = {},
): Promise<{ readonly found: readonly unknown[]; readonly code: number }> {
  const found: unknown[] = [];
  const code = await forEach(terminal, names, async (name) => {
    found.push(await terminal.client.get(path(encodeURIComponent(name)), options));
  });
  return { found, code };
}
