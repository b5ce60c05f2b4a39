import assert from "node:assert/strict";
import { request } from "node:http";
import { test } from "node:test";
import { openMetricsDoor } from "../../../../agent/metrics/door.ts";
import { measured } from "../../../../agent/metrics/measured.ts";
import { NodeMetrics } from "../../../../agent/metrics/node-metrics.ts";
import type { NodeView } from "../../../../agent/node-view.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import type { KeeperStatus } from "../../../../proto/kit/keeper.ts";
import { Exposition } from "../../exposition.ts";
import { FakeEngine } from "../api/fake-engine.ts";

const status: KeeperStatus = {
  ...{ protocol: 1, version: "", logs: [], sandboxes: [] },
  children: { agent: { pid: 1, restarts: 2 }, manager: { pid: 2, restarts: 0 } },
};

function metricsOf(engine: FakeEngine, node: () => NodeView | null): NodeMetrics {
  return new NodeMetrics({
    engine,
    node,
    network: {
      unreachablePeers: () => ["n2", "n3"],
      unheldPorts: () => ["port 80 is taken"],
      sandboxes: async () => ["a"],
    },
    keeper: { ask: async () => ({ ok: true, status }) },
    namespaces: "/nowhere",
  });
}

test("a node's metrics are what Prometheus can read, and hold its engine, network, session and keeper", async () => {
  const view = { nodeId: "n1", clusterId: "c1", isManager: true, isConnected: true };
  const metrics = metricsOf(new FakeEngine(), () => ({ ...view, silentMs: 250, wanted: null }));
  const now = new Exposition(await metrics.text());
  assert.equal(now.value("engine_daemon_container_states_containers", { state: "paused" }), 0);
  assert.equal(now.value("swarm_node_info", { node_id: "n1", swarm_id: "c1" }), 1);
  assert.equal(now.value("swarm_node_manager"), 1);
  assert.equal(now.value("tsswarm_session_connected"), 1);
  assert.equal(now.value("tsswarm_session_silent_seconds"), 0.25);
  assert.equal(now.value("tsswarm_network_silent_peers"), 2);
  assert.equal(now.value("tsswarm_network_unheld_ports"), 1);
  assert.equal(now.value("tsswarm_network_sandboxes"), 1);
  assert.equal(now.value("tsswarm_keeper_restarts", { process: "agent" }), 2);
  const ratio = now.value("tsswarm_conntrack_fill_ratio");
  assert.ok(ratio >= 0 && ratio <= 1);
  assert.ok(now.value("process_resident_memory_bytes") > 0);
});

test("in no swarm a node says so, and keeps the metrics of its engine", async () => {
  const now = new Exposition(await metricsOf(new FakeEngine(), () => null).text());
  assert.equal(now.value("swarm_node_manager"), 0);
  assert.equal(now.value("tsswarm_session_connected"), 0);
  assert.ok(!now.samples.some(({ name }) => name === "swarm_node_info"));
  assert.equal(now.value("engine_daemon_container_states_containers", { state: "running" }), 0);
});

test("what an engine has done is counted, what it failed to do is not, but a failed pull is", async () => {
  const engine = new FakeEngine();
  const metrics = metricsOf(engine, () => null);
  let isFailing = true;
  const counted = measured(
    Object.assign(engine, {
      start: async () => {},
      remove: async () => {
        throw new SwarmError("not_found", "no such container");
      },
      pull: async () => {
        if (isFailing) throw new SwarmError("unavailable", "no registry");
        return { id: "sha256:1", digest: "sha256:2" };
      },
    }),
    metrics,
  );
  await counted.start("a");
  await assert.rejects(counted.remove("a", { force: false, volumes: false }));
  const pull = () => counted.pull("i", null, () => {}, new AbortController().signal);
  await assert.rejects(pull());
  isFailing = false;
  await pull();
  const now = new Exposition(await metrics.text());
  const actions = "engine_daemon_container_actions_seconds_count";
  assert.equal(now.value(actions, { action: "start" }), 1);
  assert.equal(now.value(actions, { action: "delete" }), 0);
  assert.equal(now.value("tsswarm_engine_pulls_failed_total"), 1);
  assert.equal(now.value("tsswarm_engine_pull_seconds_count"), 1);
});

test("/metrics is answered at the place that was named, and nothing else is", async () => {
  const door = await openMetricsDoor("127.0.0.1:0", async () => "a 1\n");
  try {
    assert.deepEqual(await ask(door.address, "GET", "/metrics"), { status: 200, text: "a 1\n" });
    assert.deepEqual(await ask(door.address, "HEAD", "/metrics"), { status: 200, text: "" });
    assert.equal((await ask(door.address, "POST", "/metrics")).status, 405);
    assert.equal((await ask(door.address, "GET", "/info")).status, 404);
    await assert.rejects(
      openMetricsDoor(door.address, async () => ""),
      {
        code: "conflict",
        message: /another process listens there/,
      },
    );
  } finally {
    await door.close();
  }
});

function ask(
  address: string,
  method: string,
  path: string,
): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const asked = request(`http://${address}${path}`, { method }, async (answer) => {
      let text = "";
      for await (const chunk of answer) text += chunk;
      resolve({ status: answer.statusCode ?? 0, text });
    });
    asked.on("error", reject).end();
  });
}
