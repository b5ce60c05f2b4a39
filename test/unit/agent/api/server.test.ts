import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { matchesPattern } from "../../../../agent/api/images.ts";
import { openApi } from "../../../../agent/api/server.ts";
import { codec } from "../../../../proto/codec.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import { ask, type FakeDaemon, startFakeDaemon } from "./fakes.ts";

test("ping says who answers, on GET and on HEAD", async () => {
  await using daemon = await startFakeDaemon(true);
  for (const method of ["GET", "HEAD"]) {
    const answer = await daemon.ask(method, "/_ping");
    assert.equal(answer.status, 200);
    assert.equal(answer.text, method === "GET" ? "OK" : "");
    assert.equal(answer.headers["api-version"], "1.50");
    assert.equal(answer.headers["docker-experimental"], "false");
    assert.equal(answer.headers["ostype"], "linux");
    assert.equal(answer.headers["server"], "tsswarm/0.1.0 (linux)");
    assert.equal(answer.headers["swarm"], "active/manager");
  }
});

const versions = [
  { path: "/version", status: 200 },
  { path: "/v1.24/version", status: 200 },
  { path: "/v1.50/version", status: 200 },
  {
    path: "/v1.99/version",
    status: 400,
    message: "client version 1.99 is too new. Maximum supported API version is 1.50",
  },
  {
    path: "/v1.23/version",
    status: 400,
    message:
      "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
  },
  { path: "/v1.50/nothing", status: 404, message: "page not found" },
  { path: "/", status: 404, message: "page not found" },
  { path: "/services/%zz", status: 400 },
];
for (const row of versions)
  test(`GET ${row.path} gives ${row.status}`, async () => {
    await using daemon = await startFakeDaemon(true);
    const answer = await daemon.ask("GET", row.path);
    assert.equal(answer.status, row.status);
    assert.equal(answer.headers["content-type"], "application/json");
    if (row.message !== undefined) assert.deepEqual(answer.json, { message: row.message });
  });

const unanswered = [
  "GET /swarm",
  "POST /swarm/update?version=1",
  "GET /nodes",
  "GET /nodes/n1",
  "POST /nodes/n1/update?version=1",
  "DELETE /nodes/n1",
  "GET /services",
  "GET /services/web",
  "POST /services/create",
  "POST /services/web/update?version=1",
  "DELETE /services/web",
  "GET /tasks",
  "GET /tasks/t1",
  "GET /networks",
  "GET /networks/front",
  "POST /networks/create",
  "DELETE /networks/front",
  "GET /services/web/logs?stdout=1",
  "GET /tasks/t1/logs?stdout=1",
];
for (const request of unanswered)
  test(`${request} without the manager's process says so`, async () => {
    await using daemon = await startFakeDaemon(true);
    daemon.killManager();
    const [method = "", path = ""] = request.split(" ");
    const body = method === "POST" ? { ...service, Driver: "overlay", Role: "worker" } : undefined;
    const { status, json } = await daemon.ask(method, `/v1.50${path}`, body);
    assert.match(json.message, /^the manager on this node does not answer; .*: try again$/);
    assert.equal(status, 503);
  });

test("without the manager's process, info tells the rest, and why", async () => {
  await using daemon = await startFakeDaemon(true);
  daemon.killManager();
  const { status, json } = await daemon.ask("GET", "/info");
  assert.equal(status, 200);
  assert.match(json.Swarm.Error, /^the manager on this node does not answer/);
});

