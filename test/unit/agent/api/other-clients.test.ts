// What clients other than the docker command ask for, and how they say it.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { createServer } from "node:net";
import { test } from "node:test";
import { WebSocket } from "ws";
import { whereAndWhat } from "../../../../agent/api/search.ts";
import type { Container } from "../../../../agent/engine/container-types.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import { startFakeDaemon } from "./fakes.ts";

test("keys of a body are taken in any case", async () => {
  await using daemon = await startFakeDaemon(true);
  const answer = await daemon.ask("POST", "/containers/create?name=lower", {
    image: "busybox",
    hostconfig: { networkmode: "none", memory: 6_000_000 },
  });
  assert.equal(answer.status, 400);
  assert.match(answer.json.message, /Minimum memory limit allowed is 6MB/);
});

const terms = [
  ["nginx", "docker.io", "nginx"],
  ["library/nginx", "docker.io", "nginx"],
  ["me/app", "docker.io", "me/app"],
  ["registry.lab:5000/a/b", "registry.lab:5000", "a/b"],
  ["localhost/app", "localhost", "app"],
] as const;
for (const [text, domain, term] of terms)
  test(`a search for ${text} asks ${domain}`, () =>
    assert.deepEqual(whereAndWhat(text), { domain, term }));

test("a search shows what a registry says, by filters", async () => {
  await using daemon = await startFakeDaemon(true);
  const all = await daemon.ask("GET", "/images/search?term=nginx");
  const plain = { star_count: 0, is_official: false, is_automated: false, description: "" };
  assert.deepEqual(all.json, [
    { ...plain, name: "nginx", description: "the one", star_count: 7, is_official: true },
    { ...plain, name: "me/nginx" },
  ]);
  const filters = encodeURIComponent(JSON.stringify({ stars: ["3"] }));
  const some = await daemon.ask("GET", `/images/search?term=nginx&filters=${filters}`);
  assert.equal(some.json.length, 1);
  for (const wrong of ["term=", "term=x&limit=101", "term=x&filters=%7B%22a%22%3A%5B%22b%22%5D%7D"])
    assert.equal((await daemon.ask("GET", `/images/search?${wrong}`)).status, 400);
});

