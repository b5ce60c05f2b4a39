// The unmodified docker command makes and asks after containers of its own, on a daemon with a fake engine.

import assert from "node:assert/strict";
import { test } from "node:test";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import { type Answer, ask, dockerPath, startFakeDaemon } from "./fakes.ts";

const skip = dockerPath === undefined ? "there is no docker command here" : false;
const image = "registry.lab:5000/whoami:latest";

test("docker create hands on what was asked for, and its id comes back", { skip }, async () => {
  await using daemon = await startFakeDaemon(false);
  const options = ["--name", "web", "-e", "A=b", "-p", "8080:80", "--restart", "on-failure:3"];
  const more = ["--network-alias", "www", "--network", "front", "-v", "data:/data:ro"];
  const limits = ["-m", "64m", "--cpus", "0.5", "--init", "--tmpfs", "/scratch:size=1m"];
  const ran = await daemon.docker("create", ...options, ...more, ...limits, image, "sleep", "9");
  assert.equal(ran.code, 0, ran.stderr);
  const container = daemon.engine.inspect("web");
  assert.equal(ran.stdout.trim(), container.id);
  const { config, host, local } = container;
  assert.deepEqual([config.Cmd, config.Env], [["sleep", "9"], ["A=b"]]);
  assert.deepEqual(host.PublishedPorts, [{ protocol: "tcp", targetPort: 80, publishedPort: 8080 }]);
  assert.deepEqual([host.Memory, host.NanoCpus, host.Init], [67_108_864, 5e8, true]);
  assert.deepEqual(host.Tmpfs, { "/scratch": "size=1m" });
  assert.deepEqual([host.Mounts?.[0]?.Source, host.Mounts?.[0]?.ReadOnly], ["data", true]);
  assert.deepEqual(local?.restart, { Name: "on-failure", MaximumRetryCount: 3 });
  assert.deepEqual(local?.endpoints["front"], { aliases: ["www"], address: "" });
  const shown = await daemon.docker("inspect", "-f", "{{json .HostConfig.RestartPolicy}}", "web");
  assert.equal(shown.stdout.trim(), '{"Name":"on-failure","MaximumRetryCount":3}');
});

test("without a name one is made up; a taken one is a conflict", { skip }, async () => {
  await using daemon = await startFakeDaemon(false);
  assert.equal((await daemon.docker("create", image)).code, 0);
  assert.match(daemon.engine.list()[0]?.name ?? "", /^[a-z]+_[a-z]+$/);
  await daemon.docker("create", "--name", "web", image);
  const again = await daemon.docker("create", "--name", "web", image);
  assert.match(again.stderr, /Conflict\. The container name "\/web" is already in use/);
  assert.equal(again.code, 1);
});

test("docker run shows what an attached container writes, and ends with its code", {
  skip,
}, async () => {
  await using daemon = await startFakeDaemon(false);
  const ran = await daemon.docker("run", image);
  assert.equal(ran.stdout, "hello\n");
  assert.equal(ran.code, 0, ran.stderr);
  const missing = await daemon.docker("run", "--pull", "never", "missing");
  assert.match(missing.stderr, /No such image: missing/);
  assert.equal(missing.code, 125);
});

test("docker pause, rename, update, resize, prune", { skip }, async () => {
  await using daemon = await startFakeDaemon(false);
  const { id } = daemon.engine.add("web");
  await daemon.docker("pause", "web");
  assert.equal(daemon.engine.inspect(id).state.Status, "paused");
  await daemon.docker("unpause", "web");
  assert.equal(daemon.engine.inspect(id).state.Status, "running");
  assert.equal((await daemon.docker("rename", "web", "site")).code, 0);
  assert.equal(daemon.engine.inspect(id).name, "site");
  const same = await daemon.docker("rename", "site", "site");
  assert.match(same.stderr, /Renaming a container with the same name as its current name/);
  assert.equal((await daemon.docker("update", "-m", "64m", "site")).code, 0);
  assert.deepEqual(daemon.engine.updates, [{ host: { Memory: 67_108_864 } }]);
  const policy = await daemon.docker("update", "--restart", "always", "site");
  assert.match(policy.stderr, /a task's container is restarted by its service's policy/);
  const little = await daemon.docker("update", "-m", "1m", "site");
  assert.match(little.stderr, /Minimum memory limit allowed is 6MB/);
  // A task's container is the managers' affair.
  await daemon.docker("stop", "site");
  const pruned = await daemon.docker("container", "prune", "-f");
  assert.match(pruned.stdout, /Total reclaimed space: 0B/);
  await daemon.docker("create", "--name", "mine", image);
  const mine = await daemon.docker("container", "prune", "-f");
  assert.match(mine.stdout, /Deleted Containers:\n[0-9a-f]{64}\n\nTotal reclaimed space: 4\.096kB/);
  assert.deepEqual(
    daemon.engine.list().map(({ name }) => name),
    ["site"],
  );
});

