// Volumes of this node (driver local): a folder each, with what is known of it beside its data.

import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { z } from "zod";
import { errnoOf, SwarmError } from "../../proto/kit/errors.ts";
import { timestamp } from "../../proto/kit/world.ts";
import type { VolumeObject, VolumeSpec } from "./types.ts";

const run = promisify(execFile);
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
const nameLengthMax = 255;
const sizeMsMax = 60_000;
/** Docker's mark of a volume that was given no name. */
export const anonymousLabel = "com.docker.volume.anonymous";

const record = z.object({
  labels: z.record(z.string(), z.string()),
  options: z.record(z.string(), z.string()),
  created: z.string(),
});
type VolumeRecord = z.infer<typeof record>;

export class Volumes {
  readonly #directory: string;

  constructor(dataRoot: string) {
    this.#directory = join(dataRoot, "volumes");
  }

  /** Where its data is, unless it stands for another folder. Throws `invalid` for what is no name. */
  path(name: string): string {
    if (!namePattern.test(name) || name.length > nameLengthMax)
      throw new SwarmError(
        "invalid",
        `create ${name}: "${name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
      );
    return join(this.#directory, name, "_data");
  }

  /** What is mounted for it. */
  async source(name: string): Promise<string> {
    const options = (await this.#record(name))?.options ?? {};
    return options["device"] ?? this.path(name);
  }

  /** True when it was made now, empty; one that stands for another folder never is. */
  async ensure(name: string, labels: Readonly<Record<string, string>> = {}): Promise<boolean> {
    const path = this.path(name);
    if (await isThere(path)) return false;
    await mkdir(path, { recursive: true, mode: 0o755 });
    if (Object.keys(labels).length > 0) await this.#save(name, { labels, options: {} });
    return true;
  }

  /** The one there is when it is asked for again. Throws `invalid`, `unsupported` (options), `conflict` (other options). */
  async create(spec: VolumeSpec): Promise<VolumeObject> {
    const isNamed = spec.name !== "";
    const name = isNamed ? spec.name : randomBytes(32).toString("hex");
    const path = this.path(name);
    await checkOptions(spec.options);
    const known = await this.find(name);
    if (known !== undefined) {
      if (JSON.stringify(known.options) === JSON.stringify(spec.options)) return known;
      throw new SwarmError(
        "conflict",
        `create ${name}: a volume with the name ${name} already exists with other options`,
      );
    }
    await mkdir(path, { recursive: true, mode: 0o755 });
    const labels = isNamed ? spec.labels : { ...spec.labels, [anonymousLabel]: "" };
    await this.#save(name, { labels, options: spec.options });
    const made = await this.find(name);
    if (made === undefined) throw new SwarmError("internal", `volume ${name} could not be made`);
    return made;
  }

  async remove(name: string): Promise<void> {
    this.path(name);
    await rm(join(this.#directory, name), { recursive: true, force: true });
  }

  async find(name: string): Promise<VolumeObject | undefined> {
    if (!namePattern.test(name)) return undefined;
    const path = this.path(name);
    const facts = await stat(path).catch(() => null);
    if (facts === null) return undefined;
    const known = await this.#record(name);
    return {
      name,
      mountpoint: path,
      created: known?.created ?? timestamp(facts.birthtimeMs || facts.mtimeMs),
      labels: known?.labels ?? (/^[0-9a-f]{64}$/.test(name) ? { [anonymousLabel]: "" } : {}),
      options: known?.options ?? {},
    };
  }

  /** By name. */
  async list(): Promise<readonly VolumeObject[]> {
    const names = await readdir(this.#directory).catch((error: unknown) => {
      if (errnoOf(error) === "ENOENT") return [];
      throw error;
    });
    const found = await Promise.all(names.sort().map((name) => this.find(name)));
    return found.filter((volume) => volume !== undefined);
  }

  /** Bytes on disk. */
  async bytes(name: string): Promise<number> {
    const { stdout } = await run("du", ["-sb", this.path(name)], { timeout: sizeMsMax });
    return Number.parseInt(stdout, 10) || 0;
  }

  #file(name: string): string {
    return join(this.#directory, name, "volume.json");
  }

  async #record(name: string): Promise<VolumeRecord | null> {
    try {
      return record.parse(JSON.parse(await readFile(this.#file(name), "utf8")));
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return null;
      throw error;
    }
  }

  async #save(name: string, known: Pick<VolumeRecord, "labels" | "options">): Promise<void> {
    const path = this.#file(name);
    const created = timestamp(Date.now());
    await writeFile(`${path}.new`, JSON.stringify({ ...known, created }), { mode: 0o600 });
    await rename(`${path}.new`, path);
  }
}

/** Of the local driver's options, those that make a volume stand for another folder of this machine. */
async function checkOptions(options: Readonly<Record<string, string>>): Promise<void> {
  const names = Object.keys(options);
  const unknown = names.find((name) => !["type", "o", "device"].includes(name));
  if (unknown !== undefined)
    throw new SwarmError("invalid", `create volume: invalid option: "${unknown}"`);
  if (names.length === 0) return;
  const { type = "none", o = "", device = "" } = options;
  if (type !== "none" || o !== "bind")
    throw new SwarmError(
      "unsupported",
      `volumes of type ${type} with options "${o}" are not available in this version of tsswarm: only type=none with o=bind`,
    );
  if (!device.startsWith("/") || !(await isThere(device)))
    throw new SwarmError(
      "invalid",
      `create volume: the device "${device}" is no absolute path of a folder on this node`,
    );
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
