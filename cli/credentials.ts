// Credentials for registries, where Docker's client keeps them: config.json, or a helper program it names.

import { spawn } from "node:child_process";
import { type Json, readConfigFile, writeConfigFile } from "./config-file.ts";

export interface Credentials {
  readonly username?: string;
  readonly password?: string;
  readonly identitytoken?: string;
  readonly serveraddress: string;
}

export const hubAddress = "https://index.docker.io/v1/";
const helperMsMax = 60_000;
const helperBytesMax = 1024 * 1024;
/** The name by which helpers and Docker mean that the password is a token. */
const tokenUser = "<token>";

/** How the registry of an image, or one that was named, is called in config.json. */
export function registryOfImage(image: string): string {
  const [first = ""] = image.split("/");
  const isNamed =
    image.includes("/") && (/[.:]/.test(first) || first === "localhost" || first.startsWith("["));
  return isNamed ? registryNamed(first) : hubAddress;
}

export function registryNamed(name: string): string {
  const host = name.replace(/^https?:\/\//, "").replace(/\/.*$/, "");
  return ["", "docker.io", "index.docker.io", "registry-1.docker.io"].includes(host)
    ? hubAddress
    : host;
}

/** Null: nobody has logged in there. Throws when a helper fails. */
export async function credentialsFor(
  folder: string,
  registry: string,
): Promise<Credentials | null> {
  const config = readConfigFile(folder);
  const helper = helperOf(config, registry);
  if (helper !== null) return fromHelper(helper, registry);
  const entry = record(record(config["auths"])[registry]);
  const token = text(entry["identitytoken"]);
  const pair = Buffer.from(text(entry["auth"]), "base64").toString("utf8");
  const at = pair.indexOf(":");
  if (at < 0 && token === "") return null;
  return {
    ...(at < 0 ? {} : { username: pair.slice(0, at), password: pair.slice(at + 1) }),
    ...(token === "" ? {} : { identitytoken: token }),
    serveraddress: registry,
  };
}

/** The X-Registry-Auth header for an image; {} where nobody has logged in. */
export async function authHeaders(folder: string, image: string): Promise<Record<string, string>> {
  const found = await credentialsFor(folder, registryOfImage(image));
  if (found === null) return {};
  return { "X-Registry-Auth": Buffer.from(JSON.stringify(found)).toString("base64url") };
}

/** The X-Registry-Config header: all there are, for a build that may pull from anywhere. */
export async function allAuthHeaders(folder: string): Promise<Record<string, string>> {
  const config = readConfigFile(folder);
  const names = [
    ...Object.keys(record(config["auths"])),
    ...Object.keys(record(config["credHelpers"])),
  ];
  const found: Record<string, Credentials> = {};
  for (const name of new Set(names)) {
    const credentials = await credentialsFor(folder, name);
    if (credentials !== null) found[name] = credentials;
  }
  if (Object.keys(found).length === 0) return {};
  return { "X-Registry-Config": Buffer.from(JSON.stringify(found)).toString("base64url") };
}

/** Says whether they lie unencrypted in the file now. */
export async function storeCredentials(folder: string, credentials: Credentials): Promise<boolean> {
  const { serveraddress: registry, username = "", password = "", identitytoken = "" } = credentials;
  const config = readConfigFile(folder);
  const helper = helperOf(config, registry);
  const auths = record(config["auths"]);
  if (helper !== null) {
    const [Username, Secret] =
      identitytoken === "" ? [username, password] : [tokenUser, identitytoken];
    await runHelper(helper, "store", JSON.stringify({ ServerURL: registry, Username, Secret }));
    writeConfigFile(folder, { ...config, auths: { ...auths, [registry]: {} } });
    return false;
  }
  const auth = Buffer.from(`${username}:${password}`).toString("base64");
  const entry = identitytoken === "" ? { auth } : { auth, identitytoken };
  writeConfigFile(folder, { ...config, auths: { ...auths, [registry]: entry } });
  return true;
}

/** False: there were none. */
export async function eraseCredentials(folder: string, registry: string): Promise<boolean> {
  const config = readConfigFile(folder);
  const { [registry]: entry, ...auths } = record(config["auths"]);
  const helper = helperOf(config, registry);
  if (helper !== null) await runHelper(helper, "erase", registry).catch(() => {});
  if (entry === undefined) return false;
  writeConfigFile(folder, { ...config, auths });
  return true;
}

function helperOf(config: Json, registry: string): string | null {
  const name = text(record(config["credHelpers"])[registry]) || text(config["credsStore"]);
  if (name === "") return null;
  if (!/^[\w.-]+$/.test(name)) throw new Error(`config.json names no credential helper: "${name}"`);
  return `docker-credential-${name}`;
}

async function fromHelper(helper: string, registry: string): Promise<Credentials | null> {
  let answer: string;
  try {
    answer = await runHelper(helper, "get", registry);
  } catch (error) {
    // The words that all helpers have for it.
    if (/credentials not found/.test(String(error))) return null;
    throw error;
  }
  const { Username, Secret } = record(JSON.parse(answer));
  if (text(Username) === tokenUser) return { identitytoken: text(Secret), serveraddress: registry };
  return { username: text(Username), password: text(Secret), serveraddress: registry };
}

function runHelper(helper: string, verb: string, input: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(helper, [verb], {
      stdio: ["pipe", "pipe", "ignore"],
      timeout: helperMsMax,
    });
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString("utf8");
      if (output.length > helperBytesMax) child.kill();
    });
    child.stdin.on("error", () => {});
    child.on("error", (error) => reject(new Error(`${helper}: ${error.message}`)));
    child.on("close", (code) => {
      if (code === 0) resolve(output);
      else reject(new Error(`${helper} ${verb}: ${output.trim() || `exit code ${code}`}`));
    });
    child.stdin.end(input);
  });
}

function record(value: unknown): Json {
  return typeof value === "object" && value !== null ? (value as Json) : {};
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
