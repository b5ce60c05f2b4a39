// A manager's REST door and another node's, joined by a tunnel as the managers make it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { mayBeOfTask, reached } from "../../../../agent/api/tunnel-rules.ts";
import { Tunnels } from "../../../../manager/dispatch/tunnels.ts";
import { realWorld } from "../../../../proto/kit/world.ts";
import { tunnelStream } from "../../../../proto/tunnel.ts";
import { dockerPath, type FakeDaemon, startFakeDaemon } from "./fakes.ts";

const nodeId = "n2";

const rows = [
  ["GET", "/containers/abc/top?ps_args=aux", { kind: "container", name: "abc", verb: "top" }],
  ["GET", "/containers/web.1.x/stats", { kind: "container", name: "web.1.x", verb: "stats" }],
  ["POST", "/containers/abc/exec", { kind: "container", name: "abc", verb: "exec" }],
  ["POST", "/exec/e1/start", { kind: "exec", id: "e1" }],
  ["POST", "/exec/e1/resize?h=1&w=2", { kind: "exec", id: "e1" }],
  ["GET", "/exec/e1/json", { kind: "exec", id: "e1" }],
  ["POST", "/containers/abc/stop", null],
  ["POST", "/containers/abc/kill", null],
  ["POST", "/containers/abc/update", null],
  ["DELETE", "/containers/abc", null],
  ["POST", "/containers/create", null],
  ["GET", "/containers/json", null],
  ["GET", "/containers/a/../json", null],
  ["GET", "/containers/a%2F..%2Fjson/json", { kind: "container", name: "a/../json", verb: "json" }],
  ["GET", "/secrets", null],
  ["POST", "/swarm/leave", null],
] as const;
for (const [method, path, wanted] of rows)
  test(`${method} ${path} ${wanted === null ? "stays here" : "may go elsewhere"}`, () =>
    assert.deepEqual(reached(method, path), wanted));

test("ids and names of tasks' containers are told from all others", () => {
  assert.ok(mayBeOfTask("0123456789ab"));
  assert.ok(mayBeOfTask("web.1.j8qkxrl3o9zv2n7b5mdt4wq6e"));
  for (const name of ["web", "0123456789a", "0123456789abz", "web.1.short", "busybox:1.36"])
    assert.ok(!mayBeOfTask(name), name);
});

/** A manager's daemon, and one of another node with a container of the task that the manager knows. */
async function pair(): Promise<{ here: FakeDaemon; there: FakeDaemon; id: string }> {
  const [here, there] = await Promise.all([startFakeDaemon(true), startFakeDaemon(true)]);
  const { id } = there.engine.add("web.1.xyz");
  here.cluster.put(here.cluster.tasks, "Task", {
    ID: "t1",
    ServiceID: "s1",
    NodeID: nodeId,
    DesiredState: "running",
    Status: { State: "running", ContainerStatus: { ContainerID: id } },
  });
  const broker = new Tunnels({
    address: "",
    summon: async (_node, { ID }) =>
      there.serve(tunnelStream(ID, (said, signal) => broker.answer(nodeId, said, signal))),
    nameOf: (node) => node,
    world: realWorld,
  });
  here.ways.set(nodeId, () => tunnelStream(nodeId, (said, signal) => broker.ask(said, signal)));
  return { here, there, id };
}

test("a command runs on the task's node, with its output and exit code", async () => {
  const { here, there, id } = await pair();
  await using _ = here;
  await using __ = there;
  const body = { Cmd: ["sh", "-c", "echo out; echo err >&2; exit 7"], AttachStdout: true };
  const made = await here.ask("POST", `/v1.47/containers/${id}/exec`, body);
  assert.equal(made.status, 201, made.text);
  const exec = made.json.Id;
  const ran = await here.ask("POST", `/v1.47/exec/${exec}/start`, { Detach: false });
  assert.match(ran.text, /out\n/);
  assert.match(ran.text, /err\n/);
  const asked = await here.ask("GET", `/v1.47/exec/${exec}/json`);
  assert.deepEqual([asked.json.ExitCode, asked.json.ContainerID], [7, id]);
  assert.equal((await here.ask("POST", `/exec/${exec}/resize?h=20&w=80`)).status, 200);
  assert.deepEqual(there.engine.resized, ["20x80"]);
});

