// One network with more addresses than a /24 has, and services that choose how they are reached and by which way they leave.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { machine } from "../../deploy/lab/names.ts";
import {
  api,
  attemptDocker,
  attemptTsswarm,
  docker,
  lab,
  removeNetwork,
  until,
  untilNamed,
  untilRunning,
  visitFrom,
  visitFromOutside,
  withLab,
} from "./harness.ts";

const [manager, other, third] = ["h1", "h2", "h3"] as const;
const image = "registry.lab:5000/whoami";
const startMsMax = 90_000;
const addressesOfOne = 254;
const atOnce = 8;
const names = ["early", "late", "choosy", "bound"];
const networks = ["growing", "other-way", "taken-by-hand"];
const many = Array.from({ length: addressesOfOne }, (_, i) => `many-${i}`);
let takeDown = async () => {};
let growing = "";

before(async () => {
  takeDown = await withLab();
  growing = await docker(manager, "network", "create", "--driver", "overlay", "growing");
  await docker(manager, "network", "create", "--driver", "overlay", "other-way");
});

after(async () => {
  await inTurn([...many, ...names], (name) =>
    api(manager)
      .delete(`/services/${name}`)
      .catch(() => {}),
  );
  for (const name of networks) await removeNetwork(manager, name, startMsMax);
  await takeDown();
});

async function inTurn(items: readonly string[], act: (item: string) => Promise<unknown>) {
  const left = items.values();
  const one = async () => {
    for (const item of left) await act(item);
  };
  await Promise.all(Array.from({ length: atOnce }, one));
}

const create = (name: string, ...words: readonly string[]) =>
  docker(manager, "service", "create", "--detach", "--name", name, ...words, image);

async function subnets(network: string): Promise<readonly string[]> {
  const { IPAM } = await api(manager).get<{
    readonly IPAM: { readonly Config: readonly { readonly Subnet: string }[] };
  }>(`/networks/${network}`);
  return IPAM.Config.map(({ Subnet }) => Subnet);
}

test("a network whose /24 is used up has a further subnet, and containers of both meet", async () => {
  await create("early", "--network", "growing", "--mode", "global");
  await untilRunning(manager, "early", 3, startMsMax);
  const [first, ...none] = await subnets("growing");
  assert.deepEqual(none, []);
  await inTurn(many, (Name) =>
    api(manager).post("/services/create", {
      body: {
        Name,
        TaskTemplate: { ContainerSpec: { Image: image }, Networks: [{ Target: growing }] },
        Mode: { Replicated: { Replicas: 0 } },
      },
    }),
  );
  const [same, second, ...more] = await subnets("growing");
  assert.equal(same, first);
  assert.deepEqual(more, []);
  assert.ok(second !== undefined);
  await create("late", "--network", "growing", "--mode", "global");
  const late = await untilRunning(manager, "late", 3, startMsMax);
  const early = await untilRunning(manager, "early", 3, startMsMax);
  const base = second.replace(/\.0\/24$/, ".");
  for (const { node, container } of late)
    assert.match(
      await docker(node, "exec", container, "ip", "address"),
      new RegExp(`inet ${base}`),
    );
  for (const [from, to] of [
    [early, "late"],
    [late, "early"],
  ] as const) {
    await untilNamed(to, 3, from, startMsMax);
    for (const { node, container } of from) {
      const seen = await visitFrom(node, container, `http://${to}`, 3);
      assert.equal(new Set(seen.map(({ hostname }) => hostname)).size, 3, `${to} from ${node}`);
      await visitFrom(node, container, `http://tasks.${to}`, 1);
    }
  }
});

test("the default route leads through the network with the highest priority", async () => {
  const networks = ["--network", "growing", "--network", "name=other-way,driver-opt=gw-priority=3"];
  await create("choosy", ...networks, "--constraint", `node.hostname==${other}`);
  const [task] = await untilRunning(manager, "choosy", 1, startMsMax);
  assert.ok(task !== undefined);
  const routes = await docker(other, "exec", task.container, "ip", "route");
  const [subnet] = await subnets("other-way");
  const gateway = subnet?.replace(/0\/24$/, "1") ?? "";
  assert.match(routes, new RegExp(`^default via ${gateway.replaceAll(".", "\\.")} `, "m"));
});

test("a service leaves a network and joins another, and is known there only", async () => {
  const update = ["--network-rm", "growing", "--network-add", "name=other-way,alias=nick"];
  await docker(manager, "service", "update", "--quiet", ...update, "late");
  const late = await untilRunning(manager, "late", 3, startMsMax);
  const [choosy] = await untilRunning(manager, "choosy", 1, startMsMax);
  assert.ok(choosy !== undefined);
  await untilNamed("late", late.length, [choosy], startMsMax);
  const seen = await visitFrom(other, choosy.container, "http://nick", 6);
  assert.equal(new Set(seen.map(({ hostname }) => hostname)).size, late.length);
  const [early] = await untilRunning(manager, "early", 3, startMsMax);
  assert.ok(early !== undefined);
  const { code } = await attemptDocker(
    ...[early.node, "exec", early.container, "wget", "-q", "-T", "5", "-O", "-", "http://late"],
  );
  assert.notEqual(code, 0);
});

test("a port is published on one address of one node, and a program's port is named", async () => {
  const address = machine(third).address;
  const { code, stderr } = await attemptTsswarm(
    ...[manager, "service", "create", "--detach", "--name", "bound", "--mode", "global"],
    ...["--publish", `${address}:8095:80`, "--publish", "8096:80", image],
  );
  assert.equal(code, 0, stderr);
  await untilRunning(manager, "bound", 3, startMsMax);
  assert.equal((await visitFromOutside(`http://${address}:8095`, 2)).length, 2);
  await assert.rejects(visitFromOutside(`http://${machine(other).address}:8095`, 1));
  assert.equal((await visitFromOutside(`http://${machine(other).address}:8096`, 2)).length, 2);

  await docker(manager, "service", "rm", "bound");
  const listen = "busybox nc -l -p 8097 </dev/null >/dev/null 2>&1 & echo $!";
  const pid = await lab("exec", other, "--", "sh", "-c", listen);
  const place = ["--constraint", `node.hostname==${other}`];
  await create("bound", "--publish", "mode=host,target=80,published=8097", ...place);
  const errors = () =>
    docker(manager, "service", "ps", "--no-trunc", "--format", "{{.Error}}", "bound");
  await until("the taken port is not told", startMsMax, async () =>
    /port 8097\/tcp cannot be published: \S+ \(process \d+\) on this node/.test(await errors())
      ? true
      : undefined,
  );
  await lab("exec", other, "--", "kill", pid.trim());
  await untilRunning(manager, "bound", 1, startMsMax);
});

test("what a network's options cannot be is refused in words", async () => {
  const network = (...words: readonly string[]) =>
    attemptDocker(manager, "network", "create", "--driver", "overlay", ...words, "taken-by-hand");
  for (const [words, says] of [
    [["--opt", "com.docker.network.driver.mtu=big"], /mtu: "big" is no number/],
    [["--subnet", "10.90.0.0/24", "--gateway", "10.91.0.1"], /no matching subnet for gateway/],
    [["--ipam-driver", "mine"], /IPAM driver "mine" is not supported/],
  ] as const)
    assert.match((await network(...words)).stderr, says);
});
