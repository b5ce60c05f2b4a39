// `tsswarm build`: an image from a Dockerfile and the folder it lies in.

import { readFileSync } from "node:fs";
import { jsonLines } from "./client.ts";
import { type DockerCommand, ExitCode } from "./command.ts";
import { allAuthHeaders } from "./credentials.ts";
import type { Terminal } from "./terminal.ts";
import { collect, keyValues, UsageError } from "./values.ts";

interface BuildFlags {
  readonly addHost?: readonly string[];
  readonly buildArg?: readonly string[];
  readonly cache: boolean;
  readonly file?: string;
  readonly iidfile?: string;
  readonly label?: readonly string[];
  readonly network?: string;
  readonly platform?: string;
  readonly pull?: boolean;
  readonly quiet?: boolean;
  readonly secret?: readonly string[];
  readonly tag?: readonly string[];
  readonly target?: string;
}

interface Line {
  readonly stream?: string;
  readonly status?: string;
  readonly id?: string;
  readonly error?: string;
  readonly errorDetail?: { readonly code?: number };
}

export function addBuild(parent: DockerCommand, open: () => Terminal): void {
  parent
    .command("build")
    .description("Build an image from a Dockerfile")
    .usage("[OPTIONS] PATH | URL | -")
    .argument("<path>")
    .option("--add-host <list>", "Add a custom host-to-IP mapping (host:ip)", collect)
    .option("--build-arg <list>", "Set build-time variables", collect)
    .option("-f, --file <string>", "Name of the Dockerfile (default PATH/Dockerfile)")
    .option("--iidfile <string>", "Write the image ID to the file")
    .option("--label <list>", "Set metadata for an image", collect)
    .option("--network <string>", "Set the networking mode for the RUN instructions", "default")
    .option("--no-cache", "Do not use cache when building the image")
    .option("--platform <string>", "Set platform if the base image has several")
    .option("--pull", "Always attempt to pull a newer version of the image")
    .option("-q, --quiet", "Suppress the build output and print image ID on success")
    .option(
      "--secret <list>",
      "Secret to expose to RUN (id=mysecret[,src=/path | ,env=NAME])",
      collect,
    )
    .option("-t, --tag <list>", "Name and optionally a tag (format: name:tag)", collect)
    .option("--target <string>", "Set the target build stage to build")
    .action((path: string, flags: BuildFlags) => build(open(), path, flags));
}

async function build(terminal: Terminal, path: string, flags: BuildFlags): Promise<void> {
  const isRemote = /^(https?:\/\/|git:\/\/|git@|github\.com\/)/.test(path);
  const { stream, dockerfile } = isRemote
    ? { stream: null, dockerfile: flags.file ?? "" }
    : await (await import("./build-context.ts")).contextOf(path, flags.file);
  const query = {
    ...{ t: flags.tag ?? [], dockerfile, target: flags.target ?? "" },
    buildargs: JSON.stringify(argsOf(flags.buildArg ?? [], terminal.environment)),
    labels: JSON.stringify(keyValues(flags.label ?? [])),
    ...{
      nocache: !flags.cache,
      pull: flags.pull === true,
      rm: true,
      forcerm: true,
      q: flags.quiet === true,
    },
    ...{ networkmode: flags.network ?? "default", platform: flags.platform ?? "" },
    extrahosts: (flags.addHost ?? []).join(","),
    ...(isRemote ? { remote: path } : {}),
  };
  const secrets = secretsOf(flags.secret ?? [], terminal.environment);
  const response = await terminal.client.open("POST", "/build", {
    query,
    ...(stream === null ? {} : { stream }),
    headers: {
      ...(await allAuthHeaders(terminal.configFolder)),
      ...(secrets === "" ? {} : { "X-Tsswarm-Build-Secrets": secrets }),
    },
  });
  for await (const line of jsonLines(response) as AsyncIterable<Line>) {
    if (line.error !== undefined) {
      terminal.warn(`${line.error}\n`);
      throw new ExitCode(line.errorDetail?.code ?? 1);
    }
    if (line.stream !== undefined) terminal.print(line.stream);
    else if (line.status !== undefined && !("progressDetail" in line))
      terminal.print(`${line.id === undefined ? "" : `${line.id}: `}${line.status}\n`);
  }
}

/** A name alone takes its value from our own environment, and is left out where that has none. */
function argsOf(
  pairs: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Readonly<Record<string, string>> {
  return Object.fromEntries(
    pairs.flatMap((pair) => {
      const at = pair.indexOf("=");
      if (at >= 0) return [[pair.slice(0, at), pair.slice(at + 1)]];
      const value = environment[pair];
      return value === undefined ? [] : [[pair, value]];
    }),
  );
}

function secretsOf(
  texts: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): string {
  if (texts.length === 0) return "";
  const secrets: Record<string, string> = {};
  for (const text of texts) {
    const fields = keyValues(text.split(","));
    const id = fields["id"] ?? "";
    const path = fields["src"] ?? fields["source"];
    const name = fields["env"] ?? id;
    if (id === "") throw new UsageError(`invalid secret "${text}": id=NAME is expected`);
    const value = path === undefined ? environment[name] : readFileSync(path);
    if (value === undefined) throw new UsageError(`secret ${id}: no src, and no variable ${name}`);
    secrets[id] = Buffer.from(value).toString("base64");
  }
  return Buffer.from(JSON.stringify(secrets)).toString("base64url");
}
