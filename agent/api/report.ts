// /tsswarm/report: what others need to know of this node, as a tar. Our own.

import type { FastifyInstance } from "fastify";
import { answerTar } from "./stream.ts";
import type { ApiContext } from "./types.ts";

export function addReport(app: FastifyInstance, { report }: ApiContext): void {
  app.get("/tsswarm/report", async (_request, reply) => {
    await answerTar(reply, report);
    return reply;
  });
}
