// Short forms of a Compose file as their long ones, so that files can be merged by what they mean. Pure.

import { device } from "../service-host.ts";
import { bytes, duration, durationText, ports as parsePorts, shellWords } from "../values.ts";
import {
  isList,
  isMap,
  listAt,
  Mark,
  mapAt,
  mapEntries,
  StackError,
  type Tree,
  type TreeMap,
  textAt,
  through,
} from "./tree.ts";

type Form = (value: Tree, path: string) => Tree;

/** A whole file in long forms. What is not known here stays as it is. */
export function longForms(file: TreeMap): TreeMap {
  return mapEntries(file, (value, key) => {
    const form = { services: service, networks: resource, volumes: resource }[key];
    const files = key === "secrets" || key === "configs" ? resource : form;
    if (files === undefined) return value;
    return through(value, (inner) =>
      mapEntries(mapAt(inner, key), (each, name) =>
        through(each, (one) => files(one, `${key}.${name}`)),
      ),
    );
  });
}

function service(value: Tree, path: string): Tree {
  return formed(mapAt(value, path), serviceForms, path);
}

/** `external: {name: x}` was how Compose files of old said it. */
function resource(value: Tree, path: string): Tree {
  const map = formed(mapAt(value, path), { labels: pairs }, path);
  const { external, ...rest } = map;
  return isMap(external) ? { external: true, ...external, ...rest } : map;
}

function formed(map: TreeMap, forms: Readonly<Record<string, Form>>, path: string): TreeMap {
  return mapEntries(map, (value, key) => {
    const form = Object.hasOwn(forms, key) ? forms[key] : undefined;
    if (form === undefined || value === null) return value;
    return through(value, (inner) => (inner === null ? null : form(inner, `${path}.${key}`)));
  });
}

function within(forms: Readonly<Record<string, Form>>): Form {
  return (value, path) => formed(mapAt(value, path), forms, path);
}

function each(form: (item: Tree, path: string) => readonly Tree[]): Form {
  return (value, path) => listAt(value, path).flatMap((item, i) => form(item, `${path}[${i}]`));
}

/** ["A=1", "B"] and {A: 1, B: null} alike: texts by name, null where no value was given. */
function pairs(value: Tree, path: string): TreeMap {
  if (!isList(value))
    return mapEntries(mapAt(value, path), (item, key) =>
      item === null || item instanceof Mark ? item : textAt(item, `${path}.${key}`),
    );
  return Object.fromEntries(
    value.map((item, i) => {
      const [key, text] = cut(textAt(item, `${path}[${i}]`), "=");
      return [key, text ?? null];
    }),
  );
}

/** Labels and sysctls without a value have an empty one. */
function fullPairs(value: Tree, path: string): TreeMap {
  return mapEntries(pairs(value, path), (item) => item ?? "");
}

function list(value: Tree, path: string): Tree {
  return isList(value) ? value : [textAt(value, path)];
}

function words(value: Tree, path: string): Tree {
  return isList(value)
    ? value.map((item, i) => textAt(item, `${path}[${i}]`))
    : shellWords(textAt(value, path));
}

function hosts(value: Tree, path: string): Tree {
  if (isMap(value))
    return Object.entries(value).flatMap(([name, item]) =>
      (isList(item) ? item : [item]).map((address) => `${name}:${textAt(address, path)}`),
    );
  return listAt(value, path).map((item, i) => {
    const text = textAt(item, `${path}[${i}]`);
    const at = text.search(/[=:]/);
    if (at < 1) throw new StackError(`${path}[${i}]: "${text}" must be HOST=ADDRESS`);
    return `${text.slice(0, at)}:${text.slice(at + 1).replace(/^\[(.*)\]$/, "$1")}`;
  });
}

/** Names with nothing said of them. */
function named(value: Tree, path: string, said: Tree = null): Tree {
  if (!isList(value)) return value;
  return Object.fromEntries(value.map((item, i) => [textAt(item, `${path}[${i}]`), said]));
}

function dependencies(value: Tree, path: string): Tree {
  const started = { condition: "service_started", required: true };
  if (isList(value)) return named(value, path, started);
  return mapEntries(mapAt(value, path), (item, name) =>
    through(item, (inner) => ({ ...started, ...mapAt(inner, `${path}.${name}`) })),
  );
}

