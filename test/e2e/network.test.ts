import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { until } from "../../deploy/lab/run.ts";
import {
  ask,
  askOnce,
  endHosts,
  type Host,
  ip,
  makeHosts,
  prefix,
  Requests,
  sandbox,
  serve,
  serveUdp,
  type Task,
  tasks,
  view,
} from "./network-kit.ts";

const isReady = process.getuid?.() === 0;
let hosts: readonly Host[] = [];
let outside: Host;
const namespaces = new Map<string, string>();

before(async () => {
  if (!isReady) return;
  ({ hosts, outside } = makeHosts());
  await updateAll(tasks);
  for (const task of tasks) {
    const host = hosts[task.host - 1];
    assert.ok(host !== undefined);
    namespaces.set(task.id, await host.create(sandbox(task)));
  }
});

after(() => endHosts(hosts));

async function updateAll(wanted: readonly Task[]): Promise<void> {
  await Promise.all(hosts.map((host, i) => host.do("update", view(i + 1, hosts, wanted))));
}

const at = (name: string) => namespaces.get(name) ?? "";
const skip = isReady ? false : "needs root";

test("the virtual address spreads over all tasks, and they see the caller's own address", {
  skip,
}, async () => {
  assert.deepEqual(await ask(at("b1"), "10.0.1.2:80"), {
    "a1 saw 10.0.1.6": 2,
    "b1 saw 10.0.1.1": 2,
    "b2 saw 10.0.1.6": 2,
  });
  assert.deepEqual(await ask(at("a1"), "10.0.1.6:80", 1), { "b1 saw 10.0.1.5": 1 });
});

test("a client from outside reaches the port on every host, and its address is seen", {
  skip,
}, async () => {
  for (const host of hosts) {
    assert.deepEqual(await ask(outside.namespace, `${host.address}:8080`), {
      "a1 saw 10.88.0.13": 2,
      "b1 saw 10.88.0.13": 2,
      "b2 saw 10.88.0.13": 2,
    });
  }
});

test("one client port through two hosts is two connections", { skip }, async () => {
  for (const last of [11, 12, 11, 12]) {
    const answer = await askOnce(
      outside.namespace,
      `10.88.0.${last}:8080,sourceport=4040,reuseaddr`,
    );
    assert.match(answer, /saw 10\.88\.0\.13$/);
  }
});

test("a host reaches the port at 127.0.0.1 and at its own address", { skip }, async () => {
  const [a] = hosts;
  assert.ok(a !== undefined);
  const names = (heard: Readonly<Record<string, number>>) =>
    Object.keys(heard).map((answer) => answer.replace(/ saw .*/, ""));
  assert.deepEqual(names(await ask(a.namespace, "127.0.0.1:8080", 3)).sort(), ["a1", "b1", "b2"]);
  assert.deepEqual(names(await ask(a.namespace, "10.88.0.11:8080", 3)).sort(), ["a1", "b1", "b2"]);
  assert.deepEqual(names(await ask(at("b1"), "10.88.0.12:8080", 3)).sort(), ["a1", "b1", "b2"]);
});

test("a virtual address without tasks refuses at once, and so does an address nobody has", {
  skip,
}, async () => {
  assert.equal(await askOnce(at("a1"), "10.0.1.3:80"), "refused");
  assert.equal(await askOnce(at("a1"), "10.0.1.77:80"), "refused");
});

test("neither the host nor a stranger has a way into the overlay", { skip }, async () => {
  const [a] = hosts;
  assert.ok(a !== undefined);
  const routes = execFileSync("ip", ["-n", prefix + a.name, "route"]).toString();
  assert.doesNotMatch(routes, /10\.0\./);
  ip("-n", prefix + outside.name, "route", "add", "169.254.0.0/16", "via", "10.88.0.11");
  assert.match(await askOnce(outside.namespace, "169.254.1.1:8080,connect-timeout=1"), /failed/);
});

const host = (i: number): Host => {
  const found = hosts[i];
  assert.ok(found !== undefined);
  return found;
};

test("the keeper is told names once, what changed, and all again when it was restarted", {
  skip,
}, async () => {
  const a = host(0);
  const told = () => a.keeperHeard.filter((request) => request.do === "setNames");
  const [first] = told();
  assert.equal(told().length, 1);
  assert.deepEqual(Object.keys(first?.tables ?? {}), ["net1"]);
  assert.deepEqual(first?.tables["net1"]?.names["site"], ["10.0.1.2", "fd00:1::2"]);
  const served = a.keeperHeard.filter((request) => request.do === "serveNames");
  assert.deepEqual(served, [
    {
      ...{ do: "serveNames", sandbox: "a1", namespace: at("a1"), tables: ["net1"] },
      ...{ upstream: ["192.0.2.53:53"], search: [] },
    },
  ]);
  await a.do("restartKeeper");
  await updateAll(tasks);
  assert.deepEqual(told()[1], first);
  assert.equal(told().length, 2);
});

