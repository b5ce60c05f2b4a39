// What can be done with this node's images; what has happened is told to those who listen.

import { join } from "node:path";
import { asSwarmError, SwarmError } from "../../proto/kit/errors.ts";
import {
  familiarName,
  fullName,
  isImageId,
  parseReference,
  type Reference,
} from "../../proto/kit/reference.ts";
import { timestamp, type World } from "../../proto/kit/world.ts";
import type { Runtime } from "../runtime/types.ts";
import { commitContainer } from "./commit.ts";
import type { CommitContainer, Container } from "./container-types.ts";
import type { Hub } from "./hub.ts";
import { planRemoval } from "./image-removal.ts";
import type { ImportImage } from "./image-types.ts";
import { familiar, type Images, referenceOf } from "./images.ts";
import { importLayer, loadImages } from "./load.ts";
import { makeImage, type OciImage } from "./make-image.ts";
import { type Platform, parsePlatform } from "./manifest.ts";
import type { Puller } from "./pull.ts";
import type { Pusher } from "./push.ts";
import { Registry, type RegistryOptions } from "./registry.ts";
import { saveImages } from "./save.ts";
import type { Engine, ObjectEvent } from "./types.ts";

export interface ImageOperationsParts {
  readonly runtime: Runtime;
  readonly images: Images;
  readonly puller: Puller;
  readonly pusher: Pusher;
  readonly registries: RegistryOptions;
  readonly hub: Hub<ObjectEvent>;
  readonly world: World;
  readonly dataRoot: string;
  readonly containers: () => readonly Container[];
}

const loadsMax = 16;

export class ImageOperations {
  readonly #parts: ImageOperationsParts;
  #loads = 0;

  constructor(parts: ImageOperationsParts) {
    this.#parts = parts;
  }

  /** For archives on their way in; empty when the engine starts. */
  get scratch(): string {
    return join(this.#parts.dataRoot, "scratch");
  }

  pull: Engine["pull"] = async (reference, auth, report, signal, platform = "") => {
    const wanted = platform === "" ? null : parsePlatform(platform);
    const pulled = await this.#parts.puller.pull(reference, auth, report, signal, wanted);
    const parsed = parseReference(reference);
    this.#tell("pull", shownName(parsed), { name: familiarName(parsed) });
    return pulled;
  };

  push: Engine["pushImage"] = async (name, tag, auth, report, signal) => {
    await this.#parts.pusher.push(name, tag, auth, report, signal);
    this.#tell("push", tag === "" ? name : `${name}:${tag}`, { name });
  };

  remoteTags: Engine["remoteTags"] = async (name, auth, signal) =>
    new Registry(this.#parts.registries, auth).tags(parseReference(name), signal);

  /** One more name for an image, taken from another where that has it. Throws `not_found`, `invalid`. */
  tag: Engine["tagImage"] = async (reference, name) => {
    const { images } = this.#parts;
    const wanted = parseReference(name);
    if (wanted.digest !== "")
      throw new SwarmError("invalid", "refusing to create a tag with a digest reference");
    const image = await images.find(reference);
    await images.put(fullName(wanted), image.record.target);
    this.#tell("tag", image.id, { name: shownName(wanted) });
  };

  remove: Engine["removeImage"] = async (reference, isForced) => {
    const { images, containers } = this.#parts;
    const image = await images.find(reference);
    const records = (await images.named(image.id)).map(({ record }) => record);
    const named = records.filter(({ name }) => referenceOf(name) !== null);
    const users = containers()
      .filter(({ imageId }) => imageId === image.id)
      .map(({ id, state }) => ({ id, isRunning: state.Pid !== 0 }));
    const removal = planRemoval({
      ...{ reference, users, isForced, id: image.id },
      name: isById(reference, image.record.name) ? null : image.record.name,
      names: named.map(({ name }) => name),
    });
    const answer: { Untagged?: string; Deleted?: string }[] = [];
    const going = records.filter(
      ({ name }) =>
        removal.names.includes(name) || (removal.leaves === "all" && referenceOf(name) === null),
    );
    for (const [at, record] of going.entries()) {
      const isLast = at === going.length - 1;
      await images.unname(record, removal.leaves === "nameless" && isLast, isLast);
      if (referenceOf(record.name) === null) continue;
      const { id } = image;
      answer.push({ Untagged: familiar(record) });
      this.#tell("untag", id, { name: id });
    }
    if (removal.leaves === "all") {
      answer.push({ Deleted: image.id });
      this.#tell("delete", image.id, { name: image.id });
    }
    await images.all();
    return answer;
  };

  save: Engine["saveImages"] = async (names, platform, signal) => {
    const { runtime, images } = this.#parts;
    const tar = await saveImages(runtime, images, names, wantedPlatform(platform), signal);
    for (const name of names) {
      const id = (await images.tryFind(name))?.id ?? name;
      this.#tell("save", id, { name: id });
    }
    return tar;
  };

  load: Engine["loadImages"] = async (tar, platform, report, signal) => {
    const { runtime, images } = this.#parts;
    await this.#limited(() =>
      runtime.underLease("load", (leased) =>
        loadImages(
          leased,
          tar,
          this.scratch,
          {
            platform: wantedPlatform(platform),
            report,
            found: async ({ id, target, names }) => {
              for (const name of names) {
                await images.put(name, target, leased);
                report({ stream: `Loaded image: ${shownName(parseReference(name))}\n` });
              }
              if (names.length === 0) {
                await images.putNameless(target, leased);
                report({ stream: `Loaded image ID: ${id}\n` });
              }
              this.#tell("load", id, { name: id });
            },
          },
          signal,
        ),
      ),
    );
    await images.all();
  };

  import: Engine["importImage"] = async (tar, wanted, signal) => {
    const { runtime, images } = this.#parts;
    const name = wanted.reference === "" ? "" : fullName(parseReference(wanted.reference));
    return this.#limited(() =>
      runtime.underLease("import", async (leased) => {
        const layer = await importLayer(leased, tar, this.scratch, signal);
        const config = this.#imported(wanted, layer.diffId);
        const { id, target } = await makeImage(leased, config, [layer], signal);
        if (name === "") await images.putNameless(target, leased);
        else await images.put(name, target, leased);
        this.#tell("import", id, { name: id });
        return id;
      }),
    );
  };

