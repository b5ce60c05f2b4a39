import assert from "node:assert/strict";
import { test } from "node:test";
import { parseCreate } from "../../../../agent/api/create.ts";
import { toAnswer } from "../../../../agent/api/errors.ts";
import type { CreateContainer } from "../../../../agent/engine/container-types.ts";

function made(body: object, host: object = {}): CreateContainer {
  return parseCreate({ Image: "busybox", ...body, HostConfig: host }, "demo").container;
}

test("an image alone gives a container on the bridge with nothing else", () => {
  const { config, local, host, networkNamespace } = made({});
  assert.equal(config.Image, "busybox");
  assert.deepEqual([config.Cmd, config.Entrypoint, config.Env], [null, null, []]);
  assert.equal(networkNamespace, "");
  assert.deepEqual(local?.endpoints, { bridge: { aliases: [], address: "" } });
  assert.deepEqual(local?.restart, { Name: "no", MaximumRetryCount: 0 });
  assert.deepEqual([host.PublishedPorts, host.Mounts], [[], []]);
});

test("a command may be one word, as old clients send it", () => {
  assert.deepEqual(made({ Cmd: "ls", Entrypoint: ["sh"] }).config.Cmd, ["ls"]);
});

test("a MAC address is of the first network, unless that is given one itself", () => {
  const mac = "02:42:AC:11:65:43";
  const plain = made({ MacAddress: mac });
  assert.equal(plain.config.MacAddress, mac.toLowerCase());
  assert.equal(plain.local?.endpoints["bridge"]?.mac, mac.toLowerCase());
  const NetworkingConfig = { EndpointsConfig: { back: { MacAddress: "02:00:00:00:00:01" } } };
  const named = made({ MacAddress: mac, NetworkingConfig }, { NetworkMode: "back" });
  assert.equal(named.local?.endpoints["back"]?.mac, "02:00:00:00:00:01");
  for (const wrong of ["02:42", "03:42:ac:11:65:43", "02:42:ac:11:65:4g"])
    assert.throws(() => made({ MacAddress: wrong }), /invalid MAC address/);
});

test("swappiness and isolation within their bounds; lists that nobody spoke of are shown as null", () => {
  assert.equal(made({}, { MemorySwappiness: 40 }).host.MemorySwappiness, 40);
  assert.equal(made({}, { MemorySwappiness: -1 }).host.MemorySwappiness, undefined);
  assert.throws(
    () => made({}, { MemorySwappiness: 101 }),
    /valid memory swappiness range is 0-100/,
  );
  assert.throws(() => made({}, { Isolation: "hyperv" }), /invalid isolation: "hyperv"/);
  const shown = made({}, { Isolation: "default", Dns: [] }).local?.shown ?? {};
  assert.equal(shown["Isolation"], "default");
  assert.deepEqual([shown["Dns"], shown["CapAdd"]], [[], null]);
});

test("published ports: with an address, any free one, a range, and all that are exposed", () => {
  const ports = made(
    { ExposedPorts: { "53/udp": {}, "80/tcp": {} } },
    {
      PublishAllPorts: true,
      PortBindings: {
        "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "8080" }, { HostPort: "8000-8010" }],
        "90": [{ HostIp: "", HostPort: "" }],
      },
    },
  ).host.PublishedPorts;
  assert.deepEqual(
    ports?.map((port) => [
      port.targetPort,
      port.protocol,
      port.hostIP ?? "",
      port.publishedPort,
      port.publishedPortLast ?? 0,
    ]),
    [
      [90, "tcp", "", 0, 0],
      [80, "tcp", "127.0.0.1", 8080, 0],
      [80, "tcp", "", 8000, 8010],
      [53, "udp", "", 0, 0],
    ],
  );
});

test("on the host's network published ports are discarded with a warning", () => {
  const { container, warnings } = parseCreate(
    { Image: "x", HostConfig: { NetworkMode: "host", PortBindings: { "80/tcp": null } } },
    "demo",
  );
  assert.deepEqual(warnings, ["Published ports are discarded when using host network mode"]);
  assert.deepEqual(container.host.PublishedPorts, []);
  assert.deepEqual(container.local?.endpoints, {});
});