test("the resolver's address leads to the keeper's port in the container", { skip }, async () => {
  serveUdp(at("a1"), "keeper", 4053, ["127.0.0.11"]);
  assert.match(await askOnce(at("a1"), "UDP:127.0.0.11:53"), /^keeper saw 127\.0\.0\./);
});

test("killing and restarting the agent breaks no connection and loses no rule", {
  skip,
}, async () => {
  const flows = [
    new Requests(at("a1"), "10.0.1.2", 80),
    new Requests(outside.namespace, "10.88.0.11", 8080),
    new Requests(outside.namespace, "10.88.0.12", 8080),
  ];
  for (let round = 0; round < 4; round++) {
    for (const one of hosts) {
      await one.kill("SIGKILL");
      one.start();
    }
    await updateAll(tasks);
    assert.deepEqual(await host(1).do("sandboxes"), ["b1", "b2"]);
  }
  for (const flow of flows) {
    const { answered, failures } = await flow.stop();
    assert.deepEqual(failures, []);
    assert.ok(answered > 50, `${answered} connections were made`);
  }
});

test("what an agent finds wrong when it starts is put right", { skip }, async () => {
  await host(0).kill("SIGKILL");
  const router = `--net=${host(0).execRoot}/netns/router-net1`;
  const inRouter = (...args: string[]) => execFileSync("nsenter", [router, ...args]);
  inRouter("ip", "route", "del", "10.0.1.6/32");
  inRouter("ip", "route", "add", "10.0.1.99/32", "dev", "lo", "proto", "static");
  inRouter("nft", "flush", "ruleset");
  inRouter("ip", "link", "del", "up0");
  host(0).start();
  await updateAll(tasks);
  assert.equal((await askOnce(at("a1"), "10.0.1.6:80")).slice(0, 2), "b1");
  assert.match(await askOnce(at("a1"), "10.0.1.2:80"), /saw 10\.0\.1\./);
  assert.doesNotMatch(inRouter("ip", "route").toString(), /10\.0\.1\.99/);
  assert.equal(Object.keys(await ask(outside.namespace, "10.88.0.11:8080", 3)).length, 3);
});

test("a container's own port of the host, TCP and UDP, and one that a program has", {
  skip,
}, async () => {
  const ports = [
    { protocol: "tcp", targetPort: 80, publishedPort: 8181 },
    { protocol: "udp", targetPort: 5353, publishedPort: 8282 },
  ];
  const task = { id: "h1", host: 1, last: 20 };
  const namespace = await host(0).create(sandbox(task, { ports }));
  serveUdp(namespace, "h1", 5353);
  assert.equal(await askOnce(outside.namespace, "10.88.0.11:8181"), "h1 saw 10.88.0.13");
  assert.equal(await askOnce(outside.namespace, "UDP:10.88.0.11:8282"), "h1 saw 10.88.0.13");
  assert.match(await askOnce(host(0).namespace, "127.0.0.1:8181"), /^h1 saw/);
  assert.equal(await askOnce(outside.namespace, "10.88.0.12:8181"), "refused");
  const again = sandbox({ ...task, id: "h2", last: 21 }, { ports });
  await serve(host(1).namespace, "program", 8181);
  await assert.rejects(
    host(1).do("createSandbox", again),
    /port 8181\/tcp .* on this node uses it already/,
  );
  assert.deepEqual(await host(1).do("sandboxes"), ["b1", "b2"]);
  await host(0).do("removeSandbox", "h1");
  assert.equal(await askOnce(outside.namespace, "10.88.0.11:8181"), "refused");
});

test("a container without a network leaves through its host, which no one enters", {
  skip,
}, async () => {
  await serve(outside.namespace, "outside", 80);
  const alone = sandbox({ id: "l1", host: 1, last: 0 }, { attachments: [] });
  const { namespace, attachments } = await host(0).do<{
    namespace: string;
    attachments: readonly { networkId: string; addresses: readonly string[] }[];
  }>("createSandbox", alone);
  const addresses = ["172.29.0.2", "fd9f:9683:bc6c:1::2"];
  assert.deepEqual(attachments, [{ networkId: "local", addresses }]);
  assert.equal(await askOnce(namespace, "10.88.0.13:80"), "outside saw 10.88.0.11");
  assert.equal(await askOnce(at("a1"), "10.88.0.13:80"), "outside saw 10.88.0.11");
  assert.equal(await askOnce(namespace, "[fd4c:88::13]:80"), "outside saw fd4c:88::11");
  assert.match(await askOnce(namespace, "[fd00:1::5]:80"), /refused|no route/);
  assert.match(await askOnce(namespace, "10.0.1.5:80,connect-timeout=1"), /failed|no route/);
  await host(0).do("removeSandbox", "l1");
});

