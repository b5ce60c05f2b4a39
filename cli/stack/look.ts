// What the cluster has of a stack, and of what it names.

import type { Service } from "../../proto/gen/types.ts";
import type { Body } from "../body.ts";
import type { DaemonClient } from "../client.ts";
import { namespaceLabel } from "./names.ts";
import type { Had, HadFile, HadNetwork } from "./steps.ts";
import type { FileKind, Wanted } from "./wanted.ts";

type Labels = Readonly<Record<string, string>>;

interface FileBody {
  readonly ID: string;
  readonly Version?: { readonly Index?: number };
  readonly Spec?: { readonly Name?: string; readonly Labels?: Labels | null };
}

interface NetworkBody {
  readonly Id: string;
  readonly Name: string;
  readonly Labels?: Labels | null;
}

export function ofStack(stack: string, more: Readonly<Record<string, readonly string[]>> = {}) {
  return JSON.stringify({
    ...more,
    label: [`${namespaceLabel}=${stack}`, ...(more["label"] ?? [])],
  });
}

/** `wanted`: what else is looked for by its name; null for the stack's own alone. */
export async function look(
  client: DaemonClient,
  stack: string,
  wanted: Wanted | null,
  signal: AbortSignal,
): Promise<Had> {
  const query = { filters: ofStack(stack) };
  const names = (kind: FileKind) =>
    wanted === null
      ? []
      : [
          ...wanted.external[kind],
          ...wanted.files.flatMap((file) => (file.kind === kind ? [file.name] : [])),
        ];
  const [networks, services, secrets, configs] = await Promise.all([
    client.get<readonly NetworkBody[]>("/networks", { signal }),
    client.get<readonly Body<Service>[]>("/services", { query, signal }),
    files(client, "secret", query, names("secret"), signal),
    files(client, "config", query, names("config"), signal),
  ]);
  return { networks: networks.map(hadNetwork), services, files: [...secrets, ...configs] };
}

function hadNetwork(network: NetworkBody): HadNetwork {
  const body = network as unknown as HadNetwork["body"];
  return { id: network.Id, name: network.Name, labels: network.Labels ?? {}, body };
}

/** Those of the stack, and those of these names. */
async function files(
  client: DaemonClient,
  kind: FileKind,
  query: { readonly filters: string },
  names: readonly string[],
  signal: AbortSignal,
): Promise<readonly HadFile[]> {
  const own = await client.get<readonly FileBody[]>(`/${kind}s`, { query, signal });
  const named =
    names.length === 0
      ? []
      : await client.get<readonly FileBody[]>(`/${kind}s`, {
          query: { filters: JSON.stringify({ name: names }) },
          signal,
        });
  const all = new Map<string, FileBody>();
  for (const file of own) all.set(file.ID, file);
  for (const file of named) if (names.includes(file.Spec?.Name ?? "")) all.set(file.ID, file);
  return [...all.values()].map((file) => ({
    kind,
    id: file.ID,
    name: file.Spec?.Name ?? "",
    version: file.Version?.Index ?? 0,
    labels: file.Spec?.Labels ?? {},
    spec: (file.Spec ?? {}) as HadFile["spec"],
  }));
}
