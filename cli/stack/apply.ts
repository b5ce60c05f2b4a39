// Performs the steps of a plan through the REST API, and says each.

import type { Service, ServiceSpec } from "../../proto/gen/types.ts";
import type { Body } from "../body.ts";
import { DaemonError } from "../client.ts";
import { authHeaders } from "../credentials.ts";
import type { Terminal } from "../terminal.ts";
import { waitFor } from "./progress.ts";
import type { Step } from "./steps.ts";
import type { FileKind } from "./wanted.ts";

type Doers = {
  readonly [K in Step["do"]]: (step: Extract<Step, { readonly do: K }>) => Promise<void>;
};

export interface ApplyOptions {
  readonly waitMsMax: number;
  readonly isQuiet: boolean;
  /** Whether nodes get what is needed to pull from the registries that who deploys has logged in at. */
  readonly withRegistryAuth: boolean;
  readonly signal: AbortSignal;
}

/** One after another; the first that fails ends it. */
export async function applySteps(
  terminal: Terminal,
  steps: readonly Step[],
  options: ApplyOptions,
): Promise<void> {
  const doers = doersOf(terminal, options);
  for (const step of steps) await (doers[step.do] as (step: Step) => Promise<void>)(step);
}

function doersOf(terminal: Terminal, options: ApplyOptions): Doers {
  const { client } = terminal;
  const { signal } = options;
  const say = (text: string) => {
    if (!options.isQuiet) terminal.print(`${text}\n`);
  };
  const warn = (warnings: readonly string[] | null | undefined) => {
    for (const warning of warnings ?? []) terminal.warn(`${warning}\n`);
  };
  const headersOf = async (spec: Body<ServiceSpec>) =>
    options.withRegistryAuth
      ? authHeaders(terminal.configFolder, spec.TaskTemplate?.ContainerSpec?.Image ?? "")
      : {};
  return {
    "create-network": async ({ name, body }) => {
      say(`Creating network ${name}`);
      const made = await client.post<{ Warning?: string }>("/networks/create", { body, signal });
      if (made.Warning) terminal.warn(`WARNING: ${made.Warning}\n`);
    },
    "create-file": async ({ kind, name, body }) => {
      say(`Creating ${kind} ${name}`);
      await client.post(`/${kind}s/create`, { body, signal });
    },
    "rotate-file": async ({ kind, name, id, data, labels }) => {
      say(`Updating ${kind} ${name} (id: ${id})`);
      await client.post(`/tsswarm/${kind}s/${id}/rotate`, { body: { Data: data }, signal });
      await relabel(terminal, kind, name, labels, signal);
    },
    "relabel-file": async ({ kind, name, id, labels }) => {
      say(`Updating ${kind} ${name} (id: ${id})`);
      await relabel(terminal, kind, name, labels, signal);
    },
    wait: async ({ name, condition, isWritten, for: dependent }) => {
      const what = condition === "service_completed_successfully" ? "completed" : "healthy";
      say(`Waiting for service ${name} to be ${what} (${dependent} depends on it)`);
      await waitFor(
        client,
        name,
        {
          condition,
          isWritten,
          msMax: options.waitMsMax,
          now: terminal.now,
          onChange: (said) => say(`  ${name}: ${said}`),
        },
        signal,
      );
    },
    "create-service": async ({ name, spec }) => {
      say(`Creating service ${name}`);
      const made = await client.post<{ Warnings?: readonly string[] | null }>("/services/create", {
        body: spec,
        headers: await headersOf(spec),
        signal,
      });
      warn(made.Warnings);
    },
    "update-service": async ({ name, id, version, spec }) => {
      say(`Updating service ${name} (id: ${id})`);
      const answer = await client.post<{ Warnings?: readonly string[] | null } | null>(
        `/services/${id}/update`,
        { body: spec, headers: await headersOf(spec), query: { version }, signal },
      );
      warn(answer?.Warnings);
    },
    "leave-service": async ({ name, id }) => say(`Service ${name} is up to date (id: ${id})`),
    "remove-service": async ({ name, id }) => {
      say(`Removing service ${name}`);
      await removed(client.delete(`/services/${id}`, { signal }));
    },
    "remove-file": async ({ kind, name, id }) => {
      const isGone = await unlessUsed(client.delete(`/${kind}s/${id}`, { signal }));
      if (isGone) say(`Removing ${kind} ${name}`);
    },
    "remove-network": async ({ name, id }) => {
      const isGone = await unlessUsed(client.delete(`/networks/${id}`, { signal }));
      say(isGone ? `Removing network ${name}` : `Network ${name} is still in use`);
    },
  };
}

async function relabel(
  terminal: Terminal,
  kind: FileKind,
  name: string,
  Labels: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<void> {
  const path = `/${kind}s/${encodeURIComponent(name)}`;
  const found = await terminal.client.get<Body<Service>>(path, { signal });
  const { Data: _data, ...spec } = (found.Spec ?? {}) as { readonly Data?: unknown };
  await terminal.client.post(`/${kind}s/${found.ID}/update`, {
    body: { ...spec, Labels },
    query: { version: found.Version?.Index ?? 0 },
    signal,
  });
}

/** What is gone already is as good as removed. */
async function removed(request: Promise<unknown>): Promise<void> {
  try {
    await request;
  } catch (error) {
    if (!(error instanceof DaemonError && error.status === 404)) throw error;
  }
}

/** False: something uses it still; a later deploy removes it. */
async function unlessUsed(request: Promise<unknown>): Promise<boolean> {
  try {
    await removed(request);
    return true;
  } catch (error) {
    if (error instanceof DaemonError && /in use|active endpoints/.test(error.message)) return false;
    throw error;
  }
}
