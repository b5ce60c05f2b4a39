// What a registry says about a name, for the door's GET /distribution/{name}/json.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { Reference } from "../../proto/kit/reference.ts";
import { parseImageConfig, parseManifest } from "./manifest.ts";
import type { Registry } from "./registry.ts";
import type { Engine } from "./types.ts";

const configBytesMax = 8 * 1024 * 1024;

export async function describeDistribution(
  reference: Reference,
  registry: Registry,
  signal: AbortSignal,
): ReturnType<Engine["distribution"]> {
  const top = await registry.manifest(reference, signal);
  const { descriptor } = top;
  const name = `${reference.domain}/${reference.path}`;
  const parsed = parseManifest(top.bytes, name);
  if (parsed.kind === "index")
    return {
      Descriptor: descriptor,
      Platforms: parsed.manifests.flatMap(({ platform }) =>
        platform === null || platform.os === "unknown" ? [] : [platformOf(platform)],
      ),
    };
  if (parsed.config.size > configBytesMax)
    throw new SwarmError(
      "too_large",
      `the configuration of ${name} is ${parsed.config.size} bytes`,
    );
  const parts: Uint8Array[] = [];
  for await (const chunk of registry.blob(reference, parsed.config, 0, signal)) parts.push(chunk);
  const config = parseImageConfig(Buffer.concat(parts), name);
  return { Descriptor: descriptor, Platforms: [platformOf(config)] };
}

function platformOf(platform: {
  readonly architecture: string;
  readonly os: string;
  readonly variant: string;
}): { readonly architecture: string; readonly os: string; readonly variant?: string } {
  const { architecture, os, variant } = platform;
  return variant === "" ? { architecture, os } : { architecture, os, variant };
}
