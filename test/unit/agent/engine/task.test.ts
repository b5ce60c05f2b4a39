import assert from "node:assert/strict";
import { test } from "node:test";
import { containerFor } from "../../../../agent/container.ts";
import { taskContainer } from "../../../../agent/engine/task.ts";
import { codec } from "../../../../proto/codec.ts";

const node = { id: "node1", hostname: "h1", architecture: "x86_64" };
const service = {
  ID: "task1",
  Name: "web.3.task1",
  ServiceID: "service1",
  Slot: 3,
  NodeID: "node1",
};

function container(spec: Record<string, unknown>, task: Record<string, unknown> = {}) {
  const whole = { ...service, Spec: { ContainerSpec: { Image: "web:1", ...spec } }, ...task };
  return taskContainer(codec("Task").parse(whole), node, "/run/netns/x");
}

test("a task's container bears the task's name, Docker's labels and the sandbox's namespace", () => {
  const made = container({ Labels: { own: "label" } });
  assert.equal(made.name, "web.3.task1");
  assert.equal(made.networkNamespace, "/run/netns/x");
  assert.deepEqual(made.config.Labels, {
    own: "label",
    "com.docker.swarm.node.id": "node1",
    "com.docker.swarm.service.id": "service1",
    "com.docker.swarm.service.name": "web",
    "com.docker.swarm.task": "",
    "com.docker.swarm.task.id": "task1",
    "com.docker.swarm.task.name": "web.3.task1",
  });
});

const templates = [
  { text: "{{.Service.Name}}-{{.Task.Slot}}", expected: "web-3" },
  { text: "{{ .Node.Hostname }}/{{.Node.ID}}", expected: "h1/node1" },
  { text: "{{.Service.ID}} {{.Task.ID}} {{.Task.Name}}", expected: "service1 task1 web.3.task1" },
  { text: "{{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}", expected: "linux/x86_64" },
  { text: '{{index .Service.Labels "tier"}}', expected: "front" },
  { text: "plain", expected: "plain" },
];
for (const row of templates)
  test(`the template ${row.text} becomes ${row.expected}`, () => {
    const labelled = { Labels: { tier: "front" } };
    const made = container({ Env: [`A=${row.text}`], Hostname: row.text }, labelled);
    assert.deepEqual(made.config.Env, [`A=${row.expected}`]);
    assert.equal(made.config.Hostname, row.expected);
  });

test("a template that nobody knows is refused by name", () => {
  assert.throws(() => container({ Env: ["A={{.Secret}}"] }), /unknown template {{.Secret}}/);
});

test("what a task got of its node's resources is in its environment, by name or by number", () => {
  const { config } = container(
    { Env: ["A=b"] },
    {
      GenericResources: [
        { NamedResourceSpec: { Kind: "gpu", Value: "UUID1" } },
        { NamedResourceSpec: { Kind: "gpu", Value: "UUID2" } },
        { DiscreteResourceSpec: { Kind: "fpga", Value: 3 } },
      ],
    },
  );
  assert.deepEqual(config.Env, [
    "A=b",
    "DOCKER_RESOURCE_GPU=UUID1,UUID2",
    "DOCKER_RESOURCE_FPGA=3",
  ]);
});

test("a task that names no log driver has the daemon's options", () => {
  const logs = { driver: "json-file", options: { "max-file": "7", tag: "{{.Name}}" } } as const;
  const made = (LogDriver: object) => {
    const Spec = { ContainerSpec: { Image: "web:1" }, LogDriver };
    const task = codec("Task").parse({ ...service, Spec });
    return taskContainer(task, node, "/run/netns/x", [], logs).host;
  };
  assert.deepEqual(made({}).LogLimits, { filesMax: 7 });
  assert.deepEqual(made({ Options: { "max-file": "2" } }).LogLimits, { filesMax: 2 });
  assert.equal(made({ Options: { "max-file": "2" } }).LogAttributes?.tag, "{{.Name}}");
  assert.equal(made({ Name: "none" }).LogLimits, undefined);
});

