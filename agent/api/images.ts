// /images: what is on this node.

import type { FastifyInstance, FastifyRequest } from "fastify";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { ImageStep, ImageSummary } from "../engine/image-types.ts";
import type { Json } from "./adapt.ts";
import { notYet, withStatus } from "./errors.ts";
import { push, save } from "./image-transfers.ts";
import {
  askedVersion,
  type Filters,
  flagFilter,
  labelsMatch,
  onlyFilters,
  parameter,
  Query,
  untilOf,
} from "./request.ts";
import type { ApiContext } from "./types.ts";
import { compareVersions } from "./versions.ts";

const knownFilters = ["before", "dangling", "label", "reference", "since", "until"];
const patternLengthMax = 256;
/** The API's version in which Docker took it away. */
const containerConfigUntil = "1.45";

export function addImages(app: FastifyInstance, context: ApiContext): void {
  const { engine } = context;

  app.get("/images/json", async (request) => {
    const filters = new Query(request).filters();
    onlyFilters(filters, knownFilters);
    return selectImages(await engine.images(), filters).map(imageJson);
  });

  app.get("/images/*", async (request, reply) => {
    const { name, verb } = nameAndVerb(request);
    if (verb === "json") return imageOf(context, name, readsContainerConfig(request));
    if (verb === "history") return (await engine.imageHistory(name)).map(stepJson);
    if (verb === "get") return save(context, request, reply, [name]);
    if (verb === "attestations") throw notYet(`an image's ${verb}`);
    throw new SwarmError("not_found", "page not found");
  });

  app.post("/images/prune", async (request) => {
    const filters = new Query(request).filters();
    onlyFilters(filters, ["dangling", "label", "label!", "until"]);
    return prune(context, filters);
  });

  app.post("/images/*", async (request, reply) => {
    const { name, verb } = nameAndVerb(request);
    if (verb === "tag") {
      const query = new Query(request);
      const [repo, tag] = [query.text("repo"), query.text("tag")];
      await engine.tagImage(name, tag === "" ? repo : `${repo}:${tag}`);
      return reply.code(201).send();
    }
    if (verb === "push") return push(context, request, reply, name);
    throw new SwarmError("not_found", "page not found");
  });

  app.delete("/images/*", async (request) => {
    const name = parameter(request, "*");
    const force = new Query(request).flag("force");
    return withStatus({ precondition: 409 }, () => engine.removeImage(name, force));
  });
}

/** docker-compose 1 needs it to make a container anew, and some of its packages ask in the newest version there is. */
function readsContainerConfig(request: FastifyRequest): boolean {
  const version = askedVersion(request);
  if (version !== null && compareVersions(version, containerConfigUntil) < 0) return true;
  return /^docker-compose\/1\./.test(request.headers["user-agent"] ?? "");
}

/** `isOld`: for who reads of it what Docker has taken away. */
async function imageOf({ engine }: ApiContext, name: string, isOld: boolean): Promise<Json> {
  const image = await engine.inspectImage(name);
  if (!isOld) return image;
  const [last] = await engine.imageHistory(name);
  const config = image["Config"] as Json | undefined;
  return {
    ...image,
    Container: "",
    ContainerConfig: { ...config, Cmd: commandThatMade(last?.createdBy ?? "") },
  };
}

/** Of the container that a step ran in: `|1 name=value /bin/sh -c …` with a build's arguments. */
function commandThatMade(createdBy: string): readonly string[] {
  const [, command] = /^RUN (.*)$/s.exec(createdBy) ?? [];
  if (command === undefined) return ["/bin/sh", "-c", "#(nop) ", createdBy];
  const [head, rest] = [/^\|(\d+) /.exec(command), command.split(" ")];
  const words = head === null ? 0 : Number(head[1]) + 1;
  const shell = rest.slice(words, words + 2);
  return [...rest.slice(0, words), ...shell, rest.slice(words + 2).join(" ")];
}

/** `/images/registry:5000/a/b/json`: names have slashes in them. */
function nameAndVerb(request: FastifyRequest): { readonly name: string; readonly verb: string } {
  const path = parameter(request, "*");
  const at = path.lastIndexOf("/");
  return { name: path.slice(0, Math.max(at, 0)), verb: path.slice(at + 1) };
}

function stepJson(step: ImageStep): Json {
  return {
    Id: step.id,
    Created: Math.floor(Date.parse(step.created) / 1000) || 0,
    CreatedBy: step.createdBy,
    Tags: step.tags.length === 0 ? null : step.tags,
    Size: step.bytes,
    Comment: step.comment,
  };
}

