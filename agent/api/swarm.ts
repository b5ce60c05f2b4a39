// /swarm: the cluster this node is in, and how it gets in and out.

import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { checkBackupKey } from "../../proto/backup.ts";
import { codec } from "../../proto/codec.ts";
import type { ClusterSpec } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { clusterJson } from "./adapt.ts";
import { controlOf, readerOf } from "./control.ts";
import { withStatus } from "./errors.ts";
import { flag, text, texts } from "./fields.ts";
import { jsonBody, parseBody, Query, requiredVersion } from "./request.ts";
import { outflow } from "./stream.ts";
import { saysAnything, specOver } from "./swarm-spec.ts";
import type { ApiContext } from "./types.ts";

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
const backupBody = z.object({ Key: text });
const unlockBody = z.object({ UnlockKey: text });

const backupBytesMax = 1024 * 1024 * 1024;

/** A node that is in (or not in) a swarm is answered 503, a token that does not fit 400. */
const membershipStatuses = { precondition: 503, denied: 400 } as const;

export function addSwarm(app: FastifyInstance, context: ApiContext): void {
  app.get("/swarm", async (_request, reply) => {
    const cluster = await readerOf(context, reply).unary("GetCluster", {});
    return clusterJson(cluster, true);
  });

  app.post("/swarm/init", async (request, reply) => {
    const body = parseBody(initBody, jsonBody(request));
    const { AutoLockManagers, ...init } = body;
    const asked = clusterSpec(body.Spec);
    const spec = AutoLockManagers ? { ...asked, EncryptionConfig: { AutoLockManagers } } : asked;
    const id = await withStatus(membershipStatuses, () =>
      context.membership.init({ ...init, Spec: spec }),
    );
    if (init.ForceNewCluster && saysAnything(spec)) await applySpec(context, spec);
    return reply.type("application/json").send(JSON.stringify(id));
  });

  addRecovery(app, context);

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

  app.get("/swarm/unlockkey", async () => controlOf(context).unary("GetUnlockKey", {}));

  app.post("/swarm/unlock", async (request, reply) => {
    const { UnlockKey } = parseBody(unlockBody, jsonBody(request));
    await withStatus(membershipStatuses, () => context.membership.unlock(UnlockKey));
    return reply.code(200).send();
  });
}

/** Our own: Docker's users copy the manager's folder, with the daemon stopped. */
function addRecovery(app: FastifyInstance, context: ApiContext): void {
  app.post("/tsswarm/swarm/backup", async (request, reply) => {
    const control = controlOf(context);
    const body = parseBody(backupBody, jsonBody(request));
    checkBackupKey(body.Key);
    await outflow(
      reply,
      "application/octet-stream",
      async (out) => {
        for await (const { Data } of control.download("Backup", body, { signal: out.gone }))
          await out.write(Buffer.from(Data));
      },
      () => "",
    );
  });

  app.post("/tsswarm/swarm/restore", { bodyLimit: backupBytesMax }, async (request, reply) => {
    const query = new Query(request);
    const init = parseBody(initBody, {
      ListenAddr: query.text("listenAddr"),
      AdvertiseAddr: query.text("advertiseAddr"),
      DataPathAddr: query.text("dataPathAddr"),
    });
    if (!(request.body instanceof Buffer))
      throw new SwarmError("invalid", "the body is to be the backup");
    const { body } = request;
    const { AutoLockManagers: _, ...wanted } = init;
    const key = Buffer.from(`${request.headers["x-tsswarm-backup-key"] ?? ""}`, "base64");
    const id = await withStatus(membershipStatuses, () =>
      context.membership.restore({ ...wanted, Spec: {} }, body, key.toString("utf8")),
    );
    return reply.type("application/json").send(JSON.stringify(id));
  });
}

/** The cluster there was goes on with its own spec: what was asked for comes after. */
async function applySpec(context: ApiContext, asked: ClusterSpec): Promise<void> {
  const control = controlOf(context);
  const { Version, Spec } = await control.unary("GetCluster", {});
  if (Version !== undefined && Spec !== undefined)
    await control.unary("UpdateCluster", {
      ...{ Version: Version.Index, Spec: specOver(Spec, asked) },
      ...{ RotateWorkerToken: false, RotateManagerToken: false, RotateManagerUnlockKey: false },
    });
}

function clusterSpec(json: unknown): ClusterSpec {
  return codec("ClusterSpec").parse(json ?? {});
}
