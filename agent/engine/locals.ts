// Containers made by hand (docker run): their networks before every start, and what follows their end — a restart by
// their policy, or their removal.

import { join } from "node:path";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { Scope } from "../../proto/kit/scope.ts";
import type { World } from "../../proto/kit/world.ts";
import type { Runtime } from "../runtime/types.ts";
import type { CreateContainer, HostConfig, LocalSettings } from "./container-types.ts";
import type { Containers } from "./containers.ts";
import { zeroTime } from "./create.ts";
import { mergeEnv } from "./defaults.ts";
import type { Libc } from "./libc.ts";
import { type Linked, linkEnvironment } from "./link-environment.ts";
import type { LocalHooks } from "./one-container.ts";
import type { ContainerFile } from "./records.ts";
import { isRestarted, isRevived, restartWaitMs } from "./restarts.ts";
import { otherOf, Sharing } from "./sharing.ts";
import type { Wiring } from "./wiring.ts";

export interface LocalsParts {
  readonly containers: () => Containers;
  readonly wiring: Wiring;
  readonly runtime: Runtime;
  readonly libc: Libc;
  readonly execRoot: string;
  readonly scope: Scope;
  readonly world: World;
  readonly log: Log;
}

export class Locals implements LocalHooks {
  readonly #parts: LocalsParts;
  readonly #sharing: Sharing;
  /** By container: its last wait, and how to end one that is under way. */
  readonly #waits = new Map<string, { readonly ms: number; readonly stop: AbortController }>();
  /** Ended while nobody watched: decided about once the engine is open. */
  #isAdopting = true;

  constructor(parts: LocalsParts) {
    this.#parts = parts;
    this.#sharing = new Sharing({ ...parts, find: (text) => this.#joined(text) });
  }

