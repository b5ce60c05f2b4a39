// The networks of containers made by hand: from what was asked for to a sandbox of agent/network, at every start and at
// every connect and disconnect.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { asSwarmError, SwarmError } from "../../proto/kit/errors.ts";
import { contains, ofFamily } from "../../proto/kit/ip.ts";
import { localNetwork } from "../network/facts.ts";
import type { Attachment, Network } from "../network/types.ts";
import type { Container, CreateContainer, EndpointWish } from "./container-types.ts";
import { hostsFile } from "./etc.ts";
import { HostPorts, isAtWill } from "./host-ports.ts";
import type { Linked } from "./link-environment.ts";
import { type LocalNetworks, linkOf } from "./local-networks.ts";
import type { OverlayDoor } from "./overlay.ts";
import {
  attachmentsOf,
  hasSandbox,
  namesOf,
  type Place,
  sandboxOf,
  shownPlaces,
  withDevices,
  withPriorities,
} from "./places.ts";
import type { ContainerFile, Records } from "./records.ts";

/** What agent/network calls the network of containers that name none. */
const bridgeId = localNetwork.id;
const iccOption = "com.docker.network.bridge.enable_icc";
const mtuOption = "com.docker.network.driver.mtu";
const portTriesMax = 100;
const knownTriesMax = 3;

type Shown = CreateContainer["networks"];

export interface WiringParts {
  /** Null where there is no network to wire (in tests of the engine alone). */
  readonly network: Pick<Network, "createSandbox" | "removeSandbox" | "setLocalNetworks"> | null;
  readonly networks: LocalNetworks;
  readonly records: Records;
  readonly list: () => readonly Container[];
  readonly tell: (event: NetworkEvent) => void;
}

export interface NetworkEvent {
  readonly action: "connect" | "disconnect";
  readonly network: string;
  readonly name: string;
  readonly container: string;
}

export class Wiring {
  readonly #parts: WiringParts;
  #overlay: OverlayDoor | null = null;
  readonly #ports = new HostPorts();
  /** Whose coming to their networks was told, so that their leaving is. */
  readonly #told = new Set<string>();

  constructor(parts: WiringParts) {
    this.#parts = parts;
  }

  /** How containers get onto the swarm's networks; null while this node is in no swarm. */
  attachThrough(overlay: OverlayDoor | null): void {
    this.#overlay = overlay;
  }

  /** Tells agent/network which networks of this node alone there are. By id, why one cannot be used now. */
  async announce(): Promise<ReadonlyMap<string, unknown>> {
    const networks = this.#parts.networks
      .list()
      .filter(({ configuration }) => configuration === undefined)
      .map((network) => {
        const direct = linkOf(network);
        return {
          ...network,
          ...(direct === null ? {} : { direct }),
          mtu: Number(network.options[mtuOption] ?? 0),
          keepsApart: network.options[iccOption] === "false",
        };
      });
    return (await this.#parts.network?.setLocalNetworks(networks)) ?? new Map();
  }

  /** What inspect shows of networks before the start: one that nobody knows may be made until then. */
  unwired(endpoints: Readonly<Record<string, EndpointWish>>): Shown {
    const shown: Record<string, Shown[string]> = {};
    for (const [name, { aliases }] of Object.entries(endpoints)) {
      const found = this.#look(name);
      shown[found?.name ?? name] = {
        ...{ NetworkID: found?.id ?? "", IPAddress: "", IPPrefixLen: 0, Gateway: "" },
        Aliases: aliases,
      };
    }
    return shown;
  }

  async wire(record: ContainerFile): Promise<ContainerFile> {
    const { local } = record;
    const { network, list } = this.#parts;
    if (local === undefined || local.networkMode === "host") return record;
    const other = /^container:(.+)$/.exec(local.networkMode)?.[1];
    if (other !== undefined) {
      const target = list().find(({ id }) => id === other);
      if (target?.state.Status !== "running")
        throw new SwarmError(
          "conflict",
          `cannot join network namespace of a non running container: ${other}`,
        );
      return record;
    }
    if (network === null)
      throw new SwarmError("unsupported", "this engine was started without networks");
    // Ports given at will are given anew at each start.
    const { ports: _, ...fresh } = record;
    try {
      for (let tries = 1; ; tries++) {
        const places = await this.#places(record, Object.entries(local.endpoints));
        try {
          const wired = await this.#sandbox(fresh, places);
          this.#told.add(record.id);
          this.#tell("connect", wired);
          return wired;
        } catch (error) {
          // The managers took the network away from this node when the last container left it, and give it again now.
          if (asSwarmError(error).code !== "unavailable" || tries >= knownTriesMax) throw error;
        }
      }
    } catch (error) {
      await this.unwire(record.id).catch(() => {});
      throw error;
    }
  }

  async unwire(id: string): Promise<void> {
    if (this.#told.delete(id))
      this.#tell(
        "disconnect",
        this.#parts.list().find((c) => c.id === id),
      );
    await this.#parts.network?.removeSandbox(id);
    await this.#overlay?.release(id, null);
  }

  #tell(action: NetworkEvent["action"], of: Pick<Container, "id" | "networks"> | undefined): void {
    for (const [name, { NetworkID }] of Object.entries(of?.networks ?? {}))
      this.#parts.tell({ action, network: NetworkID, name, container: of?.id ?? "" });
  }

