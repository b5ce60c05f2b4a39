// What the keeper has to know to answer DNS: name tables that changed, and which sandbox sees which. All of it again
// after the keeper was restarted.

import { messageOf } from "../../proto/kit/errors.ts";
import type {
  Keeper,
  KeeperRequest,
  NameChange,
  NameTable,
  ServeNames,
} from "../../proto/kit/keeper.ts";
import type { Log } from "../../proto/kit/log.ts";
import { nameDigest } from "../../proto/kit/name-digest.ts";
import { version } from "../../proto/kit/version.ts";
import { exitNetwork, localNetwork, type NetworkFacts } from "./facts.ts";
import { hostNameServers } from "./host.ts";
import { type Names, nameChange, nameTable, networkNames } from "./names.ts";
import type { ClusterView, Sandbox } from "./types.ts";

type Networks = ReadonlyMap<string, NetworkFacts>;

export class Naming {
  readonly #keeper: Keeper;
  readonly #log: Log;
  /** What was told: tables by network, sandboxes (as JSON) by id. */
  readonly #toldTables = new Map<string, Names>();
  readonly #toldSandboxes = new Map<string, string>();

  constructor(keeper: Keeper, log: Log) {
    this.#keeper = keeper;
    this.#log = log;
  }

  /** The keeper knows nothing any more. */
  startOver(): void {
    this.#toldTables.clear();
    this.#toldSandboxes.clear();
  }

  /** Tells what of the tables differs from what was told, and takes back those of networks that are gone. */
  async tellTables(view: ClusterView, networks: Networks): Promise<void> {
    const named = [...networks.values()].filter(hasNames);
    const wanted = new Map(named.map((network) => [network.id, networkNames(view, network)]));
    const changes = new Map<string, NameChange>();
    for (const [id, table] of wanted) {
      const told = this.#toldTables.get(id);
      const change = told === undefined ? null : nameChange(told, table);
      if (change !== null) changes.set(id, change);
    }
    // A keeper of an older version, or one that has lost a table, is told all of it.
    const isChanged = changes.size > 0 && (await this.#change(changes));
    const whole: Record<string, NameTable | null> = {};
    for (const [id, names] of wanted) {
      if (!this.#toldTables.has(id) || (changes.has(id) && !isChanged))
        whole[id] = nameTable(names);
      else this.#toldTables.set(id, names);
    }
    for (const id of this.#toldTables.keys()) if (!wanted.has(id)) whole[id] = null;
    if (Object.keys(whole).length === 0) return;
    const isTold = await this.#ask({ do: "setNames", tables: whole });
    for (const id of Object.keys(whole)) {
      const names = wanted.get(id);
      // What a keeper that did not answer has of it is not known.
      if (isTold && names !== undefined) this.#toldTables.set(id, names);
      else if (isTold || names !== undefined) this.#toldTables.delete(id);
    }
  }

  #change(changes: ReadonlyMap<string, NameChange>): Promise<boolean> {
    const tables = Object.fromEntries(changes);
    return this.#ask({ do: "changeNames", tables }, "debug");
  }

  /** Has the sandbox served, once all its networks are known. Telling the same again costs nothing. */
  async serve(sandbox: Sandbox, namespace: string, networks: Networks): Promise<void> {
    const request = serveRequest(sandbox, namespace, networks);
    if (request === null) return;
    const json = JSON.stringify(request);
    if (this.#toldSandboxes.get(sandbox.id) === json) return;
    if (await this.#ask(request)) this.#toldSandboxes.set(sandbox.id, json);
  }

  /** By name, digests of what the keeper should hold and what it holds; null: it cannot say, or is of another version. */
  async digests(
    view: ClusterView,
    networks: Networks,
    sandboxes: readonly (readonly [Sandbox, string])[],
  ): Promise<{
    readonly wanted: ReadonlyMap<string, string>;
    readonly actual: Readonly<Record<string, string>>;
  } | null> {
    const status = await this.#keeper.ask({ do: "status" }).then(
      (response) => response.status,
      () => undefined,
    );
    if (status?.names === undefined || status.version !== version) return null;
    const wanted = new Map<string, string>();
    for (const network of networks.values())
      if (hasNames(network))
        wanted.set(`table ${network.id}`, nameDigest(nameTable(networkNames(view, network))));
    for (const [sandbox, namespace] of sandboxes) {
      const request = serveRequest(sandbox, namespace, networks);
      if (request !== null) wanted.set(`sandbox ${sandbox.id}`, nameDigest(request));
    }
    return { wanted, actual: status.names };
  }

  async forget(sandbox: string): Promise<void> {
    this.#toldSandboxes.delete(sandbox);
    await this.#ask({ do: "forgetNames", sandbox });
  }

  /** Whether the keeper did it. One that is away is told everything when it is back. */
  async #ask(request: KeeperRequest, level: "warn" | "debug" = "warn"): Promise<boolean> {
    try {
      await this.#keeper.ask(request);
      return true;
    } catch (error) {
      const details = { request: request.do, error: messageOf(error) };
      this.#log[level](details, "the keeper could not be told");
      return false;
    }
  }
}

/** null as long as not all its networks are known. */
function serveRequest(sandbox: Sandbox, namespace: string, networks: Networks): ServeNames | null {
  const ids = sandbox.attachments.map(({ networkId }) => networkId);
  if (ids.some((id) => !networks.has(id))) return null;
  const hasExit = exitNetwork(sandbox, networks) !== null;
  const own = sandbox.upstreamNameServers;
  return {
    do: "serveNames",
    sandbox: sandbox.id,
    namespace,
    tables: ids.filter((id) => hasNames(networks.get(id) ?? localNetwork)),
    upstream: hasExit ? (own.length > 0 ? own : hostNameServers()) : [],
    search: sandbox.searchDomains,
    ...(sandbox.aliases === undefined ? {} : { aliases: sandbox.aliases }),
  };
}

/** On the ingress network and on the local one containers do not know each other. */
function hasNames(network: NetworkFacts): boolean {
  return !network.isIngress && network.id !== localNetwork.id;
}
