// Flags of `docker service create` and `update`: a daemon with a real manager's door behind a socket that records what is asked for, both
// commands, and what makes two specs comparable. (Credential specs are for Windows.)

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { door } from "../../manager/control/door.ts";
import { dockerPath, type FakeDaemon, type Ran, run, startFakeDaemon } from "./fakes.ts";

const program = fileURLToPath(new URL("../../../../cli/main.js", import.meta.url));

export type Json = { readonly [key: string]: unknown };

export const skip = dockerPath === undefined ? "there is no docker command here" : false;
export const image = "registry.lab:5000/whoami:latest";
export const always = ["-d", "--no-resolve-image"];

export interface Flagged {
  readonly name: string;
  readonly flags: readonly string[];
}

/** One flag a line, its value after the first space. */
export function wordsOf(lines: readonly string[]): readonly string[] {
  return lines.flatMap((line) => {
    const [flag = "", ...value] = line.split(" ");
    return value.length === 0 ? [flag] : [flag, value.join(" ")];
  });
}

export interface Recorder extends AsyncDisposable {
  readonly daemon: FakeDaemon;
  /** A file that says FROM_FILE=1; both commands have OWN=mine in their environment. */
  readonly envFile: string;
  docker(...args: readonly string[]): Promise<Ran>;
  tsswarm(...args: readonly string[]): Promise<Ran>;
  /** The last spec that was sent to create or update a service, its networks by their ids. */
  asked(): Promise<Json>;
  stored(service: string): Promise<Json>;
}

/** With two networks, front and back, a secret, key, and a config, conf. */
export async function startRecorder(): Promise<Recorder> {
  const daemon = await startFakeDaemon(true, (await door()).control);
  const folder = await mkdtemp(join(tmpdir(), "tsswarm-flags-"));
  const socket = `${folder}/docker.sock`;
  const envFile = `${folder}/env`;
  await writeFile(envFile, "# a comment\nFROM_FILE=1\n");
  let last: Json = {};
  const proxy = recording(daemon.socket, (body) => {
    last = body;
  });
  await new Promise<void>((resolve) => proxy.listen(socket, resolve));
  const networks: [name: string, id: string][] = [];
  for (const Name of ["front", "back"]) {
    const { json } = await daemon.ask("POST", "/v1.50/networks/create", {
      Name,
      Driver: "overlay",
    });
    networks.push([Name, json.Id]);
  }
  for (const [path, Name] of [
    ["secrets", "key"],
    ["configs", "conf"],
  ])
    await daemon.ask("POST", `/v1.50/${path}/create`, { Name, Data: btoa("content") });
  const environment = { HOME: folder, OWN: "mine" };
  const host = `unix://${socket}`;
  return {
    daemon,
    envFile,
    docker: (...args) => run(dockerPath ?? "docker", args, { DOCKER_HOST: host, ...environment }),
    tsswarm: (...args) => run(process.execPath, [program, "-H", host, ...args], environment),
    asked: async () => {
      let text = JSON.stringify(last);
      for (const [name, id] of networks)
        text = text.replaceAll(`"Target":"${name}"`, `"Target":"${id}"`);
      return JSON.parse(text) as Json;
    },
    stored: async (service) => (await daemon.ask("GET", `/v1.50/services/${service}`)).json.Spec,
    [Symbol.asyncDispose]: async () => {
      await new Promise((resolve) => proxy.close(resolve));
      await daemon[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  };
}

/** Passes everything on to the daemon, and tells of specs that are sent to create or update a service. */
function recording(socketPath: string, note: (body: Json) => void): http.Server {
  return http.createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      const bytes = Buffer.concat(parts);
      const { method, url = "", headers } = request;
      const isSpec = /^\/(v[\d.]+\/)?services\/[^/]+(\/update)?(\?|$)/.test(url);
      if (isSpec && bytes.length > 0) note(JSON.parse(bytes.toString()));
      const onward = http.request({ socketPath, method, path: url, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      });
      onward.end(bytes);
    });
  });
}

/** Without what says nothing: Docker leaves out empty lists and zeros in one place and shows them in another. */
function significant(value: unknown, key = ""): unknown {
  if (Array.isArray(value)) return value.map((item) => significant(item));
  if (typeof value !== "object" || value === null) return value;
  if (maps.includes(key)) return Object.keys(value).length === 0 ? undefined : value;
  const entries = Object.entries(value)
    .map(([name, item]) => [name, significant(item, name)] as const)
    .filter(([, item]) => says(item));
  return entries.length === 0 && !modes.includes(key) ? undefined : Object.fromEntries(entries);
}

const maps = ["Labels", "Options", "Sysctls", "DriverOpts"];
const modes = ["Global", "GlobalJob"];

function says(item: unknown): boolean {
  if (Array.isArray(item)) return item.length > 0;
  return item !== undefined && item !== null && item !== "" && item !== 0 && item !== false;
}

/** Shown where nobody said them. */
function unsaid<T extends string>(value: T | undefined, shown: T): T | undefined {
  return value === shown ? undefined : value;
}

/** The docker command sorts networks by id, and ports and what is changed in the environment by chance. */
export function comparable(spec: Json): unknown {
  const task = spec["TaskTemplate"] as {
    Networks?: { Target: string }[];
    ContainerSpec: { Env?: string[]; Secrets?: Json[]; Configs?: Json[]; Isolation?: string };
    Runtime?: string;
    Resources?: { Reservations?: { GenericResources?: Json[] } };
  };
  const { Secrets, Configs } = task.ContainerSpec;
  // The docker command says them in any order.
  for (const list of [task.Resources?.Reservations?.GenericResources, Secrets, Configs])
    list?.sort((a, b) => (inOrder(a) < inOrder(b) ? -1 : 1));
  const ContainerSpec = {
    ...task.ContainerSpec,
    Isolation: unsaid(task.ContainerSpec.Isolation, "default"),
    Env: [...(task.ContainerSpec.Env ?? [])].sort(),
  };
  const Networks = [...(task.Networks ?? [])].sort((a, b) => (a.Target < b.Target ? -1 : 1));
  const endpoint = spec["EndpointSpec"] as { Ports?: { TargetPort: number }[] };
  const Ports = [...(endpoint.Ports ?? [])].sort((a, b) => a.TargetPort - b.TargetPort);
  return significant({
    ...spec,
    TaskTemplate: { ...task, Runtime: unsaid(task.Runtime, "container"), Networks, ContainerSpec },
    EndpointSpec: { ...endpoint, Ports },
  });
}

/** The same for the same object, whatever the order of its keys. */
function inOrder(object: Json): string {
  return JSON.stringify(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** What tsswarm's command leaves to the cluster when nobody asks for it: what a failed update leads to. */
export function withoutAction(spec: Json, flags: readonly string[]): Json {
  const drop = (kind: string, config: unknown) =>
    flags.includes(`--${kind}-failure-action`) || config === undefined
      ? config
      : { ...(config as Json), FailureAction: "" };
  return {
    ...spec,
    UpdateConfig: drop("update", spec["UpdateConfig"]),
    RollbackConfig: drop("rollback", spec["RollbackConfig"]),
  };
}
