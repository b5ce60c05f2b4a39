import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { extract } from "tar-stream";
import { nodePages } from "../../../../agent/report/node-report.ts";
import { Recent } from "../../../../agent/report/recent.ts";
import { type Page, pageBytesMax, report } from "../../../../agent/report/report.ts";
import { scrub } from "../../../../agent/report/scrub.ts";
import { codec } from "../../../../proto/codec.ts";
import { parseDaemonConfig } from "../../../../proto/config.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import { LastLines, silentLog } from "../../../../proto/kit/log.ts";
import { realWorld } from "../../../../proto/kit/world.ts";
import type { Client } from "../../../../proto/rpc-client.ts";
import { FakeEngine } from "../api/fake-engine.ts";

const never = new AbortController().signal;
const clock = { now: () => 1_700_000_000_000 };

async function read(pages: readonly Page[]): Promise<ReadonlyMap<string, string>> {
  const files = new Map<string, string>();
  const tar = Readable.from(report(pages, clock, never)).pipe(extract());
  for await (const entry of tar) {
    assert.equal(entry.header.mode, 0o600);
    files.set(entry.header.name, await text(entry));
  }
  return files;
}

test("a report says first what it contains and what it leaves out", async () => {
  const files = await read([{ name: "a.json", what: "the letter a", make: () => ({ a: 1 }) }]);
  assert.deepEqual([...files.keys()], ["tsswarm-report/README.txt", "tsswarm-report/a.json"]);
  const readme = files.get("tsswarm-report/README.txt") ?? "";
  assert.match(readme, /^a\.json: the letter a$/m);
  assert.match(readme, /Left out:\n- environment, arguments and labels/);
  assert.deepEqual(JSON.parse(files.get("tsswarm-report/a.json") ?? ""), { a: 1 });
});

test("what could not be had is said, and the rest is there all the same", async () => {
  const files = await read([
    {
      name: "tasks.json",
      what: "",
      make: () => {
        throw new SwarmError("not_manager", "this node is not a swarm manager");
      },
    },
    { name: "b.txt", what: "", make: async () => "b" },
  ]);
  assert.equal(
    files.get("tsswarm-report/tasks.json"),
    "could not be had: this node is not a swarm manager\n",
  );
  assert.equal(files.get("tsswarm-report/b.txt"), "b");
});

test("of a page that is too long the end is kept, and it says how much is missing", async () => {
  const files = await read([
    { name: "log", what: "", make: () => `${"x".repeat(pageBytesMax + 90)}end` },
  ]);
  const log = files.get("tsswarm-report/log") ?? "";
  assert.match(log, /^\[93 bytes before this are left out\]\nx/);
  assert.ok(log.endsWith("end"));
});

test("a reader who goes away ends the making of a report", async () => {
  const made: string[] = [];
  const gone = new AbortController();
  const pages = ["a", "b"].map((name) => ({
    name,
    what: "",
    make: () => {
      made.push(name);
      gone.abort(new Error("the client went away"));
      return name;
    },
  }));
  const reading = async () => {
    for await (const _ of report(pages, clock, gone.signal));
  };
  await assert.rejects(reading(), /the client went away/);
  assert.deepEqual(made, ["a"]);
});

const secret = "hunter2hunter2";
const rows: readonly (readonly [string, string])[] = [
  ["a join token", `join with SWMTKN-1-${secret}-abc now`],
  ["an unlock key", `SWMKEY-1-${secret}/x+y=`],
  ["a private key", `-----BEGIN EC PRIVATE KEY-----\n${secret}\n-----END EC PRIVATE KEY-----`],
  ["a private key that is cut off", `-----BEGIN PRIVATE KEY-----\n${secret}`],
  ["credentials in a URL", `https://user:${secret}@registry.example/v2/`],
  ["a header", `authorization: Bearer ${secret}`],
  ["a field of JSON", `{"identitytoken": "${secret}", "Password":"${secret}"}`],
  ["an assignment", `DB_PASSWORD=${secret} token: ${secret}`],
];
for (const [what, said] of rows)
  test(`no report hands on ${what}`, () => {
    assert.ok(!scrub(said).includes(secret), scrub(said));
  });

