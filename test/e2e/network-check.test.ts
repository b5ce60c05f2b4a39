import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";
import type { Difference } from "../../agent/network/types.ts";
import { until } from "../../deploy/lab/run.ts";
import {
  askOnce,
  endHosts,
  type Host,
  ip,
  makeHosts,
  prefix,
  Requests,
  sandbox,
  tasks,
  view,
} from "./network-kit.ts";

const isReady = process.getuid?.() === 0;
const skip = isReady ? false : "needs root";
let hosts: readonly Host[] = [];
const namespaces = new Map<string, string>();
const at = (name: string) => namespaces.get(name) ?? "";

const host = (i: number): Host => {
  const found = hosts[i];
  assert.ok(found !== undefined);
  return found;
};

before(async () => {
  if (!isReady) return;
  ({ hosts } = makeHosts());
  await updateAll();
  for (const task of tasks)
    namespaces.set(task.id, await host(task.host - 1).create(sandbox(task)));
});

after(() => endHosts(hosts));

async function updateAll(wanted = tasks): Promise<void> {
  await Promise.all(hosts.map((one, i) => one.do("update", view(i + 1, hosts, wanted))));
}

const check = (i = 0) => host(i).do<readonly Difference[]>("check");
const repair = (i = 0) => host(i).do<readonly Difference[]>("repair");
/** "missing route", "stray chain" … of each, sorted. */
const kinds = (found: readonly Difference[]) =>
  [...new Set(found.map(({ how, what }) => `${how} ${what}`))].sort();

type Where = "router" | "ingress" | "host" | "container";
const enter = (where: Where): string => {
  const a = host(0);
  if (where === "host") return a.namespace;
  if (where === "container") return at("a1");
  return `${a.execRoot}/netns/router-${where === "router" ? "net1" : "ing"}`;
};
const inside = (where: Where, command: string): string =>
  execFileSync("nsenter", [`--net=${enter(where)}`, "sh", "-c", command]).toString();

/** From the first host's container to the second's, directly and by the service's address, and through a port. */
async function flows(): Promise<void> {
  assert.equal(await askOnce(at("a1"), "10.0.1.6:80"), "b1 saw 10.0.1.5");
  assert.match(await askOnce(at("a1"), "10.0.1.2:80"), /saw 10\.0\.1\./);
  assert.match(await askOnce(host(1).namespace, "10.88.0.11:8080"), /saw 10\.88\.0\.12/);
}

test("a healthy node has no difference, also not after its agent was restarted", {
  skip,
}, async () => {
  assert.deepEqual(await check(0), []);
  assert.deepEqual(await check(1), []);
  await host(0).kill("SIGKILL");
  host(0).start();
  assert.deepEqual(await check(0), [], "it does not know yet what should be");
  await updateAll();
  assert.deepEqual(await check(0), []);
});

const damages: readonly {
  readonly name: string;
  readonly where: Where;
  readonly command: string;
  readonly found: readonly string[];
}[] = [
  {
    name: "a route that is gone",
    where: "router",
    command: "ip route del 10.0.1.6/32",
    found: ["missing route"],
  },
  {
    name: "a route that leads elsewhere, and one too many",
    where: "router",
    command:
      "ip route replace 10.0.1.6/32 dev lo proto static; ip route add 10.0.1.99/32 dev lo proto static",
    found: ["changed route", "stray route"],
  },
  {
    name: "a route put over ours by hand",
    where: "router",
    command: "ip route replace 10.0.1.6/32 dev lo",
    found: ["missing route"],
  },
  {
    name: "a neighbour that is gone and one that is wrong",
    where: "router",
    command:
      "n=$(ip -o neigh show dev vx0 nud permanent | head -1 | cut -d' ' -f1); ip neigh del $n dev vx0; v=$(ip -o route get 10.0.1.5 | sed 's/.*dev \\([^ ]*\\).*/\\1/'); ip neigh replace 10.0.1.5 lladdr 02:00:00:00:00:99 dev $v nud permanent",
    found: ["changed neighbour", "missing neighbour"],
  },
  {
    name: "a VXLAN forward that is gone",
    where: "ingress",
    command: "bridge fdb show dev vx0 | while read m r; do bridge fdb del $m dev vx0; done",
    found: ["missing forward"],
  },
  {
    name: "a chain without its rules, one too many, an element that is gone",
    where: "router",
    command:
      "nft flush chain ip tsswarm service_web; nft add chain ip tsswarm other; nft flush set ip tsswarm peer_macs",
    found: ["changed chain", "changed set", "stray chain"],
  },
  {
    name: "no rules at all in a router",
    where: "ingress",
    command: "nft flush ruleset",
    found: ["missing table"],
  },
  {
    name: "the host's rules gone",
    where: "host",
    command: "nft delete table ip tsswarm",
    found: ["missing table"],
  },
  {
    name: "a published port taken out of the host's map",
    where: "host",
    command: "nft flush map ip tsswarm published_tcp",
    found: ["changed map"],
  },
  {
    name: "a virtual address that is gone",
    where: "router",
    command: "ip address del 10.0.1.2/32 dev lo",
    found: ["missing address"],
  },
  {
    name: "a container's address that is gone, and with it its routes",
    where: "container",
    command: "ip address del 10.0.1.5/24 dev eth1",
    found: ["missing address", "missing neighbour", "missing route"],
  },
  {
    name: "a container without its rules",
    where: "container",
    command: "nft flush ruleset",
    found: ["missing table"],
  },
  {
    name: "a VXLAN device that is gone",
    where: "router",
    command: "ip link del vx0",
    found: ["missing link"],
  },
  {
    name: "a link that is down",
    where: "router",
    command: "ip link set vx0 down",
    found: ["changed link", "missing neighbour", "missing route"],
  },
  {
    name: "a router that does not forward",
    where: "router",
    command: "echo 0 > /proc/sys/net/ipv4/ip_forward",
    found: ["changed setting"],
  },
  {
    name: "IPv6 routes that are gone",
    where: "router",
    command: "ip -6 route flush proto static",
    found: ["missing route"],
  },
  {
    name: "IPv6 rules that are gone",
    where: "router",
    command: "nft delete table ip6 tsswarm",
    found: ["missing table"],
  },
  {
    name: "a router without IPv6",
    where: "router",
    command: "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6",
    found: ["changed setting", "missing address", "missing neighbour", "missing route"],
  },
  {
    name: "a container without IPv6",
    where: "container",
    command: "echo 1 > /proc/sys/net/ipv6/conf/eth1/disable_ipv6",
    found: ["changed setting", "missing address", "missing neighbour", "missing route"],
  },
  {
    name: "a host that does not forward IPv6",
    where: "host",
    command: "echo 0 > /proc/sys/net/ipv6/conf/all/forwarding",
    found: ["changed setting"],
  },
  {
    name: "the host's link to a router gone",
    where: "host",
    command: "ip link del tsw0",
    found: ["missing link"],
  },
  {
    name: "the host's address towards a router gone",
    where: "host",
    command: "ip address flush dev tsw0",
    found: ["missing address"],
  },
];

