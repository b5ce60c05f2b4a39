import assert from "node:assert/strict";
import { test } from "node:test";
import type { ContainerConfig } from "../../../../agent/engine/container-types.ts";
import { commandOf, mergeConfig, mergeEnv, processEnv } from "../../../../agent/engine/defaults.ts";
import { hostsFile, resolvFile } from "../../../../agent/engine/etc.ts";
import { type ImageConfig, parseImageConfig } from "../../../../agent/engine/manifest.ts";
import { parseSecurity } from "../../../../agent/engine/security.ts";
import { findUser } from "../../../../agent/engine/users.ts";
import { signalNumber } from "../../../../proto/kit/signals.ts";

function imageWith(config: Record<string, unknown>): ImageConfig {
  return parseImageConfig(Buffer.from(JSON.stringify({ rootfs: {}, config })), "x");
}

const image = imageWith({ Entrypoint: ["/entry"], Cmd: ["serve"] });
const commands: readonly {
  readonly name: string;
  readonly own: Partial<ContainerConfig>;
  readonly expected: readonly string[];
}[] = [
  { name: "the image's", own: {}, expected: ["/entry", "serve"] },
  { name: "own arguments", own: { Cmd: ["a"] }, expected: ["/entry", "a"] },
  {
    name: "own entrypoint drops the image's arguments",
    own: { Entrypoint: ["/b"] },
    expected: ["/b"],
  },
  { name: "both", own: { Entrypoint: ["/b"], Cmd: ["c"] }, expected: ["/b", "c"] },
  { name: "an empty entrypoint clears it", own: { Entrypoint: [""], Cmd: ["c"] }, expected: ["c"] },
];
for (const row of commands)
  test(`command: ${row.name}`, () => {
    assert.deepEqual(commandOf(mergeConfig({ Image: "x", ...row.own }, image, "id")), row.expected);
  });

test("a container's own environment replaces the image's in place", () => {
  assert.deepEqual(mergeEnv(["A=1", "B=2", "C=3"], ["B=x", "D=4", "C"]), ["A=1", "B=x", "D=4"]);
  const env = processEnv({ Image: "x", Hostname: "h", Env: ["PATH=/own"], Tty: true });
  assert.deepEqual(env, ["PATH=/own", "HOSTNAME=h", "TERM=xterm"]);
});

test("a health check may change the image's times without its command", () => {
  const checked = imageWith({ Healthcheck: { Test: ["CMD", "/check"], Retries: 5 } });
  const own = { Image: "x", Healthcheck: { Test: [], Interval: 7 } };
  assert.deepEqual(mergeConfig(own, checked, "id").Healthcheck, {
    Test: ["CMD", "/check"],
    Retries: 5,
    Interval: 7,
  });
  assert.equal(mergeConfig(own, image, "id").Healthcheck, undefined);
});

const files = {
  passwd: "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/:/bin/sh\n# no:x:9:9\n",
  group: "root:x:0:\napp:x:1001:\nextra:x:2000:app,other\nroots:x:5:root\n",
};
const users = [
  { wanted: "", added: [], expected: { uid: 0, gid: 0, additionalGids: [0, 5] } },
  { wanted: "app", added: [], expected: { uid: 1000, gid: 1001, additionalGids: [1001, 2000] } },
  { wanted: "1000", added: [], expected: { uid: 1000, gid: 1001, additionalGids: [1001, 2000] } },
  { wanted: "app:extra", added: [], expected: { uid: 1000, gid: 2000, additionalGids: [2000] } },
  { wanted: "7:8", added: [], expected: { uid: 7, gid: 8, additionalGids: [8] } },
  {
    wanted: "77",
    added: ["extra", "9"],
    expected: { uid: 77, gid: 0, additionalGids: [0, 9, 2000] },
  },
];
for (const row of users)
  test(`the user ${JSON.stringify(row.wanted)} with ${row.added.length} more groups`, () => {
    assert.deepEqual(findUser(row.wanted, row.added, files), row.expected);
  });

test("users and groups nobody knows are refused by name", () => {
  assert.throws(() => findUser("who", [], files), /unable to find user who/);
  assert.throws(() => findUser("app:who", [], files), /unable to find group who/);
  assert.deepEqual(findUser("5", [], { passwd: "", group: "" }).uid, 5);
});

const signals = [
  { name: "SIGTERM", number: 15 },
  { name: "kill", number: 9 },
  { name: "3", number: 3 },
  { name: "SIGRTMIN+3", number: 37 },
  { name: "RTMAX-1", number: 63 },
];
for (const row of signals)
  test(`signal ${row.name} is ${row.number}`, () => {
    assert.equal(signalNumber(row.name), row.number);
  });
for (const name of ["", "SIGNOT", "0", "65", "RTMIN+40"])
  test(`${JSON.stringify(name)} is no signal`, () => {
    assert.throws(() => signalNumber(name), { code: "invalid" });
  });

test("security options as Docker writes them", () => {
  assert.deepEqual(
    parseSecurity(["seccomp=unconfined", "apparmor=mine", "no-new-privileges:true"]),
    {
      seccomp: "unconfined",
      appArmor: "mine",
      noNewPrivileges: true,
    },
  );
  assert.deepEqual(parseSecurity(["seccomp:unconfined"]).seccomp, "unconfined");
  assert.throws(() => parseSecurity(["seccomp={"]), /not JSON/);
  assert.throws(() => parseSecurity(["magic=1"]), /invalid --security-opt/);
});

test("resolv.conf names the keeper's address, and the host's own only on the host's network", () => {
  const base = {
    hostFile: "nameserver 9.9.9.9\nsearch lab\n",
    servers: [],
    search: [],
    options: [],
  };
  assert.equal(
    resolvFile({ ...base, isOnHostNetwork: false }),
    "nameserver 127.0.0.11\nsearch lab\noptions ndots:0\n",
  );
  assert.equal(resolvFile({ ...base, isOnHostNetwork: true }), base.hostFile);
  assert.equal(
    resolvFile({ ...base, isOnHostNetwork: true, servers: ["1.1.1.1"], options: ["ndots:2"] }),
    "nameserver 1.1.1.1\nsearch lab\noptions ndots:2\n",
  );
});

test("hosts holds the own addresses and what was added", () => {
  const networks = {
    front: {
      NetworkID: "n",
      IPAddress: "10.1.0.5",
      IPPrefixLen: 24,
      Gateway: "10.1.0.1",
      GlobalIPv6Address: "fd00::5",
      GlobalIPv6PrefixLen: 64,
      IPv6Gateway: "fd00::1",
      Aliases: [],
    },
  };
  const text = hostsFile("box", networks, ["db:10.0.0.9", "me:host-gateway"], "10.1.0.1");
  assert.match(text, /^127\.0\.0\.1\tlocalhost\n/);
  assert.match(text, /\n10\.0\.0\.9\tdb\n10\.1\.0\.1\tme\n10\.1\.0\.5\tbox\nfd00::5\tbox\n$/);
});
