import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fetchRepository, parseGitAddress } from "../../../../agent/build/git.ts";

const { signal } = new AbortController();
let folder = "";
let url = "";
let first = "";
let server: ChildProcess;
let contexts = 0;

function git(...args: readonly string[]): string {
  const who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"];
  return execFileSync("git", ["-C", join(folder, "repository"), ...who, ...args])
    .toString()
    .trim();
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "tsswarm-git-"));
  mkdirSync(join(folder, "repository/web"), { recursive: true });
  git("init", "-q", "-b", "main");
  writeFileSync(join(folder, "repository/Dockerfile"), "FROM scratch\n");
  writeFileSync(join(folder, "repository/web/page"), "one\n");
  git("add", ".");
  git("commit", "-q", "-m", "one");
  git("tag", "v1");
  first = git("rev-parse", "HEAD");
  writeFileSync(join(folder, "repository/web/page"), "two\n");
  git("commit", "-q", "-a", "-m", "two");
  const port = await freePort();
  const where = ["--listen=127.0.0.1", `--port=${port}`, `--base-path=${folder}`, "--export-all"];
  server = spawn("git", ["daemon", ...where, "--reuseaddr"], { stdio: "ignore" });
  url = `git://127.0.0.1:${port}/repository`;
  await untilListening(port);
});

after(async () => {
  const ended = once(server, "exit");
  server.kill();
  await ended;
  rmSync(folder, { recursive: true });
});

async function freePort(): Promise<number> {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo;
  await new Promise((resolve) => listener.close(resolve));
  return port;
}

async function untilListening(port: number): Promise<void> {
  for (;;) {
    const socket = connect(port, "127.0.0.1");
    const isThere = await once(socket, "connect").then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (isThere || server.exitCode !== null) return;
  }
}

function fetched(fragment: string): Promise<string> {
  const scratch = join(folder, `scratch-${++contexts}`);
  mkdirSync(scratch);
  const address = parseGitAddress(`${url}${fragment}`);
  assert.ok(address !== null);
  return fetchRepository(address, scratch, signal);
}

test("addresses of repositories, with a reference and a folder", () => {
  const rows = [
    ["https://host/a.git", "https://host/a.git HEAD "],
    ["https://host/a.git#v1", "https://host/a.git v1 "],
    ["git@host:a/b#main:sub/dir", "git@host:a/b main sub/dir"],
    ["github.com/a/b#:sub", "https://github.com/a/b HEAD sub"],
    ["git://host/a", "git://host/a HEAD "],
  ] as const;
  for (const [text, wanted] of rows) {
    const found = parseGitAddress(text);
    assert.equal(`${found?.url} ${found?.ref} ${found?.folder}`, wanted);
  }
  for (const text of ["https://host/a.tar.gz", "https://host/Dockerfile#x.git", "file:///a.git"])
    assert.equal(parseGitAddress(text), null);
});

test("a repository's files as they are at a branch, a tag or a commit", async () => {
  const newest = await fetched("");
  assert.deepEqual(readdirSync(newest).sort(), ["Dockerfile", "web"]);
  assert.equal(readFileSync(join(newest, "web/page"), "utf8"), "two\n");
  for (const ref of ["v1", first, first.slice(0, 10)])
    assert.equal(readFileSync(join(await fetched(`#${ref}:web`), "page"), "utf8"), "one\n");
});

test("what a repository has not is said", async () => {
  await assert.rejects(fetched("#nowhere"), /git fetch: .*nowhere/);
  await assert.rejects(fetched("#main:nothing"), /has no folder nothing at main/);
  await assert.rejects(fetched("#--upload-pack=x"), /is no git reference/);
});
