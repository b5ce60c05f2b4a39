// A daemon without containers or managers: small in-memory stand-ins behind the real REST server.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex } from "node:stream";
import grpc from "@grpc/grpc-js";
import { openApi } from "../../../../agent/api/server.ts";
import type { ApiContext, Finding, LocalNode, Membership } from "../../../../agent/api/types.ts";
import { BuildKit } from "../../../../agent/buildkit/buildkit.ts";
import { plainLogs } from "../../../../agent/engine/log-limits.ts";
import type { Network } from "../../../../proto/gen/types.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import { newId } from "../../../../proto/kit/ids.ts";
import { silentLog } from "../../../../proto/kit/log.ts";
import { Client } from "../../../../proto/rpc-client.ts";
import { type Handlers, serve } from "../../../../proto/rpc-server.ts";
import { FakeCluster, handlersOf } from "./fake-cluster.ts";
import { FakeEngine } from "./fake-engine.ts";

export const dockerPath = ["/usr/local/bin/docker", "/usr/bin/docker"].find((path) =>
  existsSync(path),
);

export interface FakeDaemon extends AsyncDisposable {
  readonly socket: string;
  readonly engine: FakeEngine;
  readonly cluster: FakeCluster;
  readonly membership: { node: LocalNode; networks: Network[] };
  /** What the doctor finds. */
  readonly findings: Finding[];
  readonly context: ApiContext;
  /** What leads to other nodes' APIs; none does unless the test says so. */
  readonly ways: Map<string, () => Duplex>;
  /** What comes from another node's API. */
  serve(stream: Duplex): void;
  ask(method: string, path: string, body?: unknown, headers?: http.OutgoingHttpHeaders): Answer;
  docker(...args: string[]): Promise<Ran>;
  /** As if its process had ended. */
  killManager(): void;
}
export type Answer = Promise<{
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly bytes: Buffer;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers as a client would
  readonly json: any;
}>;
export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const outside: LocalNode = {
  state: "inactive",
  error: "",
  nodeId: "",
  nodeAddr: "",
  clusterId: "",
  isManager: false,
  managers: [],
};

