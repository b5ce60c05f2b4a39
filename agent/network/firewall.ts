// Other programs' firewalls on this host. Docker's drops what it does not know by policy, and has a chain for its users'
// own rules: ours are put there. What drops our packets elsewhere is named, never changed.

import { messageOf } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import { hostLinkPrefix } from "./addresses.ts";
import { readGeneration } from "./generation.ts";
import { runNft } from "./nft.ts";

const everyMs = 5_000;
const usersChain = "DOCKER-USER";
const links = `"${hostLinkPrefix}*"`;
const ownRules = [`iifname ${links}`, `oifname ${links}`] as const;

export interface ForeignChain {
  /** "ip filter", "inet firewalld" … */
  readonly table: string;
  readonly name: string;
  /** Of the forward hook, and drops what none of its rules accepts. */
  readonly dropsForwarded: boolean;
}

/** Every chain in what nft lists, but for those of the table tsswarm. Pure. */
export function foreignChains(listing: string): readonly ForeignChain[] {
  const found: ForeignChain[] = [];
  let table = "";
  let name = "";
  for (const line of listing.split("\n")) {
    table = /^table (\S+ \S+) \{/.exec(line)?.[1] ?? table;
    const begins = /^\s+chain (\S+) \{/.exec(line)?.[1];
    if (begins !== undefined) {
      name = begins;
      if (!table.endsWith(" tsswarm")) found.push({ table, name, dropsForwarded: false });
    } else if (/ hook forward .*policy drop;/.test(line) && found.at(-1)?.name === name) {
      found[found.length - 1] = { table, name, dropsForwarded: true };
    }
  }
  return found;
}

/** Which of our two rules a chain's listing lacks. Pure. */
export function missingRules(listing: string): readonly string[] {
  const lines = listing.split("\n").map((line) => line.trim());
  return ownRules.filter(
    (rule) => !lines.some((line) => line.startsWith(`${rule} `) && / accept( |$)/.test(line)),
  );
}

/**
 * Looks at the host's chains whenever somebody has changed rules, every 5 s at most, until the signal aborts; not as long
 * as nothing of ours has to pass.
 */
export async function watchFirewall(
  isNeeded: () => boolean,
  { world, log }: { readonly world: World; readonly log: Log },
  signal: AbortSignal,
): Promise<void> {
  let seen: number | null = null;
  for (;;) {
    try {
      const generation = isNeeded() ? readGeneration(null) : null;
      if (generation !== null && generation !== seen) {
        if (openFirewall()) log.warn("Docker's firewall was told to let the overlay networks pass");
        seen = readGeneration(null);
      }
    } catch (error) {
      log.warn({ error: messageOf(error) }, "this host's firewall cannot be looked at");
    }
    await world.sleep(everyMs, signal);
  }
}

/** Puts our rules into Docker's chain for users where they are not there. Whether anything had to be done. */
function openFirewall(): boolean {
  const missing = usersChains().flatMap(({ table, name }) =>
    missingRules(listChain(table, name)).map(
      (rule) => `insert rule ${table} ${name} ${rule} counter accept\n`,
    ),
  );
  if (missing.length > 0) runNft(null, missing.join(""));
  return missing.length > 0;
}

/** Takes our rules out of Docker's chain again. */
export function leaveFirewall(): void {
  for (const { table, name } of usersChains())
    for (const line of listChain(table, name, { handles: true }).split("\n")) {
      const handle = / # handle (\d+)$/.exec(line)?.[1];
      if (handle !== undefined && ownRules.some((rule) => line.trim().startsWith(`${rule} `)))
        runNft(null, `delete rule ${table} ${name} handle ${handle}\n`);
    }
}

/** A sentence for each chain of this host that drops what goes to and comes from our networks. */
export function firewallObstacles(): readonly string[] {
  const chains = foreignChains(runNft(null, "list chains\n"));
  return chains
    .filter(({ dropsForwarded }) => dropsForwarded)
    .filter((chain) => !isOpen(chain, chains))
    .map(
      ({ table, name }) =>
        `this host's firewall drops forwarded packets (table ${table}, chain ${name}, policy drop): containers reach nothing outside and published ports do not answer until it accepts what comes from and goes to ${hostLinkPrefix}*: nft insert rule ${table} ${name} ${ownRules[0]} accept; nft insert rule ${table} ${name} ${ownRules[1]} accept`,
    );
}

/** Whether the chain lets ours pass, or Docker's chain for users, which it asks, does. */
function isOpen(chain: ForeignChain, chains: readonly ForeignChain[]): boolean {
  const listing = listChain(chain.table, chain.name);
  if (missingRules(listing).length === 0) return true;
  const users = chains.find(({ table, name }) => table === chain.table && name === usersChain);
  const asks = new RegExp(` jump ${usersChain}$`, "m").test(listing);
  return (
    users !== undefined && asks && missingRules(listChain(users.table, users.name)).length === 0
  );
}

function usersChains(): readonly ForeignChain[] {
  return foreignChains(runNft(null, "list chains\n")).filter(({ name }) => name === usersChain);
}

function listChain(table: string, name: string, options?: { readonly handles: boolean }): string {
  return runNft(null, `list chain ${table} ${name}\n`, options);
}