/** Images without a tag, or with dangling=false all that no container was made from. */
async function prune({ engine, log }: ApiContext, filters: Filters): Promise<Json> {
  const isAll = flagFilter(filters, "dangling") === false;
  const until = untilOf(filters, Date.now());
  const deleted: Json[] = [];
  let bytes = 0;
  for (const image of await engine.images()) {
    const isUsed = engine.list().some(({ imageId }) => imageId === image.id);
    const isKept =
      isUsed ||
      (!isAll && image.repoTags.length > 0) ||
      (until !== undefined && Date.parse(image.created) > until) ||
      !labelsMatch(image.labels, filters["label"]) ||
      (filters["label!"] ?? []).some((label) => labelsMatch(image.labels, [label]));
    if (isKept) continue;
    try {
      for (const name of image.repoTags.slice(1))
        deleted.push(...(await engine.removeImage(name, false)));
      deleted.push(...(await engine.removeImage(image.repoTags[0] ?? image.id, false)));
      bytes += image.size;
    } catch (error) {
      // Taken into use meanwhile.
      log.debug({ image: image.id, error }, "not pruned");
    }
  }
  const attributes = { reclaimed: String(bytes) };
  engine.tell({ kind: "image", action: "prune", id: "", attributes });
  return { ImagesDeleted: deleted, SpaceReclaimed: bytes };
}

export function imageJson(image: ImageSummary): Json {
  return {
    Id: image.id,
    ParentId: image.parent,
    RepoTags: image.repoTags,
    RepoDigests: image.repoDigests,
    Created: Math.max(0, Math.floor(Date.parse(image.created) / 1000)) || 0,
    Size: image.size,
    VirtualSize: image.size,
    SharedSize: -1,
    Labels: image.labels,
    Containers: -1,
  };
}

function selectImages(images: readonly ImageSummary[], filters: Filters): readonly ImageSummary[] {
  const dangling = flagFilter(filters, "dangling");
  const edge = (name: string) => {
    const wanted = filters[name]?.[0];
    if (wanted === undefined) return undefined;
    const found = images.find((image) => isNamed(image, wanted));
    if (found === undefined) throw new SwarmError("not_found", `No such image: ${wanted}`);
    return Date.parse(found.created);
  };
  const [before, since] = [edge("before"), edge("since")];
  const until = untilOf(filters, Date.now());
  return images.filter((image) => {
    const created = Date.parse(image.created);
    return (
      (dangling === undefined || dangling === (image.repoTags.length === 0)) &&
      (before === undefined || created < before) &&
      (since === undefined || created > since) &&
      (until === undefined || created < until) &&
      labelsMatch(image.labels, filters["label"]) &&
      (filters["reference"]?.some((pattern) => isReferred(image, pattern)) ?? true)
    );
  });
}

function isNamed(image: ImageSummary, wanted: string): boolean {
  const id = wanted.replace(/^sha256:/, "");
  return (
    image.repoTags.includes(wanted) ||
    image.repoTags.includes(`${wanted}:latest`) ||
    (id.length >= 4 && image.id.slice("sha256:".length).startsWith(id))
  );
}

/** `docker images NAME[:TAG]`, with `*` and `?` for what is not a slash. */
function isReferred(image: ImageSummary, pattern: string): boolean {
  if (pattern.length > patternLengthMax)
    throw new SwarmError("invalid", `reference: longer than ${patternLengthMax} characters`);
  const names = [...image.repoTags, ...image.repoDigests];
  return names.some((name) => {
    const bare = name.includes("@") ? (name.split("@")[0] ?? "") : name.replace(/:[^:/]*$/, "");
    return matchesPattern(name, pattern) || matchesPattern(bare, pattern);
  });
}

/** Linear in both lengths for one star, and never worse than their product. */
export function matchesPattern(text: string, pattern: string): boolean {
  let [at, in_, star, from] = [0, 0, -1, 0];
  while (at < text.length) {
    const wanted = pattern[in_];
    if (wanted === "*") {
      star = in_++;
      from = at;
    } else if (wanted === text[at] || (wanted === "?" && text[at] !== "/")) {
      at++;
      in_++;
    } else if (star >= 0 && text[from] !== "/") {
      in_ = star + 1;
      at = ++from;
    } else return false;
  }
  while (pattern[in_] === "*") in_++;
  return in_ === pattern.length;
}
