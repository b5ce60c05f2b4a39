// Looks again and again at which addresses the running containers of all hosts have, from outside, by their processes.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { cgroupName } from "../../deploy/lab/names.ts";

const everyMs = 200;
const hierarchies = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];

interface Holder {
  readonly host: string;
  readonly container: string;
  readonly pid: number;
}

export class AddressWatch {
  readonly #hosts: readonly string[];
  readonly #isWatched: (address: string) => boolean;
  readonly #timer: NodeJS.Timeout;
  readonly #folder: string;
  /** By address, the containers that have had it. */
  readonly #seen = new Map<string, Set<string>>();
  /** One sentence for each address that two containers had at once. */
  readonly violations = new Set<string>();
  looks = 0;

  constructor(hosts: readonly string[], isWatched: (address: string) => boolean) {
    this.#hosts = hosts;
    this.#isWatched = isWatched;
    const folder = hierarchies.map((one) => join(one, cgroupName)).find((one) => existsSync(one));
    if (folder === undefined) throw new Error("the lab has no control groups");
    this.#folder = folder;
    this.#timer = setInterval(() => this.#look(), everyMs);
  }

  /** How often an address went to another container, and how many containers there were. */
  get reuse(): { readonly reused: number; readonly containers: number } {
    const all = [...this.#seen.values()];
    return {
      reused: all.reduce((sum, holders) => sum + holders.size - 1, 0),
      containers: new Set(all.flatMap((holders) => [...holders])).size,
    };
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    this.looks += 1;
    const holders = new Map<string, Holder>();
    for (const holder of this.#holders()) {
      for (const address of addressesOf(holder.pid).filter(this.#isWatched)) {
        const seen = this.#seen.get(address) ?? new Set();
        this.#seen.set(address, seen.add(holder.container));
        const other = holders.get(address);
        holders.set(address, holder);
        // One may have ended and the other begun while we looked: both are asked again.
        const isBoth = [other, holder].every(
          (one) => one !== undefined && addressesOf(one.pid).includes(address),
        );
        if (isBoth)
          this.violations.add(
            `${address}: ${other?.container} on ${other?.host} and ${holder.container} on ${holder.host}`,
          );
      }
    }
  }

  #holders(): readonly Holder[] {
    return this.#hosts.flatMap((host) =>
      list(join(this.#folder, host)).flatMap((container) => {
        if (!/^[0-9a-f]{64}$/.test(container)) return [];
        const pid = Number(
          read(join(this.#folder, host, container, "cgroup.procs")).split("\n")[0],
        );
        return pid > 0 ? [{ host, container, pid }] : [];
      }),
    );
  }
}

/** The process's own addresses, as its network namespace has them. */
function addressesOf(pid: number): readonly string[] {
  const trie = read(`/proc/${pid}/net/fib_trie`);
  const all = [...trie.matchAll(/\|-- (\S+)\n\s+\/32 host LOCAL/g)];
  // Each is in two tables.
  return [...new Set(all.map(([, address = ""]) => address))];
}

function list(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