for (const { name, where, command, found } of damages)
  test(`found and put right: ${name}`, { skip }, async () => {
    inside(where, command);
    const seen = await check();
    const repaired = await repair();
    assert.deepEqual(kinds(seen), found, JSON.stringify(seen, null, 1));
    assert.deepEqual(repaired, seen);
    assert.deepEqual(await check(), []);
    await flows();
  });

test("what a container adds to its own namespace stays", { skip }, async () => {
  inside("container", "ip route add 192.0.2.0/24 dev lo proto static");
  assert.deepEqual(await check(), []);
});

test("no false alarm and no lost connection while updates and containers come and go", {
  skip,
}, async () => {
  const flow = new Requests(at("a1"), "10.0.1.6", 80);
  const found: Difference[] = [];
  const more = [...tasks, { id: "b9", host: 2, last: 40 }, { id: "a9", host: 1, last: 41 }];
  for (let round = 0; round < 8; round++) {
    const isMore = round % 2 === 0;
    const changes = [
      updateAll(isMore ? more : tasks),
      isMore
        ? host(0).do("createSandbox", sandbox({ id: "a9", host: 1, last: 41 }))
        : host(0).do("removeSandbox", "a9"),
    ];
    found.push(...(await Promise.all([check(0), check(1), repair(0), check(0)])).flat());
    await Promise.all(changes);
  }
  await updateAll();
  const { failures } = await flow.stop();
  assert.deepEqual({ found, failures }, { found: [], failures: [] });
});

test("it is put right by itself, and at once when asked to", { skip }, async () => {
  const untilThere = () =>
    until("the route is not back", 60_000, () =>
      inside("router", "ip route").includes("10.0.1.6") ? true : undefined,
    );
  await host(0).kill("SIGTERM");
  host(0).start("hasty");
  await updateAll();
  inside("router", "ip route del 10.0.1.6/32");
  await untilThere();
  await host(0).kill("SIGTERM");
  host(0).start();
  await updateAll();
  inside("router", "ip route del 10.0.1.6/32");
  await host(0).do("checkSoon");
  await untilThere();
});

test("a peer behind a narrow path or none is said to be so", { skip }, async () => {
  const silent = () =>
    host(0).do<readonly { hostname: string; answersSmall: boolean }[]>("silentPeers");
  assert.deepEqual(await silent(), []);
  ip("-n", `${prefix}switch`, "link", "set", "pb", "mtu", "1400");
  assert.deepEqual(
    (await silent()).map(({ hostname, answersSmall }) => [hostname, answersSmall]),
    [["b", true]],
  );
  ip("-n", `${prefix}switch`, "link", "set", "pb", "mtu", "1500");
  ip("-n", `${prefix}switch`, "link", "set", "pb", "down");
  assert.deepEqual(
    (await silent()).map(({ hostname, answersSmall }) => [hostname, answersSmall]),
    [["b", false]],
  );
  ip("-n", `${prefix}switch`, "link", "set", "pb", "up");
});
