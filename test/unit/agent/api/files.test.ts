import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { dockerPath, startFakeDaemon } from "./fakes.ts";

const skip = dockerPath === undefined ? "there is no docker command here" : false;
const value = "hunter2";
const base64 = Buffer.from(value).toString("base64");

for (const kind of ["secret", "config"] as const)
  test(`docker ${kind} create, ls, inspect and rm`, { skip }, async () => {
    await using daemon = await startFakeDaemon(true);
    const file = join(dirname(daemon.socket), "value");
    await writeFile(file, value);
    const created = await daemon.docker(kind, "create", "--label", "tier=1", "db.password", file);
    assert.equal(created.code, 0, created.stderr);
    const id = created.stdout.trim();
    assert.match(id, /^[0-9a-z]{25}$/);
    await daemon.docker(kind, "create", "--template-driver", "golang", "other", file);
    const again = await daemon.docker(kind, "create", "db.password", file);
    assert.match(
      again.stderr,
      new RegExp(`Error response from daemon: ${kind} db.password already exists`),
    );
    assert.equal(again.code, 1);
    const list = await daemon.docker(kind, "ls", "--filter", "label=tier=1", "-q");
    assert.equal(list.stdout.trim(), id);
    const table = await daemon.docker(kind, "ls");
    assert.match(table.stdout, /db\.password[^\n]*years? ago/);
    const [shown] = JSON.parse((await daemon.docker(kind, "inspect", "db.password")).stdout);
    assert.deepEqual(shown.Spec, {
      Name: "db.password",
      Labels: { tier: "1" },
      ...(kind === "config" ? { Data: base64 } : {}),
    });
    assert.equal(typeof shown.Version.Index, "number");
    const pretty = await daemon.docker(kind, "inspect", "--pretty", "db.password");
    assert.equal(pretty.stdout.includes(value), kind === "config");
    const [templated] = JSON.parse((await daemon.docker(kind, "inspect", "other")).stdout);
    assert.deepEqual(templated.Spec.Templating, { Name: "golang" });
    const removed = await daemon.docker(kind, "rm", "db.password", id.slice(0, 5), "none");
    assert.match(removed.stdout, /^db\.password\n/);
    assert.match(removed.stderr, new RegExp(`${kind} none not found`));
  });

const requests: readonly {
  readonly name: string;
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
  readonly status: number;
  readonly message?: string | RegExp;
}[] = [
  { name: "a list", method: "GET", path: "/secrets", status: 200 },
  {
    name: "an unknown filter",
    method: "GET",
    path: `/secrets?filters=${encodeURIComponent('{"x":["y"]}')}`,
    status: 400,
    message: "invalid filter 'x'",
  },
  {
    name: "what is not there",
    method: "GET",
    path: "/configs/none",
    status: 404,
    message: "config none not found",
  },
  { name: "a removal", method: "DELETE", path: "/secrets/db", status: 204 },
  {
    name: "a removal of nothing",
    method: "DELETE",
    path: "/secrets/none",
    status: 404,
    message: "secret none not found",
  },
  {
    name: "a name that is taken",
    method: "POST",
    path: "/secrets/create",
    body: { Name: "db", Data: base64 },
    status: 409,
    message: "secret db already exists",
  },
  {
    name: "no name",
    method: "POST",
    path: "/secrets/create",
    body: { Data: base64 },
    status: 400,
    message: "name must be provided",
  },
  {
    name: "no data",
    method: "POST",
    path: "/configs/create",
    body: { Name: "a" },
    status: 400,
    message: "config data must be larger than 0 and less than 1024000 bytes",
  },
  {
    name: "data that is not base64",
    method: "POST",
    path: "/secrets/create",
    body: { Name: "a", Data: `${value}!` },
    status: 400,
    message: "Data: base64 is expected",
  },
  {
    name: "a label that is no text",
    method: "POST",
    path: "/secrets/create",
    body: { Name: "a", Labels: { a: 1 }, Data: base64 },
    status: 400,
    message: /Labels/,
  },
  { name: "no JSON", method: "POST", path: "/secrets/create", body: value, status: 400 },
  {
    name: "a secret driver",
    method: "POST",
    path: "/secrets/create",
    body: { Name: "a", Driver: { Name: "vault" } },
    status: 501,
    message: /secret drivers are not supported/,
  },
  {
    name: "an update without a version",
    method: "POST",
    path: "/secrets/db/update",
    body: { Name: "db" },
    status: 400,
    message: /invalid secret version/,
  },
  {
    name: "an update from an old version",
    method: "POST",
    path: "/secrets/db/update?version=9999",
    body: { Name: "db" },
    status: 400,
    message: "update out of sequence",
  },
  {
    name: "an update of what it holds",
    method: "POST",
    path: "/secrets/db/update?version=VERSION",
    body: { Name: "db", Data: Buffer.from("x").toString("base64") },
    status: 400,
    message: "only updates to Labels are allowed",
  },
  {
    name: "an update of its labels",
    method: "POST",
    path: "/secrets/db/update?version=VERSION",
    body: { Name: "db", Labels: { a: "b" } },
    status: 200,
  },
  {
    name: "a rotation",
    method: "POST",
    path: "/tsswarm/secrets/db/rotate",
    body: { Data: Buffer.from("new").toString("base64") },
    status: 200,
  },
  {
    name: "a rotation without data",
    method: "POST",
    path: "/tsswarm/secrets/db/rotate",
    body: {},
    status: 400,
    message: /Data/,
  },
  {
    name: "a rotation of nothing",
    method: "POST",
    path: "/tsswarm/configs/none/rotate",
    body: { Data: base64 },
    status: 404,
    message: "config none not found",
  },
];
for (const { name, method, path, body, status, message } of requests)
  test(`${method} ${path.split("?")[0]}: ${name} gives ${status}`, async () => {
    await using daemon = await startFakeDaemon(true);
    await daemon.ask("POST", "/secrets/create", { Name: "db", Data: base64 });
    const { Version } = (await daemon.ask("GET", "/secrets/db")).json;
    const answer = await daemon.ask(method, path.replace("VERSION", String(Version.Index)), body);
    assert.equal(answer.status, status, answer.text);
    const text = String(answer.json?.message ?? "");
    if (message instanceof RegExp) assert.match(text, message);
    else if (message !== undefined) assert.equal(text, message);
    assert.ok(!answer.text.includes(value) && !answer.text.includes(base64), answer.text);
  });

test("outside a swarm there are no secrets, and it is said why", async () => {
  await using daemon = await startFakeDaemon(false);
  for (const path of ["/secrets", "/configs", "/secrets/x"]) {
    const answer = await daemon.ask("GET", path);
    assert.equal(answer.status, 503);
    assert.match(answer.json.message, /not a swarm manager/);
  }
});
