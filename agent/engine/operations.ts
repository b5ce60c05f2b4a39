// What can be done with a container beyond starting and ending it: pause, limits, networks, a look at its files.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { HostFacts } from "../runtime/host.ts";
import { limitsOfResources } from "../runtime/limits.ts";
import type { SpecDevice } from "../runtime/spec-types.ts";
import type { Runtime } from "../runtime/types.ts";
import { mountFilesOf, namingFiles } from "./container-files.ts";
import type { ContainerHub } from "./container-hub.ts";
import type { ContainerUpdate, EndpointWish } from "./container-types.ts";
import type { Containers } from "./containers.ts";
import { limitsOf } from "./create.ts";
import { findBlockIo } from "./devices.ts";
import type { Libc } from "./libc.ts";
import type { LocalNetworks } from "./local-networks.ts";
import { checkUnused } from "./network-configurations.ts";
import type { ContainerFile, Records } from "./records.ts";
import { withRootfs } from "./rootfs.ts";
import type { LocalNetworkSpec } from "./types.ts";
import type { Volumes } from "./volumes.ts";
import type { Wiring } from "./wiring.ts";

export interface OperationsParts {
  readonly runtime: Runtime;
  readonly containers: Containers;
  readonly records: Records;
  readonly libc: Libc;
  readonly hub: ContainerHub;
  readonly wiring: Wiring;
  readonly networks: LocalNetworks;
  readonly volumes: Volumes;
  readonly host: Pick<HostFacts, "canWeighIo">;
}

export class Operations {
  readonly #parts: OperationsParts;

  constructor(parts: OperationsParts) {
    this.#parts = parts;
  }

  async pause(text: string): Promise<void> {
    const { containers, runtime } = this.#parts;
    await containers.modify(
      text,
      async (record) => {
        if (record.state.Status === "paused")
          throw new SwarmError("conflict", `container ${record.id} is already paused`);
        if (record.state.Status !== "running") throw notRunning(record);
        await runtime.pause(record.id);
        return withStatus(record, "paused");
      },
      "pause",
    );
  }

  /** While `run` runs, what runs is held still; one that has just ended is so anyway. */
  async still<T>(text: string, run: () => Promise<T>): Promise<T> {
    const { containers } = this.#parts;
    const { id } = containers.find(text);
    const isHeld = await this.pause(id).then(
      () => true,
      (error: unknown) => {
        if (containers.find(id).state.Status === "running") throw error;
        return false;
      },
    );
    try {
      return await run();
    } finally {
      if (isHeld) await this.unpause(id).catch(() => {});
    }
  }

  async unpause(text: string): Promise<void> {
    const { containers, runtime } = this.#parts;
    await containers.modify(
      text,
      async (record) => {
        if (record.state.Status !== "paused")
          throw new SwarmError("conflict", `Container ${record.id} is not paused`);
        await runtime.resume(record.id);
        return withStatus(record, "running");
      },
      "unpause",
    );
  }

  async resize(text: string, rows: number, columns: number): Promise<void> {
    const record = this.#parts.containers.find(text);
    if (record.state.Pid === 0) throw notRunning(record);
    await this.#parts.runtime.resize(record.id, "", rows, columns);
    this.#parts.hub.emit("resize", record);
  }

  async pids(text: string): Promise<readonly number[]> {
    const record = this.#parts.containers.find(text);
    if (record.state.Pid === 0) throw notRunning(record);
    return this.#parts.runtime.pids(record.id);
  }

