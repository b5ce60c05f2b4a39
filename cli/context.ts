// `tsswarm context …`, on the files of Docker's client.

import { readFileSync } from "node:fs";
import type { DockerCommand } from "./command.ts";
import {
  type Context,
  ContextStore,
  checkName,
  defaultContext,
  type Endpoint,
  type TlsFile,
} from "./contexts.ts";
import { chosenContext, hostVariable, resolveWay } from "./endpoint.ts";
import { inspected, type Listing, list } from "./table.ts";
import { forEach, type Terminal } from "./terminal.ts";
import { collect } from "./values.ts";

interface PutFlags {
  readonly description?: string;
  readonly docker?: string;
  readonly from?: string;
}

interface ListFlags {
  readonly format?: string;
  readonly quiet?: boolean;
}

const defaultDescription = "Current DOCKER_HOST based configuration";
const dockerHelp =
  "host=unix:///path|tcp://host:port|ssh://user@host, ca=, cert=, key=, skip-tls-verify=, from=";

const listing: Listing = {
  headings: {
    Name: "NAME",
    Description: "DESCRIPTION",
    DockerEndpoint: "DOCKER ENDPOINT",
    Error: "ERROR",
    Current: "CURRENT",
  },
  columns: [
    '{{.Name}}{{if eq .Current "true"}} *{{end}}',
    "{{.Description}}",
    "{{.DockerEndpoint}}",
    "{{.Error}}",
  ],
};

export function addContextCommands(program: DockerCommand, open: () => Terminal): void {
  const context = program.command("context").description("Manage contexts") as DockerCommand;
  addPutCommands(context, open);
  addArchiveCommands(context, open);
  context
    .command("ls")
    .alias("list")
    .description("List contexts")
    .option("--format <string>", "table, json, or a Go template")
    .option("-q, --quiet", "Only show context names")
    .action((flags: ListFlags) => listContexts(open(), flags));
  context
    .command("use")
    .description("Set the current docker context")
    .argument("<context>")
    .action((name: string) => use(open(), name));
  context
    .command("show")
    .description("Print the name of the current context")
    .action(() => {
      const terminal = open();
      terminal.print(`${chosenContext(terminal.flags, terminal.environment)}\n`);
    });
  context
    .command("inspect")
    .description("Display detailed information on one or more contexts")
    .usage("[OPTIONS] [CONTEXT] [CONTEXT...]")
    .argument("[contexts...]")
    .option("-f, --format <string>", "json, or a Go template")
    .action((names: string[], flags: ListFlags) => inspect(open(), names, flags.format));
  context
    .command("rm")
    .alias("remove")
    .description("Remove one or more contexts")
    .usage("CONTEXT [CONTEXT...]")
    .argument("<contexts...>")
    .option("-f, --force", "Force the removal of a context in use")
    .action((names: string[], flags: { force?: boolean }) =>
      remove(open(), names, flags.force === true),
    );
}

function addPutCommands(context: DockerCommand, open: () => Terminal): void {
  const described = (command: DockerCommand) =>
    command
      .argument("<context>")
      .option("--description <string>", "Description of the context")
      .option("--docker <stringToString>", dockerHelp, collect);
  described(
    context
      .command("create")
      .description("Create a context")
      .usage("[OPTIONS] CONTEXT") as DockerCommand,
  )
    .option("--from <string>", "create context from a named context")
    .action((name: string, flags: PutFlags & { docker?: readonly string[] }) =>
      create(open(), name, flags),
    );
  described(
    context
      .command("update")
      .description("Update a context")
      .usage("[OPTIONS] CONTEXT") as DockerCommand,
  ).action((name: string, flags: PutFlags) => update(open(), name, flags));
}

function addArchiveCommands(context: DockerCommand, open: () => Terminal): void {
  context
    .command("export")
    .description("Export a context to a tar archive FILE or a tar stream on STDOUT.")
    .usage("[OPTIONS] CONTEXT [FILE|-]")
    .argument("<context>")
    .argument("[file]")
    .action(async (name: string, file: string | undefined) => {
      const terminal = open();
      const store = storeOf(terminal);
      const place = file ?? `${name}.dockercontext`;
      const { writeArchive } = await import("./context-archive.ts");
      await writeArchive(place, store.get(name), store.tlsOf(name));
      if (place !== "-") terminal.warn(`Written file "${place}"\n`);
    });
  context
    .command("import")
    .description("Import a context from a tar archive")
    .usage("CONTEXT FILE|-")
    .argument("<context>")
    .argument("<file>")
    .action(async (name: string, file: string) => {
      const terminal = open();
      const store = storeOf(terminal);
      checkNew(store, name);
      const { readArchive } = await import("./context-archive.ts");
      const { context: read, tls } = await readArchive(file);
      store.put({ ...read, Name: name });
      store.putTls(name, tls);
      terminal.print(`${name}\n`);
      terminal.warn(`Successfully imported context "${name}"\n`);
    });
}