test("what is no secret stays as it was said", () => {
  const said =
    '{"Secrets":["db-password"],"Err":"token bucket of registry:5000/app@sha256:ab is empty"}';
  assert.equal(scrub(said), said);
});

test("a node's report has no environment, argument, label, token or key of it or of its cluster", async () => {
  const engine = new FakeEngine();
  const id = await engine.create(
    {
      name: "db",
      config: {
        Image: "busybox",
        Env: [`PASSWORD=${secret}`],
        Cmd: ["serve", "--key", secret],
        Labels: { note: secret },
      },
      host: {},
      networks: {},
      networkNamespace: "",
    },
    never,
  );
  const spec = codec("ServiceSpec").parse({
    Name: "web",
    Labels: { note: secret },
    TaskTemplate: {
      ContainerSpec: {
        Image: "app",
        Env: [`A=${secret}`],
        Args: [secret],
        Labels: { note: secret },
      },
    },
  });
  const lists: Readonly<Record<string, unknown>> = {
    ListServices: [codec("Service").parse({ ID: "s1", Spec: spec })],
    ListTasks: [codec("Task").parse({ ID: "t1", ServiceID: "s1", Spec: spec.TaskTemplate })],
    ListNodes: [codec("Node").parse({ ID: "n1", Spec: { Labels: { note: secret } } })],
  };
  const event = { ID: "t1", Name: "web.1.t1", Time: "", Index: 7, Ordinal: 1 };
  const Attributes = { "state.new": "failed", exitCode: "3", note: secret };
  const control = {
    unary: async (method: string) => ({ Items: lists[method] }),
    download: async function* () {
      for (let i = 0; i < 600; i++)
        yield { ...event, Index: i, Type: "task", Action: "update", Attributes };
      yield { ...event, Type: "", Action: "", Attributes: {} };
      throw new Error("what comes after is waited for");
    },
  };
  const lines = new LastLines();
  lines.add(`{"msg":"joining with SWMTKN-1-${secret}-x"}\n`);
  const pages = nodePages({
    config: parseDaemonConfig(
      { labels: [`note=${secret}`], "registry-mirrors": [`https://me:${secret}@mirror.example`] },
      "a test",
    ),
    engine,
    keeper: { ask: async ({ do: what }) => ({ ok: true, lines: `${what} SWMKEY-1-${secret}\n` }) },
    recent: new Recent(),
    lines,
    examine: async () => ({ Findings: [] }),
    node: () => null,
    manager: async () => ({ Text: "a 1\n", Heap: "{}", Raft: "{}", Log: `SWMKEY-1-${secret}\n` }),
    control: () => control as unknown as Client<"Control">,
  });
  const files = await read(pages.filter(({ name }) => name !== "network.txt"));
  for (const [name, page] of files) assert.ok(!page.includes(secret), `${name}: ${page}`);
  const page = (name: string) => files.get(`tsswarm-report/${name}`) ?? "";
  assert.ok(page("containers.json").includes(id));
  assert.match(page("services.json"), /"image": "app"/);
  assert.match(page("tasks.json"), /"ID": "t1"/);
  assert.match(page("agent.log"), /joining with \[left out\]/);
  assert.equal(page("keeper.log"), "ownLog [left out]\n");
  const events = JSON.parse(page("swarm-events.json"));
  assert.deepEqual([events.length, events[0].Index, events.at(-1).Index], [500, 100, 599]);
  assert.deepEqual([events[0]["state.new"], events[0].exitCode], ["failed", "3"]);
});

test("an engine's events are remembered without their attributes, also after a reader was cut off", async () => {
  const recent = new Recent();
  const stop = new AbortController();
  const pulled = { kind: "image", action: "pull", id: "i1", time: "now" } as const;
  let calls = 0;
  const engine = {
    events: async function* () {},
    objectEvents: async function* () {
      yield { ...pulled, attributes: { name: "app", note: secret } };
      if (++calls === 2) stop.abort();
      throw new SwarmError("exhausted", "the reader is more than 4096 items behind");
    },
  };
  const world = { ...realWorld, sleep: async () => {} };
  await recent.follow(engine, { world, log: silentLog }, stop.signal);
  const known = { ...pulled, name: "app" };
  assert.deepEqual(recent.events, [known, known]);
});
