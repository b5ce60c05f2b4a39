import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { runCommand } from "./fake.ts";

const answers = {
  "POST /services/create": { ID: "s1" },
  "GET /networks/back": { Id: "n1", Name: "back" },
  "GET /networks/front": { Id: "n2", Name: "front" },
};
const digest = `sha256:${"a".repeat(64)}`;

async function bodyOf(...flags: readonly string[]): Promise<unknown> {
  const { asked, err } = await runCommand(
    ["service", "create", "-d", "--no-resolve-image", ...flags],
    answers,
  );
  const create = asked.find((each) => each.path === "/services/create");
  assert.ok(create, err);
  return create.body;
}

/** The smallest body, with parts of it replaced. */
function body(task: object, rest: object = {}): object {
  return {
    TaskTemplate: { ContainerSpec: { Image: "web" }, ...task },
    Mode: { Replicated: { Replicas: 1 } },
    EndpointSpec: { Mode: "vip" },
    ...rest,
  };
}
function container(spec: object): object {
  return body({ ContainerSpec: { Image: "web", ...spec } });
}
function port(TargetPort: number, PublishedPort: number, rest: object = {}): object {
  return { Name: "", Protocol: "tcp", TargetPort, PublishedPort, PublishMode: "ingress", ...rest };
}

