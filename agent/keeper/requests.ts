// Requests as they come through the door: anything at all until checked here.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { KeeperRequest, NameChange, NameTable, ServeNames } from "../../proto/kit/keeper.ts";

const heldKeysMax = 2;

type Fields = Readonly<Record<string, unknown>>;

/** Throws `invalid` naming the field. Unknown fields are ignored, for the other end may be newer. */
export function parseRequest(json: unknown): KeeperRequest {
  const request = fields(json, "the request");
  const what = request["do"];
  switch (what) {
    case "openLogs":
      return {
        do: what,
        container: text(request, "container"),
        directory: text(request, "directory"),
        fileBytesMax: positive(request, "fileBytesMax"),
        filesMax: positive(request, "filesMax"),
        ...optionalText(request, "stdout"),
        ...optionalText(request, "stderr"),
        ...(request["discards"] === true ? { discards: true } : {}),
        ...(request["compresses"] === true ? { compresses: true } : {}),
        ...(request["attributes"] === undefined
          ? {}
          : { attributes: mapped(request["attributes"], "attributes", anyText) }),
        ...(request["journal"] === undefined
          ? {}
          : { journal: mapped(request["journal"], "journal", anyText) }),
        ...(request["bufferBytesMax"] === undefined
          ? {}
          : { bufferBytesMax: positive(request, "bufferBytesMax") }),
      };
    case "closeLogs":
      return { do: what, container: text(request, "container") };
    case "teeLogs":
      return {
        do: what,
        container: text(request, "container"),
        ...optionalText(request, "stdout"),
        ...optionalText(request, "stderr"),
      };
    case "serveNames":
      return {
        do: what,
        sandbox: text(request, "sandbox"),
        namespace: text(request, "namespace"),
        tables: texts(request["tables"], "tables"),
        upstream: texts(request["upstream"], "upstream"),
        search: texts(request["search"], "search"),
        ...optionalNames(request["aliases"]),
      };
    case "forgetNames":
      return { do: what, sandbox: text(request, "sandbox") };
    case "setNames":
      return { do: what, tables: nameTables(request["tables"]) };
    case "changeNames":
      return { do: what, tables: nameChanges(request["tables"]) };
    case "runManager":
      return { do: what, wanted: request["wanted"] === true };
    case "cannotRun":
      return { do: what, reason: text(request, "reason") };
    case "holdKeys":
      return { do: what, keys: texts(request["keys"], "keys").slice(0, heldKeysMax) };
    case "heldKeys":
    case "status":
    case "ownLog":
      return { do: what };
    default:
      throw new SwarmError("unsupported", `this keeper cannot do ${JSON.stringify(what)}`);
  }
}

function optionalNames(json: unknown): Pick<ServeNames, "aliases"> {
  return json === undefined ? {} : { aliases: mapped(json, "aliases", aText) };
}

export function nameTables(json: unknown): Readonly<Record<string, NameTable | null>> {
  return mapped(json, "tables", (table, where) => {
    if (table === null) return null;
    const { names, addresses } = fields(table, where);
    return {
      names: mapped(names, `${where}.names`, texts),
      addresses: mapped(addresses, `${where}.addresses`, aText),
    };
  });
}

function nameChanges(json: unknown): Readonly<Record<string, NameChange>> {
  return mapped(json, "tables", (change, where) => {
    const { names, addresses } = fields(change, where);
    return {
      names: mapped(names, `${where}.names`, orNull(texts)),
      addresses: mapped(addresses, `${where}.addresses`, orNull(aText)),
    };
  });
}

function orNull<T>(item: (value: unknown, where: string) => T) {
  return (value: unknown, where: string): T | null => (value === null ? null : item(value, where));
}

function mapped<T>(
  json: unknown,
  where: string,
  item: (value: unknown, where: string) => T,
): Readonly<Record<string, T>> {
  const entries = Object.entries(fields(json, where));
  return Object.fromEntries(entries.map(([key, value]) => [key, item(value, `${where}.${key}`)]));
}

function fields(json: unknown, where: string): Fields {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new SwarmError("invalid", `${where}: an object is expected`);
  return json as Fields;
}

function aText(value: unknown, where: string): string {
  if (typeof value !== "string" || value === "")
    throw new SwarmError("invalid", `${where}: a text is expected`);
  return value;
}

function anyText(value: unknown, where: string): string {
  return value === "" ? "" : aText(value, where);
}

function text(from: Fields, name: string): string {
  return aText(from[name], name);
}

function optionalText<N extends string>(from: Fields, name: N): { readonly [K in N]?: string } {
  if (from[name] === undefined) return {};
  return { [name]: text(from, name) } as { readonly [K in N]: string };
}

function texts(value: unknown, where: string): readonly string[] {
  if (!Array.isArray(value)) throw new SwarmError("invalid", `${where}: a list is expected`);
  return value.map((item) => aText(item, where));
}

function positive(from: Fields, name: string): number {
  const value = from[name];
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 1)
    throw new SwarmError("invalid", `${name}: a positive whole number is expected`);
  return value;
}
