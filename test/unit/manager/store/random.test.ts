// Random transactions: a replica that reads the log and one that starts from a snapshot hold the same, indexes and all.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Facts, kinds } from "../../../../manager/store/state.ts";
import type { Change, Kind, State, Store } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import { openFake } from "./fake-raft.ts";

const never = new AbortController().signal;
const firstSeed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const seeds = process.env["SEED"] === undefined ? 20 : 1;

for (let i = 0; i < seeds; i++) {
  const seed = firstSeed + i;
  test(`log and snapshot lead to the same state (SEED=${seed})`, async () => {
    const random = generator(seed);
    const leader = openFake();
    let snapshotAt = 0;
    let pieces: readonly Uint8Array[] = [];
    for (let round = 0; round < 60; round++) {
      await Promise.allSettled(
        Array.from({ length: 1 + Math.floor(random() * 4) }, () =>
          leader.store.write(transaction(leader.store, random), never),
        ),
      );
      if (round === 30) {
        pieces = [...leader.machine.snapshot()];
        snapshotAt = leader.raft.entries.length;
      }
    }
    const reader = openFake();
    leader.raft.entries.forEach((entry, at) => {
      reader.machine.apply(at + 1, entry);
    });
    const late = openFake();
    late.machine.restore(snapshotAt, pieces);
    leader.raft.entries.slice(snapshotAt).forEach((entry, at) => {
      late.machine.apply(snapshotAt + at + 1, entry);
    });
    const expected = contents(leader.store.state);
    assert.deepEqual(contents(reader.store.state), expected);
    assert.deepEqual(contents(late.store.state), expected);
    assert.ok([...leader.store.state.table("task").values()].length > 0, "something was written");
  });
}

function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Few ids and names, so that changes meet; some from old versions, some for taken names. */
function transaction(store: Store, random: () => number): readonly Change[] {
  const draw = (count: number) => Math.floor(random() * count);
  const changes: Change[] = [];
  for (let n = 1 + draw(4); n > 0; n--) {
    const kind: Kind =
      (["task", "service", "revision", "network", "node"] as const)[draw(5)] ?? "task";
    const id = `${kind}${draw(12)}`;
    const there = store.state.table(kind).get(id);
    const base = random() < 0.1 ? draw(50) : (there?.Version?.Index ?? 0);
    if (there !== undefined && random() < 0.3) changes.push({ op: "delete", kind, id, base });
    else changes.push({ op: "put", kind, object: objectOf(kind, id, base, draw) } as Change);
  }
  return changes;
}

function objectOf(kind: Kind, id: string, base: number, draw: (count: number) => number): unknown {
  const common = { ID: id, Version: { Index: base } };
  switch (kind) {
    case "task":
      return codec("Task").parse({
        ...common,
        ServiceID: `service${draw(3)}`,
        NodeID: ["", "node1", "node2"][draw(3)],
        Status: { State: ["assigned", "running", "shutdown"][draw(3)] },
        NetworksAttachments: [
          { Network: { ID: `network${draw(2)}` }, Addresses: [`10.0.0.${draw(40)}/24`] },
        ],
      });
    case "service":
      return codec("Service").parse({
        ...common,
        Spec: { Name: `name${draw(8)}` },
        Endpoint: {
          Ports: [{ PublishedPort: draw(6), TargetPort: 80 }],
          VirtualIPs: [{ NetworkID: `network${draw(2)}`, Addr: `10.0.0.${draw(40)}/24` }],
        },
      });
    case "revision":
      return codec("Revision").parse({ ...common, ServiceID: `service${draw(3)}` });
    case "network":
      return codec("Network").parse({ ...common, Spec: { Name: `net${draw(8)}` }, VNI: draw(20) });
    default:
      return codec("Node").parse({ ...common, Index: draw(20) });
  }
}

/** Everything that can be asked of a state. */
function contents(state: State): unknown {
  assert.ok(state instanceof Facts);
  const list = (items: Iterable<{ readonly ID: string }>) => [...items].map((item) => item.ID);
  const keys = Array.from({ length: 12 }, (_, i) => i);
  return {
    index: state.index,
    tables: kinds.map((kind) => [...state.table(kind).values()]),
    names: keys.map((i) => [
      state.table("service").named(`name${i}`)?.ID,
      state.table("network").named(`net${i}`)?.ID,
    ]),
    claims: [...state.claims.entries()].sort(([a], [b]) => (a < b ? -1 : 1)),
    byService: keys.map((i) => list(state.tasksOfService(`service${i}`))),
    byNode: ["", "node1", "node2"].map((id) => list(state.tasksOfNode(id))),
    byNetwork: keys.map((i) => [
      list(state.tasksOfNetwork(`network${i}`)),
      list(state.endedOfNetwork(`network${i}`)),
      list(state.servicesOfNetwork(`network${i}`)),
    ]),
    byPort: keys.map((i) => list(state.servicesOfPort("tcp", i))),
    revisions: keys.map((i) => list(state.revisionsOfService(`service${i}`))),
    serviceIds: [...state.serviceIds()].sort(),
  };
}