test("docker exec goes both ways, whatever its size", {
  skip: dockerPath === undefined,
}, async () => {
  const { here, there, id } = await pair();
  await using _ = here;
  await using __ = there;
  const ran = await here.docker(
    "exec",
    "-i",
    id,
    "sh",
    "-c",
    "head -c 5000000 /dev/zero | wc -c; exit 3",
  );
  assert.deepEqual(ran, { code: 3, stdout: "5000000\n", stderr: "" });
  const much = await here.docker("exec", id, "sh", "-c", "yes tsswarm | head -n 200000 | md5sum");
  const same = await here.docker("exec", id, "sh", "-c", "yes tsswarm | head -n 200000");
  assert.equal(same.stdout, "tsswarm\n".repeat(200_000));
  assert.equal(much.code, 0);
  const missing = await here.docker("exec", id, "no-such-program");
  assert.deepEqual([missing.code, /executable file not found/.test(missing.stdout)], [127, true]);
  const typed = await here.docker("exec", "-t", id, "sh", "-c", "echo on a terminal");
  assert.match(typed.stdout, /on a terminal/);
});

test("processes, figures and details are those of the task's node", async () => {
  const { here, there, id } = await pair();
  await using _ = here;
  await using __ = there;
  const details = await here.ask("GET", `/containers/${id}/json`);
  assert.deepEqual([details.status, details.json.Name], [200, "/web.1.xyz"]);
  const stats = await here.ask("GET", `/containers/${id}/stats?stream=false&one-shot=true`);
  assert.equal(stats.json.id, id);
});

test("what would change the container stays refused, and so does more than it may itself", async () => {
  const { here, there, id } = await pair();
  await using _ = here;
  await using __ = there;
  assert.equal((await here.ask("POST", `/containers/${id}/stop`)).status, 404);
  const body = { Cmd: ["id"], Privileged: true };
  const privileged = await here.ask("POST", `/containers/${id}/exec`, body);
  assert.equal(privileged.status, 403);
  assert.match(
    privileged.json.message,
    /privileged command can be run only at the task's own node/,
  );
});

test("a node answers nothing but what is about tasks, whatever a manager's node sends", async () => {
  const { here, there } = await pair();
  await using _ = here;
  await using __ = there;
  const own = there.engine.add("mine", { Labels: {} });
  here.cluster.put(here.cluster.tasks, "Task", {
    ID: "t2",
    NodeID: nodeId,
    Status: { State: "running", ContainerStatus: { ContainerID: own.id } },
  });
  const refused = await here.ask("GET", `/containers/${own.id}/top`);
  assert.equal(refused.status, 403);
  assert.match(refused.json.message, /is none of a task/);
});

test("a node that can not be reached is named; one that nobody knows is not found", async () => {
  const { here, there, id } = await pair();
  await using _ = here;
  await using __ = there;
  here.ways.clear();
  const away = await here.ask("GET", `/containers/${id}/top`);
  assert.deepEqual(away.json, { message: "node n2 is not connected to any manager now" });
  assert.equal(away.status, 503);
  const nobody = await here.ask("GET", `/containers/${"f".repeat(64)}/json`);
  assert.equal(nobody.status, 404);
});

test("a worker and a locked manager ask nobody", async () => {
  const { here, there, id } = await pair();
  await using _ = here;
  await using __ = there;
  for (const change of [{ isManager: false }, { state: "locked" as const }]) {
    here.membership.node = { ...here.membership.node, isManager: true, state: "active", ...change };
    assert.equal((await here.ask("GET", `/containers/${id}/json`)).status, 404);
    assert.equal((await here.ask("GET", "/tasks")).status, 503);
  }
});
