// `tsswarm stack …` as it is typed: what it asks of the daemon, what it prints, how it ends.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Answers, type Outcome, runCommand } from "../fake.ts";

let folder = "";
let file = "";

before(() => {
  folder = mkdtempSync(join(tmpdir(), "tsswarm-stack-"));
  file = join(folder, "compose.yaml");
  writeFileSync(
    file,
    "services:\n  web: {image: 'reg/i:1', configs: [c], container_name: x, hostname: '$NONE'}\nconfigs: {c: {content: text}}\n",
  );
});

after(() => rmSync(folder, { recursive: true, force: true }));

const empty: Answers = {
  "GET /networks": [],
  "GET /services": [],
  "GET /secrets": [],
  "GET /configs": [],
  "POST /networks/create": { Id: "n1", Warning: "careful" },
  "POST /configs/create": { ID: "c1" },
  "POST /services/create": { ID: "s1", Warnings: null },
};

const label = { "com.docker.stack.namespace": "shop" };

function writes({ asked }: Outcome): readonly string[] {
  return asked
    .filter(({ method }) => method !== "GET")
    .map(({ method, path }) => `${method} ${path}`);
}

test("deploy says what it does, in the order in which it does it, and warns on standard error", async () => {
  const done = await runCommand(
    ["stack", "deploy", "-c", file, "--resolve-image=never", "shop"],
    empty,
  );
  assert.equal(done.code, 0, done.err);
  assert.match(
    done.out,
    /^Creating network shop_default\nCreating config shop_c_[0-9a-f]{12}\nCreating service shop_web\n$/,
  );
  assert.deepEqual(writes(done), [
    "POST /networks/create",
    "POST /configs/create",
    "POST /services/create",
  ]);
  assert.match(done.err, /^The "NONE" variable is not set\. Defaulting to a blank string\.$/m);
  assert.match(done.err, /^WARNING: services\.web\.container_name is ignored: /m);
  assert.match(done.err, /^WARNING: careful$/m);
  const quiet = await runCommand(
    ["stack", "up", "-q", "-c", file, "--resolve-image", "never", "shop"],
    empty,
  );
  assert.deepEqual([quiet.code, quiet.out], [0, ""]);
});

test("the digest of an image is asked for, unless told otherwise", async () => {
  const digest = `sha256:${"b".repeat(64)}`;
  const answers = {
    ...empty,
    "GET /distribution/reg/i:1/json": {
      Descriptor: { digest },
      Platforms: [{ architecture: "amd64", os: "linux" }],
    },
  };
  const done = await runCommand(["stack", "deploy", "-c", file, "shop"], answers);
  const body = done.asked.find(({ path }) => path === "/services/create")?.body as {
    TaskTemplate: { ContainerSpec: { Image: string }; Placement: unknown };
  };
  assert.equal(body.TaskTemplate.ContainerSpec.Image, `reg/i:1@${digest}`);
  assert.deepEqual(body.TaskTemplate.Placement, {
    Platforms: [{ Architecture: "amd64", OS: "linux" }],
  });
  const silent = await runCommand(["stack", "deploy", "-c", file, "shop"], empty);
  assert.equal(silent.code, 0);
  assert.match(silent.err, /image reg\/i:1 could not be accessed on a registry/);
});

test("nodes are given what somebody has logged in with, when they are to", async () => {
  const auth = Buffer.from("me:geheim").toString("base64");
  writeFileSync(
    join(folder, "config.json"),
    JSON.stringify({ auths: { "reg.lab:5000": { auth } } }),
  );
  const own = join(folder, "private.yaml");
  writeFileSync(own, "services: {web: {image: 'reg.lab:5000/i:1'}}");
  const sent = async (...flags: string[]) => {
    const line = ["stack", "deploy", "-c", own, "--resolve-image", "never", ...flags, "shop"];
    const { asked } = await runCommand(line, empty, { configFolder: folder });
    return asked.find(({ path }) => path === "/services/create")?.auth;
  };
  assert.deepEqual(await sent("--with-registry-auth"), {
    username: "me",
    password: "geheim",
    serveraddress: "reg.lab:5000",
  });
  assert.equal(await sent(), undefined);
});

