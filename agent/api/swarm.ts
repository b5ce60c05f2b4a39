// /swarm: the cluster this node is in, and how it gets in and out.

import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { codec } from "../../proto/codec.ts";
import type { ClusterSpec } from "../../proto/gen/types.ts";
import { clusterJson } from "./adapt.ts";
import { controlOf } from "./control.ts";
import { notYet, StatusError, withStatus } from "./errors.ts";
import { jsonBody, parseBody, Query, requiredVersion } from "./request.ts";
import type { ApiContext } from "./types.ts";

const text = z
  .string()
  .nullish()
  .transform((value) => value ?? "");
const texts = z
  .array(z.string())
  .nullish()
  .transform((value) => value ?? []);
const flag = z
  .boolean()
  .nullish()
  .transform((value) => value ?? false);
const whole = z
  .int()
  .min(0)
  .nullish()
  .transform((value) => value ?? 0);

const initBody = z.object({
  ListenAddr: text,
  AdvertiseAddr: text,
  DataPathAddr: text,
  DataPathPort: whole,
  DefaultAddrPool: texts,
  SubnetSize: whole,
  ForceNewCluster: flag,
  AutoLockManagers: flag,
  Availability: text,
  Spec: z.unknown().optional(),
});
const joinBody = z.object({
  ListenAddr: text,
  AdvertiseAddr: text,
  DataPathAddr: text,
  RemoteAddrs: texts,
  JoinToken: text,
  Availability: text,
});

/** A node that is in (or not in) a swarm is answered 503, a token that does not fit 400. */
const membershipStatuses = { precondition: 503, denied: 400 } as const;

export function addSwarm(app: FastifyInstance, context: ApiContext): void {
  app.get("/swarm", async () => {
    const cluster = await controlOf(context).unary("GetCluster", {});
    return clusterJson(cluster, true);
  });

  app.post("/swarm/init", async (request, reply) => {
    const body = parseBody(initBody, jsonBody(request));
    const spec = clusterSpec(body.Spec);
    if (body.AutoLockManagers || spec.EncryptionConfig?.AutoLockManagers === true)
      throw notYet("autolock");
    const { AutoLockManagers: _, ...init } = body;
    const id = await withStatus(membershipStatuses, () =>
      context.membership.init({ ...init, Spec: spec }),
    );
    return reply.type("application/json").send(JSON.stringify(id));
  });

  app.post("/swarm/join", async (request, reply) => {
    const body = parseBody(joinBody, jsonBody(request));
    await withStatus(membershipStatuses, () => context.membership.join(body));
    return reply.code(200).send();
  });

  app.post("/swarm/leave", async (request, reply) => {
    const force = new Query(request).flag("force");
    await withStatus(membershipStatuses, () => context.membership.leave(force));
    return reply.code(200).send();
  });

  app.post("/swarm/update", async (request, reply) => {
    const query = new Query(request);
    const version = requiredVersion(query, "swarm");
    await controlOf(context).unary("UpdateCluster", {
      Version: version,
      Spec: clusterSpec(jsonBody(request)),
      RotateWorkerToken: query.flag("rotateWorkerToken"),
      RotateManagerToken: query.flag("rotateManagerToken"),
      RotateManagerUnlockKey: query.flag("rotateManagerUnlockKey"),
    });
    return reply.code(200).send();
  });

  app.get("/swarm/unlockkey", async () => {
    const cluster = await controlOf(context).unary("GetCluster", {});
    if (cluster.Spec?.EncryptionConfig?.AutoLockManagers === true) throw notYet("autolock");
    return { UnlockKey: "" };
  });

  app.post("/swarm/unlock", async () => {
    const { state } = context.membership.local();
    if (state === "locked") throw notYet("unlocking a swarm");
    if (state !== "active")
      throw new StatusError(503, "precondition", "This node is not part of a swarm");
    throw new StatusError(409, "conflict", "swarm is not locked");
  });
}

function clusterSpec(json: unknown): ClusterSpec {
  return codec("ClusterSpec").parse(json ?? {});
}
