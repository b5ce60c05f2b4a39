// What a Compose file says of other files: paths made absolute, files of variables and labels read.

import { resolve } from "node:path";
import { readEnvFile } from "./dotenv.ts";
import type { Interpolation } from "./interpolate.ts";
import {
  isList,
  isMap,
  listAt,
  mapAt,
  mapEntries,
  StackError,
  type Tree,
  type TreeMap,
  textAt,
  through,
} from "./tree.ts";

/** Relative paths are relative to the folder of the project; `~` is the home of who deploys. */
export function absolutePaths(file: TreeMap, directory: string, home: string): TreeMap {
  const absolute = (path: Tree): Tree =>
    typeof path === "string" ? resolve(directory, path.replace(/^~(?=\/|$)/, home)) : path;
  const files = (value: Tree): Tree =>
    mapEntries(mapAt(value, "files"), (each) =>
      through(each, (one) =>
        isMap(one) && one["file"] !== undefined ? { ...one, file: absolute(one["file"]) } : one,
      ),
    );
  return mapEntries(file, (value, section) => {
    if (section === "secrets" || section === "configs") return through(value, files);
    if (section !== "services") return value;
    return through(value, (services) =>
      mapEntries(mapAt(services, section), (each) =>
        through(each, (service) => (isMap(service) ? servicePaths(service, absolute) : service)),
      ),
    );
  });
}

function servicePaths(service: TreeMap, absolute: (path: Tree) => Tree): TreeMap {
  return mapEntries(service, (value, key) => {
    if (!["volumes", "env_file", "label_file"].includes(key)) return value;
    return through(value, (items) =>
      !isList(items)
        ? items
        : items.map((item) => {
            if (!isMap(item)) return absolute(item);
            if (key === "env_file") return { ...item, path: absolute(item["path"] ?? null) };
            return item["type"] === "bind" && item["source"] !== undefined
              ? { ...item, source: absolute(item["source"]) }
              : item;
          }),
    );
  });
}

/**
 * Variables and labels as the services get them: those of files first, those of the Compose file over them, and NAME alone takes
 * the value of who deploys where there is one.
 */
export function resolveEnvironment(
  file: TreeMap,
  how: Interpolation,
  read: (path: string) => string | undefined,
): TreeMap {
  if (file["services"] === undefined) return file;
  const services = mapEntries(mapAt(file["services"], "services"), (value, name) => {
    if (!isMap(value)) return value;
    const place = `services.${name}`;
    const { env_file: envFiles, label_file: labelFiles, ...own } = value;
    const environment: Record<string, Tree> = {};
    for (const item of listAt(envFiles, `${place}.env_file`)) {
      const entry = mapAt(item, `${place}.env_file`);
      const path = textAt(entry["path"], `${place}.env_file`);
      const text = read(path);
      if (text === undefined && entry["required"] === false) continue;
      if (text === undefined)
        throw new StackError(`${place}: open ${path}: no such file or directory`);
      const format = entry["format"] === "raw" ? "raw" : "compose";
      Object.assign(environment, Object.fromEntries(readEnvFile(text, path, how, format)));
    }
    Object.assign(environment, mapAt(own["environment"], `${place}.environment`));
    const labels: Record<string, Tree> = {};
    for (const item of listAt(labelFiles, `${place}.label_file`)) {
      const path = textAt(item, `${place}.label_file`);
      const text = read(path);
      if (text === undefined)
        throw new StackError(`${place}: open ${path}: no such file or directory`);
      for (const [key, label] of readEnvFile(text, path, how)) labels[key] = label ?? "";
    }
    Object.assign(labels, mapAt(own["labels"], `${place}.labels`));
    return {
      ...own,
      ...(Object.keys(environment).length === 0
        ? {}
        : { environment: mapEntries(environment, (text, key) => text ?? how.lookup(key) ?? null) }),
      ...(Object.keys(labels).length === 0 ? {} : { labels }),
    };
  });
  return { ...file, services };
}
