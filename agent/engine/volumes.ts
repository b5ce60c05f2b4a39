// Volumes of this node (driver local): a folder each, with what is known of it beside its data.

import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { lookup } from "node:dns/promises";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { z } from "zod";
import { errnoOf, SwarmError } from "../../proto/kit/errors.ts";
import { timestamp } from "../../proto/kit/world.ts";
import type { Libc } from "./libc.ts";
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
  readonly #libc: Libc | null;

  /** Without `libc` volumes that are file systems of their own cannot be used. */
  constructor(dataRoot: string, libc: Libc | null = null) {
    this.#directory = join(dataRoot, "volumes");
    this.#libc = libc;
  }

  /** Finishes what a restore under way left when its process ended: the old files, or the new ones, all of them. */
  async settle(): Promise<void> {
    for (const name of await readdir(this.#directory).catch(() => [])) {
      const place = (part: string) => join(this.#directory, name, part);
      if (!(await isThere(place("_data"))) && (await isThere(place("_old"))))
        await rename(place("_old"), place("_data"));
      for (const part of ["_new", "_old"]) await rm(place(part), { recursive: true, force: true });
    }
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

  /** What is bound for it; a file system of its own is mounted when it is not yet. Throws `unsupported`. */
  async source(name: string): Promise<string> {
    const options = (await this.#record(name))?.options ?? {};
    if (isBind(options)) return options["device"] ?? "";
    const path = this.path(name);
    if (options["type"] !== undefined && !(await isMounted(path))) await this.#mount(path, options);
    return path;
  }

  async #mount(path: string, options: Readonly<Record<string, string>>): Promise<void> {
    if (this.#libc === null) throw new SwarmError("unsupported", "this engine mounts no volumes");
    const { type = "", device = "", o = "" } = options;
    const { flags, data } = await mountOptions(o);
    this.#libc.mount(device, path, type, flags, data);
  }

  /**
   * Replaces its files by what `unpack` puts into an empty folder: all of it or nothing, but for volumes that stand for
   * something else, which are emptied first.
   */
  async replace(name: string, unpack: (folder: string) => Promise<void>): Promise<void> {
    const source = await this.source(name);
    const place = (part: string) => join(this.#directory, name, part);
    if (source !== place("_data") || (await isMounted(source))) {
      for (const each of await readdir(source))
        await rm(join(source, each), { recursive: true, force: true });
      await unpack(source);
      return;
    }
    await rm(place("_new"), { recursive: true, force: true });
    await mkdir(place("_new"), { mode: 0o755 });
    try {
      await unpack(place("_new"));
      await rename(place("_data"), place("_old"));
      await rename(place("_new"), place("_data"));
    } finally {
      for (const part of ["_new", "_old"]) await rm(place(part), { recursive: true, force: true });
    }
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
    const path = this.path(name);
    // What is mounted there is not ours to delete.
    if (await isMounted(path)) this.#libc?.unmount(path);
    if (await isMounted(path))
      throw new SwarmError("conflict", `remove ${name}: it is still mounted at ${path}`);
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

/** Docker's local driver: another folder of this machine (o=bind), or a file system of its own. */
async function checkOptions(options: Readonly<Record<string, string>>): Promise<void> {
  const names = Object.keys(options);
  const unknown = names.find((name) => !["type", "o", "device"].includes(name));
  if (unknown !== undefined)
    throw new SwarmError("invalid", `create volume: invalid option: "${unknown}"`);
  if (names.length === 0) return;
  const { type = "", device = "" } = options;
  if (device === "")
    throw new SwarmError("invalid", 'create volume: missing required option: "device"');
  if (!isBind(options)) {
    if (type === "" || type === "none")
      throw new SwarmError("invalid", 'create volume: missing required option: "type"');
    return;
  }
  if (!device.startsWith("/") || !(await isThere(device)))
    throw new SwarmError(
      "invalid",
      `create volume: the device "${device}" is no absolute path of a folder on this node`,
    );
}

function isBind(options: Readonly<Record<string, string>>): boolean {
  return (options["o"] ?? "").split(",").some((word) => word === "bind" || word === "rbind");
}

/** Words of mount(8) that are flags of mount(2); the rest is the file system's own. */
const flagWords: Readonly<Record<string, number>> = {
  ...{ ro: 1, nosuid: 2, nodev: 4, noexec: 8, sync: 16, noatime: 1024, nodiratime: 2048 },
  ...{ relatime: 1 << 21, rw: 0, suid: 0, dev: 0, exec: 0, async: 0, defaults: 0 },
};

/** The kernel wants an NFS server's address, people write its name. */
async function mountOptions(
  text: string,
): Promise<{ readonly flags: number; readonly data: string }> {
  let flags = 0;
  const data: string[] = [];
  for (const word of text.split(",").filter((each) => each !== "")) {
    const flag = flagWords[word];
    if (flag !== undefined) flags |= flag;
    else if (word.startsWith("addr=")) {
      const { address } = await lookup(word.slice("addr=".length));
      data.push(`addr=${address}`);
    } else data.push(word);
  }
  return { flags, data: data.join(",") };
}

async function isMounted(path: string): Promise<boolean> {
  const [own, above] = await Promise.all([
    stat(path).catch(() => null),
    stat(dirname(path)).catch(() => null),
  ]);
  return own !== null && above !== null && own.dev !== above.dev;
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
