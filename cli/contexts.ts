// Contexts: named ways to daemons, in the files of Docker's client (contexts/meta and contexts/tls beside config.json).

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Json, readConfigFile, writeConfigFile } from "./config-file.ts";

export const defaultContext = "default";
export const tlsFiles = ["ca.pem", "cert.pem", "key.pem"] as const;
export type TlsFile = (typeof tlsFiles)[number];

/** meta.json, in Docker's words. What else is in it is kept. */
export interface Context {
  readonly Name: string;
  readonly Metadata: Json;
  readonly Endpoints: Readonly<Record<string, Json>>;
}

export interface Endpoint {
  /** unix:///path, tcp://host:port or ssh://user@host; "": the default of whoever asks. */
  readonly host: string;
  readonly skipsVerify: boolean;
  readonly tls: ReadonlyMap<TlsFile, Buffer>;
}

export class ContextStore {
  readonly #folder: string;

  /** `folder`: of config.json. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The one in use by the file alone. */
  get current(): string {
    const name = readConfigFile(this.#folder)["currentContext"];
    return typeof name === "string" && name !== "" ? name : defaultContext;
  }

  use(name: string): void {
    const { currentContext: _, ...rest } = readConfigFile(this.#folder);
    writeConfigFile(
      this.#folder,
      name === defaultContext ? rest : { ...rest, currentContext: name },
    );
  }

  /** By name, without the default. One whose file can not be read is left out. */
  list(): readonly Context[] {
    const folder = join(this.#folder, "contexts", "meta");
    if (!existsSync(folder)) return [];
    return readdirSync(folder)
      .flatMap((id) => {
        const context = parse(join(folder, id, "meta.json"));
        return context === null ? [] : [context];
      })
      .sort((a, b) => (a.Name < b.Name ? -1 : 1));
  }

  has(name: string): boolean {
    return existsSync(join(this.metadataPath(name), "meta.json"));
  }

  /** Throws with Docker's sentence when there is none. */
  get(name: string): Context {
    const path = join(this.metadataPath(name), "meta.json");
    if (!this.has(name))
      throw new Error(
        `context "${name}": context not found: open ${path}: no such file or directory`,
      );
    const context = parse(path);
    if (context === null) throw new Error(`context "${name}": ${path} is damaged`);
    return context;
  }

  put(context: Context): void {
    checkName(context.Name);
    const folder = this.metadataPath(context.Name);
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    writeFileSync(join(folder, "meta.json"), JSON.stringify(context), { mode: 0o644 });
  }

  tlsOf(name: string): ReadonlyMap<TlsFile, Buffer> {
    const folder = join(this.tlsPath(name), "docker");
    const found = tlsFiles.filter((file) => existsSync(join(folder, file)));
    return new Map(found.map((file) => [file, readFileSync(join(folder, file))]));
  }

  /** Replaces all there were. */
  putTls(name: string, files: ReadonlyMap<TlsFile, Buffer>): void {
    rmSync(this.tlsPath(name), { recursive: true, force: true });
    if (files.size === 0) return;
    const folder = join(this.tlsPath(name), "docker");
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    for (const [file, bytes] of files) writeFileSync(join(folder, file), bytes, { mode: 0o600 });
  }

  remove(name: string): void {
    rmSync(this.metadataPath(name), { recursive: true, force: true });
    rmSync(this.tlsPath(name), { recursive: true, force: true });
  }

  endpoint(name: string): Endpoint {
    const docker = this.get(name).Endpoints["docker"] ?? {};
    const host = docker["Host"];
    return {
      host: typeof host === "string" ? host : "",
      skipsVerify: docker["SkipTLSVerify"] === true,
      tls: this.tlsOf(name),
    };
  }

  metadataPath(name: string): string {
    return join(this.#folder, "contexts", "meta", idOf(name));
  }

  tlsPath(name: string): string {
    return join(this.#folder, "contexts", "tls", idOf(name));
  }
}

const names = /^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$/;

/** Throws with Docker's sentence. */
export function checkName(name: string): void {
  if (name === "") throw new Error("context name cannot be empty");
  if (name === defaultContext) throw new Error('"default" is a reserved context name');
  if (!names.test(name))
    throw new Error(
      `context name "${name}" is invalid, names are validated against regexp "${names.source}"`,
    );
}

function idOf(name: string): string {
  return createHash("sha256").update(name).digest("hex");
}

function parse(path: string): Context | null {
  try {
    const json = JSON.parse(readFileSync(path, "utf8")) as Partial<Context>;
    if (typeof json.Name !== "string") return null;
    return {
      ...json,
      Name: json.Name,
      Metadata: json.Metadata ?? {},
      Endpoints: json.Endpoints ?? {},
    };
  } catch {
    return null;
  }
}
