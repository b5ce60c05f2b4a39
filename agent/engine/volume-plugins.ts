// Other programs that keep volumes: Docker's volume-plugin protocol (JSON over HTTP on a plugin's socket).

import { readdir, readFile } from "node:fs/promises";
import { request as httpRequest, type RequestOptions } from "node:http";
import { request as httpsRequest } from "node:https";
import { basename, extname, join } from "node:path";
import { json } from "node:stream/consumers";
import { z } from "zod";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";

/** Where Docker looks, in its order: sockets, then files that name an address. */
const socketFolder = "/run/docker/plugins";
const fileFolders = ["/etc/docker/plugins", "/usr/lib/docker/plugins"];
const accept = "application/vnd.docker.plugins.v1.2+json";
/** A driver may attach a disk of another machine meanwhile. */
const callMsMax = 120_000;
const answerBytesMax = 16 * 1024 * 1024;

const description = z.object({
  Addr: z.string(),
  TLSConfig: z
    .object({
      InsecureSkipVerify: z.boolean().nullish(),
      CAFile: z.string().nullish(),
      CertFile: z.string().nullish(),
      KeyFile: z.string().nullish(),
    })
    .nullish(),
});
const volume = z.object({
  Name: z.string(),
  Mountpoint: z.string().nullish(),
  CreatedAt: z.string().nullish(),
  Status: z.record(z.string(), z.unknown()).nullish(),
});
/** As a plugin says it. */
export type PluginVolume = z.infer<typeof volume>;

const answers = {
  "Plugin.Activate": z.object({ Implements: z.array(z.string()).nullish() }),
  "VolumeDriver.Create": z.object({}),
  "VolumeDriver.Remove": z.object({}),
  "VolumeDriver.Unmount": z.object({}),
  "VolumeDriver.Mount": z.object({ Mountpoint: z.string() }),
  "VolumeDriver.Get": z.object({ Volume: volume }),
  "VolumeDriver.List": z.object({ Volumes: z.array(volume).nullish() }),
  "VolumeDriver.Capabilities": z.object({
    Capabilities: z.object({ Scope: z.string() }).nullish(),
  }),
};
type Method = keyof typeof answers;

export class VolumePlugins {
  readonly #sockets: string;
  readonly #files: readonly string[];
  /** Asked once what they are. */
  readonly #active = new Map<string, RequestOptions & { readonly isTls: boolean }>();

  constructor(sockets = socketFolder, files: readonly string[] = fileFolders) {
    this.#sockets = sockets;
    this.#files = files;
  }

  /** Those that say where they are, whether they answer or not. */
  async names(): Promise<readonly string[]> {
    const found = await Promise.all(
      [this.#sockets, ...this.#files].map((folder) => readdir(folder).catch((): string[] => [])),
    );
    const names = found.flat().filter((name) => /\.(sock|spec|json)$/.test(name));
    return [...new Set(names.map((name) => basename(name, extname(name))))].sort();
  }

  /** Throws `not_found` where there is no such plugin; `unavailable` with the plugin's name and words when it fails. */
  async call<M extends Method>(
    plugin: string,
    method: M,
    body: Readonly<Record<string, unknown>> = {},
  ): Promise<z.infer<(typeof answers)[M]>> {
    const address = this.#active.get(plugin) ?? (await this.#activate(plugin));
    try {
      return await ask(address, method, body);
    } catch (cause) {
      // It may come back at another place.
      this.#active.delete(plugin);
      throw new SwarmError(
        "unavailable",
        `volume plugin ${plugin}: ${method}: ${messageOf(cause)}`,
        { cause },
      );
    }
  }

  async #activate(plugin: string) {
    const address = await this.#find(plugin);
    const { Implements } = await ask(address, "Plugin.Activate", {}).catch((cause: unknown) => {
      throw new SwarmError(
        "unavailable",
        `volume plugin ${plugin} cannot be activated: ${messageOf(cause)}`,
        { cause },
      );
    });
    if (Implements?.includes("VolumeDriver") !== true)
      throw new SwarmError("not_found", `plugin "${plugin}" does not implement VolumeDriver`);
    this.#active.set(plugin, address);
    return address;
  }

