// The digest that an image's tag stands for now, so that all nodes run the same.

import { authHeaders } from "./credentials.ts";
import type { Terminal } from "./terminal.ts";

export interface PinnedImage {
  /** name:tag@digest */
  readonly image: string;
  readonly platforms: readonly { readonly Architecture: string; readonly OS: string }[];
}

/** Undefined, after a warning, when the registry does not tell. */
export async function pinnedImage(
  terminal: Terminal,
  image: string,
): Promise<PinnedImage | undefined> {
  try {
    const answer = await terminal.client.get<{
      Descriptor: { digest: string };
      Platforms?: readonly { architecture: string; os: string }[] | null;
    }>(`/distribution/${image}/json`, { headers: await authHeaders(terminal.configFolder, image) });
    const tagged = /:[^/]+$/.test(image) ? image : `${image}:latest`;
    const platforms = (answer.Platforms ?? []).map((each) => ({
      Architecture: each.architecture,
      OS: each.os,
    }));
    return { image: `${tagged}@${answer.Descriptor.digest}`, platforms };
  } catch {
    terminal.warn(
      `image ${image} could not be accessed on a registry to record\nits digest. Each node will access ${image} independently,\npossibly leading to different nodes running different\nversions of the image.\n\n`,
    );
    return undefined;
  }
}
