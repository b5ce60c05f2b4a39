// Images with the unmodified docker command, a real containerd and a real registry.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { OpenEngine } from "../../agent/engine/engine.ts";
import type { Runtime } from "../../agent/runtime/types.ts";
import { busyboxLayer, Ground, pushImage, smallLayer, until } from "./engine-kit.ts";
import { Door } from "./image-kit.ts";

let ground: Ground;
let engine: OpenEngine;
let runtime: Runtime;
let door: Door;
let base = "";
let registry = "";
let digest = "";

before(async () => {
  ground = await Ground.make("images");
  const { directory } = ground;
  registry = ground.registry.address;
  const layers = [
    { tar: busyboxLayer(directory), compression: "gzip" },
    { tar: smallLayer(directory, "second", "two"), compression: "zstd" },
  ] as const;
  const config = { Cmd: ["/bin/sleep", "1000"], Env: ["PATH=/bin"], Labels: { kind: "base" } };
  digest = await pushImage(registry, "tools/indexed:1", { layers, config, indexed: true });
  await pushImage(registry, "tools/busybox:1", { layers, config });
  await pushImage(registry, "tools/busybox:2", { layers, config: { ...config, Labels: {} } });
  base = `${registry}/tools/busybox:1`;
  ({ engine, runtime } = await ground.open());
  door = await Door.open(ground, engine);
  await door.docker("pull", "-q", base);
});

after(async () => {
  await door?.close();
  await ground?.remove();
});

async function idOf(name: string): Promise<string> {
  return door.docker("inspect", "--type", "image", "-f", "{{.Id}}", name);
}

async function tagsIn(repository: string): Promise<readonly string[]> {
  const answer = await fetch(`http://${registry}/v2/${repository}/tags/list`);
  const { tags } = (await answer.json()) as { readonly tags: readonly string[] };
  return [...tags].sort();
}

test("docker save and load keep an image, its names and its id", async () => {
  await door.docker("tag", base, "kept:one");
  await door.docker("tag", base, "kept:two");
  const id = await idOf("kept:one");
  const file = join(ground.directory, "saved.tar");
  await door.docker("save", "-o", file, "kept", "kept:two");
  const names = execFileSync("tar", ["-tf", file], { encoding: "utf8" }).split("\n");
  for (const name of ["manifest.json", "index.json", "oci-layout"]) assert.ok(names.includes(name));
  const wanted = ["Untagged: kept:two", `Deleted: ${id}`];
  await door.docker("rmi", base, "kept:one");
  const removed = (await door.docker("rmi", "kept:two")).split("\n");
  assert.deepEqual(
    removed.filter((line) => wanted.includes(line)),
    wanted,
  );
  assert.equal((await door.attempt(["inspect", "kept:one"])).code, 1);
  const loaded = await door.docker("load", "-q", "-i", file);
  const both = ["Loaded image: kept:one", "Loaded image: kept:two"];
  assert.deepEqual(loaded.split("\n").sort(), both);
  assert.equal(await idOf("kept:two"), id);
  const ran = await door.docker("run", "--rm", "--network", "host", "kept:two", "cat", "/second");
  assert.equal(ran, "two");
  await door.docker("tag", "kept:two", base);
  await door.docker("rmi", "kept:one", "kept:two");
});

test("a Docker archive of before OCI is loaded: plain layers, links between them, gzip around it", async () => {
  const root = join(ground.directory, "legacy");
  const layer = smallLayer(ground.directory, "old", "from an old archive\n");
  const config = {
    ...{ architecture: "amd64", os: "linux", config: { Cmd: ["/x"] } },
    rootfs: { type: "layers", diff_ids: [sha(layer), sha(layer)] },
  };
  execFileSync("mkdir", ["-p", join(root, "a"), join(root, "b")]);
  writeFileSync(join(root, "a/layer.tar"), layer);
  execFileSync("ln", ["-s", "../a/layer.tar", join(root, "b/layer.tar")]);
  const bytes = JSON.stringify(config);
  writeFileSync(join(root, "config.json"), bytes);
  const manifest = [
    { Config: "config.json", RepoTags: ["legacy:7"], Layers: ["a/layer.tar", "b/layer.tar"] },
  ];
  writeFileSync(join(root, "manifest.json"), JSON.stringify(manifest));
  const tar = execFileSync("tar", ["-czf", "-", "-C", root, "."]);
  const { stdout, code } = await door.attempt(["load"], { input: tar });
  assert.deepEqual([code, stdout.includes("Loaded image: legacy:7")], [0, true]);
  assert.equal(await idOf("legacy:7"), sha(Buffer.from(bytes)));
  await door.docker("rmi", "legacy:7");
});

