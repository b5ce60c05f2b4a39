import assert from "node:assert/strict";
import { test } from "node:test";
import { selectContainers } from "../../../../agent/api/container-filters.ts";
import { containerJson, containerSummary, macOn } from "../../../../agent/api/container-json.ts";
import type { Container } from "../../../../agent/engine/container-types.ts";
import { humanDuration } from "../../../../proto/kit/duration.ts";
import { FakeEngine } from "./fake-engine.ts";

const second = 1000;
const durations: readonly (readonly [number, string])[] = [
  [Number.NaN, "Less than a second"],
  [-5, "Less than a second"],
  [999, "Less than a second"],
  [second, "1 second"],
  [59 * second, "59 seconds"],
  [60 * second, "About a minute"],
  [59 * 60 * second, "59 minutes"],
  [60 * 60 * second, "About an hour"],
  [47 * 3600 * second, "47 hours"],
  [48 * 3600 * second, "2 days"],
  [24 * 14 * 3600 * second, "2 weeks"],
  [24 * 60 * 3600 * second, "2 months"],
  [24 * 730 * 3600 * second, "2 years"],
];
for (const [ms, words] of durations)
  test(`${ms} ms are "${words}"`, () => assert.equal(humanDuration(ms), words));

const at = Date.parse("2026-03-01T00:10:00Z");
const started = "2026-03-01T00:00:00Z";
const states: readonly (readonly [Partial<Container["state"]>, string])[] = [
  [{ Status: "running", StartedAt: started }, "Up 10 minutes"],
  [{ Status: "paused", StartedAt: started }, "Up 10 minutes (Paused)"],
  [{ Status: "exited", FinishedAt: started, ExitCode: 3 }, "Exited (3) 10 minutes ago"],
  [{ Status: "created" }, "Created"],
  [{ Status: "dead" }, "Dead"],
  [
    {
      Status: "running",
      StartedAt: started,
      Health: { Status: "starting", FailingStreak: 0, Log: [] },
    },
    "Up 10 minutes (health: starting)",
  ],
  [
    {
      Status: "running",
      StartedAt: started,
      Health: { Status: "healthy", FailingStreak: 0, Log: [] },
    },
    "Up 10 minutes (healthy)",
  ],
];
for (const [state, words] of states)
  test(`docker ps says "${words}"`, () => {
    const container = new FakeEngine().add("x");
    const changed = { ...container, state: { ...container.state, ...state } };
    assert.equal(containerSummary(changed, "/data", at)["Status"], words);
  });

/** Three containers, oldest first: old has ended with 1, mid and new run. */
function three(): readonly Container[] {
  const engine = new FakeEngine();
  return ["old", "mid", "new"].map((name, i) => {
    const made = engine.add(name, name === "new" ? { Image: "busybox:latest", Labels: {} } : {});
    const created = new Date(at + i * second).toISOString();
    if (name !== "old") return { ...made, created };
    return { ...made, created, state: { ...made.state, Status: "exited" as const, ExitCode: 1 } };
  });
}

const choices: readonly {
  name: string;
  filters?: Record<string, readonly string[]>;
  all?: boolean;
  limit?: number;
  chosen: readonly string[];
}[] = [
  { name: "running ones, newest first", chosen: ["new", "mid"] },
  { name: "all", all: true, chosen: ["new", "mid", "old"] },
  { name: "the last two, whatever their state", limit: 2, chosen: ["new", "mid"] },
  { name: "by state", filters: { status: ["exited"] }, chosen: ["old"] },
  { name: "by exit code", filters: { exited: ["1"] }, chosen: ["old"] },
  { name: "by another exit code", filters: { exited: ["0"] }, chosen: [] },
  { name: "by part of the name", filters: { name: ["ew"] }, chosen: ["new"] },
  { name: "by the name's pattern", filters: { name: ["^/mid$"] }, chosen: ["mid"] },
  { name: "by several names", filters: { name: ["mid", "new"] }, chosen: ["new", "mid"] },
  { name: "by label", filters: { label: ["tier=front"] }, chosen: ["mid"] },
  { name: "by two labels", filters: { label: ["tier=front", "x"] }, chosen: [] },
  { name: "by image", filters: { ancestor: ["busybox"] }, chosen: ["new"] },
  { name: "by image id", filters: { ancestor: ["aaaaaa"] }, chosen: ["new", "mid"] },
  { name: "by network", filters: { network: ["web"] }, chosen: ["new", "mid"] },
  { name: "tasks alone", filters: { "is-task": ["true"] }, chosen: ["mid"] },
  { name: "made before", filters: { before: ["new"] }, chosen: ["mid"] },
  { name: "made since", filters: { since: ["mid"] }, chosen: ["new"] },
  { name: "by health", filters: { health: ["none"] }, chosen: ["new", "mid"] },
];
for (const row of choices)
  test(`containers are chosen ${row.name}`, () => {
    const { filters = {}, all = false, limit = 0 } = row;
    const found = selectContainers(three(), { filters, all, limit });
    assert.deepEqual(
      found.map((container) => container.name),
      row.chosen,
    );
  });

