// For tests with several managers: who leads, a client that keeps writing, and rounds of killing while it does.

import { machine } from "../../deploy/lab/names.ts";
import { findProgram, initOf } from "../../deploy/lab/processes.ts";
import { api, until } from "./harness.ts";

const writePauseMs = 20;
const writeMsMax = 30_000;
const backMsMax = 60_000;

interface NodeBody {
  readonly ID: string;
  readonly Description: { readonly Hostname: string };
  readonly Status: { readonly State: string };
  readonly ManagerStatus?: { readonly Leader?: boolean; readonly Reachability: string };
}

export function nodes(host: string): Promise<readonly NodeBody[]> {
  return api(host).get<readonly NodeBody[]>("/nodes", { signal: AbortSignal.timeout(10_000) });
}

/** Waits until all of these managers answer, agree on who leads, and reach each other. Who leads. */
export function untilManaged(managers: readonly string[]): Promise<string> {
  let seen: unknown = "nothing";
  const why = () =>
    `${managers.join(", ")} do not manage the cluster together: ${JSON.stringify(seen)}`;
  return until(why, backMsMax, async () => {
    const leaders = new Set<string>();
    for (const host of managers) {
      const all = await nodes(host).catch((error: unknown) => {
        seen = String(error);
        return [];
      });
      const reachable = all.filter((node) => node.ManagerStatus?.Reachability === "reachable");
      if (all.length > 0) seen = all.map((node) => node.ManagerStatus ?? null);
      if (reachable.length !== managers.length) return undefined;
      if (all.some((node) => node.Status.State !== "ready")) return undefined;
      for (const node of reachable)
        if (node.ManagerStatus?.Leader === true) leaders.add(node.Description.Hostname);
    }
    const [leader] = leaders;
    return leaders.size === 1 ? leader : undefined;
  });
}

export function signalManager(host: string, signal: "SIGKILL" | "SIGTERM"): void {
  const init = initOf(machine(host));
  const pid = init === null ? null : findProgram(init, "manager");
  if (pid !== null) process.kill(pid, signal);
}

/** Makes one network after the other, at one manager after the other, and keeps account. */
export class Writer {
  readonly acknowledged = new Set<string>();
  /** Nobody knows whether they were written. */
  readonly unknown = new Set<string>();
  readonly #prefix: string;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #hosts: readonly string[];
  #count = 0;
  #listeners: ((startedAt: number) => void)[] = [];

  constructor(prefix: string, hosts: readonly string[]) {
    this.#prefix = prefix;
    this.#hosts = hosts;
    this.#running = this.#run();
  }

  /** Where it writes from now on. */
  use(hosts: readonly string[]): void {
    this.#hosts = hosts;
  }

  /** The performance.now() at which a write that began after this call was acknowledged. */
  async nextAccepted(): Promise<number> {
    const called = performance.now();
    let accepted: number | undefined;
    this.#listeners.push((startedAt) => {
      if (startedAt >= called) accepted ??= performance.now();
    });
    return until(
      () => `no write was accepted for ${writeMsMax} ms`,
      writeMsMax,
      () => accepted,
    );
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** What is wrong with the networks there are: acknowledged ones that are missing, others that should not be there, doubles. */
  async faults(host: string): Promise<readonly string[]> {
    const present = (await api(host).get<readonly { Name: string }[]>("/networks"))
      .map(({ Name }) => Name)
      .filter((name) => name.startsWith(this.#prefix));
    const there = new Set(present);
    return [
      ...[...this.acknowledged].filter((name) => !there.has(name)).map((name) => `lost: ${name}`),
      ...present
        .filter((name) => !this.acknowledged.has(name) && !this.unknown.has(name))
        .map((name) => `refused and yet there: ${name}`),
      ...(there.size === present.length ? [] : ["a network is there twice"]),
    ];
  }

  async cleanUp(host: string): Promise<void> {
    for (const { Id, Name } of await api(host).get<readonly { Id: string; Name: string }[]>(
      "/networks",
    ))
      if (Name.startsWith(this.#prefix)) await api(host).delete(`/networks/${Id}`);
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const host = this.#hosts[this.#count % this.#hosts.length] ?? "";
      this.#count += 1;
      const name = `${this.#prefix}-${this.#count}`;
      const startedAt = performance.now();
      try {
        const signal = AbortSignal.timeout(writeMsMax);
        await api(host).post("/networks/create", {
          body: { Name: name, Driver: "overlay" },
          signal,
        });
        this.acknowledged.add(name);
        for (const listener of this.#listeners) listener(startedAt);
      } catch (error) {
        // Only a sentence that nothing was written is believed.
        const isRefused = /does not have a leader/.test(String(error));
        if (!isRefused) this.unknown.add(name);
      }
      await new Promise((resolve) => setTimeout(resolve, writePauseMs));
    }
  }
}

const damages = ["kill leader", "kill follower", "stop leader", "kill all"] as const;

/**
 * Kills managers in turn while `writer` writes; each round ends when a write is accepted again; none begins once `signal` aborts. How
 * long each took, ms.
 */
export async function killRounds(
  managers: readonly string[],
  writer: Writer,
  rounds: number,
  say: (line: string) => void,
  signal?: AbortSignal,
): Promise<readonly number[]> {
  const took: number[] = [];
  for (let round = 0; round < rounds && signal?.aborted !== true; round++) {
    const leader = await untilManaged(managers);
    const damage = damages[round % damages.length] ?? "kill all";
    const follower = managers.find((host) => host !== leader) ?? leader;
    const started = performance.now();
    const accepted = writer.nextAccepted();
    if (damage === "kill all") for (const host of managers) signalManager(host, "SIGKILL");
    else if (damage === "stop leader") signalManager(leader, "SIGTERM");
    else signalManager(damage === "kill leader" ? leader : follower, "SIGKILL");
    const ms = Math.round((await accepted) - started);
    took.push(ms);
    say(`round ${round + 1}: ${damage} (${leader} led): next write after ${ms} ms`);
  }
  await untilManaged(managers);
  return took;
}