const service = { Name: "web", TaskTemplate: { ContainerSpec: { Image: "a@sha256:1" } } };
const failures: {
  name: string;
  method: string;
  path: string;
  body?: unknown;
  headers?: Record<string, string>;
  status: number;
  message: RegExp;
}[] = [
  {
    name: "a wrong type is refused with the field's name",
    method: "POST",
    path: "/services/create",
    body: { Name: "x", Mode: { Replicated: { Replicas: "many" } } },
    status: 400,
    message: /Mode\.Replicated\.Replicas: integer/,
  },
  {
    name: "a list in an object's place is refused",
    method: "POST",
    path: "/services/create",
    body: [],
    status: 400,
    message: /an object is expected/,
  },
  {
    name: "broken JSON is refused",
    method: "POST",
    path: "/services/create",
    body: "{",
    status: 400,
    message: /invalid JSON/,
  },
  {
    name: "no body is refused where one is needed",
    method: "POST",
    path: "/services/create",
    status: 400,
    message: /EOF/,
  },
  {
    name: "a body of another type is refused",
    method: "POST",
    path: "/services/create",
    body: "<a/>",
    headers: { "content-type": "application/xml" },
    status: 400,
    message: /unsupported Content-Type header/,
  },
  {
    name: "a body over 4 MiB is refused",
    method: "POST",
    path: "/services/create",
    body: Buffer.alloc(4 * 1024 * 1024 + 1, 32),
    status: 413,
    message: /too large/,
  },
  {
    name: "a platform that is no JSON is refused",
    method: "POST",
    path: `/images/create?fromImage=web&platform=${encodeURIComponent('{"os"')}`,
    body: "",
    status: 400,
    message: /invalid JSON in platform/,
  },
  {
    name: "a taken name is a conflict",
    method: "POST",
    path: "/services/create",
    body: service,
    status: 409,
    message: /already exists/,
  },
  {
    name: "an unknown service is not found",
    method: "GET",
    path: "/services/none",
    status: 404,
    message: /service none not found/,
  },
  {
    name: "an update without a version is refused",
    method: "POST",
    path: "/services/web/update",
    body: service,
    status: 400,
    message: /invalid service version/,
  },
  {
    name: "filters that are no map are refused",
    method: "GET",
    path: "/tasks?filters=7",
    status: 400,
    message: /invalid filter/,
  },
  {
    name: "an unknown filter is refused",
    method: "GET",
    path: `/tasks?filters=${encodeURIComponent('{"colour":["red"]}')}`,
    status: 400,
    message: /colour/,
  },
  {
    name: "logs of no stream are refused",
    method: "GET",
    path: "/services/web/logs",
    status: 400,
    message: /at least one stream/,
  },
  {
    name: "an unknown container is not found",
    method: "GET",
    path: "/containers/none/json",
    status: 404,
    message: /No such container: none/,
  },
  {
    name: "a predefined network stays",
    method: "DELETE",
    path: "/networks/bridge",
    status: 403,
    message: /pre-defined/,
  },
  {
    name: "a second init is refused",
    method: "POST",
    path: "/swarm/init",
    body: {},
    status: 503,
    message: /already part of a swarm/,
  },
  {
    name: "init names a field of a wrong type",
    method: "POST",
    path: "/swarm/init",
    body: { DataPathPort: "x" },
    status: 400,
    message: /DataPathPort/,
  },
];
for (const row of failures)
  test(row.name, async () => {
    await using daemon = await startFakeDaemon(true);
    await daemon.ask("POST", "/v1.50/services/create", service);
    const answer = await daemon.ask(row.method, row.path, row.body, row.headers);
    assert.equal(answer.status, row.status, answer.text);
    assert.match(answer.json.message, row.message);
    assert.deepEqual(Object.keys(answer.json), ["message"]);
  });

test("a backup of more than 4 MiB is restored: a route's own limit counts", async () => {
  await using daemon = await startFakeDaemon(false);
  const backup = Buffer.alloc(4 * 1024 * 1024 + 1, "b");
  const answer = await daemon.ask("POST", "/tsswarm/swarm/restore", backup);
  assert.equal(answer.status, 200, answer.text.slice(0, 200));
  assert.equal((answer.json as unknown as string).length, backup.length);
});

test("what only the managers may know is in no answer", async () => {
  await using daemon = await startFakeDaemon(true);
  const secret = Buffer.from("secret-key").toString("base64");
  for (const path of ["/swarm", "/info"]) {
    const { text, json } = await daemon.ask("GET", path);
    assert.ok(!text.includes(secret), path);
    assert.ok(!text.includes("RootCA"), path);
    assert.ok(path === "/swarm" || !text.includes("SWMTKN"), JSON.stringify(json));
  }
});

