// Whole stacks: those people publish, what a cluster cannot do, what goes beyond docker stack, and how far services have come.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Body } from "../../../../cli/body.ts";
import { standing } from "../../../../cli/stack/progress.ts";
import { unsupported } from "../../../../cli/stack/unsupported.ts";
import type { Task } from "../../../../proto/gen/types.ts";
import { examples } from "./examples.ts";
import { project, wanted } from "./kit.ts";

for (const { name, files, environment, services } of examples)
  test(`${name}: everything in it is honoured`, () => {
    assert.deepEqual(unsupported(project({ files, environment })), []);
    const stack = wanted({ files, environment });
    assert.deepEqual(
      stack.services.map(({ key }) => key),
      services,
    );
    for (const { spec } of stack.services)
      assert.match(
        spec.TaskTemplate?.ContainerSpec?.Image ?? "",
        /^registry\.lab:5000\/\w+:latest$/,
      );
  });

test("the blog's database has its volume, its secret and its health", () => {
  const [example] = examples;
  assert.ok(example);
  const stack = wanted(example);
  const [db, wordpress] = stack.services.map(({ spec }) => spec.TaskTemplate?.ContainerSpec);
  assert.deepEqual(db?.Mounts, [
    {
      Type: "volume",
      Source: "st_db_data",
      Target: "/var/lib/mysql",
      VolumeOptions: { Labels: { "com.docker.stack.namespace": "st" } },
    },
  ]);
  assert.deepEqual(db?.Args, [
    "sh",
    "-c",
    'echo "$(cat /run/secrets/db_password)" > /var/lib/mysql/started; exec sleep 1d',
  ]);
  assert.equal(db?.Healthcheck?.Retries, 30);
  assert.match(wordpress?.Secrets?.[0]?.SecretName ?? "", /^st_db_password_[0-9a-f]{12}$/);
  assert.equal(Buffer.from(stack.files[0]?.data ?? "", "base64").toString(), "geheim");
  assert.deepEqual(stack.services[1]?.spec.EndpointSpec?.Ports, [
    { Protocol: "tcp", TargetPort: 80, PublishedPort: 8000, PublishMode: "ingress" },
  ]);
});

test("what docker stack leaves out is honoured", () => {
  const yaml = `
services:
  s:
    image: x
    privileged: true
    devices: ["/dev/kvm", "/dev/sda:/dev/xvda:r"]
    security_opt: [no-new-privileges:true]
    shm_size: 64m
    ipc: host
    pid: host
    cgroup_parent: /g
    runtime: runc
    device_cgroup_rules: ["c 1:3 mr"]
    storage_opt: {size: 1G}
    tmpfs: [/run, "/tmp:size=16m,mode=1777"]
    group_add: [audio, 100]
    oom_score_adj: 5
    dns_opt: [ndots:2]
    restart: "no"
    scale: 3
    cpus: 0.5
    mem_limit: 100m
    memswap_limit: 150m
    mem_reservation: 10m
    pids_limit: 7
    platform: linux/amd64
    ports: ["192.0.2.1:80:80"]
    networks: {n: {gw_priority: 2}}
  h: {image: x, network_mode: host}
  n: {image: x, network_mode: none}
networks: {n: }`;
  const files = { "compose.yaml": yaml };
  assert.deepEqual(unsupported(project({ files })), []);
  const specs = wanted({ files }).services.map(({ spec }) => spec);
  assert.deepEqual(specs[0]?.TaskTemplate?.Networks, [{ Target: "host" }]);
  assert.deepEqual(specs[1]?.TaskTemplate?.Networks, [{ Target: "none" }]);
  const spec = specs[2];
  assert.deepEqual(spec?.TaskTemplate?.ContainerSpec?.HostConfig, {
    Privileged: true,
    Devices: [
      { PathOnHost: "/dev/kvm", PathInContainer: "/dev/kvm", CgroupPermissions: "rwm" },
      { PathOnHost: "/dev/sda", PathInContainer: "/dev/xvda", CgroupPermissions: "r" },
    ],
    DeviceCgroupRules: ["c 1:3 mr"],
    ShmSize: 67_108_864,
    SecurityOpt: ["no-new-privileges:true"],
    IpcMode: "host",
    PidMode: "host",
    CgroupParent: "/g",
    StorageOpt: { size: "1G" },
    Runtime: "runc",
  });
  assert.deepEqual(spec?.TaskTemplate?.ContainerSpec?.Mounts, [
    { Type: "tmpfs", Target: "/run" },
    { Type: "tmpfs", Target: "/tmp", TmpfsOptions: { SizeBytes: 16_777_216, Mode: 0o1777 } },
  ]);
  assert.deepEqual(spec?.TaskTemplate?.ContainerSpec?.Groups, ["audio", "100"]);
  assert.equal(spec?.TaskTemplate?.ContainerSpec?.OomScoreAdj, 5);
  assert.deepEqual(spec?.TaskTemplate?.ContainerSpec?.DNSConfig, { Options: ["ndots:2"] });
  assert.deepEqual(spec?.TaskTemplate?.RestartPolicy, { Condition: "none" });
  assert.deepEqual(spec?.Mode, { Replicated: { Replicas: 3 } });
  assert.deepEqual(spec?.TaskTemplate?.Resources, {
    Limits: { NanoCPUs: 5e8, MemoryBytes: 104_857_600, Pids: 7 },
    Reservations: { MemoryBytes: 10_485_760 },
    SwapBytes: 52_428_800,
  });
  assert.deepEqual(spec?.TaskTemplate?.Placement, {
    Platforms: [{ OS: "linux", Architecture: "x86_64" }],
  });
  assert.equal(spec?.EndpointSpec?.Ports?.[0]?.HostIP, "192.0.2.1");
  assert.deepEqual(spec?.TaskTemplate?.Networks, [
    { Target: "st_n", Aliases: ["s"], GwPriority: 2 },
  ]);
});

