// Containers and what lies on the disk, as Docker's client prints them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { now, runCommand } from "./fake.ts";

const created = Math.floor(now / 1000) - 3_600;
const container = {
  Id: "c".repeat(64),
  Names: ["/web"],
  Image: "nginx",
  Command: "nginx -g daemon off;",
  Created: created,
  State: "running",
  Status: "Up an hour",
  Mounts: [
    { Type: "volume", Name: "data", Driver: "local" },
    { Type: "bind", Source: "/srv" },
  ],
  SizeRw: 110_592,
  SizeRootFs: 3_223_552,
};
const id = "c".repeat(12);

test("ps -s asks for sizes and shows them, as a format does that names them", async () => {
  const answers = { "GET /containers/json": [container] };
  const plain = await runCommand(["ps"], answers);
  assert.equal(plain.asked[0]?.query["size"], "0");
  assert.doesNotMatch(plain.out, /SIZE/);
  const sized = await runCommand(["ps", "-s"], answers);
  assert.equal(sized.asked[0]?.query["size"], "1");
  assert.match(sized.out, /NAMES +SIZE\n.* web +111kB \(virtual 3\.22MB\)\n$/s);
  const format = ["ps", "--format", "{{.Names}} {{.Size}} {{.LocalVolumes}}"];
  const { asked, out } = await runCommand(format, answers);
  assert.equal(asked[0]?.query["size"], "1");
  assert.equal(out, "web 111kB (virtual 3.22MB) 1\n");
});

test("inspect --size asks for a container's sizes", async () => {
  const answers = { "GET /containers/web/json": { SizeRw: 5 } };
  for (const command of [["inspect"], ["container", "inspect"]]) {
    const line = [...command, "--size", "-f", "{{.SizeRw}}", "web"];
    const { asked, out } = await runCommand(line, answers);
    assert.match(asked[0]?.query["size"] ?? "", /^1$/);
    assert.equal(out, "5\n");
  }
});

test("update changes what was asked of it alone, and every container that it can", async () => {
  const line = [
    "update",
    "-m",
    "64m",
    "--memory-swap",
    "-1",
    "--cpus",
    "0.5",
    "--restart",
    "on-failure:3",
  ];
  const answers = { "POST /containers/web/update": { Warnings: ["careful"] } };
  const { asked, code, err, out } = await runCommand([...line, "web", "gone"], answers);
  assert.deepEqual(asked[0]?.body, {
    Memory: 67_108_864,
    MemorySwap: -1,
    NanoCpus: 500_000_000,
    RestartPolicy: { Name: "on-failure", MaximumRetryCount: 3 },
  });
  assert.equal(out, "web\n");
  assert.match(err, /careful\n.*no such thing: \/containers\/gone\/update/s);
  assert.equal(code, 1);
  const nothing = await runCommand(["update", "web"], answers);
  assert.match(nothing.err, /you must provide one or more flags when using this command/);
  assert.equal(nothing.code, 1);
});

test("stats has the figures of Docker's table", async () => {
  const cpu = (used: number, passed: number) => ({
    cpu_usage: { total_usage: used },
    system_cpu_usage: passed,
    online_cpus: 2,
  });
  const answers = {
    "GET /containers/web/stats": {
      ...{ id: container.Id, name: "/web", pids_stats: { current: 3 } },
      ...{ precpu_stats: cpu(100, 1_000), cpu_stats: cpu(200, 2_000) },
      memory_stats: {
        usage: 3_145_728,
        limit: 4_194_304,
        stats: { total_inactive_file: 1_048_576 },
      },
      networks: { eth0: { rx_bytes: 1_000, tx_bytes: 20 }, eth1: { rx_bytes: 500 } },
      blkio_stats: {
        io_service_bytes_recursive: [
          { op: "Read", value: 4_096 },
          { op: "write", value: 1 },
        ],
      },
    },
  };
  const { out } = await runCommand(["stats", "--no-stream", "web"], answers);
  const [, line] = out.split("\n");
  const cells = [id, "web", "20.00%", "2MiB / 4MiB", "50.00%", "1.5kB / 20B", "4.1kB / 1B", "3"];
  assert.deepEqual(line?.split(/ {2,}/), cells);
  const { out: json } = await runCommand(["stats", "--format", "json", "web"], answers);
  assert.equal(JSON.parse(json).NetIO, "1.5kB / 20B");
});

const usage = {
  LayersSize: 3_281_000,
  Images: [
    {
      Id: `sha256:${"a".repeat(64)}`,
      RepoTags: ["nginx:1"],
      Created: created,
      Size: 3_120_000,
      SharedSize: 3_112_000,
      Containers: 1,
    },
    {
      Id: `sha256:${"b".repeat(64)}`,
      RepoTags: [],
      Created: created,
      Size: 3_273_000,
      SharedSize: 3_112_000,
      Containers: 0,
    },
  ],
  Containers: [container, { ...container, State: "exited", SizeRw: 1_000 }],
  Volumes: [{ Name: "data", UsageData: { Size: 4_096, RefCount: 0 } }],
  Collection: { Images: 1, Bytes: 10, DiskPercent: 29, HighPercent: 85, LowPercent: 80 },
};

test("system df counts shared layers once, and tells what could go", async () => {
  const answers = { "GET /system/df": usage };
  const { out } = await runCommand(["system", "df"], answers);
  assert.deepEqual(
    out
      .split("\n")
      .slice(1, 5)
      .map((line) => line.split(/ {2,}/)),
    [
      ["Images", "2", "1", "3.281MB", "3.273MB (99%)"],
      ["Containers", "2", "1", "111.6kB", "1kB (0%)"],
      ["Local Volumes", "1", "0", "4.096kB", "4.096kB (100%)"],
      ["Build Cache", "0", "0", "0B", "0B"],
    ],
  );
  assert.match(out, /\n\nUnused images of tasks: 1 \(10B\)/);
  const format = ["system", "df", "--format", "{{.Type}}: {{.Reclaimable}}"];
  const { out: formatted } = await runCommand(format, answers);
  assert.match(formatted, /^Images: 3\.273MB \(99%\)\n/);
  assert.doesNotMatch(formatted, /Unused/);
});

test("system df -v shows each image, container and volume", async () => {
  const { out } = await runCommand(["system", "df", "-v"], { "GET /system/df": usage });
  assert.match(out, /\nnginx +1 +a{12} +About an hour ago +3\.12MB +3\.112MB +8kB +1\n/);
  assert.match(out, /\n<none> +<none> +b{12} /);
  assert.match(
    out,
    /Containers space usage:\n\n.*\nc{12} +nginx +"nginx -g daemon off;" +1 +111kB /,
  );
  assert.match(out, /\ndata +0 +4\.096kB\n$/);
});

test("rm -f of what is not there says so and succeeds, rm fails", async () => {
  const answers = { "DELETE /containers/web": null };
  const forced = await runCommand(["rm", "-f", "gone", "web"], answers);
  assert.equal(forced.code, 0);
  assert.equal(forced.out, "web\n");
  assert.match(forced.err, /no such thing/);
  const plain = await runCommand(["rm", "gone", "web"], answers);
  assert.equal(plain.code, 1);
  assert.equal(plain.out, "web\n");
});