test("objects come in Docker's shape: no empty lists, no fields of ours", async () => {
  await using daemon = await startFakeDaemon(true);
  const made = await daemon.ask("POST", "/v1.50/services/create", {
    ...service,
    Mode: { Replicated: { Replicas: 0 } },
    Unknown: { key: 1 },
  });
  assert.equal(made.status, 201);
  const { json } = await daemon.ask("GET", `/services/${made.json.ID}`);
  assert.deepEqual(json.Spec, {
    Name: "web",
    Labels: {},
    TaskTemplate: {
      ContainerSpec: { Image: "a@sha256:1", Isolation: "default" },
      ...{ ForceUpdate: 0, Runtime: "container" },
    },
    Mode: { Replicated: { Replicas: 0 } },
  });
  assert.equal(json.SpecVersion, undefined);
  assert.equal(typeof json.Version.Index, "number");
  const nodes = await daemon.ask("GET", "/nodes");
  assert.equal(nodes.json[0].Index, undefined);
  assert.equal(nodes.json[0].DataPathAddr, undefined);
});

test("what a manager answers without a leader carries a warning, that answer alone", async () => {
  await using daemon = await startFakeDaemon(true);
  daemon.cluster.stale = "nobody leads";
  const stale = await daemon.ask("GET", "/tasks");
  assert.equal(stale.headers["warning"], '110 tsswarm "nobody leads"');
  daemon.cluster.stale = "";
  assert.equal((await daemon.ask("GET", "/tasks")).headers["warning"], undefined);
});

test("a service that was given no name gets one", async () => {
  await using daemon = await startFakeDaemon(true);
  const { Name: _, ...nameless } = service;
  const made = await daemon.ask("POST", "/v1.50/services/create", nameless);
  assert.equal(made.status, 201);
  const { json } = await daemon.ask("GET", `/services/${made.json.ID}`);
  assert.match(json.Spec.Name, /^[a-z]+_[a-z]+$/);
});

test("a worker shows the networks it takes part in, and has no other", async () => {
  await using daemon = await startFakeDaemon(true);
  const { node } = daemon.membership;
  daemon.membership.node = { ...node, isManager: false };
  const front = codec("Network").parse({ ID: "front1", Spec: { Name: "front" }, VNI: 4097 });
  daemon.membership.networks = [front];
  const { json } = await daemon.ask("GET", "/networks");
  assert.deepEqual(
    json.map((network: { Name: string }) => network.Name),
    ["bridge", "host", "none", "front"],
  );
  for (const name of ["front", "front1"])
    assert.equal((await daemon.ask("GET", `/networks/${name}`)).json.Id, "front1");
  assert.equal((await daemon.ask("GET", "/networks/back")).status, 404);
});

test("a request of no version has its image pinned to a digest, a newer client does so itself", async () => {
  await using daemon = await startFakeDaemon(true);
  const image = "registry.lab:5000/whoami:latest";
  const spec = { Name: "a", TaskTemplate: { ContainerSpec: { Image: image } } };
  const rows = [
    { path: "/services/create", Name: "a", pinned: true },
    { path: "/v1.29/services/create", Name: "b", pinned: true },
    { path: "/v1.50/services/create", Name: "c", pinned: false },
  ];
  for (const { path, Name, pinned } of rows) {
    assert.equal((await daemon.ask("POST", path, { ...spec, Name })).status, 201);
    const { json } = await daemon.ask("GET", `/services/${Name}`);
    const found = json.Spec.TaskTemplate.ContainerSpec.Image;
    assert.equal(found, pinned ? `${image}@sha256:${"d".repeat(64)}` : image);
  }
});

test("log lines are framed with stream and length, and say where they come from", async () => {
  await using daemon = await startFakeDaemon(true);
  await daemon.ask("POST", "/v1.50/services/create", service);
  const { bytes, headers } = await daemon.ask(
    "GET",
    "/services/web/logs?stderr=1&stdout=1&details=1",
  );
  assert.equal(headers["content-type"], "application/vnd.docker.multiplexed-stream");
  assert.deepEqual([...bytes.subarray(0, 4)], [1, 0, 0, 0]);
  const line = bytes.subarray(8, 8 + bytes.readUInt32BE(4)).toString();
  assert.match(
    line,
    /^com\.docker\.swarm\.node\.id=\w+,com\.docker\.swarm\.service\.id=\w+,com\.docker\.swarm\.task\.id=\w+ stdout of 1\n$/,
  );
});

