// Manifests and image configurations as registries hold them: parsed once, at the door.

import { z } from "zod";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Descriptor } from "../runtime/types.ts";

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string;
}

export interface Manifest {
  readonly kind: "manifest";
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}
export interface Index {
  readonly kind: "index";
  readonly manifests: readonly (Descriptor & { readonly platform: Platform | null })[];
}

export interface ImageConfig {
  readonly architecture: string;
  readonly os: string;
  readonly variant: string;
  readonly created: string;
  readonly author: string;
  readonly diffIds: readonly string[];
  readonly history: readonly unknown[];
  readonly config: {
    readonly User: string;
    readonly Env: readonly string[];
    readonly Entrypoint: readonly string[];
    readonly Cmd: readonly string[];
    readonly WorkingDir: string;
    readonly StopSignal: string;
    readonly Labels: Readonly<Record<string, string>>;
    readonly Volumes: readonly string[];
    readonly ExposedPorts: readonly string[];
    readonly OnBuild: readonly string[];
    /** Empty: the default one. */
    readonly Shell: readonly string[];
    readonly Healthcheck: {
      readonly Test: readonly string[];
      readonly Interval?: number;
      readonly Timeout?: number;
      readonly Retries?: number;
      readonly StartPeriod?: number;
      readonly StartInterval?: number;
    } | null;
  };
}

export const indexTypes: readonly string[] = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
];
export const manifestTypes: readonly string[] = [
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
];
/** A manifest is small; anything larger is an attack or a mistake. */
export const manifestBytesMax = 4 * 1024 * 1024;
export const configBytesMax = 8 * 1024 * 1024;
const layersMax = 512;

const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const descriptor = z.object({
  mediaType: z.string(),
  digest,
  size: z.int().min(0),
  annotations: z.record(z.string(), z.string()).exactOptional(),
});
const listed = descriptor.extend({
  platform: z
    .object({
      os: z.string(),
      architecture: z.string(),
      variant: z.string().nullish(),
    })
    .nullish(),
});
const manifestShape = z.object({
  mediaType: z.string().optional(),
  config: descriptor.optional(),
  layers: z.array(descriptor).max(layersMax).nullish(),
  manifests: z.array(listed).optional(),
});

const texts = z.array(z.string()).nullish();
const marks = z.record(z.string(), z.unknown()).nullish();
const duration = z.number().nullish();
const configShape = z.object({
  architecture: z.string().default(""),
  os: z.string().default("linux"),
  variant: z.string().default(""),
  created: z.string().nullish(),
  author: z.string().nullish(),
  rootfs: z.object({ diff_ids: z.array(digest).max(layersMax).nullish() }),
  history: z.array(z.unknown()).nullish(),
  config: z
    .object({
      User: z.string().nullish(),
      Env: texts,
      Entrypoint: texts,
      Cmd: texts,
      WorkingDir: z.string().nullish(),
      StopSignal: z.string().nullish(),
      Labels: z.record(z.string(), z.string()).nullish(),
      Volumes: marks,
      ExposedPorts: marks,
      OnBuild: texts,
      Shell: texts,
      Healthcheck: z
        .object({
          Test: texts,
          Interval: duration,
          Timeout: duration,
          Retries: duration,
          StartPeriod: duration,
          StartInterval: duration,
        })
        .nullish(),
    })
    .nullish(),
});

/** Throws `invalid` naming the image; `unsupported` for the formats of before 2016. */
export function parseManifest(bytes: Uint8Array, name: string): Manifest | Index {
  const parsed = manifestShape.safeParse(parseJson(bytes, name));
  if (!parsed.success) throw malformed(name, parsed.error);
  const { config, layers, manifests } = parsed.data;
  if (manifests !== undefined)
    return {
      kind: "index",
      manifests: manifests.map(({ platform, ...rest }) => ({
        ...rest,
        platform: platform ? { ...platform, variant: platform.variant ?? "" } : null,
      })),
    };
  if (config === undefined)
    throw new SwarmError("unsupported", `${name}: the manifest is neither an image nor an index`);
  if ((layers ?? []).some(({ mediaType }) => /foreign|nondistributable/.test(mediaType)))
    throw new SwarmError(
      "unsupported",
      `${name} has foreign layers, which are fetched from elsewhere than a registry: such images are not supported`,
    );
  return { kind: "manifest", config, layers: layers ?? [] };
}

