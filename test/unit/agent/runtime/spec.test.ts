import assert from "node:assert/strict";
import { test } from "node:test";
import { capabilityNames } from "../../../../agent/runtime/capabilities.ts";
import type { HostFacts } from "../../../../agent/runtime/host.ts";
import { buildSpec, execProcess, type SpecInput } from "../../../../agent/runtime/spec.ts";

const host: HostFacts = {
  architecture: "x64",
  cgroups: "v1",
  hasAppArmor: false,
  hasAppArmorProfile: false,
  hasSeccomp: true,
  capabilities: capabilityNames,
  hardLimits: {},
  oomScoreAdj: 0,
  canWeighIo: true,
};
const weakHost: HostFacts = {
  ...host,
  capabilities: capabilityNames.filter((name) => name !== "CAP_SYS_RESOURCE"),
  hardLimits: { RLIMIT_NOFILE: 1024 },
};
const input: SpecInput = {
  args: ["/bin/a"],
  env: ["A=b"],
  cwd: "",
  user: { uid: 0, gid: 0 },
  hostname: "box",
  terminal: false,
  mounts: [],
  isRootReadonly: false,
  privileged: false,
  capabilityAdd: [],
  capabilityDrop: [],
  noNewPrivileges: false,
  seccomp: "default",
  appArmor: "",
  cgroupsPath: "/tsswarm/x",
  networkNamespace: "/run/netns/x",
  sysctls: {},
  ulimits: [],
  oomScoreAdj: 0,
  memoryBytes: 0,
  memoryReservationBytes: 0,
  memorySwapBytes: 0,
  nanoCpus: 0,
  pidsMax: 0,
  shmBytes: 0,
};

function build(change: Partial<SpecInput>, on: HostFacts = host) {
  return buildSpec({ ...input, ...change }, on);
}

test("block I/O has limits by device, and a weight where the kernel can weigh", () => {
  const device = { major: 8, minor: 16 };
  const throttleReadBpsDevice = [{ ...device, rate: 1_000_000 }];
  const blockIo = { weight: 300, throttleReadBpsDevice };
  const { spec, warnings } = build({ blockIo });
  assert.deepEqual(spec.linux.resources.blockIO, blockIo);
  assert.deepEqual(warnings, []);
  const without = build({ blockIo }, { ...host, canWeighIo: false });
  assert.deepEqual(without.spec.linux.resources.blockIO, { throttleReadBpsDevice });
  assert.match(without.warnings.join(), /cannot weigh block I\/O/);
  assert.equal(build({ blockIo: {} }).spec.linux.resources.blockIO, undefined);
});

test("an ordinary container gets Docker's capabilities, a filter and masked paths, without warnings", () => {
  const { spec, warnings } = build({});
  assert.equal(spec.process.capabilities.bounding.length, 14);
  assert.deepEqual(spec.process.capabilities.effective, spec.process.capabilities.bounding);
  assert.ok(spec.linux.seccomp !== undefined);
  assert.ok(spec.linux.maskedPaths.includes("/proc/kcore"));
  assert.equal(spec.process.cwd, "/");
  assert.deepEqual(warnings, []);
});

test("a user other than root has no capability in effect", () => {
  const { capabilities } = build({ user: { uid: 1000, gid: 1000 } }).spec.process;
  assert.deepEqual([capabilities.effective, capabilities.permitted], [[], []]);
  assert.equal(capabilities.bounding.length, 14);
});

test("what this machine lacks is left out of a privileged container, with a warning", () => {
  const { spec, warnings } = build({ privileged: true }, weakHost);
  assert.ok(!spec.process.capabilities.bounding.includes("CAP_SYS_RESOURCE"));
  assert.ok(spec.process.capabilities.bounding.includes("CAP_SYS_ADMIN"));
  assert.match(warnings[0] ?? "", /CAP_SYS_RESOURCE/);
  assert.equal(spec.linux.seccomp, undefined);
  assert.deepEqual(spec.linux.maskedPaths, []);
  assert.deepEqual(spec.linux.resources.devices, [{ allow: true, access: "rwm" }]);
});

test("limits above our own are lowered, lower OOM scores left out, each with a warning", () => {
  const change = { ulimits: [{ name: "nofile", hard: 4096, soft: 2048 }], oomScoreAdj: -500 };
  const { spec, warnings } = build(change, weakHost);
  assert.deepEqual(spec.process.rlimits, [{ type: "RLIMIT_NOFILE", hard: 1024, soft: 1024 }]);
  assert.equal(spec.process.oomScoreAdj, undefined);
  assert.equal(warnings.length, 2);
  const strong = build(change).spec.process;
  assert.deepEqual(strong.rlimits, [{ type: "RLIMIT_NOFILE", hard: 4096, soft: 2048 }]);
  assert.equal(strong.oomScoreAdj, -500);
});

test("an unknown capability and an empty command are refused", () => {
  assert.throws(() => build({ capabilityAdd: ["FLY"] }), /unknown capability: CAP_FLY/);
  assert.throws(() => build({ args: [] }), /no command/);
});

const limits = [
  { name: "none", change: {}, memory: undefined, cpu: undefined, pids: undefined },
  {
    name: "memory alone allows as much swap",
    change: { memoryBytes: 100 },
    memory: { limit: 100, swap: 200 },
    cpu: undefined,
    pids: undefined,
  },
  {
    name: "unlimited swap",
    change: { memoryBytes: 100, memorySwapBytes: -1, memoryReservationBytes: 50 },
    memory: { limit: 100, reservation: 50, swap: -1 },
    cpu: undefined,
    pids: undefined,
  },
  {
    name: "half a core and pids",
    change: { nanoCpus: 5e8, pidsMax: 9 },
    memory: undefined,
    cpu: { quota: 50_000, period: 100_000 },
    pids: { limit: 9 },
  },
];
for (const row of limits)
  test(`limits: ${row.name}`, () => {
    const { resources } = build(row.change).spec.linux;
    assert.deepEqual(
      [resources.memory, resources.cpu, resources.pids],
      [row.memory, row.cpu, row.pids],
    );
  });

