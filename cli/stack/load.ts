// Compose files → one file: interpolated, with what it includes and extends, in long forms, merged, its paths absolute.

import { dirname, resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { readEnvFile } from "./dotenv.ts";
import { type Interpolation, interpolateTree, type Lookup } from "./interpolate.ts";
import { longForms } from "./long-forms.ts";
import { mergeFiles, mergeService } from "./merge.ts";
import { absolutePaths, resolveEnvironment } from "./paths.ts";
import { isMap, listAt, mapAt, mapEntries, StackError, type TreeMap, textAt } from "./tree.ts";
import { readYaml } from "./yaml.ts";

const includeDepthMax = 20;
const extendsDepthMax = 20;

export interface LoadOptions {
  /** Paths, the later over the earlier; `-` is standard input. */
  readonly files: readonly string[];
  /** What relative paths on the command line are relative to. */
  readonly directory: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Instead of `.env` beside the first file. */
  readonly envFiles: readonly string[];
  readonly stack: string;
  readonly isInterpolated: boolean;
  /** The text of a file by its absolute path, or of standard input by `-`; undefined when there is none. */
  readonly read: (path: string) => string | undefined;
}

export interface Loaded {
  readonly file: TreeMap;
  /** The environment and what `.env` adds to it. */
  readonly lookup: Lookup;
  /** Variables that stood for nothing. */
  readonly unset: readonly string[];
}

/** Throws a StackError that names the file and the place. */
export function loadFiles(options: LoadOptions): Loaded {
  const unset = new Set<string>();
  const [first = "-"] = options.files;
  const directory = first === "-" ? options.directory : dirname(resolve(options.directory, first));
  const base: Lookup = (name) =>
    options.environment[name] ?? (name === "COMPOSE_PROJECT_NAME" ? options.stack : undefined);
  const loader = new Loader(options, (name) => unset.add(name));
  const lookup = loader.withEnvFiles(base, directory, options.envFiles);
  const paths = options.files.map((path) =>
    path === "-" ? path : resolve(options.directory, path),
  );
  const file = loader.project(paths, directory, lookup, []);
  return {
    file: resolveEnvironment(file, loader.how(lookup), options.read),
    lookup,
    unset: [...unset],
  };
}

class Loader {
  readonly #options: LoadOptions;
  readonly #onUnset: (name: string) => void;

  constructor(options: LoadOptions, onUnset: (name: string) => void) {
    this.#options = options;
    this.#onUnset = onUnset;
  }

  how(lookup: Lookup): Interpolation {
    return { lookup, onUnset: this.#onUnset };
  }

  /** Files named must be there, a `.env` may be. What is set already goes before what they say. */
  withEnvFiles(lookup: Lookup, directory: string, named: readonly string[]): Lookup {
    const values = new Map<string, string | null>();
    const files = named.length > 0 ? named : [".env"];
    for (const each of files) {
      const path = resolve(directory, each);
      const text = this.#options.read(path);
      if (text === undefined) {
        if (named.length > 0) throw new StackError(`open ${path}: no such file or directory`);
        continue;
      }
      const inner: Lookup = (name) => lookup(name) ?? values.get(name) ?? undefined;
      for (const [key, value] of readEnvFile(text, path, this.how(inner))) values.set(key, value);
    }
    return (name) => lookup(name) ?? values.get(name) ?? undefined;
  }

  /** `within`: the files that include this one. */
  project(
    paths: readonly string[],
    directory: string,
    lookup: Lookup,
    within: readonly string[],
  ): TreeMap {
    return mergeFiles(
      paths.map((path) => {
        const file = this.#read(path, directory, lookup);
        return this.#withIncluded(this.#extended(file, path, directory, lookup), path, directory, {
          lookup,
          within,
        });
      }),
    );
  }

  #read(path: string, directory: string, lookup: Lookup): TreeMap {
    const text = this.#options.read(path);
    if (text === undefined) throw new StackError(`open ${path}: no such file or directory`);
    const tree = readYaml(text, path === "-" ? "standard input" : path);
    const values = this.#options.isInterpolated ? interpolateTree(tree, this.how(lookup)) : tree;
    return absolutePaths(
      longForms(mapAt(values, path)),
      directory,
      this.#options.environment["HOME"] ?? "/",
    );
  }

  #withIncluded(
    file: TreeMap,
    path: string,
    directory: string,
    from: { readonly lookup: Lookup; readonly within: readonly string[] },
  ): TreeMap {
    const { include, ...own } = file;
    if (include === undefined) return file;
    const within = [...from.within, path];
    if (within.length > includeDepthMax)
      throw new StackError(`${path}: files include one another more than ${includeDepthMax} deep`);
    let result: TreeMap = own;
    for (const [i, item] of listAt(include, "include").entries()) {
      const place = `include[${i}]`;
      const long = isMap(item) ? item : { path: textAt(item, place) };
      const paths = texts(long["path"], `${place}.path`).map((each) => resolve(directory, each));
      const again = paths.find((each) => within.includes(each));
      if (again !== undefined) throw new StackError(`${path}: ${again} includes itself`);
      const project =
        long["project_directory"] === undefined
          ? dirname(paths[0] ?? directory)
          : resolve(directory, textAt(long["project_directory"], `${place}.project_directory`));
      const envFiles = texts(long["env_file"], `${place}.env_file`).map((each) =>
        resolve(directory, each),
      );
      const lookup = this.withEnvFiles(from.lookup, project, envFiles);
      result = imported(result, this.project(paths, project, lookup, within), paths[0] ?? path);
    }
    return result;
  }

  /** The file with what its services extend. */
  #extended(file: TreeMap, path: string, directory: string, lookup: Lookup): TreeMap {
    if (file["services"] === undefined) return file;
    const services = mapEntries(mapAt(file["services"], "services"), (value, name) =>
      isMap(value) ? this.#extend(file, path, name, directory, lookup, []) : value,
    );
    return { ...file, services };
  }

  #extend(
    file: TreeMap,
    path: string,
    name: string,
    directory: string,
    lookup: Lookup,
    chain: readonly string[],
  ): TreeMap {
    const services = mapAt(file["services"], "services");
    const place = `services.${name}`;
    const link = `${path} ${name}`;
    if (chain.includes(link)) throw new StackError(`${place}.extends: ${name} extends itself`);
    if (chain.length > extendsDepthMax)
      throw new StackError(`${place}.extends: more than ${extendsDepthMax} services in a row`);
    const { extends: extension, ...own } = mapAt(services[name], place);
    if (extension === undefined || extension === null) return own;
    const said = mapAt(extension, `${place}.extends`);
    const from = textAt(said["service"], `${place}.extends.service`);
    const otherPath =
      said["file"] === undefined
        ? path
        : resolve(directory, textAt(said["file"], `${place}.extends.file`));
    const otherDirectory = said["file"] === undefined ? directory : dirname(otherPath);
    const other = otherPath === path ? file : this.#read(otherPath, otherDirectory, lookup);
    if (!isMap(mapAt(other["services"], "services")[from]))
      throw new StackError(`${place}.extends: there is no service "${from}" in ${otherPath}`);
    const next = [...chain, link];
    const under = this.#extend(other, otherPath, from, otherDirectory, lookup, next);
    return mergeService(under, own);
  }
}

/** What is in both must be the same in both. */
function imported(own: TreeMap, other: TreeMap, path: string): TreeMap {
  const result: Record<string, TreeMap[string]> = { ...own };
  for (const section of ["services", "networks", "volumes", "secrets", "configs"]) {
    if (other[section] === undefined) continue;
    const here = mapAt(result[section], section);
    const there = mapAt(other[section], section);
    for (const [name, value] of Object.entries(there))
      if (Object.hasOwn(here, name) && !isDeepStrictEqual(here[name], value))
        throw new StackError(
          `${section}.${name} is defined in ${path} too, which is included: name one of them otherwise`,
        );
    result[section] = { ...there, ...here };
  }
  return result;
}

function texts(value: TreeMap[string] | undefined, path: string): readonly string[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value)
    ? value.map((item, i) => textAt(item, `${path}[${i}]`))
    : [textAt(value, path)];
}