  async #find(plugin: string) {
    const isName = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(plugin);
    const sockets = await readdir(this.#sockets).catch((): string[] => []);
    if (isName && sockets.includes(`${plugin}.sock`))
      return { socketPath: join(this.#sockets, `${plugin}.sock`), isTls: false };
    for (const folder of isName ? this.#files : []) {
      const spec = await readFile(join(folder, `${plugin}.spec`), "utf8").catch(() => null);
      if (spec !== null) return addressOf(plugin, { Addr: spec.trim() });
      const text = await readFile(join(folder, `${plugin}.json`), "utf8").catch(() => null);
      if (text !== null) return addressOf(plugin, described(plugin, text));
    }
    throw new SwarmError(
      "not_found",
      `error looking up volume plugin ${plugin}: plugin "${plugin}" not found`,
    );
  }
}

function described(plugin: string, text: string): z.infer<typeof description> {
  try {
    return description.parse(JSON.parse(text));
  } catch (cause) {
    throw new SwarmError("invalid", `volume plugin ${plugin}: its file cannot be understood`, {
      cause,
    });
  }
}

/** unix:///path, tcp://host:port, http:// or https://. Throws `invalid`. */
async function addressOf(plugin: string, { Addr, TLSConfig }: z.infer<typeof description>) {
  const [, scheme, rest = ""] = /^(unix|tcp|http|https):\/\/(.+)$/.exec(Addr) ?? [];
  if (scheme === undefined)
    throw new SwarmError("invalid", `volume plugin ${plugin}: its address ${Addr} is none`);
  if (scheme === "unix") return { socketPath: rest, isTls: false };
  const { hostname, port } = new URL(`http://${rest}`);
  const isTls = scheme === "https" || (TLSConfig ?? undefined) !== undefined;
  const { CAFile, CertFile, KeyFile, InsecureSkipVerify } = TLSConfig ?? {};
  return {
    ...{ host: hostname, port: Number(port) || (isTls ? 443 : 80), isTls },
    ...(CAFile ? { ca: await readFile(CAFile) } : {}),
    ...(CertFile ? { cert: await readFile(CertFile) } : {}),
    ...(KeyFile ? { key: await readFile(KeyFile) } : {}),
    ...(InsecureSkipVerify ? { rejectUnauthorized: false } : {}),
  };
}

async function ask<M extends Method>(
  { isTls, ...address }: RequestOptions & { readonly isTls: boolean },
  method: M,
  body: Readonly<Record<string, unknown>>,
): Promise<z.infer<(typeof answers)[M]>> {
  const bytes = JSON.stringify(body);
  const signal = AbortSignal.timeout(callMsMax);
  const { status, answer } = await new Promise<{ status: number; answer: unknown }>(
    (resolve, reject) => {
      const headers = {
        accept,
        "content-type": accept,
        "content-length": Buffer.byteLength(bytes),
      };
      const options = { ...address, method: "POST", path: `/${method}`, headers, signal };
      (isTls ? httpsRequest : httpRequest)(options, (response) => {
        const status = response.statusCode ?? 0;
        let length = 0;
        response.on("data", (part: Buffer) => {
          length += part.length;
          if (length > answerBytesMax) response.destroy(new Error("its answer is too long"));
        });
        json(response).then(
          (parsed) => resolve({ status, answer: parsed }),
          (error: unknown) => (status === 200 ? reject(error) : resolve({ status, answer: {} })),
        );
      })
        .once("error", reject)
        .end(bytes);
    },
  );
  const { Err } = z.object({ Err: z.string().nullish() }).parse(answer);
  if (status !== 200 || Err) throw new Error(Err || `status ${status}`);
  return answers[method].parse(answer) as z.infer<(typeof answers)[M]>;
}
