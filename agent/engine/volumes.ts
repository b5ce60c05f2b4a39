// Volumes of this node: a folder each, with what is known of it beside its data; those of a plugin are bound there while they are used.

import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { lookup } from "node:dns/promises";
import { mkdir, readdir, readFile, rename, rm, rmdir, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { z } from "zod";
import { errnoOf, SwarmError } from "../../proto/kit/errors.ts";
import { timestamp } from "../../proto/kit/world.ts";
import { type Libc, mountFlags } from "./libc.ts";
import type { VolumeObject, VolumeSpec } from "./types.ts";
import { type PluginVolume, VolumePlugins } from "./volume-plugins.ts";

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
  /** Absent: our own. */
  driver: z.string().exactOptional(),
});
type VolumeRecord = z.infer<typeof record>;

export class Volumes {
  readonly #directory: string;
  readonly #libc: Libc | null;
  readonly #plugins: VolumePlugins;
  /** Who uses those of plugins, by volume. */
  readonly #holders = new Map<string, Set<string>>();
  /** What is done to them follows each other, by volume. */
  readonly #turns = new Map<string, Promise<unknown>>();

  /** Without `libc` volumes that are file systems of their own cannot be used. */
  constructor(dataRoot: string, libc: Libc | null = null, plugins = new VolumePlugins()) {
    this.#directory = join(dataRoot, "volumes");
    this.#libc = libc;
    this.#plugins = plugins;
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
    const { driver, options = {} } = (await this.#record(name)) ?? {};
    const path = this.path(name);
    if (driver !== undefined && !this.#holders.has(name))
      throw new SwarmError(
        "precondition",
        `volume ${name} of plugin ${driver} is mounted only while a container with it runs: start that first`,
      );
    if (driver !== undefined) return path;
    if (isBind(options)) return options["device"] ?? "";
    if (options["type"] !== undefined && !(await isMounted(path))) await this.#mount(path, options);
    return path;
  }

  /**
   * Its folder, there until `release`; a plugin is told of each holder and mounts it for the first. The bind at our own
   * place keeps a container's specification true wherever the plugin has it the next time.
   */
  async hold(name: string, holder: string): Promise<string> {
    const driver = (await this.#record(name))?.driver;
    if (driver === undefined) return this.source(name);
    return this.#inTurn(name, async () => {
      const path = this.path(name);
      const place = { Name: name, ID: holder };
      const { Mountpoint } = await this.#plugins.call(driver, "VolumeDriver.Mount", place);
      const holders = this.#holders.get(name) ?? new Set();
      try {
        if (holders.size === 0) {
          // An earlier process may have been killed while it was bound.
          await this.#unbind(path);
          await mkdir(path, { recursive: true });
          this.#libc?.mount(Mountpoint, path, "", mountFlags.bind | mountFlags.recursive, "");
        }
      } catch (error) {
        await this.#plugins.call(driver, "VolumeDriver.Unmount", place).catch(() => {});
        throw error;
      }
      this.#holders.set(name, holders.add(holder));
      return path;
    });
  }

  /** Also of what an earlier process held. */
  async release(name: string, holder: string): Promise<void> {
    const driver = (await this.#record(name))?.driver;
    if (driver === undefined) return;
    await this.#inTurn(name, async () => {
      const holders = this.#holders.get(name);
      holders?.delete(holder);
      if (holders === undefined || holders.size === 0) {
        this.#holders.delete(name);
        await this.#unbind(this.path(name));
      }
      await this.#plugins.call(driver, "VolumeDriver.Unmount", { Name: name, ID: holder });
    });
  }

  async using<T>(name: string, run: (folder: string) => Promise<T>): Promise<T> {
    const holder = randomBytes(32).toString("hex");
    const folder = await this.hold(name, holder);
    try {
      return await run(folder);
    } finally {
      await this.release(name, holder);
    }
  }

