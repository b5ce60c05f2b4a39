// The Docker Engine REST door: one HTTP server per host, every object family behind it.

import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type FastifyInstance, type FastifyRequest, fastify } from "fastify";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { addArchive } from "./archive.ts";
import { addAttach, attachUpgraded } from "./attach.ts";
import { attachWebSocket } from "./attach-websocket.ts";
import { addAuth } from "./auth.ts";
import { addBuild } from "./build.ts";
import { addCreate } from "./container-create.ts";
import { addContainers } from "./containers.ts";
import { addControls } from "./controls.ts";
import { addDistribution } from "./distribution.ts";
import { addDoctor } from "./doctor.ts";
import { Elsewhere } from "./elsewhere.ts";
import { toAnswer } from "./errors.ts";
import { addEvents } from "./events.ts";
import { addExec, startUpgraded } from "./exec.ts";
import { addFiles } from "./files.ts";
import { refuse, sayUpgraded, take } from "./hijack.ts";
import { addImageTransfers } from "./image-transfers.ts";
import { addImages } from "./images.ts";
import { addLater } from "./later.ts";
import { addNetworks } from "./networks.ts";
import { addNodes } from "./nodes.ts";
import { addPlugins } from "./plugins.ts";
import { addReport } from "./report.ts";
import { Query } from "./request.ts";
import { addSearch } from "./search.ts";
import { addServices } from "./services.ts";
import { listenOnSocket } from "./socket.ts";
import { addSwarm } from "./swarm.ts";
import { addSystem } from "./system.ts";
import { addTasks } from "./tasks.ts";
import { apiServer, listenOnTcp, refusePages, type TlsFiles, tcpPlace } from "./tcp.ts";
import { refuseOthers, refusePrivileged } from "./tunnelled.ts";
import type { ApiContext } from "./types.ts";
import { letTakeOver } from "./unasked.ts";
import { apiVersion, versionOf, withoutVersion } from "./versions.ts";
import { addVolumes } from "./volumes.ts";

const bodyBytesMax = 4 * 1024 * 1024;
const parameterLengthMax = 4096;

export interface Api {
  close(): Promise<void>;
  /** Answers what comes over this stream from another node's API (tunnelled.ts). */
  serve(stream: Duplex): void;
}

/**
 * Listens on every host (`unix:///path`, `tcp://host:port`) until closed or aborted; on TCP with these files, without them only on
 * loopback. Errors: `conflict` (someone else listens there), `unsupported` (TCP for everyone, files that can not be used), `invalid`,
 * `unavailable`.
 */
