// Containers that are on the hosts' own cable (macvlan): reached by everybody there without the host, by their own addresses and
// cards, through restarts of the daemon and a loss of power.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { machine, outsideMachine, subnet, switchAddress } from "../../deploy/lab/names.ts";
import {
  attemptDocker,
  attemptLab,
  attemptTsswarm,
  docker,
  lab,
  tsswarm,
  until,
  untilAnswering,
  untilReady,
  visitFrom,
  visitFromOutside,
  withLab,
} from "./harness.ts";

const [host, other] = ["h1", "h2"] as const;
const image = "registry.lab:5000/busybox";
const whoami = "registry.lab:5000/whoami";
const network = "lan";
const inner = "lan-inner";
const back = "lan-back";
const web = { name: "lan-web", address: `${subnet}.130`, mac: "02:00:0a:4d:00:82" };
const far = { name: "lan-far", address: `${subnet}.150` };
const label = "macvlan-test";
const msMax = 60_000;

let down: () => Promise<void> = async () => {};
let linksBefore = "";

before(async () => {
  down = await withLab();
  for (const each of [host, other]) {
    await docker(each, "pull", "-q", image);
    await docker(each, "pull", "-q", whoami);
  }
  linksBefore = await links();
});

after(async () => {
  for (const each of [host, other]) {
    const left = (await attemptDocker(each, "ps", "-aq", "--filter", `label=${label}`)).stdout;
    for (const id of left.trim().split("\n"))
      if (id !== "") await attemptDocker(each, "rm", "-f", id);
    for (const name of [network, inner, back, "lan-sub", "lan-cfg"])
      await attemptDocker(each, "network", "rm", name);
  }
  await down();
});

/** The host's own, without what comes and goes with other networks. */
async function links(): Promise<string> {
  const all = await lab("exec", host, "--", "ip", "-br", "link");
  return all
    .split("\n")
    .filter((line) => !line.startsWith("tsw"))
    .sort()
    .join("\n");
}

function start(at: string, name: string, ...args: readonly string[]): Promise<string> {
  return docker(at, "run", "-d", "--label", label, "--name", name, ...args);
}

function inside(at: string, name: string, ...words: readonly string[]): Promise<string> {
  return docker(at, "exec", name, ...words);
}

/** On the cable of the host; each host gives addresses of its own part of the subnet. */
function created(at: string, range: string): Promise<string> {
  return docker(
    at,
    ...["network", "create", "-d", "macvlan", "-o", "parent=eth0", "--subnet", `${subnet}.0/24`],
    ...["--gateway", switchAddress, "--ip-range", `${subnet}.${range}`],
    ...["--aux-address", `kept=${subnet}.128`, network],
  );
}

test("a network on the host's cable: what it is, and who may not have one", async () => {
  await created(host, "128/28");
  await created(other, "144/28");
  const format = "{{.Driver}} {{.Scope}} {{json .Options}} {{json .IPAM.Config}}";
  assert.equal(
    await docker(host, "network", "inspect", "-f", format, network),
    `macvlan local {"parent":"eth0"} [{"Subnet":"${subnet}.0/24","IPRange":"${subnet}.128/28","Gateway":"${switchAddress}","AuxiliaryAddresses":{"kept":"${subnet}.128"}}]`,
  );
  const refused = [
    [["-o", "parent=eth0.7", "-d", "macvlan"], /has no vlan devices/],
    [
      ["-o", "parent=eth7.7", "-d", "macvlan"],
      /-o parent interface was not found on the host: eth7/,
    ],
    [["-o", "parent=eth0", "-o", "macvlan_mode=passthru", "-d", "macvlan"], /already using parent/],
    [["-o", "parent=eth0", "-d", "ipvlan"], /has no ipvlan devices/],
    [["--subnet", `${subnet}.0/25`, "-d", "macvlan"], /Pool overlaps with other one/],
  ] as const;
  for (const [flags, sentence] of refused) {
    const answer = await attemptTsswarm(host, "network", "create", ...flags, "lan-sub");
    // A kernel that has such devices makes the network.
    if (answer.code === 0 && /devices/.test(sentence.source))
      await docker(host, "network", "rm", "lan-sub");
    else assert.match(answer.stderr, sentence);
  }
  assert.doesNotMatch(await docker(host, "network", "ls", "--format", "{{.Name}}"), /lan-sub/);
});

test("everybody on the cable reaches a container there by its own address, and it sees who calls", async () => {
  const place = ["--network", network, "--ip", web.address, "--mac-address", web.mac];
  await start(host, web.name, ...place, "-p", "8077:80", "--restart", "always", whoami);
  const [seen] = await visitFromOutside(`http://${web.address}/`, 1);
  assert.equal(seen?.caller, outsideMachine.address);
  const neighbours = await lab("exec", "outside", "--", "ip", "neigh", "show", web.address);
  assert.match(neighbours, new RegExp(`lladdr ${web.mac}`));
  const shown = `{{(index .NetworkSettings.Networks "${network}").MacAddress}} {{json .NetworkSettings.Ports}}`;
  assert.equal(await docker(host, "inspect", "-f", shown, web.name), `${web.mac} {}`);
  // Ports are the container's own: the host has none for it.
  const through = await attemptLab(
    ...["exec", "outside", "--", "busybox", "timeout", "5", "busybox", "wget", "-qO-"],
    `http://${machine(host).address}:8077/`,
  );
  assert.notEqual(through.code, 0);
});

