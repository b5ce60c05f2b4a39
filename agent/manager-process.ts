// The manager process beside the agent: started and stopped through the keeper, spoken to over its private socket.

import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import grpc from "@grpc/grpc-js";
import type { DaemonConfig } from "../proto/config.ts";
import type { InitRequest, LocalMetrics } from "../proto/gen/types.ts";
import { asSwarmError, SwarmError } from "../proto/kit/errors.ts";
import type { Keeper } from "../proto/kit/keeper.ts";
import type { World } from "../proto/kit/world.ts";
import { Client } from "../proto/rpc-client.ts";
import { tunnelStream } from "../proto/tunnel.ts";

const ownManager = "the manager on this node";
const startMsMax = 20_000;
const retryMs = 50;
const initMsMax = 30_000;
const joinMsMax = 30_000;
const withdrawMsMax = 8_000;
const renewedMsMax = 60_000;
const metricsMsMax = 1_000;
const recertifyMsMax = 10_000;

export interface ManagerProcessOptions {
  readonly config: DaemonConfig;
  readonly keeper: Keeper;
  readonly world: World;
  /** Ends all waiting. */
  readonly signal: AbortSignal;
}

export class ManagerProcess {
  readonly control: Client<"Control">;
  readonly #options: ManagerProcessOptions;
  readonly #local: Client<"Local">;

  constructor(options: ManagerProcessOptions) {
    this.#options = options;
    const target = `unix:${join(options.config["exec-root"], "manager.sock")}`;
    const credentials = grpc.credentials.createInsecure();
    this.control = new Client("Control", target, credentials, {}, ownManager);
    this.#local = new Client("Local", target, credentials, {}, ownManager);
  }

  /** Resolves when it answers. */
  async start(): Promise<void> {
    await this.#run(true);
    await this.#answers();
  }

  /** Stops it and forgets what it knew. */
  async remove(): Promise<void> {
    await this.#run(false);
    await rm(join(this.#options.config["data-root"], "manager"), { recursive: true, force: true });
  }

  async init(request: InitRequest): Promise<void> {
    const { signal } = this.#options;
    await this.#local.unary("Init", request, { timeoutMs: initMsMax, signal });
  }

  /** A cluster from a backup that lies at `path` on this machine. */
  async restore(path: string, key: string, request: InitRequest): Promise<void> {
    const { signal } = this.#options;
    const whole = { Path: path, Key: key, Init: request };
    await this.#local.unary("Restore", whole, { timeoutMs: initMsMax, signal });
  }

  /** Takes part with this node's certificate, or goes on under another address. "" to listen: as before, or everywhere. */
  async join(listenAddr: string, advertiseAddr: string): Promise<void> {
    const { signal } = this.#options;
    await this.#local.unary(
      "Join",
      { ListenAddr: listenAddr, AdvertiseAddr: advertiseAddr },
      { timeoutMs: joinMsMax, signal },
    );
  }

  /** A locked one takes up its work with the unlock key that the keeper holds. */
  async unlock(): Promise<void> {
    const { signal } = this.#options;
    await this.#answers();
    await this.#local.unary("Unlock", {}, { timeoutMs: joinMsMax, signal });
  }

  /** Resolves when the other managers go on without this one. */
  async withdraw(): Promise<void> {
    const { signal } = this.#options;
    await this.#local.unary("Withdraw", {}, { timeoutMs: withdrawMsMax, signal });
  }

  /** The identity folder holds another certificate or root. A manager that is not there reads it as it starts. */
  async renewed(): Promise<void> {
    const { signal } = this.#options;
    await this.#local
      .unary("Renewed", {}, { timeoutMs: renewedMsMax, signal })
      .catch((error: unknown) => {
        if (asSwarmError(error).code !== "unavailable") throw error;
      });
  }

  /** The next certificate, PEM, when the one there is is over: waits for the manager to know its cluster. */
  async recertify(CSR: string): Promise<string> {
    const { world, signal } = this.#options;
    for (const deadline = world.monotonic() + recertifyMsMax; ; ) {
      try {
        const { Certificate } = await this.#local.unary("Recertify", { CSR }, { signal });
        return Certificate;
      } catch (error) {
        const isStarting = asSwarmError(error).code === "unavailable";
        if (!isStarting || world.monotonic() > deadline) throw error;
      }
      await world.sleep(retryMs, signal);
    }
  }

  /** What it measures, and of what its memory is made. Throws `unavailable`. */
  async metrics(): Promise<LocalMetrics> {
    const { signal } = this.#options;
    return this.#local.unary("Metrics", {}, { timeoutMs: metricsMsMax, signal });
  }

  /** A way to another node's API. Errs with `unavailable` where that does not answer. */
  tunnel(nodeId: string): Duplex {
    return tunnelStream(nodeId, (said, signal) => this.#local.duplex("Tunnel", said, { signal }));
  }

  close(): void {
    this.control.close();
    this.#local.close();
  }

  async #run(wanted: boolean): Promise<void> {
    await this.#options.keeper.ask({ do: "runManager", wanted });
  }

  async #answers(): Promise<void> {
    const { world, signal } = this.#options;
    const deadline = world.monotonic() + startMsMax;
    for (;;) {
      try {
        await this.#local.unary("Status", {}, { timeoutMs: 1_000, signal });
        return;
      } catch (error) {
        if (world.monotonic() > deadline)
          throw new SwarmError(
            "unavailable",
            "the manager process does not start; its log says why",
            { cause: asSwarmError(error) },
          );
      }
      await world.sleep(retryMs, signal);
    }
  }
}