test("an archive whose names lead out of it, or that is none, leaves nothing", async () => {
  const leading = execFileSync("python3", [
    "-c",
    [
      "import tarfile,io,sys",
      "t=tarfile.open(fileobj=sys.stdout.buffer,mode='w|')",
      "for n,b in [('../../../../tmp/tsswarm-escaped',b'x'),('manifest.json',b'[{\"Config\":\"../../etc/passwd\",\"Layers\":[]}]')]:",
      "  i=tarfile.TarInfo(n);i.size=len(b);t.addfile(i,io.BytesIO(b))",
      "t.close()",
    ].join("\n"),
  ]);
  const refused = await door.attempt(["load"], { input: leading });
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /the archive lacks \.\.\/\.\.\/etc\/passwd/);
  assert.throws(() => readFileSync("/tmp/tsswarm-escaped"));
  const garbage = await door.attempt(["load"], { input: Buffer.alloc(5_000, 7) });
  assert.match(garbage.stderr, /no tar|neither an OCI layout/);
  assert.deepEqual(execFileSync("ls", [join(ground.directory, "data/scratch")]).toString(), "");
});

test("docker import makes an image of a tar", async () => {
  const tar = busyboxLayer(ground.directory);
  const { stdout } = await door.attempt(["import", "-m", "by hand", "-", "imported:1"], {
    input: tar,
  });
  const id = await idOf("imported:1");
  assert.equal(stdout.trim(), id);
  const ran = await door.docker(
    "run",
    "--rm",
    "--network",
    "host",
    "imported:1",
    "/bin/cat",
    "/data/seed",
  );
  assert.equal(ran, "from the image");
  assert.match(await door.docker("history", "--no-trunc", "imported:1"), /by hand/);
  await door.docker("rmi", "imported:1");
});

test("docker push sends what the registry lacks, mounts what it has elsewhere, and all tags when asked", async () => {
  const again = await door.docker("push", base);
  assert.match(again, /Layer already exists/);
  assert.match(again, /1: digest: sha256:[0-9a-f]{64} size: \d+/);
  const other = `${registry}/other/app`;
  for (const tag of ["a", "b"]) await door.docker("tag", base, `${other}:${tag}`);
  const pushed = await door.docker("push", "-a", other);
  assert.match(pushed, /Mounted from tools\/busybox/);
  assert.deepEqual(await tagsIn("other/app"), ["a", "b"]);
  const missing = await door.attempt(["push", `${registry}/nobody:1`]);
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /tag does not exist: .*nobody:1/);
  await door.docker("rmi", `${other}:a`, `${other}:b`);
  await door.docker("pull", "-q", `${other}:b`);
  await door.docker("rmi", `${other}:b`);
});

test("a push that breaks off is made again", async () => {
  const big = Buffer.alloc(24 * 1024 * 1024);
  for (let i = 0; i < big.length; i += 4) big.writeUInt32LE((i * 2654435761) >>> 0, i);
  const folder = join(ground.directory, "big");
  execFileSync("mkdir", ["-p", folder]);
  writeFileSync(join(folder, "noise"), big);
  const tar = execFileSync("tar", ["-cf", "-", "-C", folder, "."], { maxBuffer: 2 ** 26 });
  await door.attempt(["import", "-", "noise:1"], { input: tar });
  const proxy = await breakingProxy(registry, 6 * 1024 * 1024);
  const name = `127.0.0.1:${proxy.port}/noise:1`;
  await door.docker("tag", "noise:1", name);
  const pushed = await door.docker("push", name);
  await proxy.close();
  assert.match(pushed, /1: digest: /);
  assert.ok(proxy.broken > 0, "nothing was broken off");
  await door.docker("rmi", name, "noise:1");
  await door.docker("pull", "-q", `${registry}/noise:1`);
  await door.docker("rmi", `${registry}/noise:1`);
});

test("docker rmi follows Docker's rules for names and use", async () => {
  await door.docker("tag", base, "first:1");
  const id = await idOf(base);
  const several = await door.attempt(["rmi", id.slice(7, 19)]);
  assert.match(several.stderr, /\(must be forced\) - image is referenced in multiple repositories/);
  assert.match(await door.docker("rmi", "first:1"), /^Untagged: first:1$/m);
  await door.docker("run", "-d", "--name", "user", "--network", "host", base);
  const used = await door.attempt(["rmi", base]);
  assert.match(used.stderr, /unable to remove repository reference .* \(must force\) - container/);
  const byId = await door.attempt(["rmi", "-f", id]);
  assert.match(byId.stderr, /\(cannot be forced\) - image is being used by running container/);
  assert.match(await door.docker("rmi", "-f", base), /^Untagged: /);
  const nameless = await door.docker("images", "-q", "--no-trunc", "--filter", "dangling=true");
  assert.ok(nameless.includes(id), "the image of a running container has gone");
  await door.docker("rm", "-f", "user");
  assert.match(await door.docker("image", "prune", "-f"), new RegExp(`deleted: ${id}`));
  await until("the content is collected", async () => (await runtime.blobSize(id)) === null);
  await door.docker("pull", "-q", base);
});

