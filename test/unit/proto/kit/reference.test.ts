import assert from "node:assert/strict";
import { test } from "node:test";
import {
  familiarName,
  fullName,
  isImageId,
  parseReference,
  registryHost,
} from "../../../../proto/kit/reference.ts";

const digest = `sha256:${"a".repeat(64)}`;
const rows = [
  { text: "nginx", full: "docker.io/library/nginx:latest", familiar: "nginx" },
  { text: "nginx:1.2", full: "docker.io/library/nginx:1.2", familiar: "nginx" },
  { text: "team/app", full: "docker.io/team/app:latest", familiar: "team/app" },
  { text: "docker.io/nginx", full: "docker.io/library/nginx:latest", familiar: "nginx" },
  {
    text: "registry.lab:5000/web",
    full: "registry.lab:5000/web:latest",
    familiar: "registry.lab:5000/web",
  },
  { text: "localhost/web:2", full: "localhost/web:2", familiar: "localhost/web" },
  { text: `nginx@${digest}`, full: `docker.io/library/nginx@${digest}`, familiar: "nginx" },
  { text: `a.b/c/d:1@${digest}`, full: `a.b/c/d@${digest}`, familiar: "a.b/c/d" },
  { text: "[::1]:5000/x", full: "[::1]:5000/x:latest", familiar: "[::1]:5000/x" },
];
for (const row of rows)
  test(`${row.text} stands for ${row.full}`, () => {
    const reference = parseReference(row.text);
    assert.equal(fullName(reference), row.full);
    assert.equal(familiarName(reference), row.familiar);
  });

for (const text of [
  "",
  "Nginx",
  "a:b:c",
  "nginx:",
  "nginx@sha256:12",
  "-a",
  "a/../b",
  "a b",
  "x@y@z",
])
  test(`${JSON.stringify(text)} is no reference`, () => {
    assert.throws(() => parseReference(text), { code: "invalid" });
  });

test("the hub is reached at its own host", () => {
  assert.equal(registryHost("docker.io"), "registry-1.docker.io");
  assert.equal(registryHost("registry.lab:5000"), "registry.lab:5000");
});

test("an id is told from a name", () => {
  assert.ok(isImageId(digest) && isImageId("a".repeat(64)) && isImageId("sha256:aaaaaaaaaaaa"));
  assert.ok(!isImageId("abcdef") && !isImageId("nginx"));
});