test("a filter or a value that Docker does not know is refused", () => {
  for (const filters of [{ colour: ["red"] }, { status: ["happy"] }, { exited: ["x"] }])
    assert.throws(
      () => selectContainers(three(), { filters, all: true, limit: 0 }),
      /invalid filter/,
    );
});

test("ports of the host lead in, those the image listens on are exposed, a stopped container has none", () => {
  const made = new FakeEngine().add("x", { ExposedPorts: ["80/tcp", "53/udp"] });
  const published = [{ protocol: "tcp", targetPort: 80, publishedPort: 8080 }];
  const container = { ...made, host: { ...made.host, PublishedPorts: published } };
  assert.deepEqual(containerSummary(container, "/data", at)["Ports"], [
    { IP: "0.0.0.0", PrivatePort: 80, PublicPort: 8080, Type: "tcp" },
    { PrivatePort: 53, Type: "udp" },
  ]);
  const bound = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };
  const json = containerJson(container, "/data", []) as Record<string, Record<string, unknown>>;
  assert.deepEqual(json["NetworkSettings"]?.["Ports"], { ...bound, "53/udp": null });
  assert.deepEqual(json["HostConfig"]?.["PortBindings"], bound);
  assert.deepEqual(json["Config"]?.["ExposedPorts"], { "80/tcp": {}, "53/udp": {} });
  const ended = { ...container, state: { ...container.state, Status: "exited" as const } };
  assert.deepEqual(containerSummary(ended, "/data", at)["Ports"], []);
});

test("on links of the host alone there are no ports, and a card may be the host's own", () => {
  const made = new FakeEngine().add("x", { ExposedPorts: ["80/tcp"] });
  const lan = {
    ...{ NetworkID: "lan", IPAddress: "192.0.2.7", IPPrefixLen: 24, Gateway: "", Aliases: [] },
    ...{ isDirect: true, MacAddress: "02:00:00:00:00:07" },
  };
  const local = {
    ...{ networkMode: "lan", endpoints: {}, autoRemove: false, shown: {} },
    ...{
      restart: { Name: "no" as const, MaximumRetryCount: 0 },
      isStoppedByHand: false,
      restartCount: 0,
    },
  };
  const shown = (networks: Container["networks"]) => {
    const container = { ...made, local, networks, ports: [] };
    const json = containerJson(container, "/data", []) as Record<string, Record<string, unknown>>;
    return [json["NetworkSettings"]?.["Ports"], macOn(container, "lan")];
  };
  assert.deepEqual(shown({ lan }), [{}, "02:00:00:00:00:07"]);
  const { MacAddress: _, ...plain } = lan;
  const back = { ...plain, isDirect: false };
  assert.deepEqual(shown({ lan: plain, back }), [{ "80/tcp": null }, "02:42:c0:00:02:07"]);
});

test("a volume is shown where it lies on the host, a bind with its propagation", () => {
  const made = new FakeEngine().add("x");
  const mount = { ReadOnly: false, Consistency: "", Target: "/v" };
  const Mounts = [
    { ...mount, Type: "volume", Source: "vol" },
    { ...mount, Type: "bind", Source: "/srv", ReadOnly: true },
  ];
  const { Mounts: shown } = containerJson({ ...made, host: { Mounts } }, "/data", []);
  const common = { Destination: "/v" };
  assert.deepEqual(shown, [
    {
      Type: "volume",
      Name: "vol",
      Driver: "local",
      Source: "/data/volumes/vol/_data",
      ...common,
      Mode: "z",
      RW: true,
      Propagation: "",
    },
    { Type: "bind", Source: "/srv", ...common, Mode: "", RW: false, Propagation: "rprivate" },
  ]);
});
