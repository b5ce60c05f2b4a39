import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openApi } from "../../../../agent/api/server.ts";
import { tcpPlace } from "../../../../agent/api/tcp.ts";
import { DaemonClient } from "../../../../cli/client.ts";
import type { ClientTls } from "../../../../cli/target.ts";
import { freePort } from "../../manager/running.ts";
import { testPki } from "./certificates.ts";
import { startFakeDaemon } from "./fakes.ts";

const never = new AbortController().signal;
const program = fileURLToPath(new URL("../../../../cli/main.js", import.meta.url));

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(file: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(
      file,
      args,
      { env: { ...process.env, ...env }, timeout: 60_000 },
      (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : Number(error.code ?? 1), stdout, stderr }),
    );
  });
}

/** A daemon on TLS, with all that a client needs in a folder. */
async function secured(t: TestContext) {
  const daemon = await startFakeDaemon(true);
  const pki = await testPki();
  const port = await freePort();
  const file = (name: string) => join(pki.folder, name);
  const tls = {
    ca: file("ca.pem"),
    certificate: file("server-cert.pem"),
    key: file("server-key.pem"),
  };
  const host = `tcp://127.0.0.1:${port}`;
  const api = await openApi(daemon.context, [host], never, tls);
  t.after(async () => {
    await api.close();
    await pki[Symbol.asyncDispose]();
    await daemon[Symbol.asyncDispose]();
  });
  const client = (prefix: string | null): DaemonClient => {
    const shown =
      prefix === null
        ? {}
        : {
            cert: readFileSync(file(`${prefix}cert.pem`)),
            key: readFileSync(file(`${prefix}key.pem`)),
          };
    const materials: ClientTls = { ca: readFileSync(file("ca.pem")), ...shown, isVerified: true };
    return new DaemonClient(host, "1.50", materials);
  };
  return { host, port, folder: pki.folder, client };
}

test("on TLS only who shows a certificate of the CA is answered", async (t) => {
  const { host, client } = await secured(t);
  assert.equal(await client("").get("/_ping"), "OK");
  for (const prefix of ["stranger-", "expired-", null])
    await assert.rejects(client(prefix).get("/_ping"), { name: "ConnectionError" }, `${prefix}`);
  await assert.rejects(new DaemonClient(host).get("/_ping"), { name: "ConnectionError" });
});

