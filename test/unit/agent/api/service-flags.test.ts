// Every flag of `docker service create` and `update`: what the docker command asks for is what inspect shows, and tsswarm's
// own command asks for the same. (Secrets and configs have tests of their own; isolation and credential specs are for Windows.)

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { door } from "../../manager/control/door.ts";
import { dockerPath, type FakeDaemon, type Ran, run, startFakeDaemon } from "./fakes.ts";

const skip = dockerPath === undefined ? "there is no docker command here" : false;
const image = "registry.lab:5000/whoami:latest";
const program = fileURLToPath(new URL("../../../../cli/main.js", import.meta.url));

let daemon: FakeDaemon;
let recorder: http.Server;
let folder = "";
/** The last body sent to create or update a service. */
let asked: Json = {};

type Json = { readonly [key: string]: unknown };

before(async () => {
  if (dockerPath === undefined) return;
  daemon = await startFakeDaemon(true, (await door()).control);
  folder = await mkdtemp(join(tmpdir(), "tsswarm-flags-"));
  recorder = http.createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      const bytes = Buffer.concat(parts);
      if (
        /^\/(v[\d.]+\/)?services\/[^/]+(\/update)?(\?|$)/.test(request.url ?? "") &&
        bytes.length > 0
      )
        asked = JSON.parse(bytes.toString());
      const { method, url, headers } = request;
      const onward = http.request(
        { socketPath: daemon.socket, method, path: url, headers },
        (answer) => {
          response.writeHead(answer.statusCode ?? 500, answer.headers);
          answer.pipe(response);
        },
      );
      onward.end(bytes);
    });
  });
  await new Promise<void>((resolve) => recorder.listen(`${folder}/docker.sock`, resolve));
  await writeFile(`${folder}/env`, "# a comment\nFROM_FILE=1\n");
  for (const name of ["front", "back"])
    assert.equal((await docker("network", "create", "-d", "overlay", name)).code, 0);
});

