import assert from "node:assert/strict";
import { test } from "node:test";
import { ManagerMetrics } from "../../../manager/metrics.ts";
import type { RaftStatus } from "../../../manager/raft/types.ts";
import { codec } from "../../../proto/codec.ts";
import { Exposition } from "../exposition.ts";
import { inFolder, init, RunningManager } from "./running.ts";

const spec = codec("ServiceSpec").parse({
  Name: "web",
  TaskTemplate: { ContainerSpec: { Image: "registry.lab:5000/whoami" } },
  Mode: { Replicated: { Replicas: 3 } },
});

test("a manager with metrics counts its objects, its log, its planner and its terms", async () => {
  await inFolder(async (config) => {
    await using manager = new RunningManager({ ...config, "metrics-addr": "127.0.0.1:9323" });
    await manager.ready();
    const look = async () => new Exposition((await manager.local.unary("Metrics", {})).Text);
    assert.equal((await look()).value("swarm_manager_leader"), 0);
    await init(manager);
    await manager.control.unary("CreateService", { Spec: spec, RegistryAuth: "" });
    const pending = (seen: Exposition) =>
      seen.value("swarm_manager_tasks_total", { state: "pending" });
    let now = await look();
    while (pending(now) < 3) now = await look();
    assert.equal(now.value("swarm_manager_leader"), 1);
    assert.equal(now.value("swarm_manager_services_total"), 1);
    assert.equal(now.value("swarm_manager_networks_total"), 1);
    assert.equal(now.value("swarm_manager_tasks_total", { state: "running" }), 0);
    const nodes = now.samples.filter(({ name }) => name === "swarm_manager_nodes");
    assert.equal(
      nodes.reduce((sum, { value }) => sum + value, 0),
      1,
    );
    assert.equal(now.value("tsswarm_raft_has_leader"), 1);
    assert.equal(now.value("tsswarm_raft_voters"), 1);
    assert.equal(now.value("tsswarm_raft_leader_changes_total"), 1);
    assert.ok(now.value("tsswarm_raft_applied_index") >= 2);
    assert.ok(now.value("tsswarm_raft_wal_fsync_seconds_count") >= 2);
    assert.ok(now.value("tsswarm_store_batch_bytes_count") >= 2);
    assert.ok(now.value("tsswarm_planner_run_seconds_count") >= 1);
    assert.ok(now.value("tsswarm_manager_process_resident_memory_bytes") > 0);
  });
});

test("without a place for metrics a manager counts nothing, and still tells its memory and its Raft", async () => {
  await inFolder(async (config) => {
    await using manager = new RunningManager(config);
    await manager.ready();
    await init(manager);
    const { Text, Heap, Raft } = await manager.local.unary("Metrics", {});
    assert.equal(Text, "");
    assert.ok(JSON.parse(Heap).heap.used_heap_size > 0);
    assert.equal(JSON.parse(Raft).role, "leader");
  });
});

test("a follower that does not answer is told as one, and leaves the text with the leadership", async () => {
  const status: RaftStatus = {
    ...{ role: "leader", term: 7, leader: "a", commit: 90, applied: 90, last: 100 },
    configuration: { voters: ["a", "b", "c"], learners: [], outgoing: [], learnersNext: [] },
    followers: [
      { id: "b", match: 97, isActive: true },
      { id: "c", match: 12, isActive: false },
    ],
  };
  let now: RaftStatus = status;
  const state = { table: () => new Map() } as never;
  const metrics = new ManagerMetrics(() => ({ status: now, state, sessions: 4 }));
  const behind = "tsswarm_raft_follower_behind_entries";
  const first = new Exposition(await metrics.text());
  assert.equal(first.value(behind, { node_id: "b" }), 3);
  assert.equal(first.value(behind, { node_id: "c" }), -1);
  assert.equal(first.value("tsswarm_manager_sessions"), 4);
  now = { ...status, role: "follower", leader: "b", followers: [] };
  metrics.raftChanged(now);
  metrics.raftChanged({ ...now, leader: null });
  metrics.raftChanged(now);
  const second = new Exposition(await metrics.text());
  assert.equal(second.samples.filter(({ name }) => name === behind).length, 0);
  assert.equal(second.value("tsswarm_raft_leader_changes_total"), 1);
});