export async function openApi(
  context: ApiContext,
  hosts: readonly string[],
  signal: AbortSignal,
  tls: TlsFiles | null = null,
): Promise<Api> {
  const servers: FastifyInstance[] = [];
  let closing: Promise<void> | null = null;
  const close = () => {
    closing ??= Promise.all(servers.map((server) => server.close())).then(() => {});
    return closing;
  };
  signal.throwIfAborted();
  signal.addEventListener("abort", () => void close(), { once: true });
  const tunnelled = build(context, "tunnel");
  servers.push(tunnelled);
  try {
    await tunnelled.ready();
    for (const host of hosts) {
      const place = tcpPlace(host, tls !== null);
      const kind = place === null ? "unix" : tls === null ? "plain" : tls;
      const server = build(context, kind);
      servers.push(server);
      await server.ready();
      if (place === null) await listenOnSocket(server.server, pathOf(host));
      else await listenOnTcp(server.server, place);
      if (kind === "plain")
        context.log.warn({ host }, "every program on this machine may use the API as root");
      context.log.info({ host }, "the API listens");
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { close, serve: (stream) => void tunnelled.server.emit("connection", stream) };
}

function pathOf(host: string): string {
  const path = /^unix:\/\/(\/.+)$/.exec(host)?.[1];
  if (path === undefined)
    throw new SwarmError(
      "invalid",
      `cannot listen on ${host}: unix:///path or tcp://HOST:PORT is expected`,
    );
  return path;
}

function build(context: ApiContext, kind: "unix" | "plain" | "tunnel" | TlsFiles): FastifyInstance {
  const app = fastify({
    logger: false,
    bodyLimit: bodyBytesMax,
    serverFactory: (handler) => apiServer(handler, typeof kind === "string" ? null : kind),
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: parameterLengthMax },
    rewriteUrl: (request) => withoutVersion(request.url ?? "/"),
    frameworkErrors: (error, _request, reply) => {
      const answer = toAnswer(error);
      reply.hijack();
      reply.raw.writeHead(answer.status, { "content-type": "application/json" });
      reply.raw.end(JSON.stringify({ message: answer.message }));
    },
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", (request, body, done) => {
    if (request.routeOptions.config.streamsBody === true) done(null, body);
    else
      wholeBody(body, request.headers["content-length"], request.routeOptions.bodyLimit).then(
        (bytes) => done(null, bytes),
        done,
      );
  });
  app.addHook("onRequest", async (request, reply) => {
    for (const [name, value] of Object.entries(commonHeaders(context)))
      reply.raw.setHeader(name, value);
    if (kind === "plain") refusePages(request.headers);
    versionOf(request.originalUrl);
    if (kind === "tunnel") refuseOthers(context.engine, request.method, request.url);
  });
  const elsewhere = kind === "tunnel" ? null : new Elsewhere(context);
  app.addHook("onRequest", async (request, reply) => {
    const node = (await elsewhere?.nodeOf(request.method, request.originalUrl)) ?? null;
    if (node === null) return;
    reply.hijack();
    void elsewhere?.pass(node, request.originalUrl, request.raw, reply.raw);
    return reply;
  });
  if (kind === "tunnel")
    app.addHook("preHandler", async ({ url, body }) => refusePrivileged(context.engine, url, body));
  // The docker CLI knows an error's JSON only by exactly this type.
  app.addHook("onSend", async (_request, reply, payload) => {
    const type = reply.getHeader("content-type");
    if (typeof type === "string" && type.startsWith("application/json"))
      reply.header("content-type", "application/json");
    return payload;
  });
  app.addHook("onResponse", async (request, reply) => {
    const { method } = request;
    const ms = Math.round(reply.elapsedTime);
    context.log.trace(
      { method, path: pathnameOf(request), status: reply.statusCode, ms },
      "answered",
    );
  });
  app.setErrorHandler((error, request, reply) => {
    const answer = toAnswer(error);
    // What we did not expect; all else is between the client and its request.
    if (answer.status === 500)
      context.log.warn({ method: request.method, path: pathnameOf(request) }, messageOf(error));
    return reply.code(answer.status).send({ message: answer.message });
  });
  app.setNotFoundHandler((_request, reply) => reply.code(404).send({ message: "page not found" }));
  for (const add of families) add(app, context);
  const connected = typeof kind === "string" ? "connection" : "secureConnection";
  if (kind !== "tunnel")
    letTakeOver(app.server, connected, (url) => takesInput(context, withoutVersion(url)));
  serveUpgrades(app, context, kind === "plain", elsewhere);
  return app;
}

declare module "fastify" {
  interface FastifyContextConfig {
    /** The handler reads the body itself, as it comes. */
    readonly streamsBody?: boolean;
  }
}

/** Throws `too_large`. */
async function wholeBody(
  body: IncomingMessage,
  length: string | undefined,
  bytesMax = bodyBytesMax,
): Promise<Buffer> {
  const tooLarge = () =>
    new SwarmError("too_large", `the request body is too large: ${bytesMax} bytes at most`);
  if (Number(length ?? 0) > bytesMax) throw tooLarge();
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > bytesMax) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Without the query: it may hold what is nobody's business. */
function pathnameOf(request: FastifyRequest): string {
  return request.url.split("?")[0] ?? "";
}

const webSocketPath = /^\/containers\/([^/?]+)\/attach\/ws(?:\?|$)/;
const attachPath = /^\/containers\/([^/?]+)\/attach(?:\?|$)/;
const startPath = /^\/exec\/([0-9A-Za-z]+)\/start$/;

/** Requests that ask to leave HTTP never reach fastify. */
function serveUpgrades(
  app: FastifyInstance,
  context: ApiContext,
  isPlain: boolean,
  /** null: what comes here has come from elsewhere. */
  elsewhere: Elsewhere | null,
): void {
  const open = new Set<Duplex>();
  // Also those that are still shaking hands.
  app.server.on("connection", (socket: Socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
  });
  // fastify closes only what it has opened itself.
  app.addHook("preClose", async () => {
    const closed = new Promise<void>((resolve) => app.server.close(() => resolve()));
    for (const socket of open) socket.destroy();
    app.server.closeAllConnections();
    await closed;
  });
  app.server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const headers = commonHeaders(context);
    const answer = async () => {
      if (isPlain) refusePages(request.headers);
      const { method = "", url = "/" } = request;
      if (elsewhere === null) refuseOthers(context.engine, method, withoutVersion(url));
      const node = await elsewhere?.nodeOf(method, url);
      if (node) return elsewhere?.upgrade(node, request, socket, head);
      const attached = webSocketPath.exec(withoutVersion(url))?.[1];
      if (method === "GET" && attached !== undefined) {
        versionOf(url);
        await attachWebSocket(context, { request, socket, head }, decodeURIComponent(attached));
        return;
      }
      const taken = await take(request, socket, head, headers);
      versionOf(taken.path);
      const path = withoutVersion(taken.path);
      const exec = startPath.exec(path)?.[1];
      const container = attachPath.exec(path)?.[1];
      if (request.method === "POST" && exec !== undefined)
        await startUpgraded(context, taken, exec);
      else if (request.method === "POST" && container !== undefined)
        await attachUpgraded(context, taken, decodeURIComponent(container));
      else if (request.method === "POST" && /^\/session(\?|$)/.test(path))
        context.buildKit.sessions.open(request.headers, () => {
          sayUpgraded(taken, "application/vnd.docker.raw-stream", "h2c");
          return taken.socket;
        });
      else
        throw new SwarmError(
          "unsupported",
          "only attach, the start of an exec and a session of a build can take over a connection",
        );
    };
    answer().catch((error: unknown) => refuse(socket, headers, error));
  });
}