const refused: readonly (readonly [string, string, unknown, number, RegExp])[] = [
  ["POST", "/containers/x/pause", undefined, 404, /No such container: x/],
  ["POST", "/containers/web/resize?h=-1&w=2", undefined, 400, /a terminal has 0 to 65535 rows/],
  ["POST", "/containers/web/resize?h=a&w=2", undefined, 400, /invalid h: "a"/],
  ["POST", "/containers/web/rename?name=", undefined, 400, /names may be empty/],
  ["POST", "/containers/web/wait?condition=bored", undefined, 400, /invalid condition: "bored"/],
  ["POST", "/containers/web/update", { Memory: "much" }, 400, /^Memory: /],
  ["POST", "/containers/prune?filters=%7B%22colour%22%3A%5B%5D%7D", undefined, 400, /colour/],
  ["GET", "/containers/web/top?ps_args=%3B+ls", undefined, 400, /these options are not taken/],
  ["POST", "/containers/create", "{", 400, /invalid JSON/],
  ["POST", "/containers/create", { Image: "missing" }, 404, /No such image: missing/],
  [
    "POST",
    "/networks/create",
    { Name: "n", Options: { "com.docker.network.bridge.name": "b" } },
    501,
    /the option com\.docker\.network\.bridge\.name of a bridge network/,
  ],
  [
    "POST",
    "/networks/create",
    { Name: "n", Options: { "com.docker.network.bridge.name": "br1" } },
    501,
    /the option com\.docker\.network\.bridge\.name/,
  ],
  [
    "POST",
    "/networks/create",
    { Name: "n", ConfigOnly: true, Scope: "swarm" },
    403,
    /^configuration network can only contain network specific fields/,
  ],
  [
    "POST",
    "/networks/create",
    { Name: "n", Driver: "macvlan", Options: { "com.docker.network.driver.mtu": "big" } },
    400,
    /invalid MTU big/,
  ],
  ["POST", "/networks/bridge/connect", { Container: 7 }, 400, /^Container: /],
  ["POST", "/networks/host/connect", { Container: "web" }, 403, /network host/],
  ["POST", "/networks/nope/connect", { Container: "web" }, 404, /network nope not found/],
];
for (const [method, path, body, status, sentence] of refused)
  test(`${method} ${path} with ${JSON.stringify(body)} is refused with ${status}`, async () => {
    await using daemon = await startFakeDaemon(false);
    daemon.engine.add("web");
    const answer = await daemon.ask(method, path, body);
    assert.match(answer.json.message, sentence);
    assert.equal(answer.status, status);
  });

test("a client that waits is answered before the end, so that it may start the container", async () => {
  await using daemon = await startFakeDaemon(false);
  daemon.engine.add("web");
  const answer: Answer = ask(daemon.socket, "POST", "/containers/web/wait?condition=next-exit");
  assert.deepEqual((await answer).json, { StatusCode: 0 });
});

test("bridge networks of this node: made, listed, connected, removed", { skip }, async () => {
  await using daemon = await startFakeDaemon(false);
  daemon.engine.add("web");
  const create = ["network", "create", "--subnet", "10.9.0.0/24", "--label", "a=b", "back"];
  assert.equal((await daemon.docker(...create)).code, 0);
  const format = "{{.Name}} {{.Driver}} {{.Scope}}";
  const listed = await daemon.docker(
    "network",
    "ls",
    "--filter",
    "type=custom",
    "--format",
    format,
  );
  assert.equal(listed.stdout.trim(), "back bridge local");
  const subnet = "{{(index .IPAM.Config 0).Subnet}} {{.Labels.a}}";
  const inspected = await daemon.docker("network", "inspect", "-f", subnet, "back");
  assert.equal(inspected.stdout.trim(), "10.9.0.0/24 b");
  await daemon.docker("network", "connect", "--alias", "db", "back", "web");
  await daemon.docker("network", "disconnect", "-f", "back", "web");
  assert.deepEqual(daemon.engine.connections, ["+web back db", "-web back true"]);
  assert.equal((await daemon.docker("network", "rm", "back")).code, 0);
  const predefined = await daemon.docker("network", "rm", "bridge");
  assert.match(predefined.stderr, /bridge is a pre-defined network and cannot be removed/);
});

