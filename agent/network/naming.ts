// What the keeper has to know to answer DNS: name tables that changed, and which sandbox sees which. All of it again
// after the keeper was restarted.

import { messageOf } from "../../proto/kit/errors.ts";
import type { Keeper, KeeperRequest, NameTable, ServeNames } from "../../proto/kit/keeper.ts";
import type { Log } from "../../proto/kit/log.ts";
import { nameDigest } from "../../proto/kit/name-digest.ts";
import { version } from "../../proto/kit/version.ts";
import { hostNameServers } from "./host.ts";
import { nameTable } from "./names.ts";
import { exitNetwork, localNetwork, type NetworkFacts } from "./plan.ts";
import type { ClusterView, Sandbox } from "./types.ts";

type Networks = ReadonlyMap<string, NetworkFacts>;

export class Naming {
  readonly #keeper: Keeper;
  readonly #log: Log;
  /** What was told, as JSON: of tables by network, of sandboxes by id. */
  readonly #toldTables = new Map<string, string>();
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

  /** Tells of the tables that differ from what was told, and takes back those of networks that are gone. */
  async tellTables(view: ClusterView, networks: Networks): Promise<void> {
    const tables: Record<string, NameTable | null> = {};
    const told = new Map<string, string>();
    for (const network of networks.values()) {
      if (!hasNames(network)) continue;
      const table = nameTable(view, network);
      const json = JSON.stringify(table);
      told.set(network.id, json);
      if (this.#toldTables.get(network.id) !== json) tables[network.id] = table;
    }
    for (const id of this.#toldTables.keys()) if (!told.has(id)) tables[id] = null;
    if (Object.keys(tables).length === 0) return;
    if (!(await this.#ask({ do: "setNames", tables }))) return;
    this.#toldTables.clear();
    for (const [id, json] of told) this.#toldTables.set(id, json);
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
        wanted.set(`table ${network.id}`, nameDigest(nameTable(view, network)));
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
  async #ask(request: KeeperRequest): Promise<boolean> {
    try {
      await this.#keeper.ask(request);
      return true;
    } catch (error) {
      const details = { request: request.do, error: messageOf(error) };
      this.#log.warn(details, "the keeper could not be told");
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
  };
}

/** On the ingress network and on the local one containers do not know each other. */
function hasNames(network: NetworkFacts): boolean {
  return !network.isIngress && network.id !== localNetwork.id;
}