test("docker images filters, and a name that moves on leaves its image without one", async () => {
  const two = `${registry}/tools/busybox:2`;
  await door.docker("pull", "-q", two);
  const names = (...args: string[]) =>
    door.docker("images", "--format", "{{.Repository}}:{{.Tag}}", ...args);
  assert.equal(await names("--filter", "label=kind=base"), base);
  assert.equal(await names("--filter", "reference=*/tools/busybox:2"), two);
  assert.equal(await names(`${registry}/tools/busybox`).then((text) => text.split("\n").length), 2);
  const before = await idOf(base);
  const own = await door.docker("inspect", "-f", "{{index .RepoDigests 0}}", base);
  assert.match(await door.docker("images", "--digests"), new RegExp(own.split("@")[1] ?? own));
  await door.docker("tag", two, base);
  const dangling = await door.docker("images", "-q", "--no-trunc", "-f", "dangling=true");
  assert.equal(dangling, before);
  await door.docker("tag", before, base);
  assert.equal(await door.docker("images", "-q", "-f", "dangling=true"), "");
  await door.docker("rmi", two);
});

test("what happens to images is told as events", async () => {
  const since = String(Date.now() / 1000);
  await door.docker("tag", base, "told:1");
  await door.docker("rmi", "told:1");
  const until_ = String(Date.now() / 1000 + 1);
  const told = await door.docker(
    ...["events", "--since", since, "--until", until_, "--filter", "type=image"],
    ...["--format", "{{.Action}}"],
  );
  assert.deepEqual(told.split("\n"), ["tag", "untag"]);
});

test("another platform's image is pulled by name, and foreign layers are refused", async () => {
  const indexed = `${registry}/tools/indexed:1`;
  const wrong = await door.attempt(["pull", "--platform", "linux/s390x", indexed]);
  assert.match(wrong.stderr, /no matching manifest for linux\/s390x/);
  await door.docker("pull", "-q", "--platform", "linux/amd64", indexed);
  assert.equal(await idOf(`${registry}/tools/indexed@${digest}`).catch(() => ""), "");
  assert.match(await door.docker("inspect", "-f", "{{.RepoDigests}}", indexed), new RegExp(digest));
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: "application/vnd.docker.distribution.manifest.v2+json",
    config: { mediaType: "application/vnd.docker.container.image.v1+json", digest, size: 1 },
    layers: [
      {
        mediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ...{ digest, size: 1, urls: ["https://nowhere.test/"] },
      },
    ],
  });
  const server = http.createServer((_request, response) => {
    response.setHeader("content-type", "application/vnd.docker.distribution.manifest.v2+json");
    response.end(manifest);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { readonly port: number };
  const foreign = await door.attempt(["pull", `127.0.0.1:${port}/foreign:1`]);
  server.close();
  server.closeAllConnections();
  assert.match(foreign.stderr, /foreign layers/);
});

function sha(bytes: Buffer): string {
  return `sha256:${execFileSync("sha256sum", { input: bytes }).toString().slice(0, 64)}`;
}

/** Passes everything on, but breaks uploads off after so many bytes, twice. */
async function breakingProxy(address: string, bytesMax: number) {
  const [hostname = "", port = ""] = address.split(":");
  const state = { broken: 0, port: 0, close: async () => {} };
  const server = http.createServer((request, response) => {
    const own = `127.0.0.1:${state.port}`;
    const { host: _, ...headers } = request.headers;
    const options = { hostname, port, path: request.url, method: request.method, headers };
    const upstream = http.request({ ...options, headers: { ...headers, host: own } }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
    upstream.on("error", () => response.destroy());
    if (request.method !== "PATCH") {
      request.pipe(upstream);
      return;
    }
    let bytes = 0;
    request.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      upstream.write(chunk);
      if (bytes < bytesMax || state.broken >= 2) return;
      state.broken++;
      request.socket.destroy();
      upstream.destroy();
    });
    request.on("end", () => upstream.end());
    request.on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const bound = server.address() as { readonly port: number };
  state.port = bound.port;
  state.close = async () => {
    server.close();
    server.closeAllConnections();
  };
  return state;
}
