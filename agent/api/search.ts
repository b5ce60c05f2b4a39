// /images/search: docker search, asked of the registry that the term names, or of Docker's.

import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { SwarmError } from "../../proto/kit/errors.ts";
import { hubDomain } from "../../proto/kit/reference.ts";
import {
  type Filters,
  flagFilter,
  onlyFilters,
  parseBody,
  Query,
  registryAuth,
} from "./request.ts";
import { clientGone } from "./stream.ts";
import type { ApiContext } from "./types.ts";

const registryMsMax = 30_000;
const limitDefault = 25;
const limitMax = 100;

const found = z.object({
  results: z.array(
    z.object({
      name: z.string(),
      description: z.string().nullish(),
      star_count: z.number().nullish(),
      is_official: z.boolean().nullish(),
      is_automated: z.boolean().nullish(),
    }),
  ),
});
type Found = z.infer<typeof found>["results"][number];

export function addSearch(app: FastifyInstance, context: ApiContext): void {
  app.get("/images/search", async (request, reply) => {
    const query = new Query(request);
    const filters = query.filters();
    onlyFilters(filters, ["is-automated", "is-official", "stars"]);
    const limit = query.integer("limit") ?? 0;
    if (limit < 0 || limit > limitMax)
      throw new SwarmError("invalid", `limit ${limit} is outside the range of [1, ${limitMax}]`);
    const { domain, term } = whereAndWhat(query.text("term"));
    const answer = await context.engine.searchImages(
      domain,
      term,
      limit || limitDefault,
      registryAuth(request),
      AbortSignal.any([clientGone(reply.raw), AbortSignal.timeout(registryMsMax)]),
    );
    return parseBody(found, answer)
      .results.filter((each) => isWanted(each, filters))
      .map((each) => ({
        star_count: each.star_count ?? 0,
        is_official: each.is_official ?? false,
        name: each.name,
        is_automated: each.is_automated ?? false,
        description: each.description ?? "",
      }));
  });
}

/** A term's first part with a dot, a colon or localhost is a registry. Throws `invalid` for none. */
export function whereAndWhat(text: string): { readonly domain: string; readonly term: string } {
  if (text === "") throw new SwarmError("invalid", "term: what to search for is expected");
  const [first = "", ...rest] = text.split("/");
  const isRegistry = rest.length > 0 && (/[.:]/.test(first) || first === "localhost");
  if (!isRegistry) return { domain: hubDomain, term: text.replace(/^library\//, "") };
  return { domain: first, term: rest.join("/") };
}

function isWanted(each: Found, filters: Filters): boolean {
  const [automated, official] = [
    flagFilter(filters, "is-automated"),
    flagFilter(filters, "is-official"),
  ];
  const stars = Number(filters["stars"]?.[0] ?? 0);
  if (!Number.isInteger(stars))
    throw new SwarmError("invalid", `invalid filter 'stars=${filters["stars"]?.[0]}'`);
  return (
    (automated === undefined || (each.is_automated ?? false) === automated) &&
    (official === undefined || (each.is_official ?? false) === official) &&
    (each.star_count ?? 0) >= stars
  );
}
