import assert from "node:assert/strict";
import { test } from "node:test";
import { runCommand } from "./fake.ts";

const plugin = {
  Id: "abcdef0123456789",
  Name: "vols:latest",
  Enabled: true,
  PluginReference: "docker.io/me/vols:latest",
  Config: { Description: "volumes of mine" },
};

test("plugin ls is a table, empty where there are none", async () => {
  const none = await runCommand(["plugin", "ls"], { "GET /plugins": [] });
  assert.equal(none.out, "ID        NAME      DESCRIPTION   ENABLED\n");
  const some = await runCommand(["plugin", "ls", "--filter", "enabled=true"], {
    "GET /plugins": [plugin],
  });
  assert.match(some.out, /^abcdef012345 +vols:latest +volumes of mine +true$/m);
  assert.deepEqual(some.asked[0]?.query, { filters: '{"enabled":["true"]}' });
});

test("a plugin is installed with what it may do, its settings, and enabled", async () => {
  const privileges = [{ Name: "network", Value: ["host"] }];
  const done = await runCommand(
    ["plugin", "install", "--grant-all-permissions", "--alias", "v", "me/vols", "DEBUG=1"],
    {
      "GET /plugins/privileges": privileges,
      "POST /plugins/pull": { status: "Downloading", id: "a1" },
      "POST /plugins/v/set": {},
      "POST /plugins/v/enable": {},
    },
  );
  assert.equal(done.out, "a1: Downloading\nInstalled plugin me/vols\n");
  assert.deepEqual(
    done.asked.map(({ method, path, body }) => [method, path, body]),
    [
      ["GET", "/plugins/privileges", null],
      ["POST", "/plugins/pull", privileges],
      ["POST", "/plugins/v/set", ["DEBUG=1"]],
      ["POST", "/plugins/v/enable", null],
    ],
  );
});

test("an enabled plugin is not upgraded, and another one's image is no upgrade", async () => {
  const answers = (Enabled: boolean) => ({ "GET /plugins/v/json": { ...plugin, Enabled } });
  const running = await runCommand(["plugin", "upgrade", "v"], answers(true));
  assert.match(running.err, /must be disabled before upgrading/);
  const other = await runCommand(["plugin", "upgrade", "v", "me/other:2"], answers(false));
  assert.match(other.err, /v is of docker\.io\/me\/vols:latest, not of me\/other:2/);
});

test("what the daemon says of a plugin it does not have is passed on, and the others are done", async () => {
  const answers = { "DELETE /plugins/b": {} };
  const { out, err, code } = await runCommand(["plugin", "rm", "-f", "a", "b"], answers);
  assert.deepEqual([out, code], ["b\n", 1]);
  assert.match(err, /no such thing: \/plugins\/a/);
});

const found = [
  { name: "me/box", description: "mine\nalone", star_count: 1, is_official: false },
  { name: "busybox", description: "x".repeat(60), star_count: 9, is_official: true },
];

test("search shows the most liked first, and of long descriptions the beginning", async () => {
  const done = await runCommand(["search", "--limit", "2", "--filter", "stars=1", "box"], {
    "GET /images/search": found,
  });
  const [head = "", ...lines] = done.out.trimEnd().split("\n");
  assert.match(head, /^NAME +DESCRIPTION +STARS +OFFICIAL$/);
  assert.match(lines[0] ?? "", /^busybox +x{44}… +9 +\[OK\]$/);
  assert.match(lines[1] ?? "", /^me\/box +mine alone +1 *$/);
  assert.deepEqual(done.asked[0]?.query, {
    term: "box",
    filters: '{"stars":["1"]}',
    limit: "2",
  });
});

test("search in JSON says yes and no in words", async () => {
  const { out } = await runCommand(["search", "--format", "json", "box"], {
    "GET /images/search": found.slice(1),
  });
  const { IsOfficial, IsAutomated, StarCount } = JSON.parse(out);
  assert.deepEqual([IsOfficial, IsAutomated, StarCount], ["true", "false", "9"]);
});
