// /tasks: the runs of services' slots.

import type { FastifyInstance } from "fastify";
import { taskJson } from "./adapt.ts";
import { listRequest, readerOf } from "./control.ts";
import { streamServiceLogs } from "./logs.ts";
import { parameter, Query } from "./request.ts";
import type { ApiContext } from "./types.ts";

export function addTasks(app: FastifyInstance, context: ApiContext): void {
  app.get("/tasks", async (request, reply) => {
    // `_up-to-date` is what progress bars ask by: the tasks that run what their service says now.
    const { "_up-to-date": upToDate, runtime: _, ...others } = new Query(request).filters();
    const filters = upToDate === undefined ? others : { ...others, "up-to-date": upToDate };
    const { Items } = await readerOf(context, reply).unary("ListTasks", listRequest(filters));
    return Items.map(taskJson);
  });

  app.get("/tasks/:id", async (request, reply) => {
    const id = parameter(request, "id");
    const task = await readerOf(context, reply).unary("GetTask", { ID: id, InsertDefaults: false });
    return taskJson(task);
  });

  app.get("/tasks/:id/logs", async (request, reply) => {
    const task = await readerOf(context, reply).unary("GetTask", {
      ID: parameter(request, "id"),
      InsertDefaults: false,
    });
    const tty = task.Spec?.ContainerSpec?.TTY === true;
    await streamServiceLogs(context, request, reply, { TaskID: task.ID, tty });
  });
}
