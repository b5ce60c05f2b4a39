import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Registry } from "../../../../agent/engine/registry.ts";
import {
  authHeaders,
  credentialsFor,
  eraseCredentials,
  hubAddress,
  registryOfImage,
  storeCredentials,
} from "../../../../cli/credentials.ts";
import { parseReference } from "../../../../proto/kit/reference.ts";
import { realWorld } from "../../../../proto/kit/world.ts";
import { runCommand } from "../../cli/fake.ts";
import { freePort } from "../../manager/running.ts";

const signal = new AbortController().signal;
/** bcrypt of "right password". */
const htpasswd = "ada:$2b$04$mraE8mbht7GfGrBiEAZASuyiL4zrO5ObfiNDdOVc0c/hknomVJTjG\n";
let folder = "";
let domain = "";
let program: ChildProcess | null = null;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tsswarm-login-"));
  const port = await freePort();
  domain = `127.0.0.1:${port}`;
  await writeFile(join(folder, "htpasswd"), htpasswd);
  const config = {
    version: 0.1,
    log: { level: "error" },
    storage: { filesystem: { rootdirectory: join(folder, "data") } },
    http: { addr: domain },
    auth: { htpasswd: { realm: "test", path: join(folder, "htpasswd") } },
  };
  await writeFile(join(folder, "config.yml"), JSON.stringify(config));
  program = spawn("docker-registry", ["serve", join(folder, "config.yml")], { stdio: "ignore" });
  for (;;) {
    const answer = await fetch(`http://${domain}/v2/`).catch(() => null);
    if (answer?.status === 401) return;
    await realWorld.sleep(20, signal);
  }
});

after(async () => {
  program?.kill();
  await rm(folder, { recursive: true, force: true });
});

function registry(auth: { username: string; password: string } | null): Registry {
  return new Registry({ insecure: [], mirrors: [], world: realWorld }, auth);
}

test("a registry takes the right login and says what it thinks of a wrong one", async () => {
  await registry({ username: "ada", password: "right password" }).login(domain, signal);
  for (const auth of [
    { username: "ada", password: "wrong" },
    { username: "eve", password: "right password" },
  ])
    await assert.rejects(registry(auth).login(domain, signal), (error: Error) => {
      assert.match(
        error.message,
        new RegExp(`registry ${domain} refused the login of user ${auth.username}: \\w+`),
      );
      assert.ok(!error.message.includes(auth.password));
      return true;
    });
  await assert.rejects(registry(null).login(domain, signal), { code: "denied" });
});

test("a pull with credentials that do not hold any more says so, and not that the image is missing", async () => {
  const image = parseReference(`${domain}/web:latest`);
  const pull = (password: string) =>
    registry({ username: "ada", password }).manifest(image, signal);
  await assert.rejects(pull("expired"), {
    code: "denied",
    message: /refused the login of user ada: .*--with-registry-auth/,
  });
  await assert.rejects(pull("right password"), { code: "not_found" });
  await assert.rejects(registry(null).manifest(image, signal), {
    code: "denied",
    message: /may require a login/,
  });
});

test("credentials lie in Docker's file, mode 0600, and go again", async () => {
  const config = await mkdtemp(join(folder, "config-"));
  await writeFile(join(config, "config.json"), '{"psFormat":"kept"}');
  const credentials = { username: "ada", password: "pass:word", serveraddress: domain };
  assert.equal(await storeCredentials(config, credentials), true);
  assert.equal((await stat(join(config, "config.json"))).mode & 0o777, 0o600);
  const file = JSON.parse(await readFile(join(config, "config.json"), "utf8"));
  assert.deepEqual(file, {
    psFormat: "kept",
    auths: { [domain]: { auth: Buffer.from("ada:pass:word").toString("base64") } },
  });
  assert.deepEqual(await credentialsFor(config, domain), credentials);
  const sent = (await authHeaders(config, `${domain}/web`))["X-Registry-Auth"] ?? "";
  assert.deepEqual(JSON.parse(Buffer.from(sent, "base64url").toString()), credentials);
  assert.deepEqual(await authHeaders(config, "web"), {});
  assert.equal(await eraseCredentials(config, domain), true);
  assert.equal(await eraseCredentials(config, domain), false);
  assert.equal(await credentialsFor(config, domain), null);
});

test("a credential helper is asked, and the file then holds no secret", async () => {
  const config = await mkdtemp(join(folder, "helper-"));
  const helper = join(config, "docker-credential-test");
  await writeFile(
    helper,
    `#!/bin/sh
case $1 in
store) cat >${config}/kept;;
erase) rm ${config}/kept;;
get) read server; [ "$server" = "${domain}" ] && [ -e ${config}/kept ] || { echo "credentials not found in native keychain"; exit 1; }; cat ${config}/kept;;
esac
`,
  );
  await chmod(helper, 0o755);
  const path = process.env["PATH"];
  process.env["PATH"] = `${config}:${path}`;
  try {
    for (const settings of [{ credsStore: "test" }, { credHelpers: { [domain]: "test" } }]) {
      await writeFile(join(config, "config.json"), JSON.stringify(settings));
      const credentials = { username: "ada", password: "in the helper", serveraddress: domain };
      assert.equal(await credentialsFor(config, domain), null);
      assert.equal(await storeCredentials(config, credentials), false);
      assert.ok(!(await readFile(join(config, "config.json"), "utf8")).includes("in the helper"));
      assert.deepEqual(await credentialsFor(config, domain), credentials);
      const token = { username: "ada", identitytoken: "t", serveraddress: domain };
      await storeCredentials(config, token);
      assert.deepEqual(await credentialsFor(config, domain), {
        identitytoken: "t",
        serveraddress: domain,
      });
      await eraseCredentials(config, domain);
      assert.equal(await credentialsFor(config, domain), null);
    }
  } finally {
    process.env["PATH"] = path;
  }
});

const images: readonly (readonly [string, string])[] = [
  ["web", hubAddress],
  ["ada/web", hubAddress],
  ["docker.io/ada/web", hubAddress],
  ["localhost/web", "localhost"],
  ["registry.example/a/b:1", "registry.example"],
  ["127.0.0.1:5000/web", "127.0.0.1:5000"],
];
for (const [image, wanted] of images)
  test(`the registry of ${image} is ${wanted}`, () => assert.equal(registryOfImage(image), wanted));

test("login asks the daemon, stores what it took, and logout forgets it", async () => {
  const config = await mkdtemp(join(folder, "cli-"));
  const answers = { "POST /auth": { Status: "Login Succeeded", IdentityToken: "" } };
  const options = { configFolder: config };
  const login = await runCommand(["login", "-u", "ada", "-p", "x", domain], answers, options);
  assert.equal(login.out, "Login Succeeded\n");
  assert.deepEqual(login.asked[0]?.body, { username: "ada", password: "x", serveraddress: domain });
  const out = await runCommand(["logout", domain], {}, options);
  assert.equal(out.out, `Removing login credentials for ${domain}\n`);
  const refused = await runCommand(["login", "-u", "ada", "-p", "x", domain], {}, options);
  assert.equal(refused.code, 1);
  assert.equal(await credentialsFor(config, domain), null);
});
