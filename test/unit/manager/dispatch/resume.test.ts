import assert from "node:assert/strict";
import { test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import type { Wanted } from "../../../../agent/session/types.ts";
import { fold } from "../../../../agent/session/wanted.ts";
import { History } from "../../../../manager/dispatch/history.ts";
import { indexOfVersion } from "../../../../manager/dispatch/versions.ts";
import type { Applied, Change } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import type { FromAgent, ToAgent } from "../../../../proto/gen/types.ts";
import type { NodeIdentity } from "../../../../proto/identity.ts";
import { Queue } from "../../../../proto/kit/queue.ts";
import { unpacked } from "../../../../proto/packed.ts";
import { Client } from "../../../../proto/rpc-client.ts";
import { toManager } from "../../../../proto/tls.ts";
import { joinedTo } from "../nodes.ts";
import { type SmallCluster, smallCluster } from "../small-cluster.ts";

const forever = new AbortController().signal;
const waitMsMax = 20_000;
const rounds = 25;
const changesMax = 8;

/** Small, quick, and the same for the same seed (mulberry32). */
function chance(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** A session by hand: the first message at once, later ones as they come. */
class Session {
  wanted: Wanted | null;
  first: ToAgent | null = null;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(cluster: SmallCluster, identity: NodeIdentity, before: Wanted | null) {
    this.wanted = before;
    this.#running = this.#run(cluster, identity);
  }

  async until(what: string, fact: () => boolean): Promise<void> {
    const giveUp = Date.now() + waitMsMax;
    while (!fact()) {
      if (Date.now() > giveUp) assert.fail(`did not happen: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(cluster: SmallCluster, identity: NodeIdentity): Promise<void> {
    const client = new Client("Dispatch", cluster.address, toManager(identity, identity.clusterId));
    const { signal } = this.#stop;
    const outgoing = new Queue<FromAgent>(16, signal);
    const Hello = {
      DataPathAddr: "10.0.0.2",
      Routes: [],
      BootID: "boot",
      Unpacks: true,
      Have: this.wanted?.version ?? "",
      Tasks: [],
      Networks: [...(this.wanted?.networks.keys() ?? [])],
      Files: [],
    };
    outgoing.push({ Hello, Tasks: [] });
    try {
      for await (const message of client.duplex("Session", outgoing, { signal })) {
        this.first ??= message;
        if (message.Version !== "") this.wanted = fold(this.wanted, unpacked(message));
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      client.close();
    }
  }
}

/** One random change of the cluster as its planner might make it. */
class Disturber {
  readonly #cluster: SmallCluster;
  readonly #nodeId: string;
  readonly #below: (below: number) => number;
  #count = 0;

  constructor(cluster: SmallCluster, nodeId: string, seed: number) {
    this.#cluster = cluster;
    this.#nodeId = nodeId;
    this.#below = chance(seed);
  }

  async disturb(): Promise<void> {
    const changes = this.#change();
    if (changes.length > 0) await this.#cluster.store.write(changes, forever);
  }

  times(): number {
    return this.#below(changesMax);
  }

  #pick<T>(all: readonly T[]): T | undefined {
    return all[this.#below(all.length)];
  }

  #change(): readonly Change[] {
    const { state } = this.#cluster.store;
    this.#count += 1;
    const n = this.#count;
    const networks = [...state.table("network").values()];
    const services = [...state.table("service").values()];
    const tasks = [...state.table("task").values()];
    switch (this.#below(8)) {
      case 0: {
        const Spec = { Name: `net${n}`, Driver: "overlay" };
        const object = codec("Network").parse({ ID: `net${n}`, Spec, VNI: 5_000 + n });
        return [{ op: "put", kind: "network", object }];
      }
      case 1: {
        const network = this.#pick(networks);
        if (network === undefined) return [];
        const Spec = { Name: `svc${n}`, TaskTemplate: { Networks: [{ Target: network.ID }] } };
        const VirtualIPs = [{ NetworkID: network.ID, Addr: `10.9.${n}.2/24` }];
        const object = codec("Service").parse({
          ID: `svc${n}`,
          SpecVersion: 1,
          Spec,
          Endpoint: { VirtualIPs },
        });
        const revision = codec("Revision").parse({
          ID: `svc${n}.1`,
          ServiceID: `svc${n}`,
          SpecVersion: 1,
          Spec,
        });
        return [
          { op: "put", kind: "service", object },
          { op: "put", kind: "revision", object: revision },
        ];
      }
      case 2: {
        const service = this.#pick(services);
        if (service === undefined || this.#below(2) === 0) return [];
        const base = service.Version?.Index ?? 0;
        return [{ op: "delete", kind: "service", id: service.ID, base }];
      }
      case 3: {
        const object = codec("Node").parse({
          ID: `node${n}`,
          Index: 100 + n,
          DataPathAddr: `10.1.0.${n % 250}`,
          Description: { Hostname: `host${n}` },
        });
        return [{ op: "put", kind: "node", object }];
      }
      case 4: {
        const node = this.#pick(
          [...state.table("node").values()].filter(({ ID }) => /^node\d/.test(ID)),
        );
        const base = node?.Version?.Index ?? 0;
        return node === undefined ? [] : [{ op: "delete", kind: "node", id: node.ID, base }];
      }
      case 5: {
        const task = this.#pick(tasks);
        if (task === undefined) return [];
        const base = task.Version?.Index ?? 0;
        if (this.#below(3) === 0) return [{ op: "delete", kind: "task", id: task.ID, base }];
        const State = this.#pick(["starting", "running", "complete"]) ?? "running";
        const Status = { Timestamp: "", Message: "", Err: "", State };
        return [{ op: "put", kind: "task", object: { ...task, Status } }];
      }
      default: {
        const service = this.#pick(services);
        const NetworkID = service?.Endpoint?.VirtualIPs[0]?.NetworkID ?? "";
        if (service === undefined || state.table("network").get(NetworkID) === undefined) return [];
        const object = codec("Task").parse({
          ID: `task${n}`,
          ServiceID: service.ID,
          SpecVersion: 1,
          Slot: n,
          NodeID: this.#below(2) === 0 ? this.#nodeId : "elsewhere",
          DesiredState: "running",
          Status: { State: this.#pick(["assigned", "running"]) },
          NetworksAttachments: [{ Network: { ID: NetworkID }, Addresses: [`10.9.${n}.9/24`] }],
        });
        return [{ op: "put", kind: "task", object }];
      }
    }
  }
}

function contents(wanted: Wanted | null): unknown {
  if (wanted === null) return null;
  const { tasks, networks, peers, services, endpoints } = wanted;
  return [tasks, networks, peers, services, endpoints].map((map) =>
    [...map].sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 1e9));

test(`an agent that comes with a version is told what it has missed, and ends with all there is (seed ${seed})`, async () => {
  await using cluster = await smallCluster();
  const identity = await joinedTo(cluster);
  const disturber = new Disturber(cluster, identity.nodeId, seed);
  for (let n = 0; n < 30; n++) await disturber.disturb();
  let have: Wanted | null = null;
  for (let round = 0; round < rounds; round++) {
    const session = new Session(cluster, identity, have);
    await session.until("a first message", () => session.first !== null);
    assert.equal(session.first?.Complete, round === 0, `round ${round}`);
    // Sometimes the connection breaks after the first message, in the middle of changes; sometimes all arrives.
    for (let n = disturber.times(); n > 0; n--) await disturber.disturb();
    if (round % 3 !== 0) {
      await session.close();
      have = session.wanted;
      continue;
    }
    const whole = await everything(cluster, identity);
    const resumed = new Session(cluster, identity, session.wanted);
    await session.close();
    await resumed.until(`round ${round}: the same as a new session gets`, () =>
      isDeepStrictEqual(contents(resumed.wanted), contents(whole)),
    );
    await resumed.close();
    have = resumed.wanted;
  }
});

/** What a session that has nothing comes to, once it holds all that is in the store. */
async function everything(cluster: SmallCluster, identity: NodeIdentity): Promise<Wanted> {
  const giveUp = Date.now() + waitMsMax;
  for (;;) {
    const session = new Session(cluster, identity, null);
    await session.until("a first message", () => session.first !== null);
    await session.close();
    const { wanted } = session;
    assert.ok(wanted !== null);
    if (indexOfVersion(wanted.version, 1) === cluster.store.state.index) return wanted;
    assert.ok(Date.now() < giveUp, "the sessions do not catch up with the store");
  }
}

test("a version of another epoch, or of none of ours, counts as nothing", () => {
  assert.equal(indexOfVersion("abc-7-1-42", 1), 42);
  for (const text of ["abc-7-2-42", "abc-7", "", "abc-7-1-x"])
    assert.equal(indexOfVersion(text, 1), null, text);
});

test("what lies before the first known state, or too far back, is not known", () => {
  const history = new History();
  assert.equal(history.since(0), null);
  history.begin(10);
  assert.equal(history.since(9), null);
  const task = codec("Task").parse({ ID: "t", NodeID: "n" });
  const change = (id: string): Applied => ({ kind: "task", id, after: task });
  history.note(11, [change("a")]);
  history.note(12, [change("b")]);
  const since = (index: number) => [...(history.since(index)?.tasksOfNode.get("n") ?? [])].sort();
  assert.deepEqual(since(10), ["a", "b"]);
  assert.deepEqual(since(11), ["b"]);
  assert.deepEqual(since(12), []);
  for (let index = 13; index < 40_000; index++) history.note(index, [change(`${index}`)]);
  assert.equal(history.since(12), null);
  assert.equal(since(39_990).length, 9);
});
