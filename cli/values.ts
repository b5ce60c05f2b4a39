// The small languages of Docker's flags: durations, sizes, key=value, ports, mounts, networks.

import { readFileSync } from "node:fs";
import { isIPv4 } from "node:net";
import type {
  Mount,
  NetworkAttachmentConfig,
  PlacementPreference,
  PortConfig,
  Ulimit,
} from "../proto/gen/types.ts";

/** A flag's value is wrong: the sentence names the flag's value and what is expected. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

const durationUnits: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};

/** Go's durations: 1h2m3.5s, 300ms, 0. Nanoseconds. */
export function duration(text: string): number {
  if (text === "0") return 0;
  if (!/^([0-9.]+(ns|us|µs|ms|s|m|h))+$/.test(text))
    throw new UsageError(`invalid duration "${text}": a value such as 10s or 1m30s is expected`);
  let sum = 0;
  for (const [, amount = "", unit = ""] of text.matchAll(/([0-9.]+)(ns|us|µs|ms|s|m|h)/g))
    sum += Number(amount) * (durationUnits[unit] ?? Number.NaN);
  if (!Number.isSafeInteger(Math.round(sum))) throw new UsageError(`invalid duration "${text}"`);
  return Math.round(sum);
}

/** Nanoseconds as Go writes them: 1m30s, 500ms. */
export function durationText(nanoseconds: number): string {
  if (nanoseconds === 0) return "0s";
  if (nanoseconds < 1e3) return `${nanoseconds}ns`;
  if (nanoseconds < 1e6) return `${nanoseconds / 1e3}µs`;
  if (nanoseconds < 1e9) return `${nanoseconds / 1e6}ms`;
  const seconds = nanoseconds / 1e9;
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60), seconds % 60];
  const rest = `${Number(s.toFixed(9))}s`;
  return h > 0 ? `${h}h${m}m${rest}` : m > 0 ? `${m}m${rest}` : rest;
}

/** 512, 64k, 1.5g, 2GiB: powers of 1024, as Docker counts memory. Bytes. */
export function bytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?$/i.exec(text.trim());
  const power = "kmgtp".indexOf((match?.[2] ?? "").toLowerCase()) + 1;
  const value = match === null ? Number.NaN : Math.floor(Number(match[1]) * 1024 ** power);
  if (match === null || !Number.isSafeInteger(value))
    throw new UsageError(`invalid size: '${text}': a value such as 512m or 2g is expected`);
  return match[2] === "" ? Math.floor(Number(match[1])) : value;
}

/** 0.5 cores are 500,000,000. */
export function nanoCpus(text: string): number {
  const value = Math.round(Number(text) * 1e9);
  if (text.trim() === "" || !Number.isSafeInteger(value) || value < 0)
    throw new UsageError(`invalid number of CPUs "${text}": a value such as 0.5 or 2 is expected`);
  return value;
}

export function integer(text: string): number {
  if (!/^-?\d+$/.test(text)) throw new UsageError(`invalid number "${text}"`);
  return Number(text);
}

export function count(text: string): number {
  const value = integer(text);
  if (value < 0) throw new UsageError(`invalid number "${text}": it must not be negative`);
  return value;
}

export function ratio(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value) || value < 0 || value > 1)
    throw new UsageError(`invalid ratio "${text}": 0 to 1 is expected`);
  return value;
}

export function bool(text: string): boolean {
  if (["1", "t", "true"].includes(text.toLowerCase())) return true;
  if (["0", "f", "false"].includes(text.toLowerCase())) return false;
  throw new UsageError(`invalid value "${text}": true or false is expected`);
}

/** For options whose value is one of a few words. */
export function oneOf(...words: readonly string[]): (text: string) => string {
  return (text) => {
    if (words.includes(text)) return text;
    throw new UsageError(`invalid value "${text}": ${words.join(", ")} are possible`);
  };
}

/** For options that may be given many times. */
export function collect(value: string, all: readonly string[] = []): readonly string[] {
  return [...all, value];
}