const ignored: readonly (readonly [said: string, path: string])[] = [
  ["build: .", "build"],
  ["container_name: x", "container_name"],
  ["links: [t]", "links"],
  ["external_links: [t]", "external_links"],
  ["network_mode: bridge", "network_mode"],
  ["network_mode: 'service:t'", "network_mode"],
  ["pid: 'container:x'", "pid"],
  ["ipc: shareable", "ipc"],
  ["userns_mode: host", "userns_mode"],
  ["mac_address: '02:42:ac:11:65:43'", "mac_address"],
  ["domainname: x", "domainname"],
  ["volumes_from: [t]", "volumes_from"],
  ["gpus: all", "gpus"],
  ["develop: {watch: []}", "develop"],
  ["pull_policy: always", "pull_policy"],
  ["cpuset: '0-1'", "cpuset"],
  ["networks: {default: {ipv4_address: 10.0.0.9}}", "networks.default.ipv4_address"],
  ["volumes: ['./a:/a:z']", "volumes[0].bind.selinux"],
  ["depends_on: {t: {condition: service_started, restart: true}}", "depends_on.t.restart"],
  [
    "deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}",
    "deploy.resources.reservations.devices",
  ],
];

for (const [said, path] of ignored)
  test(`"${said}" is told as ignored, by its name`, () => {
    const files = { "compose.yaml": `services:\n  t: {image: x}\n  s:\n    image: x\n    ${said}` };
    const [sentence, ...others] = unsupported(project({ files }));
    assert.ok(sentence?.startsWith(`services.s.${path}`), sentence);
    assert.deepEqual(others, []);
    assert.equal(wanted({ files }).services.length, 2);
  });

const wrongs: readonly (readonly [name: string, yaml: string, says: RegExp])[] = [
  [
    "no image",
    "services: {s: {build: .}}",
    /services\.s: invalid image reference for service s: no image specified/,
  ],
  [
    "an undefined network",
    "services: {s: {image: x, networks: [n]}}",
    /services\.s\.networks: undefined network "n"/,
  ],
  ["an undefined volume", "services: {s: {image: x, volumes: ['v:/v']}}", /undefined volume "v"/],
  [
    "an undefined secret",
    "services: {s: {image: x, secrets: [v]}}",
    /services\.s: undefined secret "v"/,
  ],
  [
    "a secret without content",
    "services: {s: {image: x}}\nsecrets: {a: {}}",
    /secrets\.a: one of file, environment, content/,
  ],
  [
    "a secret's file that is not there",
    "services: {s: {image: x}}\nsecrets: {a: {file: no}}",
    /secrets\.a: open \/home\/u\/app\/no: no such file/,
  ],
  [
    "a variable that is not there",
    "services: {s: {image: x}}\nconfigs: {a: {environment: NO}}",
    /configs\.a: the environment has no variable NO/,
  ],
  [
    "replicas of a global service",
    "services: {s: {image: x, deploy: {mode: global, replicas: 2}}}",
    /services\.s\.deploy: replicas can only/,
  ],
  [
    "an unknown restart word",
    "services: {s: {image: x, restart: maybe}}",
    /services\.s\.restart: "maybe" is not one of/,
  ],
  [
    "network_mode beside networks",
    "services: {s: {image: x, network_mode: host, networks: [n]}}\nnetworks: {n: }",
    /cannot both be given/,
  ],
];

for (const [name, yaml, says] of wrongs)
  test(`${name} is an error with its place`, () =>
    assert.throws(() => wanted({ files: { "compose.yaml": yaml } }), says));

function task(State: string, more: Body<Task> = {}): Body<Task> {
  return { Slot: 1, DesiredState: "running", Status: { State }, ...more };
}

