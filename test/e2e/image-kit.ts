// The real docker command against an engine on a Ground, through the REST door.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { openApi } from "../../agent/api/server.ts";
import { openBuilder } from "../../agent/build/builder.ts";
import { BuildKit } from "../../agent/buildkit/buildkit.ts";
import type { OpenEngine } from "../../agent/engine/engine.ts";
import { plainLogs } from "../../agent/engine/log-limits.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { silentLog } from "../../proto/kit/log.ts";
import type { Ground } from "./engine-kit.ts";

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A daemon without a swarm: its socket, and the docker command on it. */
export class Door {
  readonly socket: string;
  readonly #config: string;
  readonly #close: () => Promise<void>;

  static async open(ground: Ground, engine: OpenEngine): Promise<Door> {
    const socket = join(ground.directory, `docker-${Date.now()}.sock`);
    const refuse = async () => {
      throw new SwarmError("precondition", "this daemon is in no swarm");
    };
    const api = await openApi(
      {
        engine,
        builder: await openBuilder({
          ...{ engine, ...engine.ground, platform: "linux/amd64" },
          caches: join(ground.directory, "data/build-cache"),
          now: () => Date.now(),
        }),
        buildKit: new BuildKit(join(ground.directory, "data/build-cache/contexts"), Date.now),
        membership: {
          local: () => ({
            ...{ state: "inactive", error: "", nodeId: "", nodeAddr: "", clusterId: "" },
            ...{ isManager: false, managers: [] },
          }),
          networks: () => [],
          ...{ init: refuse, restore: refuse, join: refuse, leave: refuse, unlock: refuse },
        },
        doctor: {
          examine: async () => ({ NodeID: "", LocalNodeState: "inactive", Findings: [] }),
        },
        control: () => {
          throw new SwarmError("not_manager", "this node is not a swarm manager");
        },
        tunnel: () => {
          throw new SwarmError("not_manager", "this node is not a swarm manager");
        },
        log: silentLog,
        version: "test",
        dataRoot: join(ground.directory, "data"),
        labels: [],
        logs: plainLogs,
        genericResources: [],
        report: async function* () {},
        imageCollection: async () => ({
          ...{ images: 0, bytes: 0, diskPercent: 0 },
          limits: { percentHigh: 85, percentLow: 80 },
        }),
        insecureRegistries: [],
        registryMirrors: [],
      },
      [`unix://${socket}`],
      new AbortController().signal,
    );
    return new Door(socket, join(ground.directory, "client"), () => api.close());
  }

  private constructor(socket: string, config: string, close: () => Promise<void>) {
    this.socket = socket;
    this.#config = config;
    this.#close = close;
    mkdirSync(config, { recursive: true });
  }

  /** Ends as it ends. */
  async attempt(args: readonly string[], options: Options = {}): Promise<Ran> {
    const { child, output } = this.spawn(args, options);
    child.stdin?.end(options.input ?? "");
    return output;
  }

  spawn(
    args: readonly string[],
    options: Options = {},
  ): { readonly child: ChildProcess; readonly output: Promise<Ran> } {
    const [program, ...before] = options.program ?? ["docker"];
    const child = spawn(program ?? "docker", [...before, "-H", `unix://${this.socket}`, ...args], {
      stdio: ["pipe", "pipe", "pipe"],
      env: {
        ...process.env,
        DOCKER_CONFIG: this.#config,
        DOCKER_BUILDKIT: "0",
        ...options.environment,
      },
      ...(options.directory === undefined ? {} : { cwd: options.directory }),
    });
    child.stdin?.on("error", () => {});
    const texts = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const)
      child[name]?.on("data", (chunk: Buffer) => {
        texts[name] += chunk.toString();
      });
    const output = new Promise<Ran>((resolve) =>
      child.once("close", (code) => resolve({ code: code ?? 1, ...texts })),
    );
    return { child, output };
  }

  /** What it prints; fails when it does. */
  async docker(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.attempt(args);
    if (code !== 0) throw new Error(`docker ${args.join(" ")}: ${stderr || stdout}`);
    return stdout.trimEnd();
  }

  close(): Promise<void> {
    return this.#close();
  }
}

interface Options {
  /** In place of docker. */
  readonly program?: readonly string[];
  readonly input?: string | Buffer;
  readonly directory?: string;
  readonly environment?: Readonly<Record<string, string>>;
}