test("networks on links of the host, and what they are made from", { skip }, async () => {
  await using daemon = await startFakeDaemon(false);
  const from = ["--subnet", "10.9.0.0/24", "--aux-address", "r=10.9.0.5", "-o", "parent=eth0.7"];
  const made = await daemon.docker("network", "create", "--config-only", ...from, "cfg");
  assert.equal(made.code, 0, made.stderr);
  const options = ["-o", "parent=eth0", "-o", "macvlan_mode=vepa", "-o", "colour=red"];
  const create = ["network", "create", "-d", "macvlan", "--subnet", "10.8.0.0/24", ...options];
  assert.equal((await daemon.docker(...create, "--internal", "lan")).code, 0);
  const format =
    "{{.Driver}} {{.Scope}} {{.ConfigOnly}} {{json .Options}} {{json .IPAM.Config}} {{.Internal}}";
  const shown = await daemon.docker("network", "inspect", "-f", format, "cfg", "lan");
  assert.deepEqual(shown.stdout.trim().split("\n"), [
    'null local true {"parent":"eth0.7"} [{"Subnet":"10.9.0.0/24","AuxiliaryAddresses":{"r":"10.9.0.5"}}] false',
    'macvlan local false {"colour":"red","macvlan_mode":"vepa","parent":"eth0"} [{"Subnet":"10.8.0.0/24"}] true',
  ]);
  const listed = ["network", "ls", "--filter", "driver=macvlan", "--format", "{{.Name}}"];
  assert.equal((await daemon.docker(...listed)).stdout.trim(), "lan");
  const pruned = await daemon.docker("network", "prune", "-f");
  assert.match(pruned.stdout, /^lan$/m);
  assert.doesNotMatch(pruned.stdout, /^cfg$/m);
  const drivers = await daemon.docker("info", "--format", "{{json .Plugins.Network}}");
  assert.match(drivers.stdout, /"ipvlan","macvlan"/);
});

const ofSwarm = { Name: "n", Driver: "macvlan", Scope: "swarm" };
const swarmWide = [
  {
    inSwarm: false,
    body: ofSwarm,
    status: 403,
    says: /^cannot create a swarm scoped network when/,
  },
  { inSwarm: true, body: ofSwarm, status: 501, says: /driver macvlan for the whole swarm is not/ },
  {
    ...{ inSwarm: true, body: { ...ofSwarm, ConfigFrom: { Network: "nope" } }, status: 404 },
    says: /^configuration network "nope" does not exist$/,
  },
  {
    inSwarm: true,
    body: { ...ofSwarm, ConfigFrom: { Network: "cfg" }, Options: { parent: "eth0" } },
    ...{ status: 403, says: /^network driver options are not supported if/ },
  },
  {
    inSwarm: true,
    body: { ...ofSwarm, Driver: "overlay", ConfigFrom: { Network: "cfg" } },
    ...{ status: 501, says: /^an overlay network configured by another \(cfg\) is not/ },
  },
] as const;
for (const { inSwarm, body, status, says } of swarmWide)
  test(`a network of the whole swarm: ${JSON.stringify(body)}, in one: ${inSwarm}`, async () => {
    await using daemon = await startFakeDaemon(inSwarm);
    await daemon.ask("POST", "/networks/create", { Name: "cfg", ConfigOnly: true });
    const answer = await daemon.ask("POST", "/networks/create", body);
    assert.match(answer.json.message, says);
    assert.equal(answer.status, status);
  });

test("what keeps a network from its parent is answered as Docker answers it", async () => {
  await using daemon = await startFakeDaemon(false);
  const message = "-o parent interface was not found on the host: eth9";
  daemon.engine.createNetwork = async () => {
    throw new SwarmError("precondition", message);
  };
  const body = { Name: "n", Driver: "macvlan", Options: { parent: "eth9.4" } };
  const answer = await daemon.ask("POST", "/networks/create", body);
  assert.deepEqual([answer.status, answer.json.message], [500, message]);
});

test("volumes: made, listed by label, removed, pruned", { skip }, async () => {
  await using daemon = await startFakeDaemon(false);
  const create = ["volume", "create", "--label", "a=b", "data"];
  assert.equal((await daemon.docker(...create)).stdout.trim(), "data");
  await daemon.docker("volume", "create");
  const listed = await daemon.docker("volume", "ls", "-q", "--filter", "label=a=b");
  assert.equal(listed.stdout.trim(), "data");
  const plugin = await daemon.docker("volume", "create", "-d", "rexray", "x");
  assert.match(plugin.stderr, /plugin "rexray" not found/);
  const pruned = await daemon.docker("volume", "prune", "-f");
  assert.match(pruned.stdout, /Deleted Volumes:\nf{64}\n\nTotal reclaimed space: 1kB/);
  assert.equal((await daemon.docker("volume", "rm", "data")).code, 0);
  const gone = await daemon.docker("volume", "rm", "data");
  assert.match(gone.stderr, /no such volume/);
});

test("images: tagged, their history, pruned; what a container changed", { skip }, async () => {
  await using daemon = await startFakeDaemon(false);
  assert.equal((await daemon.docker("tag", image, "registry.lab:5000/other:v2")).code, 0);
  assert.deepEqual(daemon.engine.tagged, [`${image} registry.lab:5000/other:v2`]);
  const format = "{{.CreatedBy}} {{.Size}}";
  const history = await daemon.docker("history", "--no-trunc", "--format", format, image);
  assert.equal(history.stdout, "CMD x 0B\nCOPY y 2kB\n");
  const dangling = await daemon.docker("image", "prune", "-f");
  assert.match(dangling.stdout, /Total reclaimed space: 0B/);
  daemon.engine.add("web");
  assert.equal((await daemon.docker("diff", "web")).stdout, "A /tmp/x\n");
});