  async isOfPlugin(name: string): Promise<boolean> {
    return (await this.#record(name))?.driver !== undefined;
  }

  async #unbind(path: string): Promise<void> {
    const mounts = (await readFile("/proc/self/mounts", "utf8")).split("\n");
    const isHere = (line: string) => unescaped(line.split(" ")[1] ?? "") === path;
    for (const _ of mounts.filter(isHere)) this.#libc?.unmount(path);
  }

  #inTurn<T>(name: string, run: () => Promise<T>): Promise<T> {
    const mine = (this.#turns.get(name) ?? Promise.resolve()).then(run);
    const settled = mine.catch(() => {});
    this.#turns.set(name, settled);
    settled.then(() => {
      if (this.#turns.get(name) === settled) this.#turns.delete(name);
    });
    return mine;
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
    if (source !== place("_data") || (await isMounted(source)) || (await this.isOfPlugin(name))) {
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

  /**
   * True when it was made now; of one that is there only the driver has to be the one asked for. One that only a plugin
   * knew is taken into our books. Throws as `create`.
   */
  async ensure(name: string, wanted: Partial<Omit<VolumeSpec, "name">> = {}): Promise<boolean> {
    const { driver = "", options = {}, labels = {} } = wanted;
    if (await isThere(this.path(name))) {
      const actual = (await this.#record(name))?.driver ?? "local";
      if (driver !== "" && driver !== actual) throw otherDriver(name, actual);
      return false;
    }
    const known = await this.#foreign(name);
    if (known !== undefined) {
      if (driver !== "" && driver !== known.driver) throw otherDriver(name, known.driver);
      await this.#make(name, { labels, options, driver: known.driver });
      return false;
    }
    if (driver !== "" || Object.keys(options).length > 0)
      await this.create({ name, driver, options, labels });
    else await this.#make(name, Object.keys(labels).length > 0 ? { labels, options } : null);
    return true;
  }

  /** The one there is when it is asked for again. Throws `invalid`, `unsupported` (options), `conflict` (other options). */
  async create(spec: VolumeSpec): Promise<VolumeObject> {
    const isNamed = spec.name !== "";
    const name = isNamed ? spec.name : randomBytes(32).toString("hex");
    this.path(name);
    const driver = spec.driver || "local";
    if (driver === "local") await checkOptions(spec.options);
    const known = await this.find(name);
    if (known !== undefined) {
      if (driver !== known.driver) throw otherDriver(name, known.driver);
      // A plugin is asked again: it decides what it takes.
      if (driver === "local") {
        if (JSON.stringify(known.options) === JSON.stringify(spec.options)) return known;
        throw new SwarmError(
          "conflict",
          `create ${name}: a volume with the name ${name} already exists with other options`,
        );
      }
    }
    const labels = isNamed ? spec.labels : { ...spec.labels, [anonymousLabel]: "" };
    const { options } = spec;
    if (driver !== "local")
      await this.#plugins.call(driver, "VolumeDriver.Create", { Name: name, Opts: options });
    await this.#make(name, { labels, options, ...(driver === "local" ? {} : { driver }) });
    const made = await this.find(name);
    if (made === undefined) throw new SwarmError("internal", `volume ${name} could not be made`);
    return made;
  }

  /** What is known of it first: without that it would be a plain one. */
  async #make(name: string, known: Omit<VolumeRecord, "created"> | null): Promise<void> {
    const path = this.path(name);
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    if (known !== null) await this.#save(name, known);
    await mkdir(path, { recursive: true, mode: 0o755 });
  }

  /** By force it is forgotten also where its plugin fails. */
  async remove(name: string, force = false): Promise<void> {
    const path = this.path(name);
    const driver = (await this.find(name))?.driver ?? "local";
    if (driver !== "local")
      await this.#plugins
        .call(driver, "VolumeDriver.Remove", { Name: name })
        .catch((error: unknown) => {
          if (!force) throw error;
        });
    // What is mounted there is not ours to delete.
    if (await this.isOfPlugin(name)) {
      await this.#unbind(path);
      await rmdir(path);
    } else if (await isMounted(path)) this.#libc?.unmount(path);
    if (await isMounted(path))
      throw new SwarmError("conflict", `remove ${name}: it is still mounted at ${path}`);
    await rm(join(this.#directory, name), { recursive: true, force: true });
  }

  /** Also one that only a plugin knows. */
  async find(name: string): Promise<VolumeObject | undefined> {
    if (!namePattern.test(name)) return undefined;
    const path = this.path(name);
    const facts = await stat(path).catch(() => null);
    if (facts === null) return this.#foreign(name);
    const known = await this.#record(name);
    const own: VolumeObject = {
      name,
      driver: "local",
      mountpoint: path,
      created: known?.created ?? timestamp(facts.birthtimeMs || facts.mtimeMs),
      labels: known?.labels ?? (/^[0-9a-f]{64}$/.test(name) ? { [anonymousLabel]: "" } : {}),
      options: known?.options ?? {},
    };
    if (known?.driver === undefined) return own;
    const said = await this.#said(known.driver, name).catch(() => null);
    return { ...own, driver: known.driver, ...factsOf(said) };
  }

  async #foreign(name: string): Promise<VolumeObject | undefined> {
    for (const driver of await this.#plugins.names()) {
      const said = await this.#said(driver, name).catch(() => null);
      if (said !== null) return foreign(driver, said);
    }
    return undefined;
  }

  async #said(driver: string, name: string): Promise<PluginVolume> {
    return (await this.#plugins.call(driver, "VolumeDriver.Get", { Name: name })).Volume;
  }

  /** By name; those of plugins too, unless they fail. */
  async list(): Promise<readonly VolumeObject[]> {
    const names = await readdir(this.#directory).catch((error: unknown) => {
      if (errnoOf(error) === "ENOENT") return [];
      throw error;
    });
    const found = await Promise.all(names.map((name) => this.find(name)));
    const others = await Promise.all(
      (await this.#plugins.names()).map(async (driver) => {
        const answer = await this.#plugins.call(driver, "VolumeDriver.List").catch(() => null);
        return (answer?.Volumes ?? []).map((said) => foreign(driver, said));
      }),
    );
    const all = [...found.filter((volume) => volume !== undefined), ...others.flat()];
    const unique = new Map(all.toReversed().map((volume) => [volume.name, volume]));
    return [...unique.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** What a plugin says of its volumes' scope: local or global. */
  async scope(driver: string): Promise<string> {
    if (driver === "local") return "local";
    const answer = await this.#plugins.call(driver, "VolumeDriver.Capabilities").catch(() => null);
    return answer?.Capabilities?.Scope === "global" ? "global" : "local";
  }

  /** Bytes on disk. Throws `unsupported` for a plugin's. */
  async bytes(name: string): Promise<number> {
    if (await this.isOfPlugin(name))
      throw new SwarmError("unsupported", `volume ${name}: only its plugin knows its size`);
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

  async #save(name: string, known: Omit<VolumeRecord, "created">): Promise<void> {
    const path = this.#file(name);
    const created = timestamp(Date.now());
    await writeFile(`${path}.new`, JSON.stringify({ ...known, created }), { mode: 0o600 });
    await rename(`${path}.new`, path);
  }
}

function otherDriver(name: string, driver: string): SwarmError {
  return new SwarmError(
    "conflict",
    `create ${name}: conflict: volume name must be unique: ${name} is a volume of driver ${driver}`,
  );
}

function foreign(driver: string, said: PluginVolume): VolumeObject {
  const own = { name: said.Name, driver, mountpoint: "", created: "", labels: {}, options: {} };
  return { ...own, ...factsOf(said) };
}

function factsOf(said: PluginVolume | null) {
  return {
    mountpoint: said?.Mountpoint ?? "",
    ...(said?.CreatedAt ? { created: said.CreatedAt } : {}),
    ...(said?.Status ? { status: said.Status } : {}),
  };
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

/** As /proc writes blanks and the like. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
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