const binds: readonly (readonly [string, string, string, string, boolean])[] = [
  ["/a:/b", "bind", "/a", "/b", false],
  ["/a:/b:ro,z", "bind", "/a", "/b", true],
  ["data:/b:rw,nocopy", "volume", "data", "/b", false],
  ["/b", "volume", "", "/b", false],
];
for (const [bind, type, source, target, isReadonly] of binds)
  test(`-v ${bind} is a ${type}`, () => {
    const [mount] = made({}, { Binds: [bind] }).host.Mounts ?? [];
    assert.deepEqual(
      [mount?.Type, mount?.Source, mount?.Target, mount?.ReadOnly],
      [type, source, target, isReadonly],
    );
  });

test("a folder that a bind names is made, one that a mount names is not", () => {
  const mounts =
    made(
      {},
      { Binds: ["/a:/b"], Mounts: [{ Type: "bind", Source: "/c", Target: "/d", ReadOnly: false }] },
    ).host.Mounts ?? [];
  assert.deepEqual(
    mounts.map((mount) => mount.BindOptions?.CreateMountpoint ?? false),
    [true, false],
  );
});

test("networks: aliases, fixed addresses, several at once", () => {
  const body = {
    NetworkingConfig: {
      EndpointsConfig: {
        front: { Aliases: ["www"], IPAMConfig: { IPv4Address: "10.1.0.9" } },
        back: null,
        side: { IPAMConfig: { LinkLocalIPs: ["169.254.8.8", "fe80::8"] } },
      },
    },
  };
  assert.deepEqual(made(body, { NetworkMode: "front" }).local?.endpoints, {
    front: { aliases: ["www"], address: "10.1.0.9" },
    back: { aliases: [], address: "" },
    side: { aliases: [], address: "", linkLocal: ["169.254.8.8", "fe80::8"] },
  });
});

test("a runtime is the engine's to find", () => {
  assert.equal(made({}, { Runtime: "kata" }).host.Runtime, "kata");
  assert.equal("Runtime" in made({}).host, false);
});

test("a log driver is one there is, with options of its own", () => {
  const drive = (Type: string, Config: Readonly<Record<string, string>> = {}) =>
    made({}, { LogConfig: { Type, Config } }).host;
  const local = drive("local", { "max-file": "2", compress: "false" });
  const limits = { bytesMax: 20 * 1024 * 1024, filesMax: 2, isCompressed: false };
  assert.deepEqual([local.LogDriver, local.LogLimits], ["local", limits]);
  assert.equal(drive("local").LogLimits?.isCompressed, true);
  assert.equal(drive("json-file").LogLimits, undefined);
  assert.deepEqual(drive("", { mode: "non-blocking" }).LogLimits, { bufferBytesMax: 1024 * 1024 });
  const marked = drive("json-file", { tag: "{{.Name}}", env: "A,B", "max-file": "3" });
  assert.deepEqual(marked.LogAttributes, { tag: "{{.Name}}", env: "A,B" });
  assert.deepEqual(marked.LogLimits, { filesMax: 3 });
  assert.equal(drive("none").LogDriver, "none");
  assert.equal(drive("").LogDriver, "json-file");
  assert.throws(() => drive("gelf"), {
    code: "invalid",
    message: "logger: no log driver named 'gelf' is registered",
  });
  assert.throws(() => drive("none", { "max-size": "1m" }), /unknown log opt 'max-size' for none/);
  assert.throws(() => drive("local", { tag: "x" }), /unknown log opt 'tag' for local log driver/);
});

