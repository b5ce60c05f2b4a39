// Histories of real managers: clients at every manager's Control door read registers and swap their values, and one order of events
// has to explain all that they were told. A register is a service of no replicas, its value a label, its swap an update by version.

import grpc from "@grpc/grpc-js";
import { machine } from "../../deploy/lab/names.ts";
import { initOf } from "../../deploy/lab/processes.ts";
import type { Service, ServiceSpec } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { staleKey } from "../../proto/rpc.ts";
import { Client } from "../../proto/rpc-client.ts";
import { linearizability, type Operation } from "../raft/sim/history.ts";
import { until } from "./harness.ts";

const registers = 6;
const clientsPerHost = 2;
const callMsMax = 3_000;
const pauseMs = 10;
const readyMsMax = 60_000;
const label = "value";

/** Nothing was written, says the error contract; were it otherwise, somebody would read it. */
const refusals: ReadonlySet<string> = new Set(["conflict", "no_leader", "exhausted", "invalid"]);

interface Register {
  readonly key: number;
  readonly id: string;
  readonly name: string;
}

interface Seen {
  readonly value: number;
  readonly version: number;
  readonly spec: ServiceSpec;
}

export interface Account {
  readonly reads: number;
  readonly swaps: number;
  readonly refused: number;
  readonly unknown: number;
  /** Reads that said of themselves that they may be old: they promise nothing. */
  readonly stale: number;
}

export class Histories {
  readonly #operations: Operation[] = [];
  readonly #registers: readonly Register[];
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;
  #stale = 0;
  #serials = 0;

  private constructor(made: readonly Register[], hosts: readonly string[]) {
    this.#registers = made;
    const clients = hosts.flatMap((host) => Array.from({ length: clientsPerHost }, () => host));
    this.#running = Promise.all(clients.map((host) => this.#run(host)));
  }

  /** Makes the registers, and starts clients at each of the hosts. */
  static async open(prefix: string, hosts: readonly string[]): Promise<Histories> {
    const door = new Door(hosts[0] ?? "");
    const made: Register[] = [];
    try {
      for (let key = 1; key <= registers; key++) {
        const name = `${prefix}-${key}`;
        made.push({ key, name, id: await door.create(name) });
      }
    } finally {
      door.close();
    }
    return new Histories(made, hosts);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  get account(): Account {
    const count = (kind: string, outcome: string) =>
      this.#operations.filter((each) => each.kind === kind && each.outcome === outcome).length;
    return {
      reads: count("read", "done"),
      swaps: count("swap", "done"),
      refused: count("swap", "failed"),
      unknown: count("swap", "unknown"),
      stale: this.#stale,
    };
  }

  /** After `stop`: one more read of each register at each host, then what no order explains. */
  async faults(hosts: readonly string[]): Promise<readonly string[]> {
    for (const host of hosts) {
      const door = new Door(host);
      for (const register of this.#registers)
        await until(
          () => `register ${register.name} cannot be read at ${host}`,
          readyMsMax,
          async () => (await this.#read(door, register)) ?? undefined,
        );
      door.close();
    }
    return this.#registers.flatMap(({ key, name }) => {
      const verdict = linearizability(settled(this.#operations.filter((one) => one.key === key)));
      return verdict === "linearizable" ? [] : [`${name}: ${verdict}`];
    });
  }

  /** A disk that was full a moment ago may count as full for a little longer. */
  async cleanUp(host: string): Promise<void> {
    const door = new Door(host);
    for (const { id, name } of this.#registers)
      await until(
        () => `register ${name} cannot be removed`,
        readyMsMax,
        () => door.remove(id),
      );
    door.close();
  }

  async #run(host: string): Promise<void> {
    const door = new Door(host);
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const register = this.#registers[Math.floor(Math.random() * this.#registers.length)];
      if (register === undefined) return;
      const seen = await this.#read(door, register);
      if (seen !== null) await this.#swap(door, register, seen);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    door.close();
  }

  async #read(door: Door, { key, id }: Register): Promise<Seen | null> {
    const operation = this.#begin("read", key, 0);
    try {
      const { seen, isStale } = await door.read(id);
      if (isStale) {
        this.#stale += 1;
        return null;
      }
      operation.result = seen.value;
      this.#end(operation, "done");
      return seen;
    } catch {
      // Who was told nothing has nothing to explain.
      return null;
    }
  }

  async #swap(door: Door, { key, id }: Register, seen: Seen): Promise<void> {
    const operation = this.#begin("swap", key, seen.value);
    try {
      await door.swap(id, seen, operation.value);
      operation.result = seen.value;
      this.#end(operation, "done");
    } catch (error) {
      const code = error instanceof SwarmError ? error.code : "internal";
      this.#end(operation, refusals.has(code) ? "failed" : "unknown");
    }
  }

  #begin(kind: "read" | "swap", key: number, expected: number): Operation {
    this.#serials += 1;
    return {
      serial: this.#serials,
      kind,
      key,
      value: this.#serials,
      expected,
      began: performance.now(),
      outcome: "pending",
      ended: Number.POSITIVE_INFINITY,
      result: 0,
      floor: 0,
    };
  }