const port = each((item, path) => {
  if (isMap(item)) return [item];
  try {
    return parsePorts(textAt(item, path)).map((each) => ({
      mode: "ingress",
      ...(each.HostIP === undefined ? {} : { host_ip: each.HostIP }),
      target: each.TargetPort,
      ...(each.PublishedPort === 0 ? {} : { published: each.PublishedPort }),
      protocol: each.Protocol,
    }));
  } catch (error) {
    throw new StackError(`${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
});

const propagations = new Set(["rprivate", "private", "rshared", "shared", "rslave", "slave"]);

const volume = each((item, path) => [isMap(item) ? longVolume(item) : shortVolume(item, path)]);

function longVolume(item: TreeMap): TreeMap {
  const { tmpfs } = item;
  if (!isMap(tmpfs) || typeof tmpfs["size"] !== "string") return item;
  return { ...item, tmpfs: { ...tmpfs, size: bytes(tmpfs["size"]) } };
}

/** data:/data:ro, ./src:/src, /anonymous */
function shortVolume(item: Tree, path: string): TreeMap {
  const text = textAt(item, path);
  const [first = "", second, options = "", ...rest] = text.split(":");
  if (first === "" || second === "" || rest.length > 0)
    throw new StackError(`${path}: invalid volume "${text}": SOURCE:TARGET[:OPTIONS] is expected`);
  if (second === undefined) return { type: "volume", target: first };
  const isBind = /^[./~]/.test(first);
  const result: Record<string, Tree> = {
    type: isBind ? "bind" : "volume",
    source: first,
    target: second,
  };
  for (const option of options.split(",").filter((each) => each !== "")) {
    if (option === "ro") result["read_only"] = true;
    else if (option === "nocopy") result["volume"] = { nocopy: true };
    else if (propagations.has(option)) result["bind"] = { propagation: option };
    else if (option === "z" || option === "Z") result["bind"] = { selinux: option };
    else if (option !== "rw" && option !== "cached" && option !== "delegated")
      throw new StackError(`${path}: unknown option "${option}" of a volume in "${text}"`);
  }
  return result;
}

const file = each((item, path) => [isMap(item) ? item : { source: textAt(item, path) }]);

const envFile: Form = (value, path) =>
  (isList(value) ? value : [value]).map((item, i) =>
    isMap(item) ? item : { path: textAt(item, `${path}[${i}]`) },
  );

const deviceForm = each((item, path) => {
  if (isMap(item)) return [item];
  const { PathOnHost, PathInContainer, CgroupPermissions } = device(textAt(item, path));
  return [{ source: PathOnHost, target: PathInContainer, permissions: CgroupPermissions }];
});

function test(value: Tree, path: string): Tree {
  return isList(value) ? value : ["CMD-SHELL", textAt(value, path)];
}

/** As Docker prints sizes: bytes, as a text. −1 stands for no limit. */
function size(value: Tree, path: string): Tree {
  const text = textAt(value, path);
  return text === "-1" ? text : at(path, () => String(bytes(text)));
}

function time(value: Tree, path: string): Tree {
  return at(path, () => durationText(duration(textAt(value, path))));
}

function at<T>(path: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new StackError(`${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function text(value: Tree, path: string): Tree {
  return textAt(value, path);
}

const resources = within({ cpus: text, memory: size });
const updates = within({ delay: time, monitor: time });

const serviceForms: Readonly<Record<string, Form>> = {
  annotations: fullPairs,
  build: (value) => (isMap(value) ? value : { context: value }),
  command: words,
  configs: file,
  cpus: text,
  depends_on: dependencies,
  deploy: within({
    labels: fullPairs,
    resources: within({ limits: resources, reservations: resources }),
    restart_policy: within({ delay: time, window: time }),
    rollback_config: updates,
    update_config: updates,
  }),
  devices: deviceForm,
  dns: list,
  dns_opt: list,
  dns_search: list,
  entrypoint: words,
  env_file: envFile,
  environment: pairs,
  extends: (value) => (isMap(value) ? value : { service: value }),
  extra_hosts: hosts,
  healthcheck: within({
    interval: time,
    start_interval: time,
    start_period: time,
    test,
    timeout: time,
  }),
  label_file: list,
  labels: fullPairs,
  logging: within({ options: pairs }),
  mem_limit: size,
  mem_reservation: size,
  memswap_limit: size,
  networks: named,
  ports: port,
  secrets: file,
  shm_size: size,
  stop_grace_period: time,
  storage_opt: pairs,
  sysctls: fullPairs,
  tmpfs: list,
  volumes: volume,
};

function cut(text: string, by: string): [string, string | undefined] {
  const at = text.indexOf(by);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + by.length)];
}
