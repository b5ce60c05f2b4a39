// /tasks: the runs of services' slots.

import type { FastifyInstance } from "fastify";
import type { Task } from "../../proto/gen/types.ts";
import { asSwarmError } from "../../proto/kit/errors.ts";
import type { Client } from "../../proto/rpc.ts";
import { taskJson } from "./adapt.ts";
import { controlOf, listRequest } from "./control.ts";
import { streamServiceLogs } from "./logs.ts";
import { flagFilter, parameter, Query } from "./request.ts";
import type { ApiContext } from "./types.ts";

export function addTasks(app: FastifyInstance, context: ApiContext): void {
  app.get("/tasks", async (request) => {
    const control = controlOf(context);
    const filters = new Query(request).filters();
    const { "_up-to-date": _, runtime: __, ...known } = filters;
    const { Items } = await control.unary("ListTasks", listRequest(known));
    const upToDate = flagFilter(filters, "_up-to-date");
    const kept = upToDate === undefined ? Items : await withFreshness(control, Items, upToDate);
    return kept.map(taskJson);
  });

  app.get("/tasks/:id", async (request) => {
    const id = parameter(request, "id");
    const task = await controlOf(context).unary("GetTask", { ID: id, InsertDefaults: false });
    return taskJson(task);
  });

  app.get("/tasks/:id/logs", async (request, reply) => {
    const task = await controlOf(context).unary("GetTask", {
      ID: parameter(request, "id"),
      InsertDefaults: false,
    });
    const tty = task.Spec?.ContainerSpec?.TTY === true;
    await streamServiceLogs(context, request, reply, { TaskID: task.ID, tty });
  });
}

/** Docker's `_up-to-date` filter, which progress bars use: tasks made from their service's newest spec. */
async function withFreshness(
  control: Client<"Control">,
  tasks: readonly Task[],
  upToDate: boolean,
): Promise<readonly Task[]> {
  const newest = new Map<string, number>();
  for (const id of new Set(tasks.map((task) => task.ServiceID))) {
    try {
      const service = await control.unary("GetService", { ID: id, InsertDefaults: false });
      newest.set(id, service.SpecVersion);
    } catch (error) {
      if (asSwarmError(error).code !== "not_found") throw error;
    }
  }
  return tasks.filter((task) => (newest.get(task.ServiceID) === task.SpecVersion) === upToDate);
}