  /** The container's files as an image; its id. */
  commit(container: Container, wanted: CommitContainer, signal: AbortSignal): Promise<string> {
    const { runtime, images, world } = this.#parts;
    const name = wanted.reference === "" ? "" : fullName(parseReference(wanted.reference));
    return runtime.underLease("commit", async (leased) => {
      const created = timestamp(world.now());
      const { id, target } = await commitContainer(
        leased,
        images,
        container,
        wanted,
        created,
        signal,
      );
      if (name === "") await images.putNameless(target, leased);
      else await images.put(name, target, leased);
      return id;
    });
  }

  #imported({ message, platform, config }: ImportImage, diffId: string): OciImage {
    const created = timestamp(this.#parts.world.now());
    const { os, architecture, variant } = parsePlatform(platform === "" ? "linux" : platform);
    return {
      ...{ created, architecture, os },
      ...(variant === "" ? {} : { variant }),
      config,
      rootfs: { type: "layers", diff_ids: [diffId] },
      history: [{ created, comment: message }],
    };
  }

  #tell(action: string, id: string, attributes: Readonly<Record<string, string>>): void {
    const time = timestamp(this.#parts.world.now());
    this.#parts.hub.emit({ kind: "image", action, id, attributes, time });
  }

  async #limited<T>(run: () => Promise<T>): Promise<T> {
    if (this.#loads >= loadsMax)
      throw new SwarmError("exhausted", `${loadsMax} archives are being read already: try again`);
    this.#loads++;
    try {
      return await run();
    } finally {
      this.#loads--;
    }
  }
}

function wantedPlatform(text: string): Platform | null {
  return text === "" ? null : parsePlatform(text);
}

/** Whether an image was found by its id rather than by this name. */
function isById(reference: string, name: string): boolean {
  if (isImageId(reference)) return true;
  try {
    return fullName(parseReference(reference)) !== name;
  } catch (error) {
    if (asSwarmError(error).code === "invalid") return true;
    throw error;
  }
}

/** As people write it. */
function shownName(reference: Reference): string {
  const name = familiarName(reference);
  return reference.digest === "" ? `${name}:${reference.tag}` : `${name}@${reference.digest}`;
}
