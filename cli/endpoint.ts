// Which daemon a command speaks to, and how: flags first, then the environment, then the context in use.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defaultHost } from "./client.ts";
import { configFolder } from "./config-file.ts";
import { ContextStore, defaultContext, type TlsFile } from "./contexts.ts";
import type { ClientTls } from "./target.ts";

export interface ConnectFlags {
  readonly host?: string | undefined;
  readonly context?: string | undefined;
  readonly config?: string | undefined;
  readonly tls?: boolean | undefined;
  readonly tlsverify?: boolean | undefined;
  readonly tlscacert?: string | undefined;
  readonly tlscert?: string | undefined;
  readonly tlskey?: string | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

export interface Way {
  readonly host: string;
  readonly tls: ClientTls | null;
}

/** The variable that names a host, and so goes before a context that is in use. */
export function hostVariable(environment: Environment): string | null {
  return ["TSSWARM_HOST", "DOCKER_HOST"].find((name) => environment[name]) ?? null;
}

/** The context that these flags and this environment choose. Throws with Docker's sentence when they contradict each other. */
export function chosenContext(flags: ConnectFlags, environment: Environment): string {
  if (flags.context !== undefined && flags.host !== undefined)
    throw new Error("conflicting options: cannot specify both --host and --context");
  if (flags.context) return flags.context;
  if (flags.host !== undefined || hostVariable(environment) !== null) return defaultContext;
  const { DOCKER_CONTEXT: named } = environment;
  return named || new ContextStore(configFolder(flags.config, environment)).current;
}

export function resolveWay(flags: ConnectFlags, environment: Environment): Way {
  const folder = configFolder(flags.config, environment);
  const name = chosenContext(flags, environment);
  if (name !== defaultContext) {
    const { host, skipsVerify, tls } = new ContextStore(folder).endpoint(name);
    const isPlain = tls.size === 0 && !skipsVerify;
    return { host: host || defaultHost, tls: isPlain ? null : materials(tls, !skipsVerify) };
  }
  const variable = hostVariable(environment);
  const named = flags.host ?? (variable === null ? "" : environment[variable]);
  return { host: named || defaultHost, tls: tlsOfFlags(flags, environment, folder) };
}

/** Null: without TLS. */
function tlsOfFlags(
  flags: ConnectFlags,
  environment: Environment,
  folder: string,
): ClientTls | null {
  const verifies = flags.tlsverify ?? Boolean(environment["DOCKER_TLS_VERIFY"]);
  if (!verifies && !(flags.tls ?? Boolean(environment["DOCKER_TLS"]))) return null;
  const certificates = environment["DOCKER_CERT_PATH"] || folder;
  const read = (file: TlsFile, asked: string | undefined): [TlsFile, Buffer][] => {
    const path = asked ?? join(certificates, file);
    // As with Docker: what nobody named may be absent.
    if (asked === undefined && !existsSync(path)) return [];
    return [[file, readFileSync(path)]];
  };
  const files = new Map([
    ...read("ca.pem", flags.tlscacert),
    ...read("cert.pem", flags.tlscert),
    ...read("key.pem", flags.tlskey),
  ]);
  return materials(files, verifies);
}

function materials(files: ReadonlyMap<TlsFile, Buffer>, isVerified: boolean): ClientTls {
  const of = (file: TlsFile, name: "ca" | "cert" | "key") => {
    const bytes = files.get(file);
    return bytes === undefined ? {} : { [name]: bytes };
  };
  return { isVerified, ...of("ca.pem", "ca"), ...of("cert.pem", "cert"), ...of("key.pem", "key") };
}
