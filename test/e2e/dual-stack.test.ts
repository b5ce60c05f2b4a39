// A service on a network of both families across three hosts: names, virtual address and published port over IPv6.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { machine, outsideMachine } from "../../deploy/lab/names.ts";
import {
  docker,
  lab,
  type RunningTask,
  untilNamed,
  untilRunning,
  visitFrom,
  visitFromOutside,
  visits,
  withLab,
} from "./harness.ts";

const manager = "h1";
const hosts = ["h1", "h2", "h3"] as const;
const network = "dual";
const name = "both";
const port = 8066;
const replicas = 3;
const startMsMax = 60_000;
const closers: (() => Promise<unknown>)[] = [];

before(async () => {
  closers.push(await withLab());
});

after(async () => {
  for (const close of closers.reverse()) await close();
});

let tasks: readonly RunningTask[] = [];

/** Of the network, as inspect shows them: one of each family. */
async function inspectedSubnets(): Promise<readonly string[]> {
  const format = "{{.EnableIPv6}}{{range .IPAM.Config}} {{.Subnet}}{{end}}";
  const [isDual, ...subnets] = (
    await docker(manager, "network", "inspect", "-f", format, network)
  ).split(" ");
  assert.equal(isDual, "true");
  return subnets;
}

test("a network with --ipv6 has a subnet of each family, and its service an address of each", async () => {
  await docker(manager, "network", "create", "-d", "overlay", "--ipv6", network);
  closers.push(() => docker(manager, "network", "rm", network));
  const subnets = await inspectedSubnets();
  assert.match(subnets.join(" "), /^10\.\d+\.\d+\.0\/24 fd[0-9a-f:]+::\/64$/);
  await docker(
    manager,
    ...["service", "create", "-d", "--name", name, "--network", network],
    ...["--replicas", `${replicas}`, "-p", `${port}:80`, "registry.lab:5000/whoami"],
  );
  closers.push(() => docker(manager, "service", "rm", name));
  tasks = await untilRunning(manager, name, replicas, startMsMax);
  const id = await docker(manager, "network", "inspect", "-f", "{{.Id}}", network);
  const format = `{{range .Endpoint.VirtualIPs}}{{if eq .NetworkID "${id}"}}{{.Addr}} {{end}}{{end}}`;
  const vips = (await docker(manager, "service", "inspect", "-f", format, name)).trim();
  assert.match(vips, /^10\.\S+\/24 fd\S+\/64$/);
});

test("its name has both addresses, and over IPv6 it spreads over all tasks, which see who calls", async () => {
  await untilNamed(name, replicas, tasks, startMsMax);
  for (const task of tasks) {
    const answer = await docker(task.node, "exec", task.container, "nslookup", name);
    const virtual = /^Address:? *\d*:? *(fd\S+)$/m.exec(answer)?.[1] ?? assert.fail(answer);
    const all = await docker(task.node, "exec", task.container, "nslookup", `tasks.${name}`);
    assert.equal(all.match(/^Address:? *\d*:? *fd\S+$/gm)?.length, replicas, all);
    const format = `{{(index .NetworkSettings.Networks "${network}").GlobalIPv6Address}}`;
    const own = await docker(task.node, "inspect", "-f", format, task.container);
    assert.match(own, /^fd/);
    const seen = await visitFrom(task.node, task.container, `http://[${virtual}]/`, 2 * replicas);
    assert.equal(new Set(seen.map((each) => each.hostname)).size, replicas);
    const others = seen.filter((each) => !task.container.startsWith(each.hostname));
    assert.deepEqual(new Set(others.map((each) => each.caller)), new Set([`[${own}]`]));
  }
});

test("a client outside reaches the port at every host's IPv6 address, and the server sees that client", async () => {
  for (const host of hosts) {
    const url = `http://[${machine(host).address6}]:${port}/`;
    const seen = await visitFromOutside(url, 2 * replicas);
    assert.equal(new Set(seen.map((each) => each.hostname)).size, replicas);
    const callers = new Set(seen.map((each) => each.caller));
    assert.deepEqual(callers, new Set([`[${outsideMachine.address6}]`]), host);
  }
});

test("on a host the port answers at [::1] and at its own IPv6 address", async () => {
  for (const address of ["::1", machine("h2").address6]) {
    const get = ["busybox", "timeout", "20", "busybox", "wget", "-q", "-O", "-"];
    const body = await lab("exec", "h2", "--", ...get, `http://[${address}]:${port}/`);
    assert.equal(visits(body).length, 1, body);
  }
});

test("nothing of it differs from what it should be", async () => {
  const program = "/run/tsswarm-program/dist/cli/main.js";
  for (const host of hosts) {
    const report = await lab("exec", host, "--", "node", program, "doctor");
    assert.match(report, /networks are as they should be/, host);
  }
});
