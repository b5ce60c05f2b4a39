// `tsswarm doctor` on the lab's hosts: silent where all is well, and naming what is damaged or blocked.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { machine } from "../../deploy/lab/names.ts";
import {
  attemptTsswarm,
  docker,
  lab,
  removeNetwork,
  until,
  untilRunning,
  visitFromOutside,
  withLab,
} from "./harness.ts";

const hosts = ["h1", "h2", "h3"] as const;
const manager = "h1";
const patient = "h2";
const startMsMax = 60_000;
const tellMsMax = 90_000;
const port = 8091;
let takeDown = async () => {};
let router = "";

before(async () => {
  takeDown = await withLab();
  const id = await docker(manager, "network", "create", "--driver", "overlay", "checked");
  router = `/run/tsswarm/netns/router-${id}`;
  const create = ["service", "create", "--detach", "--name", "checked", "--mode", "global"];
  const place = ["--network", "checked", "--publish", `${port}:80`];
  await docker(manager, ...create, ...place, "registry.lab:5000/whoami");
  await untilRunning(manager, "checked", hosts.length, startMsMax);
});

after(async () => {
  await docker(manager, "service", "rm", "checked");
  await removeNetwork(manager, "checked", startMsMax);
  await takeDown();
});

interface Finding {
  readonly What: string;
  readonly Where: string;
  readonly Sentence: string;
  readonly Repaired: boolean;
}

async function findings(host: string, ...flags: string[]) {
  const { code, stdout, stderr } = await attemptTsswarm(
    host,
    "doctor",
    "--format",
    "json",
    ...flags,
  );
  assert.ok(code <= 1 && stdout !== "", stderr);
  return { code, found: (JSON.parse(stdout) as { Findings: readonly Finding[] }).Findings };
}

/** Peers are asked, too, and on a busy machine one of them may answer late. */
async function untilHealthy(): Promise<void> {
  for (const host of hosts) {
    let said = "";
    await until(
      () => `${host} is not well: ${said}`,
      tellMsMax,
      async () => {
        const { code, stdout, stderr } = await attemptTsswarm(host, "doctor");
        said = stdout + stderr;
        return code === 0 && /^Nothing is wrong/.test(stdout) ? true : undefined;
      },
    );
  }
}

test("a healthy host says so", untilHealthy);

function inHost(host: string, ...words: string[]): Promise<string> {
  return lab("exec", host, "--", ...words);
}

const ofRouter = (what: string) => new RegExp(`the router of network checked lacks the ${what}`);
const damages = [
  {
    name: "a route that is gone",
    inRouter: true,
    script: "ip route del $(ip route show dev vx0 proto static | head -1 | cut -d' ' -f1)",
    what: "route",
    says: ofRouter("route"),
  },
  {
    name: "no rules at all",
    inRouter: true,
    script: "nft flush ruleset",
    what: "table",
    says: ofRouter("table"),
  },
  {
    name: "a VXLAN device that is gone",
    inRouter: true,
    script: "ip link del vx0",
    what: "link",
    says: ofRouter("link vx0"),
  },
  {
    name: "the host's published ports gone",
    inRouter: false,
    script: "nft flush map ip tsswarm published_tcp",
    what: "map",
    says: /the host/,
  },
];

for (const { name, inRouter, script, what, says } of damages)
  test(`named and put right: ${name}`, async () => {
    // The agent repairs by itself once a minute: what it was quicker with is damaged again.
    const found = await until(`${what} is never found`, tellMsMax, async () => {
      await inHost(
        patient,
        ...(inRouter ? ["nsenter", `--net=${router}`] : []),
        "sh",
        "-c",
        script,
      );
      const seen = await findings(patient);
      const mended = await findings(patient, "--repair");
      const isIn = (list: readonly Finding[]) =>
        list.some((one) => one.What === what && says.test(one.Sentence));
      if (!isIn(seen.found) || !isIn(mended.found)) return undefined;
      return { seen, mended };
    });
    assert.equal(found.seen.code, 1);
    assert.ok(found.seen.found.every(({ Repaired }) => !Repaired));
    const ofNetwork = found.mended.found.filter(({ What }) => What !== "peer");
    assert.ok(
      ofNetwork.every(({ Repaired }) => Repaired),
      JSON.stringify(found.mended.found),
    );
    await untilHealthy();
    const seen = await visitFromOutside(`http://${machine(patient).address}:${port}/`, 6);
    assert.equal(new Set(seen.map(({ hostname }) => hostname)).size, hosts.length);
  });

test("a port that is closed between two hosts is named by both, and shown by node ls", async () => {
  const [one, other] = ["h2", "h3"] as const;
  const rules = `add table ip closed
    add chain ip closed in { type filter hook input priority -300; }
    add rule ip closed in ip saddr ${machine(other).address} udp dport 4789 drop`;
  await inHost(one, "nft", rules);
  try {
    for (const [host, peer] of [
      [one, other],
      [other, one],
    ] as const) {
      const found = await until(`${host} does not name ${peer}`, tellMsMax, async () => {
        const { stdout, code } = await attemptTsswarm(host, "doctor");
        return code === 1 && stdout.includes(peer) ? stdout : undefined;
      });
      assert.match(found, new RegExp(`^peer +${peer} .*open UDP port 4789 between the nodes`, "m"));
      assert.doesNotMatch(found, /^peer +h1/m);
      await until(`node ls does not show it of ${host}`, tellMsMax, async () => {
        const { stderr } = await attemptTsswarm(manager, "node", "ls");
        return stderr.includes(`${host}: no answer over UDP port 4789 from ${peer}`) || undefined;
      });
    }
  } finally {
    await inHost(one, "nft", "delete table ip closed");
  }
  await untilHealthy();
  await until("node ls still complains", tellMsMax, async () => {
    const { stderr } = await attemptTsswarm(manager, "node", "ls");
    return stderr === "" || undefined;
  });
});
