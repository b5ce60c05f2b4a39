// /tsswarm/doctor: what is wrong with this node. Our own, Docker has nothing like it.

import type { FastifyInstance } from "fastify";
import type { ApiContext } from "./types.ts";

const examinationMsMax = 30_000;

export function addDoctor(app: FastifyInstance, { doctor }: ApiContext): void {
  const examine = (repair: boolean) =>
    doctor.examine({ repair }, AbortSignal.timeout(examinationMsMax));
  app.get("/tsswarm/doctor", async () => examine(false));
  app.post("/tsswarm/doctor/repair", async () => examine(true));
}