/** key=value, or key alone for an empty value. */
export function keyValues(pairs: readonly string[]): Record<string, string> {
  const result: Record<string, string> = {};
  for (const pair of pairs) {
    const [key, value] = split(pair, "=");
    if (key === "") throw new UsageError(`invalid key=value "${pair}"`);
    result[key] = value ?? "";
  }
  return result;
}

/** KEY=value as it is; KEY alone takes the value of this process's environment, if it has one. */
export function environment(
  values: readonly string[],
  files: readonly string[],
  own: Readonly<Record<string, string | undefined>>,
): readonly string[] {
  const lines = [...files.flatMap(readLines), ...values];
  return lines.flatMap((line) => {
    const [key, value] = split(line, "=");
    if (key === "" || /\s/.test(key)) throw new UsageError(`invalid environment variable: ${line}`);
    if (value !== undefined) return [line];
    return own[key] === undefined ? [] : [`${key}=${own[key]}`];
  });
}

/** The lines of an --env-file or --label-file without comments and blank ones. */
export function readLines(path: string): readonly string[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    throw new UsageError(`open ${path}: no such file or directory`);
  }
  return text
    .split(/\r?\n/)
    .map((line) => line.trimStart())
    .filter((line) => line !== "" && !line.startsWith("#"));
}

/** Fields of the long syntaxes: a,b=c,d="x,y" in the manner of CSV. */
export function fields(text: string): readonly (readonly [string, string | undefined])[] {
  const parts: string[] = [];
  let part = "";
  let quoted = false;
  for (const character of text) {
    if (character === '"') quoted = !quoted;
    else if (character === "," && !quoted) {
      parts.push(part);
      part = "";
    } else part += character;
  }
  parts.push(part);
  return parts.map((each) => split(each.trim(), "="));
}

function split(text: string, by: string): [string, string | undefined] {
  const at = text.indexOf(by);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + by.length)];
}

/** 8080:80, 192.0.2.1:8080:80, 8080:80/udp, 8000-8002:80-82, 80, or target=80,published=8080,protocol=tcp,mode=ingress,host-ip=192.0.2.1. */
export function ports(text: string): readonly PortConfig[] {
  return text.includes("=") ? [longPort(text)] : shortPorts(text);
}

function longPort(text: string): PortConfig {
  const port = {
    Name: "",
    Protocol: "tcp",
    TargetPort: 0,
    PublishedPort: 0,
    PublishMode: "ingress",
  };
  let hostIP: Pick<PortConfig, "HostIP"> = {};
  for (const [key, value = ""] of fields(text)) {
    if (key === "target") port.TargetPort = portNumber(value);
    else if (key === "published") port.PublishedPort = portNumber(value);
    else if (key === "protocol") port.Protocol = protocol(value);
    else if (key === "mode" && (value === "ingress" || value === "host")) port.PublishMode = value;
    else if (key === "host-ip") hostIP = hostAddress(value);
    else if (key === "mode")
      throw new UsageError(`invalid publish mode value (${value}): must be either ingress or host`);
    else throw new UsageError(`invalid field ${key} in "${text}"`);
  }
  if (port.TargetPort === 0) throw new UsageError(`missing mandatory field "target"`);
  return { ...port, ...hostIP };
}

function shortPorts(text: string): readonly PortConfig[] {
  const [addresses, kind] = split(text, "/");
  const parts = addresses.split(":");
  const [target = "", publishedAt = "", host] = parts.toReversed();
  if (parts.length > 3)
    throw new UsageError(
      `invalid port "${text}": [HOST-IP:][PUBLISHED:]TARGET[/PROTOCOL] is expected`,
    );
  const hostIP = host === undefined ? {} : hostAddress(host);
  const targets = range(target);
  const published = publishedAt === "" ? [] : range(publishedAt);
  if (published.length > 0 && published.length !== targets.length)
    throw new UsageError(`invalid ranges specified for container and host ports: ${text}`);
  return targets.map((target, i) => ({
    Name: "",
    Protocol: protocol(kind ?? "tcp"),
    TargetPort: target,
    PublishedPort: published[i] ?? 0,
    PublishMode: "ingress",
    ...hostIP,
  }));
}