const rows: readonly {
  readonly name: string;
  readonly flags: readonly string[];
  readonly body: object;
}[] = [
  { name: "nothing but an image", flags: ["web"], body: body({}) },
  {
    name: "a command line whose own flags are left alone",
    flags: ["web", "serve", "--replicas", "9", "-d=true"],
    body: container({ Args: ["serve", "--replicas", "9", "-d=true"] }),
  },
  {
    name: "name, labels and replicas",
    flags: [
      "--name",
      "shop",
      "-l",
      "a=1",
      "--label=b",
      "--replicas=3",
      "--container-label",
      "c=d",
      "web",
    ],
    body: {
      ...container({ Labels: { c: "d" } }),
      Name: "shop",
      Labels: { a: "1", b: "" },
      Mode: { Replicated: { Replicas: 3 } },
    },
  },
  {
    name: "global mode",
    flags: ["--mode", "global", "web"],
    body: body({}, { Mode: { Global: {} } }),
  },
  {
    name: "a job",
    flags: ["--mode", "replicated-job", "--replicas", "5", "--max-concurrent", "2", "web"],
    body: body({}, { Mode: { ReplicatedJob: { MaxConcurrent: 2, TotalCompletions: 5 } } }),
  },
  {
    name: "ports, short and long",
    flags: [
      "-p",
      "8080:80",
      "--publish",
      "53:53/udp",
      "-p",
      "7000-7001:80-81",
      "-p",
      "published=9,target=90,mode=host",
      "-p",
      "99",
      "-p",
      "192.0.2.7:81:82",
      "-p",
      "target=83,published=84,mode=host,host-ip=127.0.0.1",
      "web",
    ],
    body: body(
      {},
      {
        EndpointSpec: {
          Mode: "vip",
          Ports: [
            port(80, 8080),
            port(53, 53, { Protocol: "udp" }),
            port(80, 7000),
            port(81, 7001),
            port(90, 9, { PublishMode: "host" }),
            port(99, 0),
            port(82, 81, { HostIP: "192.0.2.7" }),
            port(83, 84, { PublishMode: "host", HostIP: "127.0.0.1" }),
          ],
        },
      },
    ),
  },
  {
    name: "networks by name and with aliases",
    flags: [
      ...["--network", "back"],
      ...["--network", "name=front,alias=db,alias=store,gw-priority=-2", "web"],
    ],
    body: body({
      Networks: [{ Target: "n1" }, { Target: "n2", Aliases: ["db", "store"], GwPriority: -2 }],
    }),
  },
  {
    name: "mounts",
    flags: [
      "--mount",
      "type=bind,src=/a,dst=/b,ro",
      "--mount",
      "source=data,target=/data,volume-label=k=v",
      "--mount",
      "type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1770",
      "web",
    ],
    body: container({
      Mounts: [
        { Type: "bind", Source: "/a", Target: "/b", ReadOnly: true },
        { Type: "volume", Source: "data", Target: "/data", VolumeOptions: { Labels: { k: "v" } } },
        { Type: "tmpfs", Target: "/t", TmpfsOptions: { SizeBytes: 67_108_864, Mode: 0o1770 } },
      ],
    }),
  },
  {
    name: "resources",
    flags: [
      "--limit-cpu",
      "0.5",
      "--limit-memory",
      "1.5g",
      "--limit-pids",
      "50",
      "--reserve-cpu",
      ".25",
      "--reserve-memory",
      "32MB",
      "web",
    ],
    body: body({
      Resources: {
        Limits: { NanoCPUs: 500_000_000, MemoryBytes: 1_610_612_736, Pids: 50 },
        Reservations: { NanoCPUs: 250_000_000, MemoryBytes: 33_554_432 },
      },
    }),
  },
  {
    name: "placement",
    flags: [
      "--constraint",
      "node.role==worker",
      "--placement-pref",
      "spread=node.labels.rack",
      "--replicas-max-per-node",
      "2",
      "web",
    ],
    body: body({
      Placement: {
        Constraints: ["node.role==worker"],
        Preferences: [{ Spread: { SpreadDescriptor: "node.labels.rack" } }],
        MaxReplicas: 2,
      },
    }),
  },
  {
    name: "restart policy",
    flags: [
      "--restart-condition",
      "on-failure",
      "--restart-delay",
      "2s",
      "--restart-max-attempts",
      "3",
      "--restart-window",
      "1m30s",
      "web",
    ],
    body: body({
      RestartPolicy: { Condition: "on-failure", Delay: 2e9, MaxAttempts: 3, Window: 90e9 },
    }),
  },
  {
    name: "autoscaling",
    flags: ["--autoscale=min=2,max=10,cpu=70%,memory=80,window=2m", "web"],
    body: body({}, { Autoscale: { Min: 2, Max: 10, CPU: 70, Memory: 80, Window: 120e9 } }),
  },
  {
    name: "a schedule",
    flags: [
      "--mode=replicated-job",
      "--schedule=0 6 * * 1-5",
      "--schedule-zone=Europe/Berlin",
      "--schedule-concurrency=allow",
      "--schedule-deadline=5m",
      "--schedule-history=3",
      "web",
    ],
    body: body(
      {},
      {
        Mode: { ReplicatedJob: { MaxConcurrent: 1, TotalCompletions: 1 } },
        Schedule: {
          Cron: "0 6 * * 1-5",
          TimeZone: "Europe/Berlin",
          Concurrency: "allow",
          Deadline: 300e9,
          History: 3,
        },
      },
    ),
  },
  {
    name: "updates, written whole as soon as one flag is given",
    flags: [
      "--update-delay",
      "3s",
      "--update-order",
      "start-first",
      "--rollback-parallelism",
      "0",
      "web",
    ],
    body: body(
      {},
      {
        UpdateConfig: {
          Parallelism: 1,
          Delay: 3e9,
          Monitor: 5e9,
          Order: "start-first",
        },
        RollbackConfig: {
          Parallelism: 0,
          Monitor: 5e9,
          FailureAction: "pause",
          Order: "stop-first",
        },
      },
    ),
  },
  {
    name: "the container's own settings",
    flags: [
      "-e",
      "A=1",
      "-e",
      "HOME",
      "-e",
      "NOT_SET",
      "--hostname",
      "{{.Node.Hostname}}",
      "-u",
      "1000:1000",
      "-w",
      "/tmp",
      "--stop-signal",
      "SIGINT",
      "--stop-grace-period",
      "20s",
      "--read-only",
      "--init",
      "-t",
      "--group",
      "wheel",
      "--entrypoint",
      "sh -c 'a b'",
      "web",
    ],
    body: container({
      Env: ["A=1", "HOME=/root"],
      Hostname: "{{.Node.Hostname}}",
      User: "1000:1000",
      Dir: "/tmp",
      StopSignal: "SIGINT",
      StopGracePeriod: 20e9,
      ReadOnly: true,
      Init: true,
      TTY: true,
      Groups: ["wheel"],
      Command: ["sh", "-c", "a b"],
    }),
  },
  {
    name: "capabilities, kernel settings, hosts and name servers",
    flags: [
      "--cap-add",
      "net_admin",
      "--cap-drop",
      "ALL",
      "--sysctl",
      "net.a=1",
      "--ulimit",
      "nofile=10:20",
      "--host",
      "db:192.0.2.1",
      "--dns",
      "192.0.2.2",
      "web",
    ],
    body: container({
      CapabilityAdd: ["CAP_NET_ADMIN"],
      CapabilityDrop: ["ALL"],
      Sysctls: { "net.a": "1" },
      Ulimits: [{ Name: "nofile", Soft: 10, Hard: 20 }],
      Hosts: ["192.0.2.1 db"],
      DNSConfig: { Nameservers: ["192.0.2.2"] },
    }),
  },
  {
    name: "a health check",
    flags: ["--health-cmd", "curl x", "--health-interval", "5s", "--health-retries", "2", "web"],
    body: container({ Healthcheck: { Test: ["CMD-SHELL", "curl x"], Interval: 5e9, Retries: 2 } }),
  },
  {
    name: "no health check",
    flags: ["--no-healthcheck", "web"],
    body: container({ Healthcheck: { Test: ["NONE"] } }),
  },
  {
    name: "generic resources by number and by name",
    flags: ["--generic-resource", "fpga=2", "--generic-resource", "gpu=UUID1", "web"],
    body: body({
      Resources: {
        Reservations: {
          GenericResources: [
            { DiscreteResourceSpec: { Kind: "fpga", Value: 2 } },
            { NamedResourceSpec: { Kind: "gpu", Value: "UUID1" } },
          ],
        },
      },
    }),
  },
  {
    name: "a log driver",
    flags: ["--log-driver", "json-file", "--log-opt", "max-size=1m", "web"],
    body: body({ LogDriver: { Name: "json-file", Options: { "max-size": "1m" } } }),
  },
];
for (const row of rows)
  test(`service create: ${row.name}`, async () => {
    assert.deepEqual(await bodyOf(...row.flags), row.body);
  });

