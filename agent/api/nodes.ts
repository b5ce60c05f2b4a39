// /nodes: the machines of the cluster.

import type { FastifyInstance } from "fastify";
import { codec } from "../../proto/codec.ts";
import { nodeJson } from "./adapt.ts";
import { controlOf, listRequest, readerOf } from "./control.ts";
import { jsonBody, parameter, Query, requiredVersion } from "./request.ts";
import type { ApiContext } from "./types.ts";

export function addNodes(app: FastifyInstance, context: ApiContext): void {
  app.get("/nodes", async (request, reply) => {
    const filters = new Query(request).filters();
    const { Items } = await readerOf(context, reply).unary("ListNodes", listRequest(filters));
    return Items.map(nodeJson);
  });

  app.get("/nodes/:id", async (request, reply) => {
    const id = parameter(request, "id");
    const node = await readerOf(context, reply).unary("GetNode", { ID: id, InsertDefaults: false });
    return nodeJson(node);
  });

  app.post("/nodes/:id/update", async (request, reply) => {
    await controlOf(context).unary("UpdateNode", {
      ID: parameter(request, "id"),
      Version: requiredVersion(new Query(request), "node"),
      Spec: codec("NodeSpec").parse(jsonBody(request)),
    });
    return reply.code(200).send();
  });

  app.delete("/nodes/:id", async (request, reply) => {
    await controlOf(context).unary("RemoveNode", {
      ID: parameter(request, "id"),
      Force: new Query(request).flag("force"),
    });
    return reply.code(200).send();
  });
}