  place(asked: CreateContainer, id: string): CreateContainer {
    const { local } = asked;
    if (local === undefined) return asked;
    const wanted = { ...asked, host: this.#withOthers(asked.host) };
    const { networkMode } = local;
    const other = otherOf(networkMode);
    if (networkMode === "host") return { ...wanted, networkNamespace: "", networks: {} };
    if (other !== undefined) {
      const target = this.#joined(other);
      return {
        ...wanted,
        networkNamespace: target.networkNamespace,
        networks: {},
        local: { ...local, networkMode: `container:${target.id}` },
      };
    }
    return {
      ...wanted,
      networkNamespace: join(this.#parts.execRoot, "netns", id),
      networks: this.#parts.wiring.unwired(local.endpoints),
    };
  }

  /** What it has of other containers: their volumes, and by id whom it shares something with. */
  #withOthers(host: HostConfig): HostConfig {
    const { VolumesFrom: from = [], ...rest } = host;
    const mounts = new Map((host.Mounts ?? []).map((mount) => [mount.Target, mount]));
    for (const text of from) {
      const [name = "", access = "rw"] = text.split(":");
      if (!["ro", "rw", "z", "Z"].includes(access))
        throw new SwarmError("invalid", `invalid mode for volumes-from: ${access}`);
      for (const mount of this.#joined(name).host.Mounts ?? [])
        if (!mounts.has(mount.Target) && mount.Type !== "tmpfs")
          mounts.set(mount.Target, { ...mount, ReadOnly: mount.ReadOnly || access === "ro" });
    }
    return { ...rest, ...this.#sharing.byId(host), Mounts: [...mounts.values()] };
  }

  /** Not `not_found`: for clients that would mean the image. */
  #joined(text: string): ContainerFile {
    try {
      return this.#parts.containers().find(text);
    } catch (cause) {
      const message = `joining what is of another container: ${messageOf(cause)}`;
      throw new SwarmError("invalid", message, { cause });
    }
  }

  async wire(record: ContainerFile): Promise<ContainerFile> {
    await this.#sharing.atStart(record);
    const wired = await this.#parts.wiring.wire(record);
    const links = this.#parts.wiring.linkedOn(wired);
    if (links.length > 0) await this.#tellLinks(wired, links);
    return wired;
  }

  /** Its own variables win over those that come of its links. */
  async #tellLinks({ id, name, process }: ContainerFile, links: readonly Linked[]): Promise<void> {
    const { runtime } = this.#parts;
    const spec = await runtime.containerSpec(id);
    const env = mergeEnv(
      links.flatMap((linked) => linkEnvironment(name, linked)),
      process.env,
    );
    await runtime.putContainerSpec(id, { ...spec, process: { ...spec.process, env } });
  }

  /** The container is no longer linked to what it calls `alias`. Throws `not_found`. */
  async unlink(text: string, alias: string): Promise<void> {
    const wrong = new SwarmError("not_found", `No such link: ${text}/${alias}`);
    await this.#parts.containers().modify(text, (record) => {
      const { local } = record;
      const endpoint = local?.endpoints["bridge"];
      const links = (endpoint?.links ?? []).filter((link) => link.alias !== alias);
      if (local === undefined || endpoint === undefined) throw wrong;
      if (links.length === endpoint.links?.length || endpoint.links === undefined) throw wrong;
      const { links: _, ...rest } = endpoint;
      const bridge = links.length === 0 ? rest : { ...rest, links };
      return { ...record, local: { ...local, endpoints: { ...local.endpoints, bridge } } };
    });
  }

  async unwire(id: string): Promise<void> {
    await this.#parts.wiring.unwire(id);
    await this.#sharing.atEnd(id);
  }

  restarts(record: ContainerFile, exitCode: number): boolean {
    const { local } = record;
    if (local === undefined || this.#isAdopting) return false;
    return isRestarted({ exitCode, local });
  }

  ended(record: ContainerFile): void {
    if (this.#isAdopting) return;
    if (record.state.Status === "restarting") this.#restartLater(record);
    else if (record.local?.autoRemove === true && record.state.StartedAt !== zeroTime)
      this.#remove(record.id);
  }

  /** A request starts it: whatever was waited for is over, and its restarts count from 0. */
  async start(text: string): Promise<void> {
    const { containers } = this.#parts;
    const { id, local } = containers().find(text);
    await this.#note(id, { isStoppedByHand: false, restartCount: 0 });
    try {
      await containers().start(id);
    } catch (error) {
      if (local?.autoRemove === true) this.#remove(id);
      throw error;
    }
  }

  /** A request ends it: it stays ended. */
  async noteStopped(text: string): Promise<void> {
    await this.#note(text, { isStoppedByHand: true });
  }

  /** Once all is adopted: what has to run again is started, what was to be removed is removed. */
  async revive(): Promise<void> {
    this.#isAdopting = false;
    const { containers, log } = this.#parts;
    for (const record of containers().list()) {
      const { local, state } = record;
      if (local === undefined) continue;
      if (state.Status === "running" || state.Status === "paused") {
        await this.#rewire(record);
        continue;
      }
      const hasRun = state.StartedAt !== zeroTime;
      if (isRevived({ exitCode: state.ExitCode, local }, hasRun)) {
        log.info({ container: record.id }, "started again by its restart policy");
        this.#parts.scope.spawn(`revive ${record.id}`, async () => this.#start(record.id));
      } else if (local.autoRemove && hasRun) this.#remove(record.id);
      else if (state.Status === "restarting") await this.#settle(record.id);
    }
  }

  /** What routes and rules a former agent left for it are looked after from now on. */
  async #rewire(record: ContainerFile): Promise<void> {
    await this.#parts.wiring.rewire(record).catch((error: unknown) => {
      const details = { container: record.id, error: messageOf(error) };
      this.#parts.log.warn(details, "the network of a container is not looked after yet");
    });
  }

  async #note(text: string, change: Partial<LocalSettings>): Promise<void> {
    const record = this.#parts.containers().find(text);
    if (record.local === undefined) return;
    this.#waits.get(record.id)?.stop.abort();
    this.#waits.delete(record.id);
    await this.#parts.containers().modify(record.id, (now) => withLocal(now, change));
    if (change.isStoppedByHand === true) await this.#settle(record.id);
  }

  /** One that only waited for its restart has ended. */
  async #settle(id: string): Promise<void> {
    const containers = this.#parts.containers();
    if (containers.find(id).state.Status !== "restarting") return;
    await containers.modify(
      id,
      (now) => ({ ...now, state: { ...now.state, Status: "exited" } }),
      "stop",
    );
    this.ended(containers.find(id));
  }

  #restartLater(record: ContainerFile): void {
    const { scope, world } = this.#parts;
    const { StartedAt, FinishedAt } = record.state;
    const ranMs = Date.parse(FinishedAt) - Date.parse(StartedAt);
    const ms = restartWaitMs(this.#waits.get(record.id)?.ms ?? 0, ranMs);
    const stop = new AbortController();
    this.#waits.set(record.id, { ms, stop });
    scope.spawn(`restart ${record.id}`, async (closing) => {
      const signal = AbortSignal.any([closing, stop.signal]);
      const isDue = await world.sleep(ms, signal).then(
        () => true,
        () => false,
      );
      if (isDue) await this.#start(record.id);
    });
  }

  async #start(id: string): Promise<void> {
    const { containers, log } = this.#parts;
    try {
      await containers().modify(id, (now) =>
        withLocal(now, { restartCount: (now.local?.restartCount ?? 0) + 1 }),
      );
      await containers().start(id, (now) => now.local?.isStoppedByHand !== true);
    } catch (error) {
      log.warn({ container: id, error: messageOf(error) }, "a restart failed");
      await this.#startFailed(id).catch(() => {});
    }
  }

  /** As an end with a failure: the policy says whether it is tried again. */
  async #startFailed(id: string): Promise<void> {
    const record = this.#parts.containers().find(id);
    const isAgain = this.restarts(record, record.state.ExitCode);
    const Status = isAgain ? "restarting" : "exited";
    const { world } = this.#parts;
    const FinishedAt = new Date(world.now()).toISOString();
    const state = { ...record.state, Status, StartedAt: FinishedAt, FinishedAt } as const;
    this.ended(await this.#parts.containers().modify(id, (now) => ({ ...now, state })));
  }

  #remove(id: string): void {
    const { scope, containers, log } = this.#parts;
    scope.spawn(`remove ${id}`, async () => {
      await containers()
        .remove(id, { force: true, volumes: true })
        .catch((error: unknown) => {
          if (!(error instanceof SwarmError && error.code === "not_found"))
            log.warn({ container: id, error: messageOf(error) }, "cannot remove a container");
        });
    });
  }
}

function withLocal(record: ContainerFile, change: Partial<LocalSettings>): ContainerFile {
  return record.local === undefined ? record : { ...record, local: { ...record.local, ...change } };
}