function storeOf(terminal: Terminal): ContextStore {
  return new ContextStore(terminal.configFolder);
}

function checkNew(store: ContextStore, name: string): void {
  checkName(name);
  if (store.has(name)) throw new Error(`context "${name}" already exists`);
}

async function create(
  terminal: Terminal,
  name: string,
  flags: PutFlags & { readonly docker?: string | readonly string[] },
): Promise<void> {
  const store = storeOf(terminal);
  checkNew(store, name);
  if (flags.from !== undefined && flags.docker !== undefined)
    throw new Error("cannot use --docker flag when --from is set");
  // Without a word on how: as the one in use.
  const from = flags.from ?? chosenContext(terminal.flags, terminal.environment);
  const endpoint =
    flags.docker === undefined
      ? endpointOf(terminal, store, from)
      : askedEndpoint(terminal, store, flags.docker);
  const base: Context = { Name: name, Metadata: {}, Endpoints: {} };
  put(
    store,
    base,
    flags.description ?? (flags.from === undefined ? undefined : descriptionOf(store, from)),
    endpoint,
  );
  terminal.print(`${name}\n`);
  terminal.warn(`Successfully created context "${name}"\n`);
}

async function update(
  terminal: Terminal,
  name: string,
  flags: PutFlags & { readonly docker?: string | readonly string[] },
): Promise<void> {
  const store = storeOf(terminal);
  checkName(name);
  const endpoint = flags.docker === undefined ? null : askedEndpoint(terminal, store, flags.docker);
  put(store, store.get(name), flags.description, endpoint);
  terminal.print(`${name}\n`);
  terminal.warn(`Successfully updated context "${name}"\n`);
}

/** null: the endpoint stays as it is; description undefined: so does that. */
function put(
  store: ContextStore,
  before: Context,
  description: string | undefined,
  endpoint: Endpoint | null,
): void {
  const docker =
    endpoint === null ? null : { Host: endpoint.host, SkipTLSVerify: endpoint.skipsVerify };
  store.put({
    ...before,
    Metadata: {
      ...before.Metadata,
      ...(description === undefined ? {} : { Description: description }),
    },
    Endpoints: { ...before.Endpoints, ...(docker === null ? {} : { docker }) },
  });
  if (endpoint !== null) store.putTls(before.Name, endpoint.tls);
}

function endpointOf(terminal: Terminal, store: ContextStore, name: string): Endpoint {
  if (name !== defaultContext) return store.endpoint(name);
  const { host, tls } = resolveWay(
    { ...terminal.flags, context: defaultContext, host: undefined },
    terminal.environment,
  );
  const files = new Map<TlsFile, Buffer>();
  if (tls?.ca !== undefined) files.set("ca.pem", tls.ca);
  if (tls?.cert !== undefined) files.set("cert.pem", tls.cert);
  if (tls?.key !== undefined) files.set("key.pem", tls.key);
  return { host, skipsVerify: tls?.isVerified === false, tls: files };
}

/** `host=…,ca=…`: pairs of the flag. */
function askedEndpoint(
  terminal: Terminal,
  store: ContextStore,
  flag: string | readonly string[],
): Endpoint {
  const pairs = [flag].flat().flatMap((text) => text.split(","));
  const asked = new Map<string, string>();
  for (const pair of pairs) {
    const at = pair.indexOf("=");
    const key = at < 0 ? pair : pair.slice(0, at);
    if (!["host", "ca", "cert", "key", "skip-tls-verify", "from"].includes(key))
      throw new Error(`unrecognized config key: ${key}`);
    asked.set(key, at < 0 ? "true" : pair.slice(at + 1));
  }
  const from = asked.get("from");
  if (from !== undefined) return endpointOf(terminal, store, from);
  const tls = new Map<TlsFile, Buffer>();
  for (const [key, file] of [
    ["ca", "ca.pem"],
    ["cert", "cert.pem"],
    ["key", "key.pem"],
  ] as const) {
    const path = asked.get(key);
    if (path !== undefined) tls.set(file, readFileSync(path));
  }
  if (tls.has("cert.pem") !== tls.has("key.pem"))
    throw new Error(
      "unable to create docker endpoint config: a certificate needs its key, and a key its certificate",
    );
  const skips = ["1", "t", "true", "TRUE", "True"].includes(asked.get("skip-tls-verify") ?? "");
  return { host: asked.get("host") ?? "", skipsVerify: skips, tls };
}