test("a UDP flow stays with its task until that one leaves, and then finds another", {
  skip,
}, async () => {
  for (const { id } of tasks) serveUdp(at(id), id, 5353);
  const outsideFlow = "UDP:10.88.0.11:8053,sourceport=4053,reuseaddr";
  const insideFlow = "UDP:10.0.1.2:5353,sourceport=4053,reuseaddr";
  for (const [from, flow] of [
    [outside.namespace, outsideFlow],
    [at("a1"), insideFlow],
  ] as const) {
    const first = await askOnce(from, flow);
    assert.match(first, /^(a1|b1|b2) saw (10\.88\.0\.13|10\.0\.1\.[15])$/);
    assert.equal(await askOnce(from, flow), first);
    const name = first.slice(0, 2);
    await updateAll(tasks.map((t) => (t.id === name ? { ...t, state: "draining" } : t)));
    const second = await askOnce(from, flow);
    assert.match(second, /^(a1|b1|b2) saw/);
    assert.notEqual(second.slice(0, 2), name);
    await updateAll(tasks);
  }
});

test("a task that leaves gets no new connections, is drained, and is gone everywhere", {
  skip,
}, async () => {
  const open = new Requests(at("a1"), "10.0.1.7", 80);
  const leaving = tasks.map((task) => (task.id === "b2" ? { ...task, state: "draining" } : task));
  await updateAll(leaving);
  const heard = await ask(at("a1"), "10.0.1.2:80", 4);
  assert.deepEqual(
    Object.keys(heard)
      .map((answer) => answer.slice(0, 2))
      .sort(),
    ["a1", "b1"],
  );
  assert.deepEqual((await open.stop()).failures, []);
  const start = performance.now();
  await host(1).do("drain", { id: "b2", ms: 5_000 });
  assert.ok(performance.now() - start < 4_500, "nothing is open any more");
  await host(1).do("removeSandbox", "b2");
  await updateAll(tasks.slice(0, 2));
  assert.equal(await askOnce(at("a1"), "10.0.1.7:80"), "refused");
  assert.equal(await askOnce(at("b1"), "10.0.1.7:80"), "refused");
});

test("an open connection is waited for, but not for ever", { skip }, async () => {
  const held = new Requests(at("a1"), "10.0.1.6", 81);
  await serve(at("b1"), "b1", 81, "hold");
  const isOpen = async () => {
    const start = performance.now();
    await host(1).do("drain", { id: "b1", ms: 300 });
    return performance.now() - start > 250;
  };
  await until("the connection is not seen", 30_000, async () => (await isOpen()) || undefined);
  await held.stop();
});

test("a peer whose cable is out is named", { skip }, async () => {
  const untilSilent = (peers: string) =>
    until(`not "${peers}" is named`, 60_000, async () =>
      (await host(0).do<string[]>("unreachable")).join() === peers ? true : undefined,
    );
  ip("-n", `${prefix}switch`, "link", "set", "pb", "down");
  await untilSilent("node2");
  ip("-n", `${prefix}switch`, "link", "set", "pb", "up");
  await untilSilent("");
});

test("after a power cut nothing of before is believed to be there", { skip }, async () => {
  const a = host(0);
  await a.kill("SIGKILL");
  for (const name of ["a1", "router-net1", "router-ing"]) {
    const file = join(a.execRoot, "netns", name);
    // Whoever has made a mount namespace meanwhile may hold this one through its copy: nothing of it may count on its end.
    if (name !== "a1") execFileSync("nsenter", [`--net=${file}`, "ip", "link", "delete", "vx0"]);
    execFileSync("umount", [file]);
  }
  ip("-n", prefix + a.name, "link", "delete", "eth0");
  a.plug();
  a.start();
  assert.deepEqual(await a.do("sandboxes"), []);
  await updateAll(tasks.slice(0, 2));
  assert.deepEqual(await a.do("sandboxes"), []);
  const [task] = tasks;
  assert.ok(task !== undefined);
  const namespace = await a.create(sandbox({ ...task, id: "a9" }));
  assert.match(await askOnce(namespace, "10.0.1.6:80"), /^b1 saw/);
  assert.match(await askOnce(outside.namespace, "10.88.0.11:8080"), /saw 10\.88\.0\.13/);
});

test("leaving everything leaves nothing", { skip }, async () => {
  for (const one of hosts) await one.do("clear");
  const left = (args: string[]) =>
    execFileSync("nsenter", [`--net=${host(0).namespace}`, ...args]).toString();
  assert.equal(left(["nft", "list", "ruleset"]), "");
  assert.deepEqual(await host(0).do("sandboxes"), []);
  await until("links are left", 30_000, () => !/tsw/.test(left(["ip", "link"])) || undefined);
});