test("on the host's network there is no network namespace and none of its settings", () => {
  const { linux } = build({ networkNamespace: "" }).spec;
  assert.ok(!linux.namespaces.some((namespace) => namespace.type === "network"));
  assert.deepEqual(linux.sysctl, {});
  const own = build({ sysctls: { "net.core.somaxconn": "9" } }).spec.linux;
  assert.equal(own.sysctl["net.core.somaxconn"], "9");
  assert.deepEqual(own.namespaces.at(-1), { type: "network", path: "/run/netns/x" });
});

test("cgroups v2 get a namespace of their own", () => {
  const has = (on: HostFacts) =>
    build({}, on).spec.linux.namespaces.some((namespace) => namespace.type === "cgroup");
  assert.deepEqual([has(host), has({ ...host, cgroups: "v2" })], [false, true]);
});

test("own mounts replace the base ones and come parents first", () => {
  const bind = (destination: string) => ({ destination, type: "bind", source: "/x", options: [] });
  const { mounts } = build({ mounts: [bind("/a/b"), bind("/dev/shm"), bind("/a")] }).spec;
  const places = mounts.map((mount) => mount.destination);
  assert.equal(places.filter((place) => place === "/dev/shm").length, 1);
  assert.ok(places.indexOf("/a") < places.indexOf("/a/b"));
});

const profiles = [
  {
    name: "where the kernel has it",
    on: { ...host, hasAppArmor: true, hasAppArmorProfile: true },
    asked: "",
    profile: "tsswarm-default",
    warned: false,
  },
  { name: "unless the kernel has none", on: host, asked: "", profile: undefined, warned: false },
  {
    name: "with a warning when asked for in vain",
    on: host,
    asked: "mine",
    profile: undefined,
    warned: true,
  },
];
for (const row of profiles)
  test(`an AppArmor profile is named ${row.name}`, () => {
    const { spec, warnings } = build({ appArmor: row.asked }, row.on);
    assert.equal(spec.process.apparmorProfile, row.profile);
    assert.equal(warnings.length > 0, row.warned);
  });

test("the filter lets a container make namespaces only with CAP_SYS_ADMIN", () => {
  const rules = (change: Partial<SpecInput>) =>
    (build(change).spec.linux.seccomp as { syscalls: { names: string[]; args?: unknown }[] })
      .syscalls;
  const cloneRule = rules({}).find((rule) => rule.names[0] === "clone");
  assert.ok(cloneRule?.args !== undefined);
  assert.ok(!rules({})[0]?.names.includes("mount"));
  const admin = rules({ capabilityAdd: ["SYS_ADMIN"] });
  assert.ok(admin[0]?.names.includes("mount") && admin[0].names.includes("clone"));
  assert.ok(!admin.some((rule) => rule.names[0] === "clone3"));
});

test("an architecture without a filter says so", () => {
  const { spec, warnings } = build({}, { ...host, architecture: "mips" });
  assert.equal(spec.linux.seccomp, undefined);
  assert.match(warnings[0] ?? "", /no system call filter for mips/);
});

test("an exec is as the container's process but for what is given", () => {
  const base = build({ oomScoreAdj: 100, noNewPrivileges: true }).spec.process;
  const process = execProcess(
    base,
    {
      args: ["/bin/b"],
      env: ["C=d"],
      cwd: "/tmp",
      user: { uid: 5, gid: 5 },
      terminal: true,
      privileged: false,
    },
    host,
  );
  assert.deepEqual(
    [process.args, process.env, process.cwd, process.user.uid, process.terminal],
    [["/bin/b"], ["C=d"], "/tmp", 5, true],
  );
  assert.equal(process.noNewPrivileges, true);
  assert.equal(process.oomScoreAdj, undefined);
  assert.deepEqual(process.capabilities.effective, []);
});

test("a profile in Docker's form is made plain for this machine and these capabilities", () => {
  const seccomp = {
    defaultAction: "SCMP_ACT_ERRNO",
    archMap: [
      { architecture: "SCMP_ARCH_X86_64", subArchitectures: ["SCMP_ARCH_X86"] },
      { architecture: "SCMP_ARCH_AARCH64", subArchitectures: null },
    ],
    syscalls: [
      { names: ["read"], action: "SCMP_ACT_ALLOW", comment: "x", includes: {}, excludes: {} },
      { names: ["mount"], action: "SCMP_ACT_ALLOW", includes: { caps: ["CAP_SYS_ADMIN"] } },
      { names: ["clone3"], action: "SCMP_ACT_ERRNO", excludes: { caps: ["CAP_SYS_ADMIN"] } },
      { names: ["arm_only"], action: "SCMP_ACT_ALLOW", includes: { arches: ["arm64"] } },
    ],
  };
  assert.deepEqual(build({ seccomp }).spec.linux.seccomp, {
    defaultAction: "SCMP_ACT_ERRNO",
    architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    syscalls: [
      { names: ["read"], action: "SCMP_ACT_ALLOW" },
      { names: ["clone3"], action: "SCMP_ACT_ERRNO" },
    ],
  });
});