const job = { Mode: { ReplicatedJob: { TotalCompletions: 2 } } };
const once = { ...job, TaskTemplate: { RestartPolicy: { Condition: "none" } } };
const standings = [
  {
    name: "a service with all its tasks is there",
    spec: {},
    tasks: [task("running")],
    is: "there",
  },
  {
    name: "one whose task starts is on the way",
    spec: {},
    tasks: [task("starting")],
    is: "on-the-way",
  },
  {
    name: "a job is there when all have completed",
    spec: job,
    tasks: [task("complete"), task("complete")],
    is: "there",
  },
  { name: "not before", spec: job, tasks: [task("complete"), task("running")], is: "on-the-way" },
  {
    name: "a job that will be tried again is on the way",
    spec: job,
    tasks: [task("failed")],
    is: "on-the-way",
  },
  {
    name: "one that will not has failed",
    spec: once,
    tasks: [task("complete"), task("failed", { Status: { State: "failed", Err: "exit 3" } })],
    is: "failed",
  },
  {
    name: "one of whose tasks another goes on has not",
    spec: once,
    tasks: [task("failed"), task("running")],
    is: "on-the-way",
  },
] as const;

for (const { name, spec, tasks, is } of standings)
  test(name, () => {
    const seen = { service: { Spec: spec }, tasks, nodes: [], isWritten: true };
    const state = standing(seen, "service_started");
    assert.equal(state.kind, is);
    if (state.kind === "failed") assert.equal(state.why, "exit 3");
  });

const policies = `
services:
  s:
    image: x
    deploy:
      placement: {preferences: [{spread: node.labels.zone}]}
      x-tsswarm:
        autoscale: min=2,max=\${MAX},cpu=70,window=1m
        placement_prefs: ["prefer=node.labels.disk==ssd", binpack]
        rebalance: true
        rebalance_threshold: 3
        restart_max_delay: 30s
  j:
    image: x
    deploy:
      mode: replicated-job
      x-tsswarm:
        schedule: 0 6 * * 1-5
        schedule_zone: Europe/Berlin
        schedule_concurrency: replace
        schedule_deadline: 5m
        schedule_history: 3
`;

test("x-tsswarm has what service create has beyond Docker's", () => {
  const stack = wanted({ files: { "compose.yaml": policies }, environment: { MAX: "8" } });
  const [job, service] = stack.services.map(({ spec }) => spec);
  assert.deepEqual(job?.Schedule, {
    Cron: "0 6 * * 1-5",
    TimeZone: "Europe/Berlin",
    Concurrency: "replace",
    Deadline: 300e9,
    History: 3,
  });
  assert.deepEqual(job?.Autoscale, {});
  assert.deepEqual(service?.Autoscale, { Min: 2, Max: 8, CPU: 70, Window: 60e9 });
  assert.deepEqual(service?.Rebalance, { Enabled: true, Threshold: 3 });
  assert.deepEqual(service?.Schedule, {});
  assert.deepEqual(service?.TaskTemplate?.RestartPolicy, { MaxDelay: 30e9 });
  assert.deepEqual(service?.TaskTemplate?.Placement?.Preferences, [
    { Spread: { SpreadDescriptor: "node.labels.zone" } },
    { Prefer: { Constraint: "node.labels.disk==ssd" } },
    { Binpack: {} },
  ]);
});

const wrongPolicies: readonly { readonly said: string; readonly why: RegExp }[] = [
  { said: "{rebalanced: true}", why: /x-tsswarm Additional property rebalanced is not allowed/ },
  { said: "{autoscale: cpu=70}", why: /x-tsswarm\.autoscale: .*max is missing/ },
  { said: "{placement_prefs: [pack]}", why: /unsupported placement preference "pack"/ },
  { said: "{schedule_concurrency: wait}", why: /must be one of forbid, allow, replace/ },
];
for (const { said, why } of wrongPolicies)
  test(`x-tsswarm: ${said} is refused`, () => {
    const yaml = `services: {s: {image: x, deploy: {x-tsswarm: ${said}}}}`;
    assert.throws(() => wanted({ files: { "compose.yaml": yaml } }), why);
  });

test("an update that has stopped by itself has failed", () => {
  const service = { Spec: {}, UpdateStatus: { State: "paused", Message: "task failed" } };
  assert.deepEqual(
    standing({ service, tasks: [task("running")], nodes: [], isWritten: true }, "service_healthy"),
    {
      kind: "failed",
      why: "task failed",
    },
  );
});

test("a replicated service others wait for to complete is there when its tasks have", () => {
  const seen = {
    service: { Spec: {} },
    tasks: [task("complete")],
    nodes: [],
    isWritten: true,
  };
  assert.equal(standing(seen, "service_completed_successfully").kind, "there");
  assert.equal(
    standing({ ...seen, tasks: [task("running")] }, "service_completed_successfully").kind,
    "on-the-way",
  );
});

test("an update that was rolled back has failed, for who has made it", () => {
  const service = { Spec: {}, UpdateStatus: { State: "rollback_completed", Message: "exit 1" } };
  const seen = { service, tasks: [task("running")], nodes: [] };
  assert.deepEqual(standing({ ...seen, isWritten: true }, "service_started"), {
    kind: "failed",
    why: "its update was rolled back: exit 1",
  });
  assert.deepEqual(standing({ ...seen, isWritten: false }, "service_healthy"), { kind: "there" });
});