after(async () => {
  if (dockerPath === undefined) return;
  await new Promise((resolve) => recorder.close(resolve));
  await daemon[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

function docker(...args: readonly string[]): Promise<Ran> {
  const env = { DOCKER_HOST: `unix://${folder}/docker.sock`, HOME: folder, OWN: "mine" };
  return run(dockerPath ?? "docker", args, env);
}

function tsswarm(...args: readonly string[]): Promise<Ran> {
  const host = ["-H", `unix://${folder}/docker.sock`];
  return run(process.execPath, [program, ...host, ...args], { HOME: folder, OWN: "mine" });
}

async function stored(name: string): Promise<Json> {
  const { json } = await daemon.ask("GET", `/v1.50/services/${name}`);
  return json.Spec as Json;
}

/** Without what says nothing: Docker leaves out empty lists and zeros in one place and shows them in another. */
function significant(value: unknown, key = ""): unknown {
  if (Array.isArray(value)) return value.map((item) => significant(item));
  if (typeof value !== "object" || value === null) return value;
  if (maps.includes(key)) return Object.keys(value).length === 0 ? undefined : value;
  const entries = Object.entries(value)
    .map(([name, item]) => [name, significant(item, name)] as const)
    .filter(([, item]) => says(item));
  return entries.length === 0 && !modes.includes(key) ? undefined : Object.fromEntries(entries);
}

const maps = ["Labels", "Options", "Sysctls", "DriverOpts"];
const modes = ["Global", "GlobalJob"];

function says(item: unknown): boolean {
  if (Array.isArray(item)) return item.length > 0;
  return item !== undefined && item !== null && item !== "" && item !== 0 && item !== false;
}

/** The docker command sorts networks by id, and ports and what is changed in the environment by chance. */
function comparable(spec: Json): unknown {
  const task = spec["TaskTemplate"] as {
    Networks?: { Target: string }[];
    ContainerSpec: { Env?: string[] };
    Resources?: { Reservations?: { GenericResources?: Json[] } };
  };
  // The docker command says them in any order.
  task.Resources?.Reservations?.GenericResources?.sort((a, b) =>
    JSON.stringify(a) < JSON.stringify(b) ? -1 : 1,
  );
  const ContainerSpec = {
    ...task.ContainerSpec,
    Env: [...(task.ContainerSpec.Env ?? [])].sort(),
  };
  const Networks = [...(task.Networks ?? [])].sort((a, b) => (a.Target < b.Target ? -1 : 1));
  const endpoint = spec["EndpointSpec"] as { Ports?: { TargetPort: number }[] };
  const Ports = [...(endpoint.Ports ?? [])].sort((a, b) => a.TargetPort - b.TargetPort);
  return significant({
    ...spec,
    TaskTemplate: { ...task, Networks, ContainerSpec },
    EndpointSpec: { ...endpoint, Ports },
  });
}

/** The one thing that is filled in. */
function withReplicas(spec: Json): Json {
  const mode = spec["Mode"] as Json;
  const { Replicated } = mode as { Replicated?: Json };
  if (Replicated === undefined) return spec;
  return { ...spec, Mode: { Replicated: { Replicas: 1, ...Replicated } } };
}

const always = ["-d", "--no-resolve-image"];
const creations: readonly { readonly name: string; readonly flags: readonly string[] }[] = [
  { name: "nothing", flags: [] },
  {
    name: "labels",
    flags: ["--label", "a=b", "-l", "empty=", "--container-label", "c=d", "--label", "bare"],
  },
  {
    name: "env and dns",
    flags: [
      ...["-e", "A=1", "--env", "OWN", "--env", "SLOT={{.Task.Slot}}", "--env-file", "ENVFILE"],
      ...["--dns", "9.9.9.9", "--dns", "fd00::53", "--dns-search", "example.com"],
      ...["--dns-option", "ndots:2", "--host", "db:10.1.2.3", "--host", "six:fd00::1"],
      ...["--hostname", "{{.Service.Name}}-{{.Node.Hostname}}"],
    ],
  },
  {
    name: "health",
    flags: [
      ...["--health-cmd", "test -e /ok", "--health-interval", "3s", "--health-retries", "7"],
      ...[
        "--health-start-interval",
        "500ms",
        "--health-start-period",
        "1m",
        "--health-timeout",
        "2s",
      ],
    ],
  },
  { name: "health of the image, checked less often", flags: ["--health-interval", "1m30s"] },
  { name: "no health check", flags: ["--no-healthcheck"] },
  {
    name: "limits",
    flags: [
      ...["--limit-cpu", "1.5", "--limit-memory", "64m", "--limit-pids", "100"],
      ...["--reserve-cpu", "0.25", "--reserve-memory", "32m"],
      ...["--generic-resource", "gpu=2", "--generic-resource", "fpga=1"],
    ],
  },
  {
    name: "the process",
    flags: [
      ...[
        "--init",
        "--user",
        "nobody:nogroup",
        "--group",
        "tty",
        "--group",
        "20",
        "--workdir",
        "/tmp",
      ],
      ...["--tty", "--read-only", "--entrypoint", "sh -c 'a b'", "--oom-score-adj", "500"],
      ...["--cap-add", "NET_ADMIN", "--cap-add", "CAP_SYS_TIME", "--cap-drop", "ALL"],
      ...[
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "nproc=50",
        "--sysctl",
        "net.ipv4.tcp_fin_timeout=20",
      ],
      ...["--stop-signal", "SIGINT", "--stop-grace-period", "1m5s", "--isolation", "default"],
    ],
  },
  {
    name: "logs",
    flags: ["--log-driver", "json-file", "--log-opt", "max-size=5m", "--log-opt", "max-file=2"],
  },
  {
    name: "mounts",
    flags: [
      ...["--mount", "type=bind,src=/srv,dst=/srv,ro,bind-propagation=rslave"],
      ...["--mount", "type=bind,src=/opt,dst=/opt,bind-recursive=disabled"],
      ...["--mount", "type=bind,src=/usr,dst=/usr2,readonly,bind-recursive=writable"],
      ...["--mount", "type=volume,src=data,dst=/data,volume-nocopy"],
      ...[
        "--mount",
        "type=volume,src=s-{{.Task.Slot}},dst=/slot,volume-label=a=b,volume-subpath=in/it",
      ],
      ...[
        "--mount",
        "src=nfs,dst=/nfs,volume-driver=local,volume-opt=type=nfs,volume-opt=device=:/x",
      ],
      ...["--mount", "type=volume,dst=/anonymous"],
      ...["--mount", "type=tmpfs,dst=/run,tmpfs-size=1m,tmpfs-mode=1770"],
    ],
  },
  {
    name: "networks",
    flags: ["--network", "front", "--network", "name=back,alias=db,alias=store,driver-opt=x=y"],
  },
  { name: "dnsrr", flags: ["--network", "front", "--endpoint-mode", "dnsrr"] },
  {
    name: "ports",
    flags: [
      ...["-p", "8081:80", "--publish", "8082:53/udp", "-p", "90"],
      ...["-p", "published=8083,target=81,protocol=tcp,mode=host", "-p", "8090-8092:90-92"],
    ],
  },
  {
    name: "restarts",
    flags: [
      ...[
        "--restart-condition",
        "on-failure",
        "--restart-delay",
        "3s",
        "--restart-max-attempts",
        "4",
      ],
      ...["--restart-window", "2m"],
    ],
  },
  {
    name: "updates",
    flags: [
      ...["--update-delay", "2s", "--update-failure-action", "rollback", "--update-monitor", "7s"],
      ...[
        "--update-max-failure-ratio",
        "0.3",
        "--update-order",
        "start-first",
        "--update-parallelism",
        "3",
      ],
      ...[
        "--rollback-delay",
        "1s",
        "--rollback-failure-action",
        "continue",
        "--rollback-monitor",
        "4s",
      ],
      ...["--rollback-max-failure-ratio", "0.5", "--rollback-order", "start-first"],
      ...["--rollback-parallelism", "0"],
    ],
  },
  {
    name: "placement",
    flags: [
      ...["--constraint", "node.role==worker", "--constraint", "node.labels.disk!=hdd"],
      ...["--constraint", "node.platform.os == linux", "--constraint", "engine.labels.rack==r1"],
      ...[
        "--constraint",
        "node.ip==10.77.0.0/24",
        "--replicas-max-per-node",
        "2",
        "--replicas",
        "4",
      ],
      ...[
        "--placement-pref",
        "spread=node.labels.zone",
        "--placement-pref",
        "spread=engine.labels.rack",
      ],
    ],
  },
  { name: "global", flags: ["--mode", "global"] },
  {
    name: "a job",
    flags: ["--mode", "replicated-job", "--replicas", "9", "--max-concurrent", "3"],
  },
  { name: "a job of equals", flags: ["--mode", "replicated-job", "--replicas", "4"] },
  { name: "a global job", flags: ["--mode", "global-job", "--restart-condition", "none"] },
];

for (const [i, { name, flags }] of creations.entries())
  test(`docker service create with ${name} is kept as asked, and tsswarm asks for the same`, {
    skip,
  }, async () => {
    const words = flags.map((flag) => (flag === "ENVFILE" ? `${folder}/env` : flag));
    const args = [...always, "--name", `c${i}`, ...words, image, "serve", "--port", "80"];
    const ran = await docker("service", "create", ...args);
    assert.equal(ran.code, 0, ran.stderr);
    const wanted = withReplicas(await withIds(asked));
    assert.deepEqual(comparable(await stored(`c${i}`)), comparable(wanted));
    await docker("service", "rm", `c${i}`);
    const own = await tsswarm("service", "create", ...args);
    assert.equal(own.code, 0, own.stderr);
    const same = await stored(`c${i}`);
    assert.deepEqual(
      comparable(withoutAction(same, flags)),
      comparable(withoutAction(wanted, flags)),
    );
    await docker("service", "rm", `c${i}`);
  });

/** What tsswarm's command leaves to the cluster when nobody asks for it: what a failed update leads to. */
function withoutAction(spec: Json, flags: readonly string[]): Json {
  const drop = (kind: string, config: unknown) =>
    flags.includes(`--${kind}-failure-action`) || config === undefined
      ? config
      : { ...(config as Json), FailureAction: "" };
  return {
    ...spec,
    UpdateConfig: drop("update", spec["UpdateConfig"]),
    RollbackConfig: drop("rollback", spec["RollbackConfig"]),
  };
}

/** Networks by name, as they are asked for, by their ids. */
async function withIds(spec: Json): Promise<Json> {
  const { json } = await daemon.ask("GET", "/v1.50/networks");
  let text = JSON.stringify(spec);
  for (const { Name, Id } of json as { Name: string; Id: string }[])
    text = text.replaceAll(`"Target":"${Name}"`, `"Target":"${Id}"`);
  return JSON.parse(text) as Json;
}

const base = [
  ...["--label", "a=b", "--label", "c=d", "--container-label", "a=b", "-e", "A=1", "-e", "B=2"],
  ...["--dns", "9.9.9.9", "--dns-search", "a.example", "--dns-option", "ndots:1", "--group", "tty"],
  ...[
    "--host",
    "db:10.1.2.3",
    "--sysctl",
    "net.ipv4.tcp_fin_timeout=20",
    "--ulimit",
    "nofile=10:20",
  ],
  ...["--cap-add", "NET_ADMIN", "--constraint", "node.role==worker", "--network", "front"],
  ...[
    "--placement-pref",
    "spread=node.labels.a",
    "--mount",
    "type=tmpfs,dst=/run",
    "-p",
    "8080:80",
  ],
  ...["--generic-resource", "gpu=1", "--health-cmd", "true", "--limit-memory", "64m"],
  ...["--restart-condition", "on-failure", "--restart-delay", "1s"],
];
const changes: readonly { readonly name: string; readonly flags: readonly string[] }[] = [
  { name: "force", flags: ["--force"] },
  {
    name: "image and process",
    flags: [
      "--image",
      "registry.lab:5000/busybox",
      "--args",
      "x 'y z'",
      "--user",
      "1:2",
      "--workdir",
      "/x",
      "--tty",
      "--read-only",
      "--init",
      "--hostname",
      "h",
      "--entrypoint",
      "sh -c",
      "--stop-signal",
      "INT",
      "--stop-grace-period",
      "3s",
      "--isolation",
      "default",
      "--oom-score-adj",
      "7",
    ],
  },
  {
    name: "labels",
    flags: [
      "--label-add",
      "e=f",
      "--label-add",
      "a=z",
      "--label-rm",
      "c",
      "--container-label-add",
      "x=y",
      "--container-label-rm",
      "a",
    ],
  },
  {
    name: "env and dns",
    flags: [
      "--env-add",
      "A=9",
      "--env-add",
      "C=3",
      "--env-rm",
      "B",
      "--dns-add",
      "1.1.1.1",
      "--dns-rm",
      "9.9.9.9",
      "--dns-search-add",
      "b.example",
      "--dns-search-rm",
      "a.example",
      "--dns-option-add",
      "ndots:3",
      "--dns-option-rm",
      "ndots:1",
      "--host-add",
      "web:10.9.9.9",
      "--host-rm",
      "db:10.1.2.3",
    ],
  },
  {
    name: "groups, sysctls, ulimits, capabilities",
    flags: [
      "--group-add",
      "20",
      "--group-rm",
      "tty",
      "--sysctl-add",
      "net.core.somaxconn=99",
      "--sysctl-rm",
      "net.ipv4.tcp_fin_timeout",
      "--ulimit-add",
      "nproc=5",
      "--ulimit-rm",
      "nofile",
      "--cap-add",
      "SYS_TIME",
      "--cap-drop",
      "NET_ADMIN",
    ],
  },
  {
    name: "placement",
    flags: [
      "--constraint-add",
      "node.hostname!=h9",
      "--constraint-rm",
      "node.role==worker",
      "--placement-pref-add",
      "spread=node.labels.b",
      "--placement-pref-rm",
      "spread=node.labels.a",
      "--replicas-max-per-node",
      "3",
    ],
  },
  {
    name: "mounts and networks",
    flags: [
      "--mount-add",
      "type=volume,src=data,dst=/data",
      "--mount-rm",
      "/run",
      "--network-add",
      "name=back,alias=b",
      "--network-rm",
      "front",
    ],
  },
  {
    name: "ports",
    flags: ["--publish-add", "published=8081,target=81,mode=host", "--publish-rm", "80"],
  },
  { name: "dnsrr", flags: ["--publish-rm", "80", "--endpoint-mode", "dnsrr"] },
  { name: "health", flags: ["--health-interval", "9s", "--health-retries", "2"] },
  { name: "no health", flags: ["--no-healthcheck"] },
  {
    name: "limits",
    flags: [
      "--limit-cpu",
      "2",
      "--limit-memory",
      "0",
      "--limit-pids",
      "9",
      "--reserve-cpu",
      "1",
      "--reserve-memory",
      "8m",
      "--generic-resource-add",
      "fpga=2",
      "--generic-resource-rm",
      "gpu",
    ],
  },
  { name: "logs", flags: ["--log-driver", "json-file", "--log-opt", "max-size=1m"] },
  {
    name: "restarts and replicas",
    flags: [
      "--restart-condition",
      "any",
      "--restart-delay",
      "4s",
      "--restart-max-attempts",
      "2",
      "--restart-window",
      "1m",
      "--replicas",
      "5",
    ],
  },
  {
    name: "update settings",
    flags: [
      "--update-delay",
      "1s",
      "--update-failure-action",
      "continue",
      "--update-max-failure-ratio",
      "0.1",
      "--update-monitor",
      "9s",
      "--update-order",
      "start-first",
      "--update-parallelism",
      "2",
      "--rollback-delay",
      "1s",
      "--rollback-failure-action",
      "continue",
      "--rollback-max-failure-ratio",
      "0.2",
      "--rollback-monitor",
      "8s",
      "--rollback-order",
      "start-first",
      "--rollback-parallelism",
      "4",
    ],
  },
];

for (const [i, { name, flags }] of changes.entries())
  test(`docker service update of ${name} is kept as asked, and tsswarm asks for the same`, {
    skip,
  }, async () => {
    const create = ["service", "create", ...always, "--name", `u${i}`, ...base, image];
    const update = ["service", "update", ...always, ...flags, `u${i}`];
    const specs: Json[] = [];
    for (const command of [docker, tsswarm]) {
      const created = await docker(...create);
      assert.equal(created.code, 0, created.stderr);
      const ran = await command(...update);
      assert.equal(ran.code, 0, ran.stderr);
      specs.push(await stored(`u${i}`));
      assert.deepEqual(comparable(specs.at(-1) ?? {}), comparable(await withIds(asked)));
      await docker("service", "rm", `u${i}`);
    }
    const [theirs = {}, own = {}] = specs;
    assert.deepEqual(
      comparable(withoutAction(own, flags)),
      comparable(withoutAction(theirs, flags)),
    );
  });

test("what only tsswarm knows survives an update by docker, and goes when it is taken away", {
  skip,
}, async () => {
  const extra = [
    ...["--device", "/dev/fuse", "--device", "/dev/null:/dev/zero2:r", "--shm-size", "128m"],
    ...["--security-opt", "seccomp=unconfined", "--ipc", "host", "--pid", "host"],
    ...["--cgroup-parent", "/extra", "--runtime", "runc", "--device-cgroup-rule", "c 42:* rmw"],
  ];
  const made = await tsswarm("service", "create", ...always, "--name", "x", ...extra, image);
  assert.equal(made.code, 0, made.stderr);
  const host = async () =>
    ((await stored("x")) as { TaskTemplate: { ContainerSpec: { HostConfig?: Json } } }).TaskTemplate
      .ContainerSpec.HostConfig;
  const wanted = {
    Devices: [
      { PathOnHost: "/dev/fuse", PathInContainer: "/dev/fuse", CgroupPermissions: "rwm" },
      { PathOnHost: "/dev/null", PathInContainer: "/dev/zero2", CgroupPermissions: "r" },
    ],
    DeviceCgroupRules: ["c 42:* rmw"],
    ShmSize: 128 << 20,
    SecurityOpt: ["seccomp=unconfined"],
    IpcMode: "host",
    PidMode: "host",
    CgroupParent: "/extra",
    Runtime: "runc",
  };
  assert.deepEqual(await host(), wanted);
  assert.equal((await docker("service", "update", "-d", "--force", "x")).code, 0);
  assert.deepEqual(await host(), wanted);
  const { Devices, ...others } = wanted;
  const fewer = ["--device-rm", "/dev/fuse", "--security-opt-rm", "seccomp=unconfined"];
  assert.equal((await tsswarm("service", "update", "-d", ...fewer, "x")).code, 0);
  const { SecurityOpt: _, ...rest } = others;
  assert.deepEqual(await host(), { ...rest, Devices: Devices.slice(1) });
  assert.equal((await docker("service", "rollback", "-d", "x")).code, 0);
  assert.deepEqual(await host(), wanted);
});

test("privileged services need the cluster's leave", { skip }, async () => {
  const create = ["service", "create", ...always, "--name", "p", "--privileged", image];
  const refused = await tsswarm(...create);
  assert.match(refused.stderr, /does not allow privileged services/);
  assert.equal((await tsswarm("swarm", "update", "--allow-privileged")).code, 0);
  const allowed = await tsswarm(...create);
  assert.equal(allowed.code, 0, allowed.stderr);
  assert.equal((await docker("swarm", "update", "--task-history-limit", "4")).code, 0);
  const again = await tsswarm("service", "update", "-d", "--env-add", "A=1", "p");
  assert.equal(again.code, 0, again.stderr);
  assert.equal((await tsswarm("swarm", "update", "--allow-privileged=false")).code, 0);
  const late = await tsswarm("service", "update", "-d", "--env-add", "B=1", "p");
  assert.match(late.stderr, /does not allow privileged services/);
});

const refusals: readonly { readonly flags: readonly string[]; readonly why: RegExp }[] = [
  {
    flags: ["--mode", "global-job", "--update-parallelism", "2"],
    why: /Jobs may not have an update config|jobs/i,
  },
  { flags: ["--constraint", "node.color==red"], why: /constraint key 'node.color' is not known/ },
  { flags: ["--limit-memory", "1m"], why: /Must be at least 4MiB/ },
  { flags: ["--limit-cpu", "0.0000001"], why: /[Ii]nvalid cpu value|Must be at least 0.001/ },
  {
    flags: ["-p", "80:80", "--endpoint-mode", "dnsrr"],
    why: /ingress mode can't be used with dnsrr/,
  },
  {
    flags: ["--mount", "type=bind,src=/a,dst=/x", "--mount", "type=tmpfs,dst=/x"],
    why: /duplicate mount point/,
  },
  { flags: ["--generic-resource", "gpu=a"], why: /gpu=a|generic/ },
  { flags: ["--hostname", "{{.Nope}}"], why: /expanding hostname failed/ },
  { flags: ["--health-interval", "1us", "--health-cmd", "true"], why: /cannot be less than 1ms/ },
  { flags: ["--network", "nowhere"], why: /nowhere/ },
];

for (const { flags, why } of refusals)
  test(`docker service create ${flags.join(" ")} is refused`, { skip }, async () => {
    const ran = await docker("service", "create", ...always, "--name", "refused", ...flags, image);
    assert.notEqual(ran.code, 0);
    assert.match(ran.stderr, why);
  });

test("a rehearsed creation tells its steps and leaves nothing; explain names each node", {
  skip,
}, async () => {
  const create = ["service", "create", "--name", "dry", "--no-resolve-image"];
  const ran = await tsswarm(...create, "--dry-run", "--replicas", "2", image);
  assert.equal(ran.code, 0, ran.stderr);
  assert.match(ran.stdout, /^AFTER +ACTION +TASK/);
  assert.match(ran.stdout, /^0\.0 s +(start|wait) +dry\.1/m);
  assert.equal((await daemon.ask("GET", "/v1.50/services/dry")).status, 404);
  const picky = ["-d", "--constraint", "node.labels.disk==ssd", image];
  assert.equal((await docker(...create, ...picky)).code, 0);
  const update = await tsswarm("service", "update", "--dry-run", "--replicas", "3", "dry");
  assert.match(update.stdout, /wait +dry\.3 .*no suitable node/);
  const explained = await tsswarm("service", "explain", "dry");
  assert.equal(explained.code, 0, explained.stderr);
  assert.match(
    explained.stdout,
    /no +.*it does not satisfy the constraint node\.labels\.disk==ssd/,
  );
  const again = await tsswarm(...create, "--dry-run", image);
  assert.match(again.stderr, /service dry already exists/);
});
