// What a command has around it: the daemon's client, where to print, whether anybody watches.

import { apiVersion, type CallOptions, DaemonClient, DaemonError } from "./client.ts";
import { ExitCode } from "./command.ts";
import { configFolder } from "./config-file.ts";
import { type ConnectFlags, resolveWay, type Way } from "./endpoint.ts";

export interface Terminal {
  readonly client: DaemonClient;
  /** The folder of config.json, which we share with Docker's client. */
  readonly configFolder: string;
  /** What was said about the daemon to speak to. */
  readonly flags: ConnectFlags;
  print(text: string): void;
  warn(text: string): void;
  /** Whether standard output is a terminal: progress is redrawn in place. */
  readonly isInteractive: boolean;
  /** Milliseconds since 1970. */
  now(): number;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export function openTerminal(flags: ConnectFlags): Terminal {
  const { env } = process;
  let client: DaemonClient | null = null;
  return {
    /** Not before it is needed: some commands speak to no daemon, and mend what would lead to none. */
    get client(): DaemonClient {
      client ??= openClient(resolveWay(flags, env));
      return client;
    },
    configFolder: configFolder(flags.config, env),
    flags,
    print: (text) => process.stdout.write(text),
    warn: (text) => process.stderr.write(text),
    isInteractive: process.stdout.isTTY === true,
    now: () => Date.now(),
    environment: env,
  };
}

function openClient({ host, tls }: Way): DaemonClient {
  const client = new DaemonClient(host, apiVersion, tls);
  const told = new Set<string>();
  client.onWarning = (sentence) => {
    if (!told.has(sentence)) process.stderr.write(`WARNING: ${sentence}\n`);
    told.add(sentence);
  };
  return client;
}

/** The same without its progress; warnings are still heard. */
export function silenced(terminal: Terminal): Terminal {
  return { ...terminal, client: terminal.client, isInteractive: false, print: () => {} };
}

/** Does the same for every name and goes on after a failure; then `afterwards`. Ends the command with 1 when one has failed. */
export async function forEach(
  terminal: Terminal,
  names: readonly string[],
  act: (name: string) => Promise<void>,
  afterwards: () => void | Promise<void> = () => {},
): Promise<void> {
  let isWhole = true;
  for (const name of names) {
    try {
      await act(name);
    } catch (error) {
      terminal.warn(`${error instanceof Error ? error.message : String(error)}\n`);
      isWhole = false;
    }
  }
  await afterwards();
  if (!isWhole) throw new ExitCode(1);
}

/** Shows objects by name; what is not found is said, and the rest shown all the same. */
export async function inspectAll(
  terminal: Terminal,
  names: readonly string[],
  path: (name: string) => string,
  show: (found: readonly unknown[]) => void | Promise<void>,
  options: CallOptions & { readonly absent?: (name: string) => string } = {},
): Promise<void> {
  const { absent, ...call } = options;
  const found: unknown[] = [];
  const look = async (name: string) => {
    try {
      found.push(await terminal.client.get(path(encodeURIComponent(name)), call));
    } catch (error) {
      const isAbsent = error instanceof DaemonError && error.status === 404;
      throw isAbsent && absent !== undefined ? new Error(absent(name)) : error;
    }
  };
  await forEach(terminal, names, look, () => show(found));
}
