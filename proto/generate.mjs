// Turns the .proto files of this folder into TypeScript: proto/gen/types.ts (plain readonly interfaces and
// the map of services) and proto/gen/schema.ts (the same as a protobufjs JSON descriptor).
// Messages of proto/containerd/ and proto/buildkit/ become proto/gen/containerd-schema.ts, proto/gen/containerd-types.ts … in the same way.

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";

const banner = "// Made by proto/generate.mjs from the .proto files; not to be edited.\n\n";
const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "gen");
mkdirSync(out, { recursive: true });

emit({ files: protoFiles(here), schema: "schema.ts", types: "types.ts", strict: true });
for (const other of ["containerd", "buildkit"])
  emit({
    files: protoFiles(join(here, other)),
    schema: `${other}-schema.ts`,
    types: `${other}-types.ts`,
    strict: false,
  });

function protoFiles(folder) {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".proto"))
    .sort()
    .map((name) => join(folder, name));
}

function emit({ files, schema, types, strict }) {
  const root = new protobuf.Root();
  root.resolvePath = (origin, target) => {
    const beside = join(dirname(origin || here), target);
    return existsSync(beside) ? beside : target;
  };
  for (const file of files) root.loadSync(file, { keepCase: true });
  root.resolveAll();
  const messages = [];
  const services = [];
  walk(root, messages, services);
  const names = uniqueNames(messages);
  writeIfChanged(
    join(out, schema),
    `${banner}export const schema = ${JSON.stringify(root.toJSON())} as const;\n`,
  );
  writeIfChanged(join(out, types), renderTypes(messages, services, names, strict));
}

function walk(namespace, messages, services) {
  for (const item of namespace.nestedArray) {
    if (item instanceof protobuf.Type) messages.push(item);
    if (item instanceof protobuf.Service) services.push(item);
    if (item instanceof protobuf.Namespace) walk(item, messages, services);
  }
}

/** TypeScript names: the message's own, prefixed by its parents where two messages share it. */
function uniqueNames(messages) {
  const count = new Map();
  for (const m of messages) count.set(m.name, (count.get(m.name) ?? 0) + 1);
  const names = new Map();
  for (const m of messages)
    names.set(
      m,
      count.get(m.name) === 1
        ? m.name
        : m.fullName
            .slice(1)
            .split(".")
            .filter((p) => p !== "tsswarm")
            .map(capital)
            .join(""),
    );
  return names;
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function renderTypes(messages, services, names, strict) {
  const lines = [banner];
  for (const message of messages) {
    lines.push(`export interface ${names.get(message)} {`);
    for (const field of message.fieldsArray)
      lines.push(`  readonly ${key(field.name)}${renderField(field, names, strict)};`);
    lines.push("}", "");
  }
  lines.push("/** Every message by its full name. */", "export interface Messages {");
  for (const message of messages)
    lines.push(`  ${key(message.fullName.slice(1))}: ${names.get(message)};`);
  lines.push(
    "}",
    "",
    "/** Every service, its methods, and what they carry. */",
    "export interface Services {",
  );
  for (const service of services) {
    lines.push(`  ${key(service.fullName.slice(1))}: {`);
    for (const method of service.methodsArray) {
      const kind = method.requestStream
        ? method.responseStream
          ? "duplex"
          : "upload"
        : method.responseStream
          ? "download"
          : "unary";
      lines.push(
        `    ${method.name}: { kind: "${kind}"; request: ${names.get(method.resolvedRequestType)}; response: ${names.get(method.resolvedResponseType)} };`,
      );
    }
    lines.push("  };");
  }
  lines.push("}", "");
  return lines.join("\n");
}

function renderField(field, names, strict) {
  const scalar = scalarType(field, names);
  if (field.map) return `: Readonly<Record<string, ${scalar}>>`;
  if (field.repeated) return `: readonly ${scalar.includes(" ") ? `(${scalar})` : scalar}[]`;
  const isMessage = field.resolvedType instanceof protobuf.Type;
  const isOptional = field.options?.proto3_optional === true;
  if (strict && isMessage && !isOptional)
    throw new Error(
      `${field.fullName}: a message-typed field is declared optional (see objects.proto)`,
    );
  return isMessage || isOptional ? `?: ${scalar}` : `: ${scalar}`;
}

function scalarType(field, names) {
  if (field.resolvedType instanceof protobuf.Type) return names.get(field.resolvedType);
  if (field.resolvedType instanceof protobuf.Enum)
    return Object.keys(field.resolvedType.values)
      .map((v) => `"${v}"`)
      .join(" | ");
  if (field.type === "string") return "string";
  if (field.type === "bool") return "boolean";
  if (field.type === "bytes") return "Uint8Array";
  return "number";
}

function key(name) {
  return /^[A-Za-z_]\w*$/.test(name) ? name : JSON.stringify(name);
}

function writeIfChanged(path, text) {
  if (existsSync(path) && readFileSync(path, "utf8") === text) return;
  writeFileSync(path, text);
}
