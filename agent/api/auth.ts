// POST /auth: whether a registry takes these credentials.

import type { FastifyInstance } from "fastify";
import { withStatus } from "./errors.ts";
import { authBody, jsonBody, parseBody } from "./request.ts";
import { clientGone } from "./stream.ts";
import type { ApiContext } from "./types.ts";

const registryMsMax = 30_000;
const hub = "docker.io";

export function addAuth(app: FastifyInstance, context: ApiContext): void {
  app.post("/auth", async (request, reply) => {
    const auth = parseBody(authBody, jsonBody(request));
    const signal = AbortSignal.any([clientGone(reply.raw), AbortSignal.timeout(registryMsMax)]);
    const domain = domainOf(auth.serveraddress ?? "");
    await withStatus({ denied: 401 }, () => context.engine.checkLogin(domain, auth, signal));
    return { Status: "Login Succeeded", IdentityToken: "" };
  });
}

/** Docker's clients name a registry by host or by URL, and its own by the URL of a version that is no more. */
function domainOf(address: string): string {
  const host = address.replace(/^https?:\/\//, "").replace(/\/.*$/, "");
  return ["", "index.docker.io", "registry-1.docker.io"].includes(host) ? hub : host;
}
