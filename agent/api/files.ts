// /secrets and /configs, which differ in little, and their rotation, which is our own.

import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { codec } from "../../proto/codec.ts";
import type { FileKind } from "../../proto/file-targets.ts";
import type { Config, ConfigSpec, Secret, SecretSpec } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Client } from "../../proto/rpc-client.ts";
import { dockerJson, type Json } from "./adapt.ts";
import { controlOf, listRequest, type Reader, readerOf } from "./control.ts";
import { jsonBody, onlyFilters, parameter, parseBody, Query, requiredVersion } from "./request.ts";
import type { ApiContext } from "./types.ts";

/** The calls of one kind. */
interface Calls {
  list(control: Reader, query: Query): Promise<readonly (Secret | Config)[]>;
  get(control: Reader, id: string): Promise<Secret | Config>;
  create(control: Client<"Control">, body: unknown): Promise<{ readonly ID: string }>;
  update(control: Client<"Control">, ID: string, Version: number, body: unknown): Promise<unknown>;
  readonly remove: "RemoveSecret" | "RemoveConfig";
  readonly rotate: "RotateSecret" | "RotateConfig";
}

const calls: { readonly [K in FileKind]: Calls } = {
  secret: {
    list: async (control, query) => (await control.unary("ListSecrets", listOf(query))).Items,
    get: (control, ID) => control.unary("GetSecret", { ID, InsertDefaults: false }),
    create: (control, body) => control.unary("CreateSecret", { Spec: secretSpec(body) }),
    update: (control, ID, Version, body) =>
      control.unary("UpdateSecret", { ID, Version, Spec: secretSpec(body) }),
    remove: "RemoveSecret",
    rotate: "RotateSecret",
  },
  config: {
    list: async (control, query) => (await control.unary("ListConfigs", listOf(query))).Items,
    get: (control, ID) => control.unary("GetConfig", { ID, InsertDefaults: false }),
    create: (control, body) => control.unary("CreateConfig", { Spec: configSpec(body) }),
    update: (control, ID, Version, body) =>
      control.unary("UpdateConfig", { ID, Version, Spec: configSpec(body) }),
    remove: "RemoveConfig",
    rotate: "RotateConfig",
  },
};

export function addFiles(app: FastifyInstance, context: ApiContext): void {
  for (const kind of ["secret", "config"] as const) addKind(app, context, kind, calls[kind]);
}

function addKind(app: FastifyInstance, context: ApiContext, kind: FileKind, of: Calls): void {
  const root = `/${kind}s`;
  app.get(root, async (request, reply) => {
    const objects = await of.list(readerOf(context, reply), new Query(request));
    return objects.map((object) => fileJson(kind, object));
  });
  app.post(`${root}/create`, async (request, reply) => {
    const control = controlOf(context);
    return reply.code(201).send({ ID: (await of.create(control, jsonBody(request))).ID });
  });
  app.get(`${root}/:id`, async (request, reply) =>
    fileJson(kind, await of.get(readerOf(context, reply), parameter(request, "id"))),
  );
  app.delete(`${root}/:id`, async (request, reply) => {
    await controlOf(context).unary(of.remove, {
      ID: parameter(request, "id"),
      InsertDefaults: false,
    });
    return reply.code(204).send();
  });
  app.post(`${root}/:id/update`, async (request, reply) => {
    const control = controlOf(context);
    const version = requiredVersion(new Query(request), kind);
    await of.update(control, parameter(request, "id"), version, jsonBody(request));
    return reply.code(200).send();
  });
  app.post(`/tsswarm${root}/:id/rotate`, async (request) => {
    const control = controlOf(context);
    const { Data } = parseBody(rotation, jsonBody(request));
    return control.unary(of.rotate, { ID: parameter(request, "id"), Data: bytesOf(Data) });
  });
}

const rotation = z.object({ Data: z.string() });

/** Standard base64, and the alphabet for URLs, as Docker takes both. Throws `invalid` without a word of what was sent. */
function bytesOf(text: string): Uint8Array {
  if (!/^[A-Za-z0-9+/_-]*={0,2}$/.test(text))
    throw new SwarmError("invalid", "Data: base64 is expected");
  return Buffer.from(text, "base64");
}

function listOf(query: Query) {
  const filters = query.filters();
  onlyFilters(filters, ["id", "label", "name", "names"]);
  return listRequest(filters);
}

function secretSpec(body: unknown): SecretSpec {
  return codec("SecretSpec").parse(withBytes(body));
}

function configSpec(body: unknown): ConfigSpec {
  return codec("ConfigSpec").parse(withBytes(body));
}

function withBytes(body: unknown): unknown {
  const { Data } = (body ?? {}) as { readonly Data?: unknown };
  return typeof Data === "string" ? { ...(body as object), Data: bytesOf(Data) } : body;
}

/** Labels are always shown, as Docker does; what a secret holds never came here. */
function fileJson(kind: FileKind, object: Secret | Config): Json {
  const json = dockerJson(kind === "secret" ? "Secret" : "Config", object);
  const { Data, ...spec } = (json["Spec"] ?? {}) as Json;
  const isShown = kind === "config" && Data !== undefined;
  return { ...json, Spec: { ...spec, ...(isShown ? { Data } : {}) } };
}
