// GET /metrics, where the daemon was told to answer it: what the agent measures, and what the manager beside it does.

import { createServer } from "node:http";
import { errnoOf, messageOf, SwarmError } from "../../proto/kit/errors.ts";

const contentType = "text/plain; version=0.0.4; charset=utf-8";
const connectionsMax = 16;
const requestMsMax = 10_000;

export interface MetricsDoor {
  /** host:port, with the port that was found for 0. */
  readonly address: string;
  close(): Promise<void>;
}

/** `address`: host:port, all of the host's addresses where that is empty. Throws `conflict`, `unavailable`. */
export async function openMetricsDoor(
  address: string,
  text: () => Promise<string>,
): Promise<MetricsDoor> {
  const server = createServer({ requestTimeout: requestMsMax }, (request, response) => {
    const path = request.url?.split("?")[0];
    if (path !== "/metrics" || (request.method !== "GET" && request.method !== "HEAD")) {
      response.writeHead(path === "/metrics" ? 405 : 404).end();
      return;
    }
    text().then(
      (body) => response.writeHead(200, { "content-type": contentType }).end(body),
      (error: unknown) => response.writeHead(500).end(`${messageOf(error)}\n`),
    );
  });
  server.maxConnections = connectionsMax;
  const colon = address.lastIndexOf(":");
  const host = address.slice(0, colon).replace(/^\[|\]$/g, "");
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) =>
      reject(
        errnoOf(cause) === "EADDRINUSE"
          ? new SwarmError("conflict", `--metrics-addr ${address}: another process listens there`)
          : new SwarmError("unavailable", `--metrics-addr ${address}: ${messageOf(cause)}`, {
              cause,
            }),
      ),
    );
    server.listen(Number(address.slice(colon + 1)), host === "" ? undefined : host, resolve);
  });
  const bound = server.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : 0;
  return {
    address: `${address.slice(0, colon)}:${port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
