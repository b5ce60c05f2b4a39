// The networks of this node alone that somebody made (docker network create): kept on disk, one file each.

import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { SwarmError } from "../../proto/kit/errors.ts";
import { type Family, familyOf } from "../../proto/kit/ip.ts";
import { timestamp, type World } from "../../proto/kit/world.ts";
import {
  type AskedSubnet,
  chooseSubnet,
  drawSubnet6,
  parseSubnet,
  type Subnet,
} from "./subnets.ts";
import type { LocalNetworkObject, LocalNetworkSpec } from "./types.ts";

const record = z.object({
  id: z.string().regex(/^[0-9a-f]{64}$/),
  name: z.string(),
  created: z.string(),
  labels: z.record(z.string(), z.string()),
  options: z.record(z.string(), z.string()),
  isInternal: z.boolean(),
  ipamOptions: z.record(z.string(), z.string()).exactOptional(),
  subnets: z.array(
    z.object({
      cidr: z.string(),
      prefix: z.int(),
      gateway: z.string(),
      range: z.string().exactOptional(),
      auxiliary: z.record(z.string(), z.string()).exactOptional(),
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

  /** Throws `conflict` (name taken, subnet overlaps), `invalid`, `exhausted` (no free subnet). */
  async create(spec: LocalNetworkSpec): Promise<LocalNetworkObject> {
    if (!namePattern.test(spec.name) || spec.name.length > nameLengthMax)
      throw new SwarmError("invalid", `invalid network name: ${JSON.stringify(spec.name)}`);
    const all = this.list();
    if (all.some(({ name }) => name === spec.name))
      throw new SwarmError("conflict", `network with name ${spec.name} already exists`);
    if (all.length >= networksMax)
      throw new SwarmError("exhausted", `this node has ${networksMax} networks of its own already`);
    const taken = [
      ...all.flatMap(({ subnets }) => subnets.map(({ cidr }) => cidr)),
      ...ownSubnets(),
    ];
    const subnets: Subnet[] = [];
    const isMeant = ({ subnet }: AskedSubnet) => spec.isIPv6 === true || familyOf(subnet) === 4;
    for (const asked of spec.subnets.filter(isMeant))
      subnets.push(
        parseSubnet(asked, [
          ...all.flatMap((network) => network.subnets.map(({ cidr }) => cidr)),
          ...subnets.map(({ cidr }) => cidr),
        ]),
      );
    const lacks = (family: Family) => !subnets.some(({ cidr }) => familyOf(cidr) === family);
    if (lacks(4)) subnets.push(chooseSubnet(taken));
    if (spec.isIPv6 === true && lacks(6)) subnets.push(drawSubnet6(randomBytes(5)));
    subnets.sort((a, b) => familyOf(a.cidr) - familyOf(b.cidr));
    const network: LocalNetworkObject = {
      id: randomBytes(32).toString("hex"),
      name: spec.name,
      created: timestamp(this.#world.now()),
      labels: spec.labels,
      options: spec.options,
      isInternal: spec.isInternal,
      ...(spec.ipamOptions === undefined ? {} : { ipamOptions: spec.ipamOptions }),
      subnets,
    };
    const path = this.#path(network.id);
    await writeFile(`${path}.new`, JSON.stringify(network), { mode: 0o600 });
    await rename(`${path}.new`, path);
    this.#networks.set(network.id, network);
    return network;
  }

  async remove(id: string): Promise<void> {
    await rm(this.#path(id), { force: true });
    this.#networks.delete(id);
  }

  #path(id: string): string {
    return join(this.#directory, `${id}.json`);
  }
}

/** What this machine itself is in. */
function ownSubnets(): readonly string[] {
  return Object.values(networkInterfaces()).flatMap((all) =>
    (all ?? []).flatMap(({ cidr, family }) => (family === "IPv4" && cidr !== null ? [cidr] : [])),
  );
}