test("diff writes nothing, and ends with 1 when a deploy would", async () => {
  const done = await runCommand(
    ["stack", "diff", "-c", file, "--resolve-image", "never", "shop"],
    empty,
  );
  assert.equal(done.code, 1);
  assert.match(
    done.out,
    /^\+ network shop_default\n\+ config shop_c_[0-9a-f]{12}\n\+ service shop_web\n$/,
  );
  assert.deepEqual(writes(done), []);
});

test("config needs no daemon", async () => {
  const done = await runCommand(["stack", "config", "-c", file]);
  assert.equal(done.code, 0, done.err);
  assert.match(done.out, /^services:\n {2}web:\n {4}configs:\n {6}- source: c\n/);
  assert.deepEqual(done.asked, []);
  const raw = await runCommand(["stack", "config", "--skip-interpolation", "-c", file]);
  assert.match(raw.out, /hostname: \$NONE/);
});

const services = [
  { ID: "s1", Spec: { Name: "shop_web", Labels: label } },
  { ID: "s2", Spec: { Name: "shop_db", Labels: label } },
  { ID: "s3", Spec: { Name: "blog_web", Labels: { "com.docker.stack.namespace": "blog" } } },
];

test("ls counts the services of each stack", async () => {
  const done = await runCommand(["stack", "ls"], { "GET /services": services });
  assert.equal(done.out, "NAME      SERVICES\nblog      1\nshop      2\n");
  assert.deepEqual(JSON.parse(done.asked[0]?.query["filters"] ?? ""), {
    label: Object.keys(label),
  });
});

test("what is not there is said as Docker says it", async () => {
  const ps = await runCommand(["stack", "ps", "shop"], { "GET /tasks": [] });
  assert.deepEqual([ps.code, ps.err], [1, "nothing found in stack: shop\n"]);
  const none = await runCommand(["stack", "services", "shop"], { "GET /services": [] });
  assert.deepEqual([none.code, none.err], [0, "Nothing found in stack: shop\n"]);
  const rm = await runCommand(["stack", "rm", "shop"], empty);
  assert.deepEqual([rm.code, rm.err], [0, "Nothing found in stack: shop\n"]);
});

test("rm removes services, secrets and configs, networks, and nothing of others", async () => {
  const answers = {
    "GET /services": services.slice(0, 2),
    "GET /secrets": [{ ID: "x1", Spec: { Name: "shop_s", Labels: label } }],
    "GET /configs": [],
    "GET /networks": [
      { Id: "n1", Name: "shop_default", Labels: label },
      { Id: "n2", Name: "other", Labels: {} },
    ],
    "DELETE /services/s1": null,
    "DELETE /secrets/x1": null,
    "DELETE /networks/n1": null,
  };
  const done = await runCommand(["stack", "rm", "shop"], answers);
  assert.equal(done.code, 0, done.err);
  assert.deepEqual(writes(done), [
    "DELETE /services/s1",
    // Gone already, by another's hand: as good as removed.
    "DELETE /services/s2",
    "DELETE /secrets/x1",
    "DELETE /networks/n1",
  ]);
  assert.match(
    done.out,
    /^Removing service shop_web\nRemoving service shop_db\nRemoving secret shop_s\nRemoving network shop_default\n$/,
  );
});

const wrongs: readonly (readonly [line: readonly string[], code: number, says: RegExp])[] = [
  [["deploy", "shop"], 125, /Specify a Compose file/],
  [["deploy", "-c", "/none.yaml", "shop"], 1, /open \/none\.yaml: no such file or directory/],
  [["deploy", "-c", "/", "shop"], 1, /\/: is a folder/],
  [
    ["deploy", "-c", "FILE", "--resolve-image", "often", "shop"],
    125,
    /always, changed or never is expected/,
  ],
  [["deploy", "-c", "FILE", "a b"], 125, /invalid stack name: "a b"/],
  [["rm", "a b"], 125, /invalid stack name: "a b"/],
];

for (const [line, code, says] of wrongs)
  test(`stack ${line.join(" ")} ends with ${code}`, async () => {
    const done = await runCommand(
      ["stack", ...line.map((word) => (word === "FILE" ? file : word))],
      empty,
    );
    assert.equal(done.code, code);
    assert.match(done.err, says);
    assert.deepEqual(writes(done), []);
  });
