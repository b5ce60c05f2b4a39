import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";
import {
  ask,
  askOnce,
  endHosts,
  type Host,
  ip,
  makeHosts,
  prefix,
  sandbox,
  tasks,
  view,
} from "./network-kit.ts";

const isReady = process.getuid?.() === 0;
const skip = isReady ? false : "needs root";
let hosts: readonly Host[] = [];
let outside: Host;

/** As Docker leaves it when it has switched forwarding on. */
const dockersRules = `table ip filter {
  chain DOCKER-USER { counter return; }
  chain DOCKER-ISOLATION-STAGE-1 { counter return; }
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    counter jump DOCKER-USER
    counter jump DOCKER-ISOLATION-STAGE-1
    oifname "docker0" ct state related,established counter accept
  }
}
`;
const anothersRules = `table inet shop {
  chain passing { type filter hook forward priority 10; policy drop; ct state established accept; }
}
`;

before(async () => {
  if (!isReady) return;
  ({ hosts, outside } = makeHosts());
  for (const host of hosts) nft(host, dockersRules);
  await Promise.all(hosts.map((host, i) => host.do("update", view(i + 1, hosts, tasks))));
  for (const task of tasks) await hosts[task.host - 1]?.create(sandbox(task));
});

after(() => endHosts(hosts));

const one = () => hosts[0] ?? assert.fail();
const obstacles = () => one().do<readonly string[]>("obstacles");

function nft(host: Host, text: string): string {
  const words = ["netns", "exec", prefix + host.name, "nft", "-f", "-"];
  return execFileSync("ip", words, { input: text, stdio: ["pipe", "pipe", "inherit"] }).toString();
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 60_000;
  while (!(await isSo())) {
    assert.ok(performance.now() < end, what);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const answers = (target: string) => async () =>
  / saw /.test(await askOnce(outside.namespace, target));

test("published ports answer beside a Docker that drops what it forwards", { skip }, async () => {
  for (const host of hosts) {
    await until("Docker's chain lets us pass", answers(`${host.address}:8080`));
    assert.deepEqual(await ask(outside.namespace, `${host.address}:8080`), {
      "a1 saw 10.88.0.13": 2,
      "b1 saw 10.88.0.13": 2,
      "b2 saw 10.88.0.13": 2,
    });
  }
  assert.deepEqual(await obstacles(), []);
  assert.deepEqual(await one().do("check"), []);
});

test("a Docker that starts anew, later, is told again, and only once", { skip }, async () => {
  nft(one(), `delete table ip filter\n${dockersRules}`);
  await until("the new chain lets us pass", answers(`${one().address}:8080`));
  const listed = nft(one(), "list chain ip filter DOCKER-USER\n");
  assert.equal(listed.match(/ifname "tsw\*"/g)?.length, 2);
});

test("another's chain that drops is named with what to do, and believed when that is done", {
  skip,
}, async () => {
  nft(one(), anothersRules);
  const [sentence, ...more] = await obstacles();
  assert.deepEqual(more, []);
  assert.match(sentence ?? "", /table inet shop, chain passing, policy drop/);
  assert.match(await askOnce(outside.namespace, `${one().address}:8080`), /failed/);
  for (const [command] of sentence?.matchAll(/nft (insert rule [^;]*accept)/g) ?? [])
    nft(one(), `${command.replace(/^nft /, "")}\n`);
  assert.deepEqual(await obstacles(), []);
  assert.match(await askOnce(outside.namespace, `${one().address}:8080`), / saw /);
});

test("who leaves takes the rules along, and nothing of Docker's", { skip }, async () => {
  await one().do("clear");
  const left = nft(one(), "list chain ip filter DOCKER-USER\n");
  assert.doesNotMatch(left, /tsw/);
  assert.match(left, /counter packets \d+ bytes \d+ return/);
  ip("netns", "exec", prefix + one().name, "nft", "delete", "table", "inet", "shop");
});
