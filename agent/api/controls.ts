// What can be asked of a container beside its start and its end: pause, rename, limits, processes, figures, pruning.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { SwarmError } from "../../proto/kit/errors.ts";
import { realWorld } from "../../proto/kit/world.ts";
import type { Container, ContainerUpdate } from "../engine/container-types.ts";
import { selectStopped } from "./container-filters.ts";
import { parseRestart } from "./create.ts";
import { checkLimits, checkWeight, discarded, type Limits } from "./create-limits.ts";
import { withStatus } from "./errors.ts";
import { jsonBody, parameter, parseBody, Query } from "./request.ts";
import { statsJson } from "./stats-json.ts";
import { outflow } from "./stream.ts";
import type { ApiContext } from "./types.ts";

const run = promisify(execFile);
const psMsMax = 10_000;
const statsMs = 1_000;
const terminalMax = 65_535;

const whole = z.int().nullish();
const updateBody = z.object({
  Memory: whole,
  MemorySwap: whole,
  MemoryReservation: whole,
  NanoCpus: whole,
  PidsLimit: whole,
  CpuShares: whole,
  CpuPeriod: whole,
  CpuQuota: whole,
  CpusetCpus: z.string().nullish(),
  CpusetMems: z.string().nullish(),
  BlkioWeight: whole,
  RestartPolicy: z.object({ Name: z.string().nullish(), MaximumRetryCount: whole }).nullish(),
});

export function addControls(app: FastifyInstance, context: ApiContext): void {
  const { engine } = context;

  for (const verb of ["pause", "unpause"] as const)
    app.post(`/containers/:id/${verb}`, async (request, reply) => {
      await engine[verb](parameter(request, "id"));
      return reply.code(204).send();
    });

  app.post("/containers/:id/rename", async (request, reply) => {
    const container = engine.inspect(parameter(request, "id"));
    const name = new Query(request).text("name").replace(/^\//, "");
    if (name === "") throw new SwarmError("invalid", "Neither old nor new names may be empty");
    if (name === container.name)
      throw new SwarmError(
        "invalid",
        "Renaming a container with the same name as its current name",
      );
    await engine.rename(container.id, name);
    return reply.code(204).send();
  });

  app.post("/containers/:id/resize", async (request, reply) => {
    const query = new Query(request);
    const [rows, columns] = [query.integer("h") ?? 0, query.integer("w") ?? 0];
    if (rows < 0 || columns < 0 || rows > terminalMax || columns > terminalMax)
      throw new SwarmError("invalid", `a terminal has 0 to ${terminalMax} rows and columns`);
    await engine.resize(parameter(request, "id"), rows, columns);
    return reply.code(200).send();
  });

  app.get("/containers/:id/top", async (request) => {
    const args = new Query(request).text("ps_args");
    const pids = await engine.pids(parameter(request, "id"));
    return listProcesses(args === "" ? "-ef" : args, new Set(pids));
  });

  app.get("/containers/:id/changes", async (request) => {
    const changes = await engine.changes(parameter(request, "id"));
    return changes.length === 0 ? null : changes;
  });

  app.get("/containers/:id/stats", async (request, reply) => {
    const query = new Query(request);
    const container = engine.inspect(parameter(request, "id"));
    const [isStream, isOneShot] = [query.flag("stream", true), query.flag("one-shot")];
    return outflow(
      reply,
      "application/json",
      async (out) => {
        let before: Awaited<ReturnType<typeof engine.stats>> = null;
        if (!isStream && !isOneShot) {
          before = await engine.stats(container.id);
          await realWorld.sleep(statsMs, out.gone).catch(() => {});
        }
        while (!out.gone.aborted) {
          const now = await engine.stats(container.id);
          await out.write(`${JSON.stringify(statsJson(container, now, before))}\n`);
          if (!isStream || !isThere(context, container)) return;
          before = now;
          await realWorld.sleep(statsMs, out.gone).catch(() => {});
        }
      },
      () => "",
    );
  });

  app.post("/containers/:id/update", async (request) => {
    const container = engine.inspect(parameter(request, "id"));
    const body = parseBody(updateBody, jsonBody(request));
    const update = updateOf(container, body);
    await withStatus({ precondition: 409 }, () => engine.update(container.id, update));
    return { Warnings: discarded(update.host, engine.info().canWeighIo) };
  });

  app.post("/containers/prune", async (request) => {
    const chosen = selectStopped(engine.list(), new Query(request).filters(), Date.now());
    const deleted: string[] = [];
    let bytes = 0;
    for (const { id } of chosen) {
      const own = await engine.bytes(id).catch(() => 0);
      try {
        await engine.remove(id, { force: false, volumes: false });
        deleted.push(id);
        bytes += own;
      } catch (error) {
        // Started or removed meanwhile.
        context.log.debug({ container: id, error }, "not pruned");
      }
    }
    return { ContainersDeleted: deleted, SpaceReclaimed: bytes };
  });
}

function isThere({ engine }: ApiContext, { id }: Container): boolean {
  return engine.list().some((container) => container.id === id);
}

/** Fields that are 0 or empty stay as they are. Throws `invalid`. */
function updateOf(container: Container, body: z.infer<typeof updateBody>): ContainerUpdate {
  const { RestartPolicy: policy, ...asked } = body;
  const host = Object.fromEntries(
    Object.entries(asked).filter(([, value]) => value !== 0 && value !== "" && value != null),
  ) as ContainerUpdate["host"];
  const before = container.host;
  const limits: Limits = {
    Memory: 0,
    MemorySwap: 0,
    MemoryReservation: 0,
    NanoCpus: 0,
    CpuPeriod: 0,
    CpuQuota: 0,
    CpuShares: 0,
    CpusetCpus: "",
    CpusetMems: "",
    PidsLimit: 0,
    ...before,
    ...host,
  };
  checkLimits(limits);
  checkWeight(host.BlkioWeight ?? 0);
  if (
    host.Memory !== undefined &&
    host.MemorySwap === undefined &&
    (before.MemorySwap ?? 0) > 0 &&
    host.Memory > (before.MemorySwap ?? 0)
  )
    throw new SwarmError(
      "conflict",
      "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
    );
  const name = policy?.Name ?? "";
  if (name === "") return { host };
  if (container.local === undefined)
    throw new SwarmError("conflict", "a task's container is restarted by its service's policy");
  const { autoRemove } = container.local;
  return { host, restart: parseRestart(name, policy?.MaximumRetryCount ?? 0, autoRemove) };
}

/** The machine's `ps`, of which the container's processes are kept. */
async function listProcesses(args: string, pids: ReadonlySet<number>) {
  if (!/^[\w\s,=:%.+-]+$/.test(args))
    throw new SwarmError("invalid", `ps: these options are not taken: ${args}`);
  const { stdout } = await run("ps", args.trim().split(/\s+/), { timeout: psMsMax }).catch(
    (cause: { readonly stderr?: string }) => {
      throw new SwarmError("invalid", `ps: ${(cause.stderr ?? "").trim() || "cannot be run"}`, {
        cause,
      });
    },
  );
  const [head = "", ...lines] = stdout.split("\n");
  const Titles = head.trim().split(/\s+/);
  const at = Titles.indexOf("PID");
  if (at < 0) throw new SwarmError("invalid", "Couldn't find PID field in ps output");
  const Processes = lines.flatMap((line) => {
    const fields = line.trim().split(/\s+/);
    if (!pids.has(Number(fields[at]))) return [];
    const last = fields.slice(Titles.length - 1).join(" ");
    return [[...fields.slice(0, Titles.length - 1), last]];
  });
  return { Processes, Titles };
}