test("docker and tsswarm reach it by flags, by environment and by each other's contexts", async (t) => {
  const { host, folder } = await secured(t);
  const config = await mkdtemp(join(tmpdir(), "tsswarm-config-"));
  t.after(() => rm(config, { recursive: true, force: true }));
  const env = { DOCKER_CONFIG: config, DOCKER_HOST: "", DOCKER_CONTEXT: "" };
  const flags = [
    "--tlsverify",
    "--tlscacert",
    join(folder, "ca.pem"),
    "--tlscert",
    join(folder, "cert.pem"),
    "--tlskey",
    join(folder, "key.pem"),
  ];
  const docker = (args: readonly string[], more: NodeJS.ProcessEnv = {}) =>
    run("docker", args, { ...env, ...more });
  const tsswarm = (args: readonly string[], more: NodeJS.ProcessEnv = {}) =>
    run(process.execPath, [program, ...args], { ...env, ...more });
  const byEnvironment = { DOCKER_HOST: host, DOCKER_TLS_VERIFY: "1", DOCKER_CERT_PATH: folder };
  const name = ["info", "--format", "{{.Swarm.LocalNodeState}}"];
  for (const each of [docker, tsswarm]) {
    assert.equal((await each(["-H", host, ...flags, ...name])).stdout.trim(), "active");
    assert.equal((await each(name, byEnvironment)).stdout.trim(), "active");
    assert.notEqual((await each(["-H", host, ...name])).code, 0);
  }
  const how = `host=${host},ca=${join(folder, "ca.pem")},cert=${join(folder, "cert.pem")},key=${join(folder, "key.pem")}`;
  assert.equal(
    (await tsswarm(["context", "create", "ours", "--description", "made here", "--docker", how]))
      .stdout,
    "ours\n",
  );
  assert.equal((await docker(["context", "create", "theirs", "--docker", how])).stdout, "theirs\n");
  for (const context of ["ours", "theirs"])
    for (const each of [docker, tsswarm])
      assert.equal((await each(["--context", context, ...name])).stdout.trim(), "active", context);
  const format = [
    "context",
    "ls",
    "--format",
    "{{.Name}} {{.Current}} {{.Description}} {{.DockerEndpoint}}",
  ];
  assert.equal((await tsswarm(["context", "use", "ours"])).code, 0);
  const seen = (await docker(format)).stdout
    .split("\n")
    .filter((line) => !line.startsWith("default"));
  assert.deepEqual(
    seen,
    (await tsswarm(format)).stdout.split("\n").filter((line) => !line.startsWith("default")),
  );
  assert.ok(seen.includes(`ours true made here ${host}`));
  for (const each of [docker, tsswarm]) {
    assert.equal((await each(["context", "show"])).stdout, "ours\n");
    assert.equal((await each(name)).stdout.trim(), "active");
  }
  const inspect = ["context", "inspect", "ours", "theirs"];
  assert.deepEqual(
    JSON.parse((await tsswarm(inspect)).stdout),
    JSON.parse((await docker(inspect)).stdout),
  );
  for (const [writer, reader] of [
    [docker, tsswarm],
    [tsswarm, docker],
  ] as const) {
    const file = join(config, `${writer === docker}.tar`);
    assert.equal((await writer(["context", "export", "ours", file])).code, 0);
    assert.equal((await reader(["context", "import", `read-${writer === docker}`, file])).code, 0);
    assert.equal(
      (await writer(["--context", `read-${writer === docker}`, ...name])).stdout.trim(),
      "active",
    );
  }
  assert.match((await tsswarm(["context", "rm", "ours"])).stderr, /"ours" is in use/);
  assert.equal((await docker(["context", "use", "default"])).code, 0);
  assert.equal((await tsswarm(["context", "show"])).stdout, "default\n");
  assert.equal((await tsswarm(["context", "rm", "ours", "theirs"])).stdout, "ours\ntheirs\n");
  assert.match(
    (await tsswarm(["--context", "ours", "info"])).stderr,
    /context "ours": context not found/,
  );
  assert.equal((await docker(["context", "update", "read-true", "--description", "x"])).code, 0);
  assert.match((await tsswarm(["context", "ls"])).stdout, /read-true +x/);
  assert.match(
    (await tsswarm(["-H", host, "--context", "x", "info"])).stderr,
    /cannot specify both --host and --context/,
  );
});

test("an ssh host is reached through the ssh program, both ways round", async (t) => {
  const { host, folder } = await secured(t);
  const bin = await mkdtemp(join(tmpdir(), "tsswarm-ssh-"));
  t.after(() => rm(bin, { recursive: true, force: true }));
  await mkdir(bin, { recursive: true });
  // What stands for sshd: the last argument is the command, run as another machine would.
  const shell = `#!/bin/sh\nfor last; do :; done\necho "$*" >>${bin}/asked\nDOCKER_HOST=${host} DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=${folder} exec sh -c "$last"\n`;
  await writeFile(join(bin, "ssh"), shell);
  await writeFile(join(bin, "tsswarm"), `#!/bin/sh\nexec ${process.execPath} ${program} "$@"\n`);
  for (const name of ["ssh", "tsswarm"]) await chmod(join(bin, name), 0o755);
  const env = { PATH: `${bin}:${process.env["PATH"]}`, DOCKER_CONFIG: bin };
  const args = [
    "-H",
    "ssh://root@far.example:2222",
    "info",
    "--format",
    "{{.Swarm.LocalNodeState}}",
  ];
  const seen = await run(process.execPath, [program, ...args], env);
  assert.deepEqual([seen.stdout, seen.stderr], ["active\n", ""]);
  assert.match(
    readFileSync(join(bin, "asked"), "utf8"),
    /-l root -p 2222 -- far\.example .*dial-stdio/,
  );
  await writeFile(
    join(bin, "ssh"),
    "#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n",
  );
  assert.match(
    (await run(process.execPath, [program, ...args], env)).stderr,
    /ssh: Permission denied/,
  );
});