  #end(operation: Operation, outcome: "done" | "failed" | "unknown"): void {
    operation.outcome = outcome;
    if (outcome === "done") operation.ended = performance.now();
    this.#operations.push(operation);
  }
}

/**
 * A swap whose fate nobody was told took place before anyone was told its value; where nobody ever was, it may as well not have:
 * whatever came after it would have had to know it. Else the search would have to try it everywhere.
 */
function settled(operations: readonly Operation[]): readonly Operation[] {
  const knownAt = new Map<number, number>();
  for (const { outcome, result, ended } of operations)
    if (outcome === "done")
      knownAt.set(result, Math.min(ended, knownAt.get(result) ?? Number.POSITIVE_INFINITY));
  return operations.flatMap((operation) => {
    if (operation.outcome !== "unknown") return [operation];
    const ended = knownAt.get(operation.value);
    return ended === undefined ? [] : [{ ...operation, ended }];
  });
}

/** One manager's Control, on the private socket that it has for the agent beside it. */
class Door {
  readonly #host: string;
  #client: Client<"Control"> | null = null;

  constructor(host: string) {
    this.#host = host;
  }

  close(): void {
    this.#client?.close();
    this.#client = null;
  }

  async create(name: string): Promise<string> {
    const Spec = {
      Name: name,
      Labels: { [label]: "0" },
      TaskTemplate: { ContainerSpec: { Image: "none" } },
      Mode: { Replicated: { Replicas: 0 } },
    } as unknown as ServiceSpec;
    const made = await this.#open().unary("CreateService", { Spec, RegistryAuth: "" });
    return made.ID;
  }

  async read(ID: string): Promise<{ readonly seen: Seen; readonly isStale: boolean }> {
    let isStale = false;
    const request = { ID, InsertDefaults: false };
    const service = await this.#open().unary("GetService", request, {
      timeoutMs: callMsMax,
      heard: (trailer) => {
        isStale = trailer[staleKey] !== undefined;
      },
    });
    return { seen: seenOf(service), isStale };
  }

  async swap(ID: string, { version, spec }: Seen, value: number): Promise<void> {
    const Spec = { ...spec, Labels: { ...spec.Labels, [label]: `${value}` } };
    await this.#open().unary(
      "UpdateService",
      { ID, Version: version, Spec, RegistryAuth: "", RegistryAuthFrom: "", Rollback: "" },
      { timeoutMs: callMsMax },
    );
  }

  /** undefined: not yet. */
  async remove(ID: string): Promise<true | undefined> {
    try {
      await this.#open().unary("RemoveService", { ID, InsertDefaults: false });
      return true;
    } catch (error) {
      if (error instanceof SwarmError && error.code === "not_found") return true;
      return undefined;
    }
  }

  #open(): Client<"Control"> {
    if (this.#client !== null) return this.#client;
    const init = initOf(machine(this.#host));
    const socket = `unix:/proc/${init?.pid}/root/run/tsswarm/manager.sock`;
    this.#client = new Client("Control", socket, grpc.credentials.createInsecure(), {
      "grpc.max_reconnect_backoff_ms": 200,
    });
    return this.#client;
  }
}

function seenOf({ Spec, Version }: Service): Seen {
  if (Spec === undefined) throw new Error("a service has a specification");
  return { value: Number(Spec.Labels[label]), version: Version?.Index ?? 0, spec: Spec };
}