/** The node's address a port is bound to; every address is none. */
function hostAddress(text: string): Pick<PortConfig, "HostIP"> {
  if (!isIPv4(text)) throw new UsageError(`invalid address of a host: "${text}"`);
  return text === "0.0.0.0" ? {} : { HostIP: text };
}

function range(text: string): readonly number[] {
  const [first, last] = split(text, "-");
  const start = portNumber(first);
  const end = last === undefined ? start : portNumber(last);
  if (end < start) throw new UsageError(`invalid range of ports: ${text}`);
  return Array.from({ length: end - start + 1 }, (_, i) => start + i);
}

function portNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > 65_535)
    throw new UsageError(`invalid port "${text}": 1 to 65535 is expected`);
  return value;
}

function protocol(text: string): string {
  const name = text.toLowerCase();
  if (name !== "tcp" && name !== "udp" && name !== "sctp")
    throw new UsageError(`invalid protocol "${text}": tcp, udp or sctp is expected`);
  return name;
}

/** type=volume,source=data,target=/data,readonly … */
export function mount(text: string): Mount {
  const result: Record<string, unknown> = { Type: "volume" };
  const options = {
    bind: {} as Record<string, unknown>,
    volume: {} as Record<string, unknown>,
    tmpfs: {} as Record<string, unknown>,
  };
  const driver = { name: "", options: {} as Record<string, string> };
  const labels: Record<string, string> = {};
  for (const [rawKey, value] of fields(text)) {
    const key = rawKey.toLowerCase();
    if (key === "type") result["Type"] = (value ?? "").toLowerCase();
    else if (key === "source" || key === "src") result["Source"] = value ?? "";
    else if (key === "target" || key === "dst" || key === "destination")
      result["Target"] = value ?? "";
    else if (key === "readonly" || key === "ro")
      result["ReadOnly"] = value === undefined || bool(value);
    else if (key === "consistency") result["Consistency"] = value ?? "";
    else if (key === "bind-propagation") options.bind["Propagation"] = value ?? "";
    else if (key === "bind-create-src")
      options.bind["CreateMountpoint"] = value === undefined || bool(value);
    else if (key === "bind-recursive") Object.assign(options.bind, recursion(value ?? ""));
    else if (key === "bind-nonrecursive")
      options.bind["NonRecursive"] = value === undefined || bool(value);
    else if (key === "volume-nocopy") options.volume["NoCopy"] = value === undefined || bool(value);
    else if (key === "volume-subpath") options.volume["Subpath"] = value ?? "";
    else if (key === "volume-label") Object.assign(labels, keyValues([value ?? ""]));
    else if (key === "volume-driver") driver.name = value ?? "";
    else if (key === "volume-opt") Object.assign(driver.options, keyValues([value ?? ""]));
    else if (key === "tmpfs-size") options.tmpfs["SizeBytes"] = bytes(value ?? "");
    else if (key === "tmpfs-mode") options.tmpfs["Mode"] = Number.parseInt(value ?? "", 8);
    else throw new UsageError(`unexpected key '${rawKey}' in '${text}'`);
  }
  return finishMount(text, result, options, driver, labels);
}

function recursion(word: string): object {
  switch (word) {
    case "enabled":
      return {};
    case "disabled":
      return { NonRecursive: true };
    case "writable":
      return { ReadOnlyNonRecursive: true };
    case "readonly":
      return { ReadOnlyForceRecursive: true };
    default:
      throw new UsageError(
        `invalid value for bind-recursive: ${word} (must be "enabled", "disabled", "writable", or "readonly")`,
      );
  }
}

