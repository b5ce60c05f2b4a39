// What the store says about a network against what a host's kernel and name server say, read by other means than ours.

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import dnsPacket from "dns-packet";
import { machine } from "../../deploy/lab/names.ts";
import { initOf } from "../../deploy/lab/processes.ts";
import { inNamespace, isNamespace, udpSocketIn } from "../../proto/kit/netns.ts";
import { isFinal } from "../../proto/states.ts";
import { api, attempt } from "./harness.ts";

const answerMsMax = 1_000;

interface TaskBody {
  readonly ID: string;
  readonly ServiceID: string;
  readonly NodeID?: string;
  readonly DesiredState: string;
  readonly Status: { readonly State: string };
  readonly NetworksAttachments?: readonly {
    readonly Network: { readonly ID: string };
    readonly Addresses: readonly string[];
  }[];
}
interface ServiceBody {
  readonly ID: string;
  readonly Spec: { readonly Name: string };
  readonly Endpoint?: {
    readonly VirtualIPs?: readonly { readonly NetworkID: string; readonly Addr: string }[];
  };
}

interface StoredTask {
  readonly id: string;
  readonly service: string;
  readonly node: string;
  readonly address: string;
  /** It runs and shall. Else it may still be about, or may be already. */
  readonly isServing: boolean;
}

export interface Stored {
  /** Those that have not ended. */
  readonly tasks: readonly StoredTask[];
  /** Virtual address by name. */
  readonly services: ReadonlyMap<string, string>;
}

/** What the managers say of one network, by the API. */
export async function readStore(manager: string, networkId: string): Promise<Stored> {
  const client = api(manager);
  const signal = AbortSignal.timeout(10_000);
  const [tasks, services, nodes] = await Promise.all([
    client.get<readonly TaskBody[]>("/tasks", { signal }),
    client.get<readonly ServiceBody[]>("/services", { signal }),
    client.get<readonly { ID: string; Description: { Hostname: string } }[]>("/nodes", { signal }),
  ]);
  const hostnames = new Map(nodes.map((node) => [node.ID, node.Description.Hostname]));
  const names = new Map(services.map(({ ID, Spec }) => [ID, Spec.Name]));
  const here = (of: TaskBody) =>
    of.NetworksAttachments?.find(({ Network }) => Network.ID === networkId);
  return {
    tasks: tasks
      .filter((task) => !isFinal(task.Status.State) && here(task) !== undefined)
      .map((task) => ({
        id: task.ID,
        service: names.get(task.ServiceID) ?? "",
        node: hostnames.get(task.NodeID ?? "") ?? "",
        address: here(task)?.Addresses[0]?.split("/")[0] ?? "",
        isServing: task.DesiredState === "running" && task.Status.State === "running",
      })),
    services: new Map(
      services.flatMap(({ Spec, Endpoint }) => {
        const own = Endpoint?.VirtualIPs?.find(({ NetworkID }) => NetworkID === networkId);
        return own === undefined ? [] : [[Spec.Name, own.Addr.split("/")[0] ?? ""] as const];
      }),
    ),
  };
}

/** Addresses that have to be there, and those that may be. */
interface Bounds {
  readonly must: ReadonlySet<string>;
  readonly may: ReadonlySet<string>;
}

/** Of a service, or of all. Between two readings: what both say has to be, what either says may be. */
function boundsOf(before: Stored, after: Stored, service?: string): Bounds {
  const of = (stored: Stored) =>
    stored.tasks.filter((task) => service === undefined || task.service === service);
  const still = new Set(of(after).flatMap(({ id, isServing }) => (isServing ? [id] : [])));
  const must = of(before).filter(({ id, isServing }) => isServing && still.has(id));
  return {
    must: new Set(must.map(({ address }) => address)),
    may: new Set([...of(before), ...of(after)].map(({ address }) => address)),
  };
}

function misfits(what: string, found: ReadonlySet<string>, { must, may }: Bounds): string[] {
  const missing = [...must].filter((address) => !found.has(address));
  const strays = [...found].filter((address) => !may.has(address));
  return [
    ...missing.map((address) => `${what} lacks ${address}`),
    ...strays.map((address) => `${what} has ${address} too many`),
  ];
}