/** What follows such a request is the input of one of this node's processes. */
function takesInput({ engine }: ApiContext, path: string): boolean {
  try {
    const exec = startPath.exec(path)?.[1];
    if (exec !== undefined) return engine.inspectExec(exec).config.attachStdin;
    const container = decodeURIComponent(attachPath.exec(path)?.[1] ?? "");
    const query = Object.fromEntries(new URL(path, "http://localhost").searchParams);
    return new Query({ query }).flag("stdin") && engine.inspect(container).id !== "";
  } catch {
    return false;
  }
}

const families: readonly ((app: FastifyInstance, context: ApiContext) => void)[] = [
  addSystem,
  addDoctor,
  addReport,
  addSwarm,
  addNodes,
  addServices,
  addTasks,
  addNetworks,
  addFiles,
  addContainers,
  addCreate,
  addAttach,
  addControls,
  addArchive,
  addExec,
  addSearch,
  addImages,
  addImageTransfers,
  addBuild,
  addDistribution,
  addAuth,
  addEvents,
  addVolumes,
  addPlugins,
  addLater,
];

function commonHeaders(context: ApiContext): Readonly<Record<string, string>> {
  return {
    "Api-Version": apiVersion,
    "Docker-Experimental": "false",
    Ostype: "linux",
    Server: `tsswarm/${context.version} (linux)`,
  };
}