test("an environment file is read without comments, before the flags", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tsswarm-env-"));
  try {
    writeFileSync(join(folder, "env"), "# comment\n\nFROM=file\nHOME\n");
    assert.deepEqual(
      await bodyOf("--env-file", join(folder, "env"), "-e", "B=2", "web"),
      container({ Env: ["FROM=file", "HOME=/root", "B=2"] }),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the tag is replaced by the digest that the registry names", async () => {
  const { asked, out } = await runCommand(["service", "create", "-d", "web"], {
    ...answers,
    "GET /distribution/web/json": {
      Descriptor: { digest },
      Platforms: [{ architecture: "amd64", os: "linux" }],
    },
  });
  assert.equal(out, "s1\n");
  assert.deepEqual(asked.at(-1)?.body, {
    ...body({ ContainerSpec: { Image: `web:latest@${digest}` } }),
    TaskTemplate: {
      ContainerSpec: { Image: `web:latest@${digest}` },
      Placement: { Platforms: [{ Architecture: "amd64", OS: "linux" }] },
    },
  });
});

test("an image whose registry does not answer is used by its tag, with a warning", async () => {
  const { asked, err } = await runCommand(["service", "create", "-d", "web"], answers);
  assert.match(err, /image web could not be accessed on a registry/);
  assert.deepEqual(asked.at(-1)?.body, body({}));
});

const wrong: readonly (readonly [readonly string[], RegExp])[] = [
  [["--publish", "80000:80", "web"], /invalid port "80000"/],
  [["--publish", "published=80", "web"], /missing mandatory field "target"/],
  [["--publish", "host.lan:80:80", "web"], /invalid address of a host: "host\.lan"/],
  [["--publish", "1:2:3:4", "web"], /invalid port "1:2:3:4"/],
  [["--network", "name=a,gw-priority=x", "web"], /"x"/],
  [["--mount", "type=bind,target=/x", "web"], /source is required for a bind/],
  [
    ["--mount", "type=volume,source=a,target=/x,tmpfs-size=1m", "web"],
    /cannot mix 'tmpfs-\*' options/,
  ],
  [["--restart-delay", "soon", "web"], /invalid duration "soon"/],
  [["--autoscale", "min=1", "web"], /invalid autoscale "min=1": max is missing/],
  [["--autoscale", "max=3", "web"], /cpu or memory is missing/],
  [["--autoscale", "max=3,cpu=50,max=4", "web"], /max is given twice/],
  [["--autoscale", "often", "web"], /min=N,max=N,cpu=PERCENT/],
  [["--limit-memory", "much", "web"], /invalid size: 'much'/],
  [["--mode", "global", "--replicas", "2", "web"], /replicas can only be used with replicated/],
  [["--restart-condition", "never", "web"], /none, on-failure, any/],
  [["--nonsense", "web"], /unknown flag: --nonsense/],
];
for (const [flags, sentence] of wrong)
  test(`service create ${flags.join(" ")} is refused with one sentence and code 125`, async () => {
    const { code, err, asked } = await runCommand(["service", "create", ...flags]);
    assert.match(err, sentence);
    assert.equal(code, 125);
    assert.deepEqual(asked, []);
  });