test("what a container does not say of its log is the daemon's, where the driver is the daemon's", () => {
  const options = {
    mode: "non-blocking",
    "max-buffer-size": "4m",
    labels: "tier",
    "max-file": "7",
  };
  const logs = { driver: "json-file", options } as const;
  const made = (LogConfig: object | undefined) =>
    parseCreate({ Image: "busybox", HostConfig: { LogConfig } }, "demo", {
      ...{ logs, ipcMode: "private" },
    }).container;
  const silent = made(undefined);
  assert.deepEqual(silent.host.LogLimits, { filesMax: 7, bufferBytesMax: 4 * 1024 * 1024 });
  assert.deepEqual(silent.host.LogAttributes, { labels: "tier" });
  assert.deepEqual(silent.local?.shown["LogConfig"], { Type: "json-file", Config: options });
  const Config = { "max-buffer-size": "8m", "max-file": "2" };
  assert.deepEqual(made({ Type: "", Config }).host.LogLimits, {
    ...{ filesMax: 2, bufferBytesMax: 8 * 1024 * 1024 },
  });
  assert.deepEqual(made({ Config: { mode: "blocking" } }).host.LogLimits, { filesMax: 7 });
  const other = made({ Type: "journald", Config: {} });
  assert.deepEqual([other.host.LogLimits, other.host.LogAttributes], [undefined, undefined]);
});

test("limits and a runtime beside HostConfig count where that has none, as Docker's first clients send them", () => {
  const beside = { CpuShares: 50, Memory: 6e6, Cpuset: "0", Runtime: "runc" };
  const { host } = made(beside, { Memory: 8e6 });
  assert.deepEqual(
    [host.CpuShares, host.Memory, host.CpusetCpus, host.Runtime],
    [50, 8e6, "0", "runc"],
  );
});

test("block I/O: a weight and limits by device that say something", () => {
  const BlkioDeviceReadBps = [{ Path: "/dev/vda", Rate: 1_000_000 }];
  const { host } = made({}, { BlkioWeight: 300, BlkioDeviceReadBps, BlkioDeviceWriteBps: null });
  assert.deepEqual([host.BlkioWeight, host.BlkioDeviceReadBps], [300, BlkioDeviceReadBps]);
  assert.equal("BlkioDeviceWriteBps" in host, false);
  assert.throws(() => made({}, { BlkioWeight: 5 }), /Range of blkio weight is from 10 to 1000/);
  const negative = [{ Path: "/dev/vda", Rate: -1 }];
  assert.throws(() => made({}, { BlkioDeviceReadIOps: negative }), /invalid rate for device/);
});

test("a range of ports may be exposed, and is published one by one", () => {
  const { config, host } = made(
    { ExposedPorts: { "9010-9012/tcp": {}, "53/udp": {} } },
    { PublishAllPorts: true },
  );
  assert.deepEqual(config.ExposedPorts, ["9010-9012/tcp", "53/udp"]);
  const published = host.PublishedPorts?.map(({ targetPort, protocol }) => [targetPort, protocol]);
  assert.deepEqual(published, [...[9010, 9011, 9012].map((port) => [port, "tcp"]), [53, "udp"]]);
  for (const wrong of ["9012-9010/tcp", "1-70000", "x-y"])
    assert.throws(() => made({ ExposedPorts: { [wrong]: {} } }), /invalid port specification/);
});

test("a container may have its own limits of its log", () => {
  const Config = { "max-size": "5m", "max-file": "2" };
  const { host, local } = made({}, { LogConfig: { Type: "json-file", Config } });
  assert.deepEqual(host.LogLimits, { bytesMax: 5 * 1024 * 1024, filesMax: 2 });
  assert.deepEqual(local?.shown["LogConfig"], { Type: "json-file", Config });
  assert.equal(made({}).host.LogLimits, undefined);
});

test("what inspect shows is what was sent, with Docker's defaults", () => {
  const shown = made({}, { Memory: 64 * 1024 * 1024, NetworkMode: "default" }).local?.shown ?? {};
  assert.deepEqual(
    [shown["Memory"], shown["NetworkMode"], shown["ShmSize"], shown["Binds"]],
    [67_108_864, "bridge", 67_108_864, null],
  );
});