test("command and arguments, directory and user, signal and grace", () => {
  const { config } = container({
    Command: ["/bin/a"],
    Args: ["b"],
    Dir: "/c",
    User: "d",
    StopSignal: "SIGINT",
    StopGracePeriod: 1_500_000_000,
  });
  assert.deepEqual(
    [config.Entrypoint, config.Cmd, config.WorkingDir, config.User],
    [["/bin/a"], ["b"], "/c", "d"],
  );
  assert.deepEqual([config.StopSignal, config.StopTimeout], ["SIGINT", 2]);
  assert.deepEqual([container({}).config.Entrypoint, container({}).config.Cmd], [null, null]);
  assert.equal(container({}).config.StopTimeout, 10);
});

test("limits, hosts, mounts and privileges become the host's part", () => {
  const { host } = container(
    {
      Hosts: ["10.0.0.1 a b"],
      Mounts: [{ Type: "volume", Source: "data-{{.Task.Slot}}", Target: "/data" }],
      Privileges: { NoNewPrivileges: true, Seccomp: { Mode: "unconfined" } },
      ReadOnly: true,
      CapabilityDrop: ["CAP_NET_RAW"],
    },
    {
      Spec: {
        ContainerSpec: {
          Image: "web:1",
          Hosts: ["10.0.0.1 a b"],
          Mounts: [{ Type: "volume", Source: "data-{{.Task.Slot}}", Target: "/data" }],
          Privileges: { NoNewPrivileges: true, Seccomp: { Mode: "unconfined" } },
          ReadOnly: true,
          CapabilityDrop: ["CAP_NET_RAW"],
        },
        Resources: {
          Limits: { NanoCPUs: 5e8, MemoryBytes: 1000, Pids: 9 },
          Reservations: { MemoryBytes: 500 },
          SwapBytes: 200,
        },
      },
    },
  );
  assert.deepEqual(host.ExtraHosts, ["a:10.0.0.1", "b:10.0.0.1"]);
  assert.equal(host.Mounts?.[0]?.Source, "data-3");
  assert.deepEqual(host.SecurityOpt, ["seccomp=unconfined", "no-new-privileges"]);
  assert.deepEqual(
    [host.Memory, host.MemoryReservation, host.MemorySwap, host.NanoCpus, host.PidsLimit],
    [1000, 500, 1200, 5e8, 9],
  );
  assert.equal(host.ReadonlyRootfs, true);
});

test("a global service's task takes its node's id for a slot", () => {
  const { Slot: _, ...rest } = service;
  const made = taskContainer(
    codec("Task").parse({
      ...rest,
      Name: "agent.node1.task1",
      Spec: { ContainerSpec: { Image: "a", Env: ["S={{.Service.Name}}.{{.Task.Slot}}"] } },
    }),
    node,
  );
  assert.deepEqual(made.config.Env, ["S=agent.node1"]);
});

test("addresses are shown by network name", () => {
  const made = container(
    {},
    {
      NetworksAttachments: [
        {
          Network: {
            ID: "n1",
            Spec: { Name: "front" },
            IPAM: {
              Config: [
                { Subnet: "10.7.0.0/24", Gateway: "10.7.0.1" },
                { Subnet: "10.1.0.0/24", Gateway: "10.1.0.1" },
                { Subnet: "fd00:1::/64", Gateway: "fd00:1::1" },
              ],
            },
          },
          Addresses: ["10.1.0.5/24", "fd00:1::5/64"],
          Aliases: ["www"],
        },
      ],
    },
  );
  assert.deepEqual(made.networks, {
    front: {
      NetworkID: "n1",
      IPAddress: "10.1.0.5",
      IPPrefixLen: 24,
      Gateway: "10.1.0.1",
      GlobalIPv6Address: "fd00:1::5",
      GlobalIPv6PrefixLen: 64,
      IPv6Gateway: "fd00:1::1",
      Aliases: ["www"],
    },
  });
});

test("a task's secrets and configs are files of this node at their targets, and none of its mounts", () => {
  const Secrets = [{ SecretID: "s", SecretName: "db", File: { Name: "db" } }];
  const Configs = [{ ConfigID: "c", ConfigName: "conf", File: { Name: "/etc/app.conf" } }];
  const task = codec("Task").parse({
    ...service,
    Spec: { ContainerSpec: { Image: "web:1", Secrets, Configs } },
  });
  const made = containerFor(task, "node1", { namespace: "" }, (id, index) => `/m/${id}/${index}`);
  assert.deepEqual(made.files, [
    { source: "/m/task1/0", target: "/run/secrets/db" },
    { source: "/m/task1/1", target: "/etc/app.conf" },
  ]);
  assert.deepEqual(made.host.Mounts, []);
});
