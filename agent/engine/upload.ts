// Sending blobs and manifests to a registry: what it has is left out, what broke off goes on where it was.

import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { Reference } from "../../proto/kit/reference.ts";
import type { World } from "../../proto/kit/world.ts";
import type { BlobSource, Descriptor } from "../runtime/types.ts";
import { checked, type Registry } from "./registry.ts";
import { manyTimes, pauseAfter } from "./retry.ts";

/** Of one PATCH, whatever its size; one that stands still is ended earlier. */
const patchMsMax = 6 * 3_600_000;
const stallMsMax = 60_000;
const manifestMsMax = 60_000;

export class Uploader {
  readonly #registry: Registry;
  readonly #reference: Reference;
  readonly #world: World;

  constructor(registry: Registry, reference: Reference, world: World) {
    this.#registry = registry;
    this.#reference = reference;
    this.#world = world;
  }

  async has(digest: string, signal: AbortSignal): Promise<boolean> {
    const path = `blobs/${digest}`;
    return manyTimes(this.#world, signal, async () => {
      const answer = await this.#ask(path, { method: "HEAD" }, signal);
      if (answer.status === 404) return false;
      await checked(answer, this.#reference, path);
      return true;
    });
  }

  /** Whether the registry took the blob over from another of its repositories. */
  async mount(digest: string, from: string, signal: AbortSignal): Promise<boolean> {
    const path = `blobs/uploads/?${new URLSearchParams({ mount: digest, from })}`;
    const answer = await this.#ask(path, { method: "POST" }, signal);
    await answer.body?.cancel();
    return answer.status === 201;
  }

  /** Throws `denied`, `unavailable` after five failures in a row, `invalid`. */
  async upload(blob: Descriptor, source: BlobSource, signal: AbortSignal): Promise<void> {
    let place: Place | null = null;
    for (let failures = 0; ; ) {
      try {
        const before: Place | null = place === null ? null : await this.#placeOf(place.url, signal);
        if (before !== null && before.offset > (place?.offset ?? 0)) failures = 0;
        place = before ?? (await this.#begin(signal));
        if (place.offset < blob.size) place = await this.#send(place, blob, source, signal);
        await this.#finish(place, blob.digest, signal);
        return;
      } catch (error) {
        failures++;
        await pauseAfter(error, failures, this.#world, signal);
      }
    }
  }

  async putManifest(
    name: string,
    mediaType: string,
    bytes: Buffer,
    signal: AbortSignal,
  ): Promise<void> {
    const path = `manifests/${name}`;
    await manyTimes(this.#world, signal, async () => {
      const headers = { "content-type": mediaType };
      const answer = await this.#ask(
        path,
        { method: "PUT", headers, body: () => new Uint8Array(bytes), answerMsMax: manifestMsMax },
        signal,
      );
      await checked(answer, this.#reference, path);
      await answer.body?.cancel();
    });
  }

  async #begin(signal: AbortSignal): Promise<Place> {
    const path = "blobs/uploads/";
    const answer = await this.#ask(path, { method: "POST" }, signal);
    await checked(answer, this.#reference, path);
    await answer.body?.cancel();
    return { url: this.#locationOf(answer), offset: 0 };
  }

  /** How far the registry says an upload is; null when it knows nothing of it any more. */
  async #placeOf(url: string, signal: AbortSignal): Promise<Place | null> {
    const answer = await this.#ask(url, { method: "GET" }, signal);
    await answer.body?.cancel();
    if (answer.status === 404) return null;
    await checked(answer, this.#reference, url);
    const last = Number(/-(\d+)$/.exec(answer.headers.get("range") ?? "")?.[1] ?? 0);
    return { url: this.#locationOf(answer, url), offset: last === 0 ? 0 : last + 1 };
  }

  async #send(
    place: Place,
    blob: Descriptor,
    source: BlobSource,
    signal: AbortSignal,
  ): Promise<Place> {
    const stalled = new AbortController();
    const both = AbortSignal.any([signal, stalled.signal]);
    let timer: NodeJS.Timeout | undefined;
    const live = () => {
      clearTimeout(timer);
      const error = new SwarmError("unavailable", "the registry took nothing for a minute");
      timer = setTimeout(() => stalled.abort(error), stallMsMax);
    };
    const pieces = async function* () {
      for await (const piece of source(place.offset, both)) {
        live();
        yield piece;
      }
      live();
    };
    const headers: Record<string, string> = { "content-type": "application/octet-stream" };
    if (place.offset > 0) headers["content-range"] = `${place.offset}-${blob.size - 1}`;
    live();
    try {
      const answer = await this.#ask(
        place.url,
        {
          method: "PATCH",
          headers,
          body: () => ReadableStream.from(pieces()),
          answerMsMax: patchMsMax,
        },
        both,
      );
      await checked(answer, this.#reference, place.url);
      await answer.body?.cancel();
      return { url: this.#locationOf(answer, place.url), offset: blob.size };
    } finally {
      clearTimeout(timer);
    }
  }

  async #finish(place: Place, digest: string, signal: AbortSignal): Promise<void> {
    const url = new URL(place.url, "http://registry");
    url.searchParams.set("digest", digest);
    const path = /^https?:/.test(place.url) ? url.href : `${url.pathname}${url.search}`;
    const headers = { "content-type": "application/octet-stream" };
    const answer = await this.#ask(
      path,
      { method: "PUT", headers, answerMsMax: manifestMsMax },
      signal,
    );
    await checked(answer, this.#reference, "blobs/uploads/");
    await answer.body?.cancel();
  }

  #locationOf(answer: Response, otherwise = ""): string {
    const location = answer.headers.get("location") ?? otherwise;
    if (location === "")
      throw new SwarmError(
        "invalid",
        `${this.#reference.domain} does not say where an upload goes: is it a registry?`,
      );
    return location;
  }

  /** A connection that breaks off while we send is a failure of the moment. */
  async #ask(
    path: string,
    init: Parameters<Registry["request"]>[2],
    signal: AbortSignal,
  ): Promise<Response> {
    try {
      return await this.#registry.request(this.#reference, path, init, signal);
    } catch (error) {
      if (error instanceof SwarmError || signal.aborted) throw error;
      throw new SwarmError("unavailable", messageOf(error), { cause: error });
    }
  }
}

/** An upload under way. */
interface Place {
  readonly url: string;
  /** Bytes the registry has. */
  readonly offset: number;
}