/** `inSwarm`: as the manager of a swarm of one. `manager`: instead of the fake one. */
export async function startFakeDaemon(
  inSwarm: boolean,
  manager?: Handlers<"Control">,
): Promise<FakeDaemon> {
  const folder = await mkdtemp(join(tmpdir(), "tsswarm-api-"));
  const cluster = new FakeCluster();
  const engine = new FakeEngine();
  const server = new grpc.Server();
  serve(server, "Control", manager ?? (await handlersOf(cluster)), () => undefined);
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${folder}/manager.sock`, grpc.ServerCredentials.createInsecure(), (e) =>
      e === null ? resolve() : reject(e),
    ),
  );
  const control = new Client(
    "Control",
    `unix:${folder}/manager.sock`,
    grpc.credentials.createInsecure(),
    {},
    "the manager on this node",
  );
  const state: FakeDaemon["membership"] = { node: outside, networks: [] };
  const enter = (isManager: boolean): string => {
    if (state.node.state !== "inactive")
      throw new SwarmError(
        "precondition",
        'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.',
      );
    const nodeId = newId();
    if (isManager) cluster.start(nodeId);
    state.node = {
      ...outside,
      state: "active",
      nodeId,
      nodeAddr: "10.77.0.11",
      isManager,
      managers: [{ NodeID: nodeId, Addr: "10.77.0.11:2377" }],
    };
    return nodeId;
  };
  const membership: Membership = {
    local: () => state.node,
    networks: () => state.networks,
    init: async () => enter(true),
    restore: async (_request, backup) => Buffer.from(backup).toString(),
    join: async ({ JoinToken }) => {
      if (!JoinToken.startsWith("SWMTKN-"))
        throw new SwarmError("denied", "A valid join token is necessary to join this cluster");
      enter(false);
    },
    leave: async (force) => {
      if (state.node.state !== "active")
        throw new SwarmError("precondition", "This node is not part of a swarm");
      if (state.node.isManager && !force)
        throw new SwarmError(
          "precondition",
          "You are attempting to leave the swarm on a node that is participating as a manager. Use `--force` to suppress this message.",
        );
      state.node = outside;
    },
    unlock: async (key) => {
      if (state.node.state === "active") throw new SwarmError("conflict", "swarm is not locked");
      if (state.node.state !== "locked")
        throw new SwarmError("precondition", "This node is not part of a swarm");
      if (key !== "SWMKEY-1-right")
        throw new SwarmError(
          "unauthenticated",
          "swarm could not be unlocked: invalid key provided",
        );
      enter(true);
    },
  };
  if (inSwarm) enter(true);
  const findings: Finding[] = [];
  const ways = new Map<string, () => Duplex>();
  const context: ApiContext = {
    engine,
    builder: {
      build: async ({ names }, tell) => {
        const id = `sha256:${"b".repeat(64)}`;
        tell({ tell: "built", id, names });
        return id;
      },
      prune: async () => ({ deleted: ["sha256:step"], bytes: 7 }),
    },
    buildKit: new BuildKit("/nowhere/contexts", Date.now),
    membership,
    doctor: {
      examine: async ({ repair }) => ({
        NodeID: state.node.nodeId,
        LocalNodeState: state.node.state,
        Findings: findings.map((finding) => ({ ...finding, Repaired: repair })),
      }),
    },
    control: () => control,
    tunnel: (nodeId) => ways.get(nodeId)?.() ?? noWay(nodeId),
    log: silentLog,
    version: "0.1.0",
    dataRoot: "/var/lib/tsswarm",
    labels: ["rack=a"],
    logs: plainLogs,
    genericResources: [],
    report: async function* () {
      yield Buffer.from("a report");
    },
    imageCollection: async () => ({
      ...{ images: 2, bytes: 3_000_000, diskPercent: 41.6 },
      limits: { percentHigh: 85, percentLow: 80 },
    }),
    insecureRegistries: ["registry.lab:5000"],
    registryMirrors: ["http://mirror.lab:5000"],
  };
  const socket = `${folder}/docker.sock`;
  const api = await openApi(context, [`unix://${socket}`], new AbortController().signal);
  return {
    socket,
    engine,
    cluster,
    membership: state,
    findings,
    context,
    ways,
    serve: (stream) => api.serve(stream),
    ask: (method, path, body, headers) => ask(socket, method, path, body, headers),
    docker: (...args) => docker(socket, folder, args),
    killManager: () => server.forceShutdown(),
    [Symbol.asyncDispose]: async () => {
      await api.close();
      control.close();
      server.forceShutdown();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** As the manager answers for a node that has no session. */
function noWay(nodeId: string): Duplex {
  const error = new SwarmError("unavailable", `node ${nodeId} is not connected to any manager now`);
  const stream = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() });
  return stream.destroy(error);
}

export async function ask(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
  headers: http.OutgoingHttpHeaders = {},
): Answer {
  const isJson = body !== undefined && typeof body !== "string" && !Buffer.isBuffer(body);
  return new Promise((resolve, reject) => {
    const request = http.request(
      {
        socketPath,
        method,
        path,
        headers: {
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const bytes = Buffer.concat(chunks);
          const text = bytes.toString();
          const typed = /json/.test(response.headers["content-type"] ?? "");
          const json = typed && text !== "" && !/\n./.test(text) ? JSON.parse(text) : undefined;
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            bytes,
            text,
            json,
          });
        });
      },
    );
    request.on("error", reject);
    request.end(isJson ? JSON.stringify(body) : body);
  });
}

async function docker(socket: string, home: string, args: readonly string[]): Promise<Ran> {
  return run(dockerPath ?? "docker", args, { DOCKER_HOST: `unix://${socket}`, HOME: home });
}

export async function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<Ran> {
  const child = spawn(program, args, {
    env: { PATH: process.env["PATH"], ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status) => resolve(status ?? 128));
  });
  return { code, stdout, stderr };
}

/** Starts a program and ends it as soon as its output looks like this; gives the output. Fails when it ends before. */
export async function runUntil(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  wanted: RegExp,
): Promise<string> {
  const child = spawn(program, args, {
    env: { PATH: process.env["PATH"], ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let stdout = "";
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
    if (wanted.test(stdout)) child.kill("SIGINT");
  });
  await new Promise((resolve) => child.once("close", resolve));
  if (!wanted.test(stdout)) throw new Error(`${program} ended after ${JSON.stringify(stdout)}`);
  return stdout;
}