  /** The limits of what runs, and of every later start. */
  async update(text: string, { host, restart }: ContainerUpdate): Promise<void> {
    const { containers, runtime } = this.#parts;
    await containers.modify(
      text,
      async (record) => {
        const changed = withUpdate(record, { host, ...(restart === undefined ? {} : { restart }) });
        if (Object.keys(host).length > 0) {
          const blockIo = await findBlockIo(changed.host);
          const wanted = { ...limitsOf(changed.host), blockIo };
          const limits = limitsOfResources(wanted, this.#parts.host, []);
          const spec = await runtime.containerSpec(record.id);
          const { devices } = spec.linux.resources as { readonly devices: readonly SpecDevice[] };
          if (record.state.Pid !== 0)
            await runtime.updateTask(record.id, { ...limits, devices: [] });
          await runtime.putContainerSpec(record.id, {
            ...spec,
            linux: { ...spec.linux, resources: { ...limits, devices } },
          });
        }
        return changed;
      },
      "update",
    );
  }

  async withFiles<T>(text: string, run: (root: string) => Promise<T>): Promise<T> {
    const { containers, runtime, records, libc } = this.#parts;
    const record = containers.find(text);
    if (record.state.Pid !== 0) return run(`/proc/${record.state.Pid}/root`);
    const mounts = await runtime.snapshotMounts(record.id);
    const { mounts: all } = await runtime.containerSpec(record.id);
    return withRootfs(libc, records.path(record.id), mounts, async (root) => {
      await mountFilesOf([...namingFiles(all), ...(record.host.Mounts ?? [])], root, this.#parts);
      return run(root);
    });
  }

  async createNetwork(spec: LocalNetworkSpec): Promise<string> {
    const { networks, wiring } = this.#parts;
    const { id } = await networks.create(spec);
    const problem = (await wiring.announce()).get(id);
    if (problem === undefined) return id;
    await networks.remove(id);
    await wiring.announce();
    throw problem;
  }

  async removeNetwork(text: string): Promise<void> {
    const { networks, containers, wiring } = this.#parts;
    const network = networks.find(text);
    if (network === undefined) throw new SwarmError("not_found", `network ${text} not found`);
    checkUnused(network, networks.list());
    const user = containers
      .list()
      .find(
        ({ state, networks: on }) =>
          state.Pid !== 0 && Object.values(on).some(({ NetworkID }) => NetworkID === network.id),
      );
    if (user !== undefined)
      throw new SwarmError(
        "denied",
        `error while removing network: network ${network.name} has active endpoints (name:"${user.name}" id:"${user.id.slice(0, 12)}")`,
      );
    await networks.remove(network.id);
    await wiring.announce();
  }

  async removeVolume(name: string, force: boolean): Promise<void> {
    const { volumes, containers } = this.#parts;
    if ((await volumes.find(name)) === undefined) {
      if (force) return;
      throw new SwarmError("not_found", `get ${name}: no such volume`);
    }
    const users = containers
      .list()
      .filter(({ host }) =>
        (host.Mounts ?? []).some((mount) => mount.Type === "volume" && mount.Source === name),
      );
    if (users.length > 0)
      throw new SwarmError(
        "conflict",
        `remove ${name}: volume is in use - [${users.map(({ id }) => id).join(", ")}]`,
      );
    await volumes.remove(name, force);
  }

  async withVolume<T>(name: string, run: (root: string) => Promise<T>): Promise<T> {
    const { volumes } = this.#parts;
    if ((await volumes.find(name)) === undefined)
      throw new SwarmError("not_found", `get ${name}: no such volume`);
    await volumes.ensure(name);
    return volumes.using(name, run);
  }

  async replaceVolume(name: string, unpack: (folder: string) => Promise<void>): Promise<void> {
    const { volumes, containers } = this.#parts;
    const user = containers
      .list()
      .find(
        ({ state, host }) =>
          state.Pid !== 0 &&
          (host.Mounts ?? []).some(({ Type, Source }) => Type === "volume" && Source === name),
      );
    if (user !== undefined)
      throw new SwarmError(
        "conflict",
        `volume ${name} is in use by the running container ${user.name}: stop it first`,
      );
    await volumes.ensure(name);
    await volumes.using(name, () => volumes.replace(name, unpack));
  }

  async connect(text: string, network: string, wish: EndpointWish): Promise<void> {
    const { containers, wiring } = this.#parts;
    await containers.modify(text, (record) => wiring.connect(record, network, wish));
  }

  /** By force also when the container is gone: then there is nothing to do. */
  async disconnect(text: string, network: string, force: boolean): Promise<void> {
    const { containers, wiring } = this.#parts;
    try {
      containers.find(text);
    } catch (error) {
      if (force) return;
      throw error;
    }
    await containers.modify(text, (record) => wiring.disconnect(record, network));
  }
}

function notRunning(record: ContainerFile): SwarmError {
  return new SwarmError("conflict", `container ${record.id} is not running`);
}

function withStatus(record: ContainerFile, Status: "running" | "paused"): ContainerFile {
  return { ...record, state: { ...record.state, Status } };
}

function withUpdate(record: ContainerFile, { host, restart }: ContainerUpdate): ContainerFile {
  const changed = { ...record, host: { ...record.host, ...host } };
  const { local } = record;
  if (local === undefined) return changed;
  return {
    ...changed,
    local: {
      ...local,
      ...(restart === undefined ? {} : { restart }),
      shown: {
        ...local.shown,
        ...host,
        ...(restart === undefined ? {} : { RestartPolicy: restart }),
      },
    },
  };
}