const places: readonly { host: string; isSecure: boolean; place: unknown }[] = [
  { host: "unix:///x", isSecure: false, place: null },
  { host: "tcp://127.0.0.1:2375", isSecure: false, place: { address: "127.0.0.1", port: 2375 } },
  { host: "tcp://localhost", isSecure: false, place: { address: "localhost", port: 2375 } },
  { host: "tcp://[::1]:1", isSecure: false, place: { address: "::1", port: 1 } },
  { host: "tcp://0.0.0.0", isSecure: true, place: { address: "0.0.0.0", port: 2376 } },
  { host: "tcp://:2376", isSecure: true, place: { address: "::", port: 2376 } },
];
for (const { host, isSecure, place } of places)
  test(`${host} ${isSecure ? "with" : "without"} TLS is ${JSON.stringify(place)}`, () =>
    assert.deepEqual(tcpPlace(host, isSecure), place));

for (const host of [
  "tcp://0.0.0.0:2375",
  "tcp://:2375",
  "tcp://10.0.0.1",
  "tcp://[::]:2375",
  "tcp://127.evil.example:1",
])
  test(`${host} in the clear is refused with a sentence`, () =>
    assert.throws(() => tcpPlace(host, false), {
      code: "unsupported",
      message: /without TLS.*--tlsverify/,
    }));

for (const host of ["tcp://1.2.3.4:99999", "tcp://[zz]:1", "tcp://a b:1", "tcp://x:1/y"])
  test(`${host} is no place to listen`, () =>
    assert.throws(() => tcpPlace(host, true), { code: "invalid" }));

test("missing or unreadable TLS files are named", async (t) => {
  const daemon = await startFakeDaemon(false);
  t.after(() => daemon[Symbol.asyncDispose]());
  const open = (ca: string) =>
    openApi(daemon.context, ["tcp://127.0.0.1:1"], never, { ca, certificate: "", key: "" });
  await assert.rejects(open(""), { code: "unsupported", message: /needs --tlscacert/ });
  await assert.rejects(open("/nonexistent/ca.pem"), {
    code: "unsupported",
    message: /--tlscacert: \/nonexistent/,
  });
});

async function plain(t: TestContext): Promise<number> {
  const daemon = await startFakeDaemon(true);
  const port = await freePort();
  const api = await openApi(daemon.context, [`tcp://127.0.0.1:${port}`], never);
  t.after(async () => {
    await api.close();
    await daemon[Symbol.asyncDispose]();
  });
  return port;
}

test("in the clear on loopback, programs are answered and web pages are not", async (t) => {
  const port = await plain(t);
  assert.equal(await new DaemonClient(`tcp://127.0.0.1:${port}`).get("/_ping"), "OK");
  const status = (headers: Record<string, string>) =>
    new Promise<number>((resolve, reject) => {
      request({ host: "127.0.0.1", port, path: "/info", headers }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      })
        .on("error", reject)
        .end();
    });
  assert.equal(await status({ Host: "localhost:2375" }), 200);
  assert.equal(await status({ Host: "evil.example" }), 403);
  assert.equal(await status({ Host: "localhost", Origin: "https://evil.example" }), 403);
});

test("strangers that never finish their handshake leave room for those who do", async (t) => {
  const { port, client } = await secured(t);
  const idle: Socket[] = [];
  t.after(() => {
    for (const socket of idle) socket.destroy();
  });
  let closed = 0;
  await new Promise<void>((resolve) => {
    for (let i = 0; i < 200; i++) {
      const socket = connect(port, "127.0.0.1");
      idle.push(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        closed += 1;
        if (closed >= 72) resolve();
      });
    }
  });
  assert.ok(closed <= 100, "those within the limit are given their time");
  for (const socket of idle.slice(0, 150)) socket.destroy();
  for (;;) {
    const answer = await client("")
      .get("/_ping")
      .catch(() => null);
    if (answer === "OK") break;
  }
});
