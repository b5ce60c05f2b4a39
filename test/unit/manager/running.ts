// Managers as they run in a daemon, several of them in one process, for tests of the whole.

import { mkdtemp, rm, stat } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import grpc from "@grpc/grpc-js";
import { openDoor } from "../../../agent/keeper/door.ts";
import { createKeyAndCsr } from "../../../agent/session/identity.ts";
import { runManager } from "../../../manager/main.ts";
import { codec } from "../../../proto/codec.ts";
import { type DaemonConfig, parseDaemonConfig } from "../../../proto/config.ts";
import type { IssueCertificateResponse } from "../../../proto/gen/types.ts";
import { silentLog } from "../../../proto/kit/log.ts";
import { Client } from "../../../proto/rpc-client.ts";
import { joined } from "./nodes.ts";

/** A manager process's work in this process, with a folder and a socket of its own. */
export class RunningManager implements AsyncDisposable {
  readonly config: DaemonConfig;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  readonly local: Client<"Local">;
  readonly control: Client<"Control">;

  /** `keepsKeys`: with a keeper that remembers nothing for longer, else with the one that is there. */
  constructor(config: DaemonConfig, keepsKeys = true) {
    this.config = config;
    this.#running = keepsKeys ? this.#withKeeper() : runManager(config, this.#stop.signal);
    this.#running.catch(() => {});
    const socket = `unix:${config["exec-root"]}/manager.sock`;
    const open = grpc.credentials.createInsecure();
    this.local = new Client("Local", socket, open);
    this.control = new Client("Control", socket, open);
  }

  async #withKeeper(): Promise<void> {
    await using _ = await keeperFor(this.config);
    await runManager(this.config, this.#stop.signal);
  }

  async ready(): Promise<void> {
    const socket = join(this.config["exec-root"], "manager.sock");
    const ended = this.#running.then(() => {
      throw new Error("the manager has ended before it was ready");
    });
    ended.catch(() => {});
    for (;;) {
      const found = await stat(socket).catch(() => null);
      if (found !== null && (found.mode & 0o777) === 0o600) return;
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 5))]);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.local.close();
    this.control.close();
    this.#stop.abort();
    await this.#running;
  }
}

/** What a keeper remembers, in this process. */
export async function keeperFor(
  config: DaemonConfig,
): Promise<AsyncDisposable & { keys: readonly string[] }> {
  const state = { keys: [] as readonly string[] };
  const door = await openDoor(
    join(config["exec-root"], "keeper.sock"),
    async (request) => {
      if (request.do === "holdKeys") state.keys = request.keys;
      return { ok: true, keys: state.keys };
    },
    silentLog,
  );
  return Object.assign(state, { [Symbol.asyncDispose]: () => door.close() });
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** The folder is gone afterwards. */
export async function inFolder(run: (config: DaemonConfig) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "tsswarm-test-"));
  try {
    await run(configIn(folder));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Makes a cluster of it. */
export async function init(manager: RunningManager): Promise<IssueCertificateResponse> {
  const port = await freePort();
  const csr = await createKeyAndCsr(join(manager.config["data-root"], "identity"));
  return manager.local.unary(
    "Init",
    codec("InitRequest").parse({
      CSR: csr,
      Description: { Hostname: "h1" },
      ListenAddr: `127.0.0.1:${port}`,
      AdvertiseAddr: `127.0.0.1:${port}`,
      DataPathAddr: "127.0.0.1",
    }),
    { timeoutMs: 20_000 },
  );
}

export function configIn(folder: string): DaemonConfig {
  return parseDaemonConfig(
    {
      "data-root": join(folder, "data"),
      "exec-root": join(folder, "run"),
      "log-level": "error",
    },
    "the test",
  );
}

/** Makes it a manager of the cluster that `token` is of. */
export async function joinAsManager(
  manager: RunningManager,
  hostname: string,
  remote: string,
  token: string,
): Promise<string> {
  const identity = await joined({
    directory: join(manager.config["data-root"], "identity"),
    remotes: [remote],
    token,
    description: { Hostname: hostname },
    advertiseAddr: "127.0.0.1",
    dataPathAddr: "127.0.0.1",
  });
  const address = `127.0.0.1:${await freePort()}`;
  await manager.local.unary(
    "Join",
    { ListenAddr: address, AdvertiseAddr: address },
    { timeoutMs: 20_000 },
  );
  return identity.nodeId;
}