function descriptionOf(store: ContextStore, name: string): string | undefined {
  if (name === defaultContext) return undefined;
  const { Description: description } = store.get(name).Metadata;
  return typeof description === "string" ? description : undefined;
}

function listContexts(terminal: Terminal, flags: ListFlags): void {
  const store = storeOf(terminal);
  const { environment } = terminal;
  const current = chosenContext(terminal.flags, environment);
  const ownHost = resolveWay(
    { ...terminal.flags, context: defaultContext, host: undefined },
    environment,
  ).host;
  const row = (name: string, description: string, host: string, error = "") => ({
    Current: String(name === current),
    Name: name,
    Description: description,
    DockerEndpoint: host,
    Error: error,
  });
  const rows = [row(defaultContext, defaultDescription, ownHost)];
  for (const { Name } of store.list())
    rows.push(row(Name, descriptionOf(store, Name) ?? "", store.endpoint(Name).host));
  if (!rows.some((each) => each.Name === current))
    rows.push(row(current, "", "", `context "${current}": context not found`));
  rows.sort((a, b) => (a.Name < b.Name ? -1 : 1));
  const quiet = flags.quiet === true ? "Name" : undefined;
  terminal.print(list(rows, listing, { format: flags.format, quiet }));
  const variable = hostVariable(environment);
  if (variable !== null && quiet === undefined && flags.format === undefined)
    terminal.warn(
      `Warning: ${variable} environment variable overrides the active context. To use a context, either set the global --context flag, or unset ${variable} environment variable.\n`,
    );
}

function use(terminal: Terminal, name: string): void {
  const store = storeOf(terminal);
  if (name !== defaultContext) store.get(name);
  store.use(name);
  terminal.print(`${name}\n`);
  terminal.warn(`Current context is now "${name}"\n`);
  const variable = hostVariable(terminal.environment);
  if (variable !== null && name !== defaultContext)
    terminal.warn(
      `Warning: ${variable} environment variable overrides the active context. To use "${name}", either set the global --context flag, or unset ${variable} environment variable.\n`,
    );
}

function inspect(terminal: Terminal, names: readonly string[], format: string | undefined): void {
  const store = storeOf(terminal);
  const asked = names.length > 0 ? names : [chosenContext(terminal.flags, terminal.environment)];
  const found = asked.map((name) => {
    if (name === defaultContext) {
      const { host, skipsVerify, tls } = endpointOf(terminal, store, name);
      return {
        Name: name,
        Metadata: {},
        Endpoints: { docker: { Host: host, SkipTLSVerify: skipsVerify } },
        TLSMaterial: materialOf(tls),
        Storage: { MetadataPath: "<IN MEMORY>", TLSPath: "<IN MEMORY>" },
      };
    }
    const { Name, Metadata, Endpoints } = store.get(name);
    return {
      ...{ Name, Metadata, Endpoints, TLSMaterial: materialOf(store.tlsOf(name)) },
      Storage: { MetadataPath: store.metadataPath(name), TLSPath: store.tlsPath(name) },
    };
  });
  terminal.print(inspected(found, format));
}

function materialOf(
  tls: ReadonlyMap<TlsFile, Buffer>,
): Readonly<Record<string, readonly string[]>> {
  return tls.size === 0 ? {} : { docker: [...tls.keys()] };
}

async function remove(
  terminal: Terminal,
  names: readonly string[],
  isForced: boolean,
): Promise<void> {
  const store = storeOf(terminal);
  const current = store.current;
  await forEach(terminal, names, async (name) => {
    if (name === defaultContext) throw new Error(`context "${name}" cannot be removed`);
    if (!isForced) store.get(name);
    if (name === current && !isForced)
      throw new Error(`context "${name}" is in use, set -f flag to force remove`);
    store.remove(name);
    if (name === current) store.use(defaultContext);
    terminal.print(`${name}\n`);
  });
}