/** A WebSocket needs a port: this one leads to the daemon's socket. */
async function viaPort(socketPath: string) {
  const { connect } = await import("node:net");
  const server = createServer((client) => {
    const up = connect(socketPath);
    for (const each of [client, up]) each.on("error", () => {});
    client.pipe(up).pipe(client);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { readonly port: number };
  return { origin: `ws://127.0.0.1:${port}`, close: () => server.close() };
}

test("an attached WebSocket carries bytes without frames, and an unknown container is refused", async () => {
  await using daemon = await startFakeDaemon(true);
  const made = await daemon.ask("POST", "/containers/create?name=ws", {
    Image: "busybox",
    OpenStdin: true,
    StdinOnce: true,
    AttachStdin: true,
    Cmd: ["cat"],
  });
  assert.equal(made.status, 201);
  const way = await viaPort(daemon.socket);
  try {
    const path = "attach/ws?stream=1&stdin=1&stdout=1&stderr=1";
    const nobody = new WebSocket(`${way.origin}/v1.50/containers/nobody/${path}`);
    const [failure] = (await once(nobody, "error").catch((e: unknown) => [e])) as [Error];
    assert.match(failure.message, /404/);
    const client = new WebSocket(`${way.origin}/v1.50/containers/ws/${path}`);
    await once(client, "open");
    assert.equal((await daemon.ask("POST", "/containers/ws/start")).status, 204);
    client.send("over the web");
    const [data] = (await once(client, "message")) as [Buffer];
    assert.equal(data.toString(), "over the web");
    client.close();
    await once(client, "close");
  } finally {
    way.close();
  }
});

test("a client of BuildKit may keep its session open beside a build", async () => {
  await using daemon = await startFakeDaemon(true);
  const { connect } = await import("node:net");
  const socket = connect(daemon.socket);
  const way = "Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n";
  socket.write(`POST /session HTTP/1.1\r\nHost: x\r\n${way}\r\n`);
  const [head] = (await once(socket, "data")) as [Buffer];
  assert.match(head.toString(), /^HTTP\/1\.1 101 .*\r\nUpgrade: h2c\r\n/s);
  socket.end();
  await once(socket, "close");
});

/** One made by hand. */
function addByHand(
  { engine }: Awaited<ReturnType<typeof startFakeDaemon>>,
  networkMode: string,
): Container {
  const made = engine.add("box", { Hostname: "front" });
  const local = { networkMode, endpoints: {}, autoRemove: false, shown: {} };
  const never = { isStoppedByHand: false, restartCount: 0 };
  const restart = { Name: "no", MaximumRetryCount: 0 } as const;
  const container = { ...made, local: { ...local, ...never, restart } };
  engine.containers.set(made.id, container);
  return container;
}

test("before 1.45 a container's aliases have its short id", async () => {
  await using daemon = await startFakeDaemon(true);
  const { id } = addByHand(daemon, "web");
  const aliases = async (version: string) => {
    const { json } = await daemon.ask("GET", `/v${version}/containers/${id}/json`);
    return json.NetworkSettings.Networks.web.Aliases;
  };
  assert.deepEqual(await aliases("1.44"), ["web", id.slice(0, 12), "front"]);
  assert.deepEqual(await aliases("1.45"), ["web"]);
  const made = daemon.engine.containers.get(id) ?? assert.fail();
  const state = { ...made.state, Status: "created" } as const;
  daemon.engine.containers.set(id, { ...made, state });
  assert.deepEqual(await aliases("1.44"), ["web"], "docker-compose 1.29 connects it then");
});

test("before 1.40 others may share a container's memory unless it says something else", async () => {
  await using daemon = await startFakeDaemon(true);
  const mode = async (version: string, HostConfig: object) => {
    const body = { Image: "box", HostConfig };
    const made = await daemon.ask("POST", `/v${version}/containers/create`, body);
    assert.equal(made.status, 201, made.text);
    const { json } = await daemon.ask("GET", `/v${version}/containers/${made.json.Id}/json`);
    return json.HostConfig.IpcMode;
  };
  assert.equal(await mode("1.39", {}), "shareable");
  assert.equal(await mode("1.39", { IpcMode: "private" }), "private");
  assert.equal(await mode("1.40", {}), "private");
});

for (const mode of ["host", "none"])
  test(`network mode ${mode} is shown as the network it is called by`, async () => {
    await using daemon = await startFakeDaemon(true);
    const container = addByHand(daemon, mode);
    daemon.engine.containers.set(container.id, { ...container, networks: {} });
    const { json } = await daemon.ask("GET", `/containers/${container.id}/json`);
    const { [mode]: shown, ...others } = json.NetworkSettings.Networks;
    assert.deepEqual(others, {});
    assert.equal(shown.IPAddress, "");
    const network = await daemon.ask("GET", `/networks/${mode}`);
    assert.equal(shown.NetworkID, network.json.Id);
  });

const commands = [
  { createdBy: "RUN /bin/sh -c echo a  b", shown: ["/bin/sh", "-c", "echo a  b"] },
  { createdBy: "RUN |1 v=1 /bin/sh -c echo", shown: ["|1", "v=1", "/bin/sh", "-c", "echo"] },
  { createdBy: "LABEL a=b", shown: ["/bin/sh", "-c", "#(nop) ", "LABEL a=b"] },
];
for (const { createdBy, shown } of commands)
  test(`before 1.45 an image says what it was made by: ${createdBy}`, async () => {
    await using daemon = await startFakeDaemon(true);
    const [step] = await daemon.engine.imageHistory("");
    daemon.engine.imageHistory = async () => [{ ...(step ?? assert.fail()), createdBy }];
    const path = "images/registry.lab:5000/whoami/json";
    const { json } = await daemon.ask("GET", `/v1.44/${path}`);
    assert.deepEqual(json.ContainerConfig.Cmd, shown);
    const later = await daemon.ask("GET", `/v1.45/${path}`);
    assert.equal(later.json.ContainerConfig, undefined);
    const agent = { "user-agent": "docker-compose/1.29.2 docker-py/5.0.3 Linux/6.1" };
    const composed = await daemon.ask("GET", `/v1.50/${path}`, undefined, agent);
    assert.deepEqual(composed.json.ContainerConfig.Cmd, shown);
  });

test("mirrors are told where clients look for them", async () => {
  await using daemon = await startFakeDaemon(true);
  const { RegistryConfig } = (await daemon.ask("GET", "/info")).json;
  const mirrors = ["http://mirror.lab:5000"];
  assert.deepEqual(RegistryConfig.Mirrors, mirrors);
  assert.deepEqual(RegistryConfig.IndexConfigs["docker.io"].Mirrors, mirrors);
});

test("an exec is left by the keys it was made with, and its container lists it until it has ended", async () => {
  await using daemon = await startFakeDaemon(true);
  const { id } = daemon.engine.add("box");
  const body = { Cmd: ["cat"], Tty: true, AttachStdin: true, AttachStdout: true };
  const wrong = await daemon.ask("POST", `/containers/${id}/exec`, { ...body, detachKeys: "up" });
  assert.match(wrong.json.message, /Invalid detach keys \(up\) provided/);
  const made = await daemon.ask("POST", `/containers/${id}/exec`, {
    ...body,
    detachKeys: "ctrl-a",
  });
  const exec: string = made.json.Id;
  assert.deepEqual((await daemon.ask("GET", `/containers/${id}/json`)).json.ExecIDs, [exec]);
  const { connect } = await import("node:net");
  const socket = connect(daemon.socket);
  const head = "Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 13\r\n";
  socket.write(`POST /exec/${exec}/start HTTP/1.1\r\n${head}\r\n{"Tty": true}typed\u0001`);
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  // Its end is the answer: cat would go on.
  assert.match(text, /^HTTP\/1\.1 101 /);
});

test("an archive that is none is told of in the answer to its load", async () => {
  await using daemon = await startFakeDaemon(true);
  daemon.engine.loadImages = async () => {
    throw new SwarmError("invalid", "the archive is no tar");
  };
  const answer = await daemon.ask("POST", "/images/load", Buffer.from("abc"));
  assert.equal(answer.status, 200);
  const message = "the archive is no tar";
  assert.deepEqual(JSON.parse(answer.text), { error: message, errorDetail: { message } });
});

test("no plugin is there, whatever is asked of one", async () => {
  await using daemon = await startFakeDaemon(true);
  assert.deepEqual((await daemon.ask("GET", "/plugins")).json, []);
  const rows = [
    ["GET", "/plugins/me/sshfs:latest/json", 404],
    ["POST", "/plugins/me/sshfs:latest/enable?timeout=0", 404],
    ["DELETE", "/plugins/sshfs", 404],
  ] as const;
  for (const [method, path, status] of rows) {
    const answer = await daemon.ask(method, path);
    assert.equal(answer.status, status);
    assert.match(answer.json.message, /plugin "(me\/sshfs:latest|sshfs)" not found/);
  }
  assert.equal(
    (await daemon.ask("POST", "/plugins/sshfs/frobnicate")).json.message,
    "page not found",
  );
  for (const path of ["/plugins/create?name=x", "/plugins/pull?remote=x"])
    assert.equal((await daemon.ask("POST", path, Buffer.from("tar"))).status, 501);
  assert.equal((await daemon.ask("GET", "/plugins/privileges?remote=x")).status, 501);
});

test("a bridge network without a container is dangling; what every host has is not", async () => {
  await using daemon = await startFakeDaemon(true);
  await daemon.ask("POST", "/networks/create", { Name: "own", Driver: "bridge" });
  const names = async (dangling: string) => {
    const filters = encodeURIComponent(JSON.stringify({ dangling: [dangling] }));
    const { json } = await daemon.ask("GET", `/networks?filters=${filters}`);
    return json.map((network: { Name: string }) => network.Name);
  };
  assert.deepEqual(await names("true"), ["own"]);
  assert.equal((await names("false")).includes("own"), false);
});

test("a weight that the kernel does not know is told to who asks for it", async () => {
  await using daemon = await startFakeDaemon(true);
  const body = { Image: "box", HostConfig: { BlkioWeight: 300 } };
  const made = await daemon.ask("POST", "/containers/create", body);
  assert.equal(made.status, 201, made.text);
  assert.match(made.json.Warnings.join(), /Block I\/O weight .* Weight discarded/);
  const path = `/containers/${made.json.Id}/update`;
  const updated = await daemon.ask("POST", path, { BlkioWeight: 200 });
  assert.match(updated.json.Warnings.join(), /Weight discarded/, updated.text);
  assert.equal((await daemon.ask("POST", path, { BlkioWeight: 2 })).status, 400);
});

test("a bridge network is shown as it was asked for: programs compare it with what they want", async () => {
  await using daemon = await startFakeDaemon(true);
  const body = { Name: "own", Driver: "bridge", Attachable: true };
  const { json } = await daemon.ask("POST", "/networks/create", body);
  const shown = { subnet: "fd00:0001::/64", gateway: "fd00:0001::1" };
  const network = daemon.engine.localNetworks.get(json.Id) ?? assert.fail();
  const subnets = [{ cidr: "fd00:1::/64", prefix: 64, gateway: "fd00:1::1", shown }];
  daemon.engine.localNetworks.set(json.Id, { ...network, subnets });
  const own = (await daemon.ask("GET", "/networks/own")).json;
  assert.equal(own.Attachable, true);
  assert.deepEqual(own.IPAM.Config, [{ Subnet: shown.subnet, Gateway: shown.gateway }]);
});

test("who asks for events since a moment that is yet to come is told what happens now", async () => {
  await using daemon = await startFakeDaemon(true);
  const container = daemon.engine.add("web");
  const since = Math.ceil(Date.now() / 1000) + 60;
  const path = `/events?since=${since}`;
  const asked = http.get({ socketPath: daemon.socket, path });
  const [answer] = (await once(asked, "response")) as [http.IncomingMessage];
  // Again until it listens: what was before that is past.
  const timer = setInterval(() => daemon.engine.announce("start", container), 10);
  const [chunk] = (await once(answer, "data")) as [Buffer];
  clearInterval(timer);
  asked.destroy();
  assert.equal(JSON.parse(chunk.toString().split("\n")[0] ?? "").Action, "start");
});
