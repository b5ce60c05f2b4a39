// The networks of this node alone that somebody made (docker network create): kept on disk, one file each.

import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { SwarmError } from "../../proto/kit/errors.ts";
import { type Family, familyOf } from "../../proto/kit/ip.ts";
import { timestamp, type World } from "../../proto/kit/world.ts";
import type { DirectLink } from "../network/types.ts";
import { checkParent, directLink, hasGateway, localDrivers } from "./direct-networks.ts";
import { checkConfiguration, withConfiguration } from "./network-configurations.ts";
import { chooseSubnet, drawSubnet6, parseSubnet, type Subnet } from "./subnets.ts";
import type { LocalNetworkObject, LocalNetworkSpec } from "./types.ts";

const texts = z.record(z.string(), z.string());
const record = z.object({
  id: z.string().regex(/^[0-9a-f]{64}$/),
  name: z.string(),
  created: z.string(),
  driver: z.enum(localDrivers).exactOptional(),
  isAttachable: z.boolean().exactOptional(),
  configFrom: z.string().exactOptional(),
  configuration: z
    .object({
      isIPv6: z.boolean(),
      subnets: z.array(
        z.object({
          subnet: z.string(),
          gateway: z.string(),
          range: z.string().exactOptional(),
          auxiliary: texts.exactOptional(),
        }),
      ),
    })
    .exactOptional(),
  labels: texts,
  options: texts,
  isInternal: z.boolean(),
  ipamOptions: texts.exactOptional(),
  subnets: z.array(
    z.object({
      cidr: z.string(),
      shown: z.object({ subnet: z.string(), gateway: z.string() }).exactOptional(),
      prefix: z.int(),
      gateway: z.string(),
      isGatewayChosen: z.boolean().exactOptional(),
      range: z.string().exactOptional(),
      auxiliary: texts.exactOptional(),
    }),
  ),
});

/** As Docker: whatever can be told from another; it names no file here. */
const namePattern = /^[^\s/\p{C}]([^/\p{C}]*[^\s/\p{C}])?$/u;
const nameLengthMax = 255;
const networksMax = 1_000;

export class LocalNetworks {
  readonly #directory: string;
  readonly #world: World;
  readonly #networks = new Map<string, LocalNetworkObject>();

  constructor(dataRoot: string, world: World) {
    this.#directory = join(dataRoot, "networks");
    this.#world = world;
  }

  async load(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    for (const name of await readdir(this.#directory)) {
      if (!name.endsWith(".json")) continue;
      const text = await readFile(join(this.#directory, name), "utf8");
      const network = record.parse(JSON.parse(text));
      this.#networks.set(network.id, network);
    }
  }

  list(): readonly LocalNetworkObject[] {
    return [...this.#networks.values()].sort((a, b) => (a.created < b.created ? -1 : 1));
  }

  /** By id, name or unique prefix of an id; undefined when there is none. Throws `invalid` for several. */
  find(text: string): LocalNetworkObject | undefined {
    const all = this.list();
    const exact = all.find(({ id }) => id === text) ?? all.find(({ name }) => name === text);
    if (exact !== undefined || !/^[0-9a-f]+$/.test(text)) return exact;
    const [only, another] = all.filter(({ id }) => id.startsWith(text));
    if (another !== undefined) throw new SwarmError("invalid", `network ${text} is ambiguous`);
    return only;
  }

  /**
   * Throws `conflict` (name taken), `invalid`, `denied` (subnet overlaps), `exhausted` (no free subnet), `not_found` (what it is to
   * be made from), `precondition` (it cannot be on its parent).
   */
  async create(spec: LocalNetworkSpec): Promise<LocalNetworkObject> {
    if (!namePattern.test(spec.name) || spec.name.length > nameLengthMax)
      throw new SwarmError("invalid", `invalid network name: ${JSON.stringify(spec.name)}`);
    const all = this.list();
    if (all.some(({ name }) => name === spec.name))
      throw new SwarmError("conflict", `network with name ${spec.name} already exists`);
    if (all.length >= networksMax)
      throw new SwarmError("exhausted", `this node has ${networksMax} networks of its own already`);
    checkConfiguration(spec);
    const { isAttachable = false, configFrom, driver = "bridge", ...own } = spec;
    const { labels, options, ipamOptions, isIPv6 = false, subnets } = withConfiguration(spec, all);
    const network: LocalNetworkObject = {
      id: randomBytes(32).toString("hex"),
      name: own.name,
      created: timestamp(this.#world.now()),
      ...(driver === "bridge" ? {} : { driver }),
      ...(isAttachable ? { isAttachable } : {}),
      ...(configFrom === undefined ? {} : { configFrom }),
      labels,
      options,
      isInternal: own.isInternal,
      ...(ipamOptions === undefined ? {} : { ipamOptions }),
      ...(own.isConfiguration === true
        ? { configuration: { isIPv6, subnets }, subnets: [] }
        : { subnets: this.#subnets({ ...own, driver, options, subnets, isIPv6 }, all) }),
    };
    const path = this.#path(network.id);
    await writeFile(`${path}.new`, JSON.stringify(network), { mode: 0o600 });
    await rename(`${path}.new`, path);
    this.#networks.set(network.id, network);
    return network;
  }

  /** Those asked for, and of a family without one a free one. */
  #subnets(
    spec: Required<Pick<LocalNetworkSpec, "driver" | "options" | "subnets" | "isIPv6">> &
      LocalNetworkSpec,
    all: readonly LocalNetworkObject[],
  ): readonly Subnet[] {
    const link = directLink(spec.driver, spec.options);
    if (link !== null)
      checkParent(
        link,
        all.map((other) => ({ id: other.id, link: linkOf(other) })),
      );
    const way = { hasGateway: hasGateway(link, spec.isInternal), isDirect: link !== null };
    const own = all.flatMap((network) => network.subnets.map(({ cidr }) => cidr));
    const found: Subnet[] = [];
    for (const asked of spec.subnets)
      if (spec.isIPv6 || familyOf(asked.subnet) === 4)
        found.push(parseSubnet(asked, [...own, ...found.map(({ cidr }) => cidr)], way));
    const lacks = (family: Family) => !found.some(({ cidr }) => familyOf(cidr) === family);
    if (lacks(4)) found.push(chooseSubnet([...own, ...ownSubnets()], way));
    if (spec.isIPv6 && lacks(6)) found.push(drawSubnet6(randomBytes(5), way));
    return found.sort((a, b) => familyOf(a.cidr) - familyOf(b.cidr));
  }

  async remove(id: string): Promise<void> {
    await rm(this.#path(id), { force: true });
    this.#networks.delete(id);
  }

  #path(id: string): string {
    return join(this.#directory, `${id}.json`);
  }
}

/** Null: it is behind a router of this node, or none at all. */
export function linkOf(network: LocalNetworkObject): DirectLink | null {
  const { driver = "bridge", options, configuration } = network;
  return configuration === undefined ? directLink(driver, options) : null;
}

/** As Docker names its driver. */
export function networkType(network: LocalNetworkObject | undefined): string {
  return network?.configuration === undefined ? (network?.driver ?? "bridge") : "null";
}

/** What this machine itself is in. */
function ownSubnets(): readonly string[] {
  return Object.values(networkInterfaces()).flatMap((all) =>
    (all ?? []).flatMap(({ cidr, family }) => (family === "IPv4" && cidr !== null ? [cidr] : [])),
  );
}