  /** A container that runs since before the agent was started: its sandbox again, as it is. */
  async rewire(record: ContainerFile): Promise<void> {
    const { network } = this.#parts;
    if (network === null || !hasSandbox(record)) return;
    // Those on the swarm's networks are wired anew when the managers have spoken.
    const networks = Object.values(record.networks);
    if (networks.some(({ NetworkID }) => !this.#isLocal(NetworkID))) return;
    await network.createSandbox(
      sandboxOf(record, attachmentsOf(record, this.#isNamed), record.ports ?? []),
    );
  }

  /** The record with one more network, wired at once when it runs. */
  async connect(record: ContainerFile, name: string, asked: EndpointWish): Promise<ContainerFile> {
    const { local } = record;
    const found = this.#find(name);
    if (local === undefined || local.networkMode === "host" || !hasSandbox(record))
      throw new SwarmError(
        "denied",
        `container ${record.name} shares a network namespace or is a task's: it cannot be connected to network ${found.name}`,
      );
    const isOn = Object.entries(record.networks).some(
      ([own, { NetworkID }]) => own === found.name || NetworkID === name,
    );
    if (isOn)
      throw new SwarmError(
        "denied",
        `endpoint with name ${record.name} already exists in network ${found.name}`,
      );
    const { none: _, ...before } = local.endpoints;
    const { MacAddress: mac } = record.config;
    const isFirst = found.name === local.networkMode && mac !== undefined;
    const wish: EndpointWish = isFirst ? { mac, ...asked } : asked;
    const endpoints = { ...before, [found.name]: wish };
    const changed = { ...record, local: { ...local, endpoints } };
    const shown = this.unwired({ [found.name]: wish });
    if (record.state.Pid === 0) return { ...changed, networks: { ...record.networks, ...shown } };
    const [place] = await this.#places(record, [[found.name, wish]]);
    if (place === undefined) return changed;
    try {
      return await this.#sandbox(changed, [...shownPlaces(record, this.#isNamed), place]);
    } catch (error) {
      await this.#overlay?.release(record.id, place.networkId).catch(() => {});
      throw error;
    }
  }

  async disconnect(record: ContainerFile, name: string): Promise<ContainerFile> {
    const { local } = record;
    const key = Object.entries(record.networks).find(
      ([own, { NetworkID }]) => own === name || (name.length > 5 && NetworkID.startsWith(name)),
    )?.[0];
    if (local === undefined || key === undefined)
      throw new SwarmError("denied", `container ${record.id} is not connected to network ${name}`);
    const { [key]: gone, ...networks } = record.networks;
    const endpoints = Object.fromEntries(
      Object.entries(local.endpoints).filter(([own]) => own !== key && own !== gone?.NetworkID),
    );
    const changed = { ...record, networks, local: { ...local, endpoints } };
    const wired =
      record.state.Pid === 0
        ? changed
        : await this.#sandbox(changed, shownPlaces(changed, this.#isNamed));
    await this.#overlay?.release(record.id, gone?.NetworkID ?? "");
    return wired;
  }

  async #places(
    record: ContainerFile,
    endpoints: readonly (readonly [string, EndpointWish])[],
  ): Promise<readonly Place[]> {
    const places: Place[] = [];
    for (const [name, wish] of endpoints) {
      const found = this.#find(name);
      if (found.overlay !== null) {
        if (wish.mac !== undefined)
          throw new SwarmError(
            "unsupported",
            `network ${name}: a fixed MAC address is for a node's own networks: here it follows from the IP address`,
          );
        const place = await found.overlay.attach(record.id, name, wish, namesOf(record, wish));
        places.push({ ...place, aliases: wish.aliases, names: [] });
      } else
        places.push({
          ...{ networkId: found.id, name: found.name, aliases: wish.aliases },
          ...{ address: wish.address, prefix: 0, gateway: "" },
          ...(wish.address6 ? { six: { address: wish.address6, prefix: 0, gateway: "" } } : {}),
          names: found.id === bridgeId ? [] : namesOf(record, wish),
        });
    }
    return places;
  }

  async #sandbox(record: ContainerFile, places: readonly Place[]): Promise<ContainerFile> {
    const { network } = this.#parts;
    if (network === null) return record;
    const attachments = withPriorities(record, places, withDevices(record, places));
    // What is on links of the host alone has no ports there: as with Docker, nobody is told.
    const isDirect = places.length > 0 && places.every((place) => this.#isDirect(place));
    const wanted = isDirect ? [] : (record.host.PublishedPorts ?? []);
    const mayChange = record.ports === undefined && wanted.some(isAtWill);
    /** Found to be a program's. */
    const foreign = new Set<number>();
    for (let tries = 1; ; tries++) {
      const ports =
        record.ports ?? this.#ports.choose(wanted, [...foreign, ...this.#portsOfOthers(record.id)]);
      try {
        const made = await network.createSandbox(sandboxOf(record, attachments, ports));
        const networks = this.#networks(places, attachments, made.attachments ?? []);
        const wired = { ...record, networks, ports };
        await this.#writeHosts(wired, networks);
        await this.#tellLinked(wired);
        return wired;
      } catch (error) {
        const isTaken = asSwarmError(error).code === "conflict";
        if (!isTaken || !mayChange || tries >= portTriesMax) throw error;
        for (const { publishedPort } of ports) foreign.add(publishedPort);
      }
    }
  }

  #networks(
    places: readonly Place[],
    attachments: readonly Attachment[],
    made: readonly Attachment[],
  ): Shown {
    const own = new Map(made.map((attachment) => [attachment.networkId, attachment]));
    return Object.fromEntries(
      places.map((place, i) => [
        place.name,
        {
          ...this.#shown(place, own.get(place.networkId)),
          Device: attachments[i]?.device ?? "",
        },
      ]),
    );
  }

  #isDirect({ networkId }: Place): boolean {
    const local = this.#parts.networks.list().find(({ id }) => id === networkId);
    return local !== undefined && linkOf(local) !== null;
  }

  #shown(place: Place, made: Attachment | undefined): Shown[string] {
    const local = this.#parts.networks.list().find(({ id }) => id === place.networkId);
    const address = ofFamily(made?.addresses ?? [], 4) ?? place.address;
    const address6 = ofFamily(made?.addresses ?? [], 6) ?? place.six?.address ?? "";
    const subnets = local?.subnets ?? (place.networkId === bridgeId ? localNetwork.subnets : []);
    const [subnet, subnet6] = [address, address6].map((each) =>
      each === "" ? undefined : subnets.find(({ cidr }) => contains(cidr, each)),
    );
    return {
      NetworkID: place.networkId,
      IPAddress: address,
      IPPrefixLen: subnet?.prefix ?? place.prefix,
      Gateway: subnet?.gateway ?? place.gateway,
      GlobalIPv6Address: address6,
      GlobalIPv6PrefixLen: address6 === "" ? 0 : (subnet6?.prefix ?? place.six?.prefix ?? 0),
      IPv6Gateway: address6 === "" ? "" : (subnet6?.gateway ?? place.six?.gateway ?? ""),
      Aliases: place.aliases,
      ...(made?.mac === undefined ? {} : { MacAddress: made.mac }),
      ...(this.#isDirect(place) ? { isDirect: true } : {}),
    };
  }

  /** The host's ports of other containers that run. */
  #portsOfOthers(id: string): readonly number[] {
    return this.#parts.list().flatMap((other) => {
      const runs = other.state.Pid !== 0 && other.id !== id;
      const ports = runs ? (other.ports ?? other.host.PublishedPorts ?? []) : [];
      return ports.map((port) => port.publishedPort);
    });
  }

  async #writeHosts(
    record: ContainerFile,
    networks: Shown,
    others: readonly Container[] = this.#parts.list(),
  ): Promise<void> {
    const path = join(this.#parts.records.path(record.id), "hosts");
    const { Hostname = "" } = record.config;
    const gateway = Object.values(networks)[0]?.Gateway || "127.0.0.1";
    const extra = [...(record.host.ExtraHosts ?? []), ...this.#linked(record, networks, others)];
    const text = hostsFile(Hostname, networks, extra, gateway);
    // In place: the file is mounted.
    if ((await readFile(path, "utf8").catch(() => "")) !== text) await writeFile(path, text);
  }

  /** `name:address` of the containers it is linked to. */
  #linked(record: ContainerFile, networks: Shown, others: readonly Container[]): readonly string[] {
    const lines: string[] = [];
    for (const [name, { links = [] }] of Object.entries(record.local?.endpoints ?? {}))
      for (const { target, alias } of links) {
        const other = others.find(({ id, name: own }) => isMeant(target, id, own));
        const networkId = networks[name]?.NetworkID;
        const place = Object.values(other?.networks ?? {}).find((n) => n.NetworkID === networkId);
        const isThere = other !== undefined && other.state.Pid !== 0 && place !== undefined;
        // On a network of one's own it is told when the other one starts.
        if (!isThere && networkId !== bridgeId) continue;
        if (!isThere || place.IPAddress === "")
          throw new SwarmError(
            "conflict",
            `Cannot link to a non running container: /${target} AS /${record.name}/${alias}`,
          );
        const names = new Set([alias, other.name, other.id.slice(0, 12)]);
        lines.push(...[...names].map((each) => `${each}:${place.IPAddress}`));
      }
    return lines;
  }

  /** Those it is linked to on the default bridge; all of them run. */
  linkedOn(record: ContainerFile): readonly Linked[] {
    const links = record.local?.endpoints["bridge"]?.links ?? [];
    return links.flatMap(({ target, alias }) => {
      const other = this.#parts.list().find(({ id, name }) => isMeant(target, id, name));
      const address = other?.networks["bridge"]?.IPAddress ?? "";
      if (other === undefined || address === "") return [];
      const { ExposedPorts: ports = [], Env: env = [] } = other.config;
      return [{ alias, address, ports, env }];
    });
  }

  /** It may have another address now than those had it under that are linked to it. */
  async #tellLinked(record: ContainerFile): Promise<void> {
    const { list } = this.#parts;
    for (const other of list()) {
      const links = Object.values(other.local?.endpoints ?? {}).flatMap((wish) => wish.links ?? []);
      if (other.state.Pid === 0 || other.id === record.id) continue;
      if (!links.some(({ target }) => isMeant(target, record.id, record.name))) continue;
      const now = list().map((each) =>
        each.id === record.id ? { ...record, state: { ...record.state, Pid: 1 } } : each,
      );
      await this.#writeHosts(other as ContainerFile, other.networks, now).catch(() => {});
    }
  }

  /** Names on this node's own networks are ours to tell; on the swarm's the managers tell them. */
  readonly #isNamed = (networkId: string): boolean =>
    networkId !== bridgeId && this.#isLocal(networkId);

  #isLocal(networkId: string): boolean {
    return networkId === bridgeId || this.#parts.networks.list().some(({ id }) => id === networkId);
  }

  #find(name: string): Found {
    const found = this.#look(name);
    if (found !== null) return found;
    throw new SwarmError("not_found", `network ${name} not found`);
  }

  #look(name: string): Found | null {
    if (name === "bridge" || name === "default" || name === bridgeId)
      return { id: bridgeId, name: "bridge", overlay: null };
    const local = this.#parts.networks.find(name);
    if (local?.configuration !== undefined)
      throw new SwarmError("denied", "cannot create endpoint on configuration-only network");
    if (local !== undefined) return { id: local.id, name: local.name, overlay: null };
    // Whether there is such a one the managers know.
    return this.#overlay === null ? null : { id: "", name, overlay: this.#overlay };
  }
}

interface Found {
  readonly id: string;
  readonly name: string;
  readonly overlay: OverlayDoor | null;
}

function isMeant(target: string, id: string, name: string): boolean {
  return name === target || id === target || (target.length >= 12 && id.startsWith(target));
}