test("a follower that goes away ends the log stream behind it", async () => {
  await using daemon = await startFakeDaemon(true);
  daemon.engine.add("web");
  let ended = false;
  const logs = daemon.engine.logs.bind(daemon.engine);
  const over = new Promise<void>((resolve) => {
    daemon.engine.logs = async function* (id, query, signal) {
      try {
        yield* logs(id, query, signal);
      } finally {
        ended = true;
        resolve();
      }
    };
  });
  const socket = connect(daemon.socket);
  socket.write("GET /containers/web/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n");
  await new Promise((resolve) => socket.once("data", resolve));
  assert.equal(ended, false);
  socket.destroy();
  await over;
});

test("garbage never ends the server", async () => {
  await using daemon = await startFakeDaemon(true);
  const seed = randomBytes(4).toString("hex");
  const paths = [
    "/services/create",
    "/swarm/init",
    "/swarm/join",
    "/networks/create",
    "/nodes/x/update",
  ];
  for (let round = 0; round < 200; round++) {
    const path = paths[round % paths.length] ?? "/";
    const answer = await daemon.ask(
      "POST",
      `${path}?version=${encodeURIComponent(garbage(round + 1))}`,
      garbage(round),
    );
    assert.ok(answer.status >= 200 && answer.status < 600, `${seed} ${round}`);
    assert.notEqual(answer.status, 500, `${path} ${answer.text}`);
  }
  for (let round = 0; round < 50; round++) await throwAt(daemon, randomBytes(round * 20));
  assert.equal((await daemon.ask("GET", "/_ping")).text, "OK");
});

function garbage(round: number): string {
  const words = ['{"a":', "[[[[", '{"Name":[]}', '"x"', "1e999", '{"Spec":{"Labels":[1]}}', "null"];
  const deep = `${'{"Spec":'.repeat(200)}1${"}".repeat(200)}`;
  const poison = '{"__proto__":{"Name":"x"},"Name":{"toString":1},"constructor":1}';
  const word = [...words, deep, poison, '{"Labels":{"a":1}}'][round % 10] ?? "";
  return word;
}

async function throwAt(daemon: FakeDaemon, bytes: Buffer): Promise<void> {
  const socket = connect(daemon.socket);
  await new Promise<void>((resolve) => {
    socket.once("close", () => resolve());
    socket.once("error", () => resolve());
    socket.resume();
    socket.end(Buffer.concat([Buffer.from("GET /"), bytes]));
  });
}

test("a stale socket is taken over, a live one and a plain file are left alone", async () => {
  await using daemon = await startFakeDaemon(false);
  const folder = await mkdtemp(join(tmpdir(), "tsswarm-api-"));
  const never = new AbortController().signal;
  try {
    await assert.rejects(
      openApi(daemon.context, [`unix://${daemon.socket}`], never),
      (error) => error instanceof SwarmError && /another process listens/.test(error.message),
    );
    assert.equal((await daemon.ask("GET", "/_ping")).text, "OK");

    const stale = join(folder, "stale.sock");
    await leaveStaleSocket(stale);
    const api = await openApi(daemon.context, [`unix://${stale}`], never);
    assert.equal((await ask(stale, "GET", "/_ping")).text, "OK");
    assert.equal((await stat(stale)).mode & 0o007, 0);
    await api.close();

    const file = join(folder, "file");
    await writeFile(file, "mine");
    await assert.rejects(openApi(daemon.context, [`unix://${file}`], never), /is not a socket/);
    await assert.rejects(
      openApi(daemon.context, ["tcp://0.0.0.0:2375"], never),
      (error) => error instanceof SwarmError && error.code === "unsupported",
    );
  } finally {
    await rm(folder, { recursive: true });
  }
});