export function parseImageConfig(bytes: Uint8Array, name: string): ImageConfig {
  const parsed = configShape.safeParse(parseJson(bytes, name));
  if (!parsed.success) throw malformed(name, parsed.error);
  const image = parsed.data;
  const own = image.config ?? {};
  return {
    architecture: image.architecture,
    os: image.os,
    variant: image.variant,
    created: image.created ?? "",
    author: image.author ?? "",
    diffIds: image.rootfs.diff_ids ?? [],
    history: image.history ?? [],
    config: {
      User: own.User ?? "",
      Env: own.Env ?? [],
      Entrypoint: own.Entrypoint ?? [],
      Cmd: own.Cmd ?? [],
      WorkingDir: own.WorkingDir ?? "",
      StopSignal: own.StopSignal ?? "",
      Labels: own.Labels ?? {},
      Volumes: Object.keys(own.Volumes ?? {}).sort(),
      ExposedPorts: Object.keys(own.ExposedPorts ?? {}).sort(),
      OnBuild: own.OnBuild ?? [],
      Shell: own.Shell ?? [],
      Healthcheck: own.Healthcheck ? healthOf(own.Healthcheck) : null,
    },
  };
}

function healthOf(
  check: Readonly<Record<string, unknown>>,
): NonNullable<ImageConfig["config"]["Healthcheck"]> {
  const present = Object.entries(check).filter(
    ([, value]) => value !== null && value !== undefined,
  );
  return { Test: [], ...Object.fromEntries(present) };
}

/** The manifest of an index that runs on this machine; null when there is none. */
export function choosePlatform(index: Index, own: Platform): Index["manifests"][number] | null {
  const fitting = index.manifests.filter(
    (m) =>
      manifestTypes.includes(m.mediaType) &&
      (m.platform === null ||
        (m.platform.os === own.os && m.platform.architecture === own.architecture)),
  );
  const exact = fitting.find((m) => m.platform !== null && m.platform.variant === own.variant);
  const plain = fitting.find((m) => m.platform !== null && m.platform.variant === "");
  return exact ?? plain ?? fitting[0] ?? null;
}

/** Whether an image is for a platform; without a variant any will do. */
export function isOf(
  image: Pick<ImageConfig, "os" | "architecture" | "variant">,
  { os, architecture, variant }: Platform,
): boolean {
  return (
    image.os === os &&
    image.architecture === architecture &&
    (variant === "" || image.variant === "" || image.variant === variant)
  );
}

/** `linux/arm64/v8`, as clients write it. Throws `invalid`. */
export function parsePlatform(text: string): Platform {
  const [os = "", architecture = "", variant = "", ...more] = text.split("/");
  if (os === "" || more.length > 0 || !/^[\w/.-]+$/.test(text))
    throw new SwarmError(
      "invalid",
      `"${text}" is an invalid platform: os/architecture is expected`,
    );
  if (architecture === "") {
    const own = ownPlatform(process.arch);
    return os === own.os ? own : { ...own, architecture: os, variant: "" };
  }
  const names: Readonly<Record<string, string>> = { x86_64: "amd64", aarch64: "arm64" };
  return { os, architecture: names[architecture] ?? architecture, variant };
}

/** This machine in the registry's words. */
export function ownPlatform(architecture: string): Platform {
  const names: Readonly<Record<string, string>> = { x64: "amd64", ia32: "386", ppc64: "ppc64le" };
  const variants: Readonly<Record<string, string>> = { arm64: "v8", arm: "v7" };
  return {
    os: "linux",
    architecture: names[architecture] ?? architecture,
    variant: variants[architecture] ?? "",
  };
}

function parseJson(bytes: Uint8Array, name: string): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch (error) {
    throw new SwarmError("invalid", `${name}: not JSON`, { cause: error });
  }
}

function malformed(name: string, error: z.ZodError): SwarmError {
  const problem = error.issues[0];
  return new SwarmError(
    "invalid",
    `${name}: malformed ${problem?.path.join(".") ?? ""}: ${problem?.message ?? ""}`,
  );
}