test("containers find each other by name on their host, and by address from host to host", async () => {
  await start(host, "lan-near", "--network", network, image, "sleep", "inf");
  const near = await docker(
    ...([host, "inspect", "-f"] as const),
    ...["{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}} {{.MacAddress}}{{end}}"],
    "lan-near",
  );
  assert.equal(near, `${subnet}.129 ${switchAddress} 02:42:0a:4d:00:81`);
  const [byName] = await visitFrom(host, "lan-near", `http://${web.name}/`, 1);
  assert.equal(byName?.caller, `${subnet}.129`);
  await start(
    other,
    far.name,
    "--network",
    network,
    "--ip",
    far.address,
    "--restart",
    "always",
    whoami,
  );
  const [across] = await visitFrom(host, "lan-near", `http://${far.address}/`, 1);
  assert.equal(across?.caller, `${subnet}.129`);
  const route = await inside(host, "lan-near", "ip", "route");
  assert.match(route, new RegExp(`^default via ${switchAddress} dev eth0`, "m"));
});

test("a running container comes onto the cable and leaves it; the first network by name leads out", async () => {
  await docker(host, "network", "create", back);
  await start(host, "lan-two", "--network", back, image, "sleep", "inf");
  const way = async () =>
    /^default via (\S+) dev (\S+)/m.exec(await inside(host, "lan-two", "ip", "route"));
  const [, before] = (await way()) ?? assert.fail("no way out");
  await docker(
    host,
    "network",
    "connect",
    "--gw-priority",
    "1",
    "--alias",
    "two",
    network,
    "lan-two",
  );
  assert.deepEqual((await way())?.slice(1), [switchAddress, "eth1"]);
  assert.equal((await visitFrom(host, "lan-two", `http://${web.name}/`, 1)).length, 1);
  assert.match(await inside(host, "lan-near", "nslookup", "two"), /Name:\s+two/);
  const used = await attemptDocker(host, "network", "rm", network);
  assert.match(used.stderr, /network lan has active endpoints/);
  await docker(host, "network", "disconnect", network, "lan-two");
  assert.deepEqual((await way())?.slice(1), [before, "eth0"]);
  assert.doesNotMatch(await inside(host, "lan-two", "ip", "-o", "link"), /eth1/);
  assert.notEqual((await attemptDocker(host, "exec", "lan-near", "nslookup", "two")).code, 0);
});

test("a network without a parent is a switch of its own that leads nowhere", async () => {
  await tsswarm(host, "network", "create", "-d", "macvlan", inner);
  await start(host, "lan-in", "--network", inner, whoami);
  await start(host, "lan-peer", "--network", inner, image, "sleep", "inf");
  assert.equal((await visitFrom(host, "lan-peer", "http://lan-in/", 1)).length, 1);
  assert.doesNotMatch(await inside(host, "lan-peer", "ip", "route"), /default/);
  assert.equal(await links(), linksBefore);
});

test("a network is made from a configuration", async () => {
  const asked = ["--config-only", "--subnet", "10.78.0.0/24", "-o", "macvlan_mode=private"];
  await tsswarm(host, "network", "create", ...asked, "lan-cfg");
  await docker(host, "network", "create", "-d", "macvlan", "--config-from", "lan-cfg", "lan-sub");
  const format = "{{.ConfigFrom.Network}} {{json .Options}} {{(index .IPAM.Config 0).Subnet}}";
  const shown = await docker(host, "network", "inspect", "-f", format, "lan-sub");
  assert.equal(shown, 'lan-cfg {"macvlan_mode":"private"} 10.78.0.0/24');
  const refused = await attemptDocker(host, "network", "rm", "lan-cfg");
  assert.match(refused.stderr, /configuration network "lan-cfg" is in use/);
  await docker(host, "network", "rm", "lan-sub");
  await docker(host, "network", "rm", "lan-cfg");
});

test("killed agents and a loss of power leave the networks as they are", async () => {
  const id = await docker(host, "network", "inspect", "-f", "{{.Id}}", network);
  await lab("power-off", other);
  await lab("crash", host, "agent");
  await untilAnswering([host], msMax);
  assert.equal((await visitFromOutside(`http://${web.address}/`, 1)).length, 1);
  assert.equal((await visitFrom(host, "lan-peer", "http://lan-in/", 1)).length, 1);
  assert.equal(await docker(host, "network", "inspect", "-f", "{{.Id}}", network), id);
  await start(host, "lan-late", "--network", network, image, "sleep", "inf");
  assert.equal((await visitFrom(host, "lan-late", `http://${web.name}/`, 1)).length, 1);
  await lab("power-on", other);
  await untilAnswering([other], msMax);
  await until("its container does not answer again", msMax, async () =>
    (await visitFrom(host, "lan-late", `http://${far.address}/`, 1).catch(() => [])).length === 1
      ? true
      : undefined,
  );
  await untilReady(host, 3, msMax);
});

test("nothing is left of networks that are gone", async () => {
  const names = ["lan-web", "lan-near", "lan-two", "lan-in", "lan-peer", "lan-late"];
  await docker(host, "rm", "-f", ...names);
  const pruned = await docker(host, "network", "prune", "-f");
  for (const name of [network, inner, back]) assert.match(pruned, new RegExp(`^${name}$`, "m"));
  assert.equal(await links(), linksBefore);
  const folders = await lab("exec", host, "--", "find", "/run", "-name", "switch-*");
  assert.equal(folders, "");
});