type Wrong = readonly [string, object, object, number, RegExp];
const wrong: readonly Wrong[] = [
  ["no image", { Image: "" }, {}, 400, /no image specified/],
  ["a number for an image", { Image: 7 }, {}, 400, /^Image: .*string/],
  ["a list for labels", { Labels: ["a"] }, {}, 400, /^Labels: /],
  ["a variable without a name", { Env: ["=x"] }, {}, 400, /invalid environment variable: =x/],
  [
    "a relative folder to work in",
    { WorkingDir: "a/b" },
    {},
    400,
    /the working directory 'a\/b' is invalid, it needs to be an absolute path/,
  ],
  ["a port that is none", {}, { PortBindings: { "x/tcp": null } }, 400, /invalid port spec/],
  ["port 0", { ExposedPorts: { "0/tcp": {} } }, {}, 400, /invalid port specification: "0\/tcp"/],
  ["port 70000", { ExposedPorts: { "70000": {} } }, {}, 400, /invalid port specification/],
  [
    "a range that goes down",
    {},
    { PortBindings: { "80/tcp": [{ HostPort: "90-80" }] } },
    400,
    /invalid port specification: "90-80"/,
  ],
  [
    "a host address that is none",
    {},
    { PortBindings: { "80/tcp": [{ HostIp: "1.2.3", HostPort: "80" }] } },
    400,
    /invalid IP address: 1\.2\.3/,
  ],
  ["SCTP", {}, { PortBindings: { "80/sctp": null } }, 501, /SCTP ports cannot be published/],
  ["a bind of four parts", {}, { Binds: ["/a:/b:ro:x"] }, 400, /invalid volume specification/],
  ["a relative target", {}, { Binds: ["/a:b"] }, 400, /mount path must be absolute/],
  ["a relative source", {}, { Binds: ["./a:/b"] }, 400, /use absolute path/],
  ["a mode nobody knows", {}, { Binds: ["/a:/b:xx"] }, 400, /invalid mode: xx/],
  ["two mounts at one place", {}, { Binds: ["/a:/c", "/b:/c"] }, 400, /Duplicate mount point: \/c/],
  [
    "a mount of a type nobody knows",
    {},
    { Mounts: [{ Type: "floppy", Target: "/a" }] },
    400,
    /mount type unknown: "floppy"/,
  ],
  [
    "a bind mount without a source",
    {},
    { Mounts: [{ Type: "bind", Target: "/a" }] },
    400,
    /field Source must not be empty/,
  ],
  [
    "a restart policy nobody knows",
    {},
    { RestartPolicy: { Name: "often" } },
    400,
    /invalid restart policy: unknown policy 'often'/,
  ],
  [
    "retries for always",
    {},
    { RestartPolicy: { Name: "always", MaximumRetryCount: 3 } },
    400,
    /maximum retry count can only be used with 'on-failure'/,
  ],
  [
    "negative retries",
    {},
    { RestartPolicy: { Name: "on-failure", MaximumRetryCount: -1 } },
    400,
    /maximum retry count cannot be negative/,
  ],
  [
    "--rm with a restart policy",
    {},
    { AutoRemove: true, RestartPolicy: { Name: "always" } },
    400,
    /can't create 'AutoRemove' container with restart policy/,
  ],
  ["too little memory", {}, { Memory: 1024 }, 400, /Minimum memory limit allowed is 6MB/],
  [
    "swap without memory",
    {},
    { MemorySwap: 64 * 1024 * 1024 },
    400,
    /always set the Memory limit when using Memoryswap limit/,
  ],
  [
    "less swap than memory",
    {},
    { Memory: 64 * 1024 * 1024, MemorySwap: 32 * 1024 * 1024 },
    400,
    /memoryswap limit should be larger than memory limit/,
  ],
  ["more cores than there are", {}, { NanoCpus: 1e13 }, 400, /range of CPUs is from 0\.01 to/],
  ["a quota beside cores", {}, { NanoCpus: 1e7, CpuQuota: 5000 }, 400, /cannot both be set/],
  ["a set of cores that is none", {}, { CpusetCpus: "a-b" }, 400, /Invalid value a-b for cpuset/],
  ["a negative shm size", {}, { ShmSize: -1 }, 400, /SHM size can not be less than 0/],
  ["an OOM score out of range", {}, { OomScoreAdj: 1001 }, 400, /range for oom score adj/],
  [
    "a health check every nanosecond",
    { Healthcheck: { Test: ["CMD", "x"], Interval: 1 } },
    {},
    400,
    /Interval in Healthcheck cannot be less than 1ms/,
  ],
  [
    "an alias on the default bridge",
    { NetworkingConfig: { EndpointsConfig: { bridge: { Aliases: ["a"] } } } },
    {},
    400,
    /network-scoped alias is supported only for containers in user defined networks/,
  ],
  [
    "a fixed address on the default bridge",
    {
      NetworkingConfig: {
        EndpointsConfig: { default: { IPAMConfig: { IPv4Address: "1.2.3.4" } } },
      },
    },
    {},
    400,
    /user specified IP address is supported on user defined networks only/,
  ],
  [
    "a link-local address that is none",
    { NetworkingConfig: { EndpointsConfig: { a: { IPAMConfig: { LinkLocalIPs: ["::"] } } } } },
    {},
    400,
    /invalid link-local IP address: ::/,
  ],
  [
    "a name in another's network namespace",
    { Hostname: "a" },
    { NetworkMode: "container:x" },
    400,
    /conflicting options: hostname and the network mode/,
  ],
  [
    "ports in another's network namespace",
    {},
    { NetworkMode: "container:x", PortBindings: { "80/tcp": null } },
    400,
    /conflicting options: port publishing and the container type network mode/,
  ],
  ["nobody's namespace", {}, { NetworkMode: "container:" }, 400, /invalid container format/],
  ["a host without an address", {}, { ExtraHosts: ["foo"] }, 400, /bad format for add-host: "foo"/],
  [
    "a log driver there is not",
    {},
    { LogConfig: { Type: "syslog" } },
    400,
    /no log driver named 'syslog' is registered/,
  ],
  [
    "a log of no size",
    {},
    { LogConfig: { Type: "", Config: { "max-size": "much" } } },
    400,
    /invalid value for max-size: much/,
  ],
  [
    "a log of no files",
    {},
    { LogConfig: { Config: { "max-file": "0" } } },
    400,
    /invalid value for max-file: 0/,
  ],
  ...(
    [
      ["there is not", { gelf: "x" }, /unknown log opt 'gelf' for json-file log driver/],
      ["of one compressed file", { compress: "true", "max-file": "1" }, /compress cannot be true/],
      ["of no template", { tag: "{{.Nothing}}" }, /unknown template \{\{\.Nothing\}\}/],
      ["of no pattern", { "env-regex": "(" }, /pattern cannot be read: \(/],
      ["of no mode", { mode: "fast" }, /logging mode not supported: fast/],
      ["of a buffer nobody needs", { "max-buffer-size": "4m" }, /only supported with 'mode=non-b/],
    ] as const
  ).map(
    ([name, Config, words]): Wrong => [
      `a log option ${name}`,
      {},
      { LogConfig: { Config } },
      400,
      words,
    ],
  ),
  ["a link to nothing", {}, { Links: [":b"] }, 400, /bad format for links/],
  ["GPUs", {}, { DeviceRequests: [{ Count: -1 }] }, 501, /--gpus/],
  ["an IPC mode there is not", {}, { IpcMode: "mine" }, 400, /invalid IPC mode: mine/],
  ["a UTS mode there is not", {}, { UTSMode: "private" }, 400, /invalid UTS mode: private/],
  ["users of its own", {}, { UsernsMode: "private" }, 400, /invalid user namespace mode: private/],
  ["nobody's processes", {}, { PidMode: "container:" }, 400, /invalid PID mode: container:/],
];
for (const [name, body, host, status, sentence] of wrong)
  test(`refused: ${name}`, () => {
    try {
      made(body, host);
    } catch (error) {
      const answer = toAnswer(error);
      assert.match(answer.message, sentence);
      assert.equal(answer.status, status);
      return;
    }
    assert.fail("it was taken");
  });