export interface Where {
  readonly host: string;
  readonly manager: string;
  readonly networkId: string;
  /** Of the network's addresses: 10.99.0. */
  readonly base: string;
}

/** How a host's routes, rules and names differ from the store; empty: they agree. Throws when the store cannot be read. */
export async function disagreements(where: Where): Promise<readonly string[]> {
  const { host, manager, networkId, base } = where;
  const before = await readStore(manager, networkId);
  const mine = before.tasks.filter(({ node, isServing }) => node === host && isServing);
  const init = initOf(machine(host));
  if (init === null) return [`${host} is off`];
  const place = `/proc/${init.pid}/root/run/tsswarm/netns`;
  const router = `${place}/router-${networkId}`;
  if (mine.length === 0) return [];
  if (!isNamespace(router)) return [`${host} has no router of the network`];
  const routes = inNamespace(router, () => hostRoutes(base));
  const rules = await attempt("nsenter", [
    `--net=${router}`,
    "nft",
    "list",
    "table",
    "ip",
    "tsswarm",
  ]);
  const sandbox = `${place}/${mine[0]?.id}`;
  const names = new Map<string, ReadonlySet<string>>();
  for (const service of before.services.keys())
    for (const name of [service, `tasks.${service}`]) names.set(name, await resolve(sandbox, name));
  const after = await readStore(manager, networkId);

  const found = misfits("the routing table", routes, boundsOf(before, after));
  for (const [service, virtual] of before.services) {
    if (after.services.get(service) !== virtual) continue;
    const bounds = boundsOf(before, after, service);
    found.push(...misfits(`the rules of ${service}`, balanced(rules.stdout, virtual), bounds));
    const addresses = names.get(`tasks.${service}`) ?? new Set();
    found.push(...misfits(`the name tasks.${service}`, addresses, bounds));
    const own = [...(names.get(service) ?? [])].join();
    if (own !== virtual) found.push(`the name ${service} is ${own}, not ${virtual}`);
  }
  return found;
}

/** Of the calling thread's namespace: routes to single addresses that begin so. */
function hostRoutes(base: string): ReadonlySet<string> {
  const lines = readFileSync("/proc/thread-self/net/route", "utf8").trim().split("\n").slice(1);
  const all = lines.map((line) => line.split(/\s+/)).filter((words) => words[7] === "FFFFFFFF");
  const addresses = all.map(([, hex = ""]) => [...Buffer.from(hex, "hex")].reverse().join("."));
  return new Set(addresses.filter((address) => address.startsWith(base)));
}

/** The addresses that a virtual address leads to by a listing of rules. */
export function balanced(listing: string, virtual: string): ReadonlySet<string> {
  const quoted = virtual.replaceAll(".", "\\.");
  const chain = new RegExp(`[\\s{,]${quoted} : (?:jump|goto) (\\S+?)[\\s,}]`).exec(listing)?.[1];
  if (chain === undefined) return new Set();
  const rules = new RegExp(`chain ${chain} \\{(.*?)\\n\\t\\}`, "s").exec(listing)?.[1] ?? "";
  return new Set(rules.match(/\d+\.\d+\.\d+\.\d+/g) ?? []);
}

/** Addresses of a name as a container hears them; none when there is no answer in time. */
async function resolve(sandbox: string, name: string): Promise<ReadonlySet<string>> {
  const socket = createSocket("udp4");
  try {
    socket.bind({ fd: udpSocketIn(sandbox, "127.0.0.1", 0) });
    const query = { id: 1, type: "query" as const, questions: [{ type: "A" as const, name }] };
    socket.send(dnsPacket.encode(query), 53, "127.0.0.11");
    const limit = { signal: AbortSignal.timeout(answerMsMax) };
    const [reply] = (await once(socket, "message", limit)) as [Buffer];
    const answers = dnsPacket.decode(reply).answers ?? [];
    return new Set(answers.flatMap((answer) => (answer.type === "A" ? [answer.data] : [])));
  } catch {
    return new Set();
  } finally {
    socket.close();
  }
}