function finishMount(
  text: string,
  result: Record<string, unknown>,
  options: { bind: object; volume: Record<string, unknown>; tmpfs: object },
  driver: { readonly name: string; readonly options: Record<string, string> },
  labels: Record<string, string>,
): Mount {
  const type = result["Type"];
  if (!["bind", "volume", "tmpfs", "image", "cluster"].includes(String(type)))
    throw new UsageError(`invalid mount type '${type}': bind, volume or tmpfs is expected`);
  if (!result["Target"]) throw new UsageError(`target is required in "${text}"`);
  if (type === "bind" && !result["Source"])
    throw new UsageError(`source is required for a bind in "${text}"`);
  if (Object.keys(labels).length > 0) options.volume["Labels"] = labels;
  if (driver.name !== "" || Object.keys(driver.options).length > 0)
    options.volume["DriverConfig"] = { Name: driver.name, Options: driver.options };
  for (const [kind, key] of [
    ["bind", "BindOptions"],
    ["volume", "VolumeOptions"],
    ["tmpfs", "TmpfsOptions"],
  ] as const) {
    if (Object.keys(options[kind]).length === 0) continue;
    if (type !== kind)
      throw new UsageError(`cannot mix '${kind}-*' options with mount type '${type}'`);
    result[key] = options[kind];
  }
  return result as unknown as Mount;
}

/** back, or name=back,alias=db,driver-opt=k=v,gw-priority=1. */
export function network(text: string): NetworkAttachmentConfig {
  const result = { Target: "", Aliases: [] as string[], DriverOpts: {} as Record<string, string> };
  let priority: number | null = null;
  if (!text.includes("=")) return { ...result, Target: text };
  for (const [key, value = ""] of fields(text)) {
    if (key === "name") result.Target = value;
    else if (key === "alias") result.Aliases.push(value);
    else if (key === "driver-opt") Object.assign(result.DriverOpts, keyValues([value]));
    else if (key === "gw-priority") priority = integer(value);
    else throw new UsageError(`invalid field key ${key} in network "${text}"`);
  }
  if (result.Target === "") throw new UsageError(`network name/id is not specified in "${text}"`);
  return priority === null ? result : { ...result, GwPriority: priority };
}

/** nofile=1024:2048, or nofile=1024 for both. */
export function ulimit(text: string): Ulimit {
  const match = /^([a-z]+)=(-?\d+)(?::(-?\d+))?$/.exec(text);
  if (match === null) throw new UsageError(`invalid ulimit argument: ${text}`);
  const soft = Number(match[2]);
  return {
    Name: match[1] ?? "",
    Soft: soft,
    Hard: match[3] === undefined ? soft : Number(match[3]),
  };
}

/** host:ip as Docker's flag has it, "ip host" as the API has it. */
export function extraHost(text: string): string {
  const [host, address] = split(text, ":");
  if (host === "" || address === undefined || address === "")
    throw new UsageError(`bad format for add-host: "${text}"`);
  return `${address} ${host}`;
}

/** spread=node.labels.zone, prefer=CONSTRAINT, binpack */
export function placementPreference(text: string): Partial<PlacementPreference> {
  const [strategy, value] = split(text, "=");
  if (strategy === "spread" && value !== undefined) return { Spread: { SpreadDescriptor: value } };
  if (strategy === "prefer" && value !== undefined) return { Prefer: { Constraint: value } };
  if (strategy === "binpack" && value === undefined) return { Binpack: {} };
  throw new UsageError(
    `unsupported placement preference "${text}": spread=DESCRIPTOR, prefer=CONSTRAINT or binpack is expected`,
  );
}

/** key=value of --filter, as the API takes them. */
export function filters(pairs: readonly string[] = []): string | undefined {
  if (pairs.length === 0) return undefined;
  const result: Record<string, string[]> = {};
  for (const pair of pairs) {
    const [key, value] = split(pair, "=");
    if (value === undefined)
      throw new UsageError(`invalid filter "${pair}": key=value is expected`);
    const name = key.trim().toLowerCase();
    result[name] = [...(result[name] ?? []), value.trim()];
  }
  return JSON.stringify(result);
}

/** A word as a shell splits it: for --args and --entrypoint of `service update`. */
export function shellWords(text: string): readonly string[] {
  const words: string[] = [];
  for (const match of text.matchAll(/(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+/g))
    words.push(
      match[0].replace(
        /\\(.)|"((?:[^"\\]|\\.)*)"|'([^']*)'/g,
        (_all, escaped, double, single) =>
          escaped ?? (double !== undefined ? String(double).replace(/\\(["\\$`])/g, "$1") : single),
      ),
    );
  return words;
}
