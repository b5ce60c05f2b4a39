// The keeper: the small parent of agent and manager, holding what must not pause when they do.

import { join } from "node:path";
import type { DaemonConfig } from "../../proto/config.ts";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { tightMalloc } from "../../proto/kit/heap.ts";
import {
  type KeeperRequest,
  type KeeperResponse,
  type KeeperStatus,
  keeperProtocol,
} from "../../proto/kit/keeper.ts";
import { LastLines, type Log, openLog } from "../../proto/kit/log.ts";
import { nameDigest } from "../../proto/kit/name-digest.ts";
import { version } from "../../proto/kit/version.ts";
import { Child } from "./child.ts";
import { claimNetwork } from "./claim.ts";
import { NameServer, type NameState } from "./dns.ts";
import { openDoor } from "./door.ts";
import { readJson, writeJson } from "./files.ts";
import { LogBook } from "./logs.ts";
import { nameTables, parseRequest } from "./requests.ts";
import { namespaceSockets } from "./sockets.ts";

const saveDelayMs = 200;

/**
 * Runs until `signal` aborts; then stops the agent, then the manager, and resolves. Containers go on. Rejects with
 * `conflict` when a daemon runs already, here or with this network, and with `unsupported` when the machine lacks what the agent needs.
 */
export async function runKeeper(config: DaemonConfig, signal: AbortSignal): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new SwarmError("unsupported", "the tsswarm daemon has to be run as root");
  const lines = new LastLines();
  const log = openLog("keeper", config["log-level"], lines);
  const keeper = new KeeperProcess(config, log, lines);
  const path = join(config["exec-root"], "keeper.sock");
  const claim = await claimNetwork(config["exec-root"]);
  try {
    const door = await openDoor(path, (request) => keeper.handle(request), log);
    try {
      keeper.restore();
      log.info({ version, pid: process.pid }, "keeper started");
      await keeper.run(signal);
    } finally {
      await keeper.stop();
      await door.close();
      log.info("keeper stopped");
    }
  } finally {
    await claim.release();
  }
}

class KeeperProcess {
  readonly #log: Log;
  readonly #lines: LastLines;
  readonly #logs: LogBook;
  readonly #names: NameServer;
  readonly #agent: Child;
  readonly #manager: Child;
  readonly #statePath: string;
  readonly #wishPath: string;
  /** Never on a disk. */
  #heldKeys: readonly string[] = [];
  #saving: NodeJS.Timeout | null = null;
  #managerChange: Promise<void> = Promise.resolve();
  #fail: (error: SwarmError) => void = () => {};

  constructor(config: DaemonConfig, log: Log, lines: LastLines) {
    this.#log = log;
    this.#lines = lines;
    this.#logs = new LogBook(log, Date.now);
    this.#names = new NameServer(namespaceSockets, Math.random, log);
    this.#statePath = join(config["exec-root"], "keeper-state.json");
    this.#wishPath = join(config["data-root"], "keeper.json");
    this.#agent = new Child(childOptions("agent", config), log);
    this.#manager = new Child(childOptions("manager", config), log);
  }

  /** Takes up what an earlier keeper held: names are answered and pipes read before the agent is there. */
  restore(): void {
    const state = readJson(this.#statePath) as { readonly [name: string]: unknown } | null;
    if (state === null) return;
    try {
      this.#names.setTables(nameTables(state["tables"]));
    } catch (error) {
      this.#log.warn({ error }, "the saved name tables are not readable");
    }
    for (const held of [state["logs"], state["sandboxes"]].flat()) {
      try {
        const request = parseRequest(held);
        if (request.do === "openLogs") this.#logs.open(request);
        else if (request.do === "serveNames") this.#names.serve(request);
      } catch (error) {
        // Containers and sandboxes go while we are away, and after a reboot all are gone.
        this.#log.info({ reason: messageOf(error) }, "something held before is there no more");
      }
    }
    this.#save();
  }

  async run(signal: AbortSignal): Promise<void> {
    const failed = new Promise<never>((_, reject) => {
      this.#fail = reject;
    });
    const stopped = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener("abort", () => resolve(), { once: true });
    });
    if (this.#managerIsWanted()) this.#manager.start();
    this.#agent.start();
    await Promise.race([failed, stopped]);
  }