/** A listener whose socket file outlives it: made under another name, then moved. */
async function leaveStaleSocket(path: string): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(`${path}.made`, resolve));
  const { rename } = await import("node:fs/promises");
  await rename(`${path}.made`, path);
  await new Promise((resolve) => server.close(resolve));
}

const upgrades = [
  { name: "an unknown exec", path: "/v1.50/exec/abc/start", body: "{}", status: 404 },
  { name: "another path", path: "/info", body: "", status: 501 },
  { name: "a version too new", path: "/v1.99/exec/abc/start", body: "{}", status: 400 },
  { name: "a body that is no JSON", path: "/exec/abc/start", body: "{", status: 400 },
];
for (const row of upgrades)
  test(`an upgrade for ${row.name} is refused with ${row.status}`, async () => {
    await using daemon = await startFakeDaemon(true);
    const answer = await daemon.ask("POST", row.path, row.body, {
      connection: "Upgrade",
      upgrade: "tcp",
    });
    assert.equal(answer.status, row.status, answer.text);
    assert.equal(typeof answer.json.message, "string");
    assert.equal(answer.headers["api-version"], "1.50");
  });

test("an upgraded exec carries raw bytes both ways, in frames, until the process ends", async () => {
  await using daemon = await startFakeDaemon(true);
  daemon.engine.add("web");
  const made = await daemon.ask("POST", "/containers/web/exec", {
    Cmd: ["cat"],
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
  });
  assert.equal(made.status, 201);
  const body = '{"Detach":false,"Tty":false}';
  const socket = connect(daemon.socket);
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  const closed = new Promise((resolve) => socket.once("end", resolve));
  const head = `POST /exec/${made.json.Id}/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
  // The body comes late and in two parts, and the first input with its end.
  socket.write(head + body.slice(0, 5));
  await new Promise((resolve) => setImmediate(resolve));
  socket.end(`${body.slice(5)}hello`);
  await closed;
  const text = Buffer.concat(chunks).toString("latin1");
  assert.match(text, /^HTTP\/1\.1 101 UPGRADED\r\n/);
  assert.match(text, /Content-Type: application\/vnd\.docker\.multiplexed-stream\r\n/);
  assert.ok(text.endsWith("\r\n\r\n\u0001\0\0\0\0\0\0\u0005hello"), text);
  const state = await daemon.ask("GET", `/exec/${made.json.Id}/json`);
  assert.equal(state.json.ExitCode, 0);
  assert.equal(state.json.Running, false);
});

test("closing the server ends open execs and log followers", async () => {
  const daemon = await startFakeDaemon(true);
  daemon.engine.add("web");
  const made = await daemon.ask("POST", "/containers/web/exec", {
    Cmd: ["cat"],
    AttachStdin: true,
    AttachStdout: true,
  });
  const ends = ["/containers/web/logs?stdout=1&follow=1", `/exec/${made.json.Id}/start`].map(
    async (path) => {
      const socket = connect(daemon.socket);
      const upgrade = path.startsWith("/exec")
        ? "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n"
        : "";
      const over = new Promise((resolve) => socket.once("close", resolve));
      socket.write(
        `${upgrade === "" ? "GET" : "POST"} ${path} HTTP/1.1\r\nHost: x\r\n${upgrade}\r\n`,
      );
      await new Promise((resolve) => socket.once("data", resolve));
      return { over };
    },
  );
  const overs = await Promise.all(ends);
  await daemon[Symbol.asyncDispose]();
  await Promise.all(overs.map(({ over }) => over));
});

const patterns: readonly (readonly [string, string, boolean])[] = [
  ["a/b:1", "a/b:1", true],
  ["a/b:1", "a/*", true],
  ["a/b/c", "a/*", false],
  ["a/b", "*", false],
  ["abc", "a?c", true],
  ["abc", "a?", false],
  ["aXbYc", "a*b*c", true],
  ["a".repeat(200), `${"a*".repeat(100)}b`, false],
];
for (const [text, pattern, expected] of patterns)
  test(`${text.slice(0, 8)} ${expected ? "is" : "is not"} like ${pattern.slice(0, 8)}`, () => {
    assert.equal(matchesPattern(text, pattern), expected);
  });