  /** The agent first: it says goodbye to the managers, one of which may be ours. */
  async stop(): Promise<void> {
    await this.#agent.stop();
    await this.#manager.stop();
    await this.#logs.stop();
    this.#names.stop();
    if (this.#saving !== null) clearTimeout(this.#saving);
  }

  async handle(request: KeeperRequest): Promise<KeeperResponse> {
    switch (request.do) {
      case "openLogs":
        this.#logs.open(request);
        break;
      case "closeLogs":
        await this.#logs.close(request.container);
        break;
      case "teeLogs":
        this.#logs.tee(request);
        break;
      case "serveNames":
        this.#names.serve(request);
        break;
      case "forgetNames":
        this.#names.forget(request.sandbox);
        break;
      case "setNames":
        this.#names.setTables(request.tables);
        break;
      case "changeNames":
        this.#names.changeTables(request.tables);
        break;
      case "runManager":
        await this.#runManager(request.wanted);
        return { ok: true };
      case "cannotRun":
        if (this.#agent.restarts > 0)
          throw new SwarmError("precondition", "it has run before: it is started again");
        this.#fail(new SwarmError("unsupported", request.reason));
        return { ok: true };
      case "holdKeys":
        this.#heldKeys = request.keys;
        return { ok: true };
      case "heldKeys":
        return { ok: true, keys: this.#heldKeys };
      case "status":
        return { ok: true, status: this.#status() };
      case "ownLog":
        return { ok: true, lines: this.#lines.text };
    }
    this.#save();
    return { ok: true };
  }

  /** One wish after the other: a start that came while it stops waits for the stop. */
  async #runManager(wanted: boolean): Promise<void> {
    writeJson(this.#wishPath, { runManager: wanted }, { durable: true });
    this.#managerChange = this.#managerChange.then(async () => {
      if (wanted) this.#manager.start();
      else await this.#manager.stop();
    });
    await this.#managerChange;
  }

  #managerIsWanted(): boolean {
    const wish = readJson(this.#wishPath) as { readonly runManager?: unknown } | null;
    return wish?.runManager === true;
  }

  #status(): KeeperStatus {
    const { pid, restarts } = this.#agent;
    return {
      protocol: keeperProtocol,
      version,
      children: {
        agent: { pid, restarts },
        manager: { pid: this.#manager.pid, restarts: this.#manager.restarts },
      },
      logs: this.#logs.requests.map((request) => request.container),
      sandboxes: this.#names.state.sandboxes.map((request) => request.sandbox),
      names: nameDigests(this.#names.state),
    };
  }

  #save(): void {
    this.#saving ??= setTimeout(() => {
      this.#saving = null;
      try {
        const state = { logs: this.#logs.requests, ...this.#names.state };
        writeJson(this.#statePath, state, { durable: false });
      } catch (error) {
        this.#log.warn({ error, path: this.#statePath }, "what the keeper holds cannot be saved");
      }
    }, saveDelayMs);
  }
}

function nameDigests({ tables, sandboxes }: NameState): Readonly<Record<string, string>> {
  return Object.fromEntries([
    ...Object.entries(tables).map(([id, table]) => [`table ${id}`, nameDigest(table)]),
    ...sandboxes.map((request) => [`sandbox ${request.sandbox}`, nameDigest(request)]),
  ]);
}

function childOptions(name: "agent" | "manager", config: DaemonConfig) {
  return {
    name,
    command: process.execPath,
    args: [...process.execArgv, ownScript(), name, "--config-json", JSON.stringify(config)],
    env: name === "manager" ? tightMalloc : {},
    recordPath: join(config["exec-root"], `${name}.pid`),
  };
}

function ownScript(): string {
  const script = process.argv[1];
  if (script === undefined)
    throw new SwarmError("internal", "the keeper does not know the program it was started from");
  return script;
}
