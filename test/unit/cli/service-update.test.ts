import assert from "node:assert/strict";
import { test } from "node:test";
import { runCommand } from "./fake.ts";

const spec = {
  Name: "web",
  Labels: { a: "1" },
  TaskTemplate: {
    ContainerSpec: {
      Image: "web:1",
      Env: ["A=1", "B=2"],
      Mounts: [{ Type: "volume", Source: "d", Target: "/d" }],
    },
    Placement: { Constraints: ["node.role==worker"] },
    Networks: [{ Target: "n1" }],
  },
  Mode: { Replicated: { Replicas: 2 } },
  EndpointSpec: {
    Mode: "vip",
    Ports: [{ Protocol: "tcp", TargetPort: 80, PublishedPort: 8080, PublishMode: "ingress" }],
  },
};
const answers = {
  "GET /services/web": { ID: "s1", Version: { Index: 12 }, Spec: spec },
  "POST /services/s1/update": {},
  "GET /networks/front": { Id: "n2" },
  "GET /networks/back": { Id: "n1" },
};

async function updated(...flags: readonly string[]): Promise<typeof spec> {
  const { asked, err } = await runCommand(
    ["service", "update", "-d", "--no-resolve-image", ...flags, "web"],
    answers,
  );
  const update = asked.find((each) => each.path === "/services/s1/update");
  assert.ok(update, err);
  assert.equal(update.query["version"], "12");
  return update.body as typeof spec;
}

test("an update without flags leaves the spec as it is", async () => {
  assert.deepEqual(await updated(), spec);
});

test("replicas alone change nothing else", async () => {
  assert.deepEqual(await updated("--replicas", "5"), {
    ...spec,
    Mode: { Replicated: { Replicas: 5 } },
  });
});

test("rebalancing is turned on, set and turned off again", async () => {
  assert.deepEqual(await updated("--rebalance"), { ...spec, Rebalance: { Enabled: true } });
  const Rebalance = { Enabled: true, Threshold: 4 };
  assert.deepEqual(await updated("--rebalance-threshold", "4"), { ...spec, Rebalance });
  assert.deepEqual(await updated("--rebalance=false"), spec);
  const before = {
    ...answers,
    "GET /services/web": { ID: "s1", Version: { Index: 12 }, Spec: { ...spec, Rebalance } },
  };
  const { asked } = await runCommand(
    ["service", "update", "-d", "--rebalance=false", "web"],
    before,
  );
  const body = asked.find((each) => each.path === "/services/s1/update")?.body;
  assert.deepEqual(body, { ...spec, Rebalance: {} });
});

test("autoscaling is turned on and off", async () => {
  const Autoscale = { Min: 1, Max: 5, CPU: 60 };
  assert.deepEqual(await updated("--autoscale", "max=5,cpu=60"), { ...spec, Autoscale });
  assert.deepEqual(await updated("--autoscale", "off"), spec);
  const before = {
    ...answers,
    "GET /services/web": { ID: "s1", Version: { Index: 12 }, Spec: { ...spec, Autoscale } },
  };
  const { asked } = await runCommand(["service", "update", "-d", "--autoscale=off", "web"], before);
  const body = asked.find((each) => each.path === "/services/s1/update")?.body;
  assert.deepEqual(body, { ...spec, Autoscale: {} });
});

test("a schedule is changed in part, and taken away with an empty one", async () => {
  const Schedule = { Cron: "@daily", TimeZone: "Europe/Berlin" };
  const job = { ...spec, Mode: { ReplicatedJob: {} }, Schedule };
  const before = {
    ...answers,
    "GET /services/web": { ID: "s1", Version: { Index: 12 }, Spec: job },
  };
  for (const [flag, wanted] of [
    ["--schedule=@hourly", { ...Schedule, Cron: "@hourly" }],
    ["--schedule=", {}],
  ] as const) {
    const { asked } = await runCommand(["service", "update", "-d", flag, "web"], before);
    const body = asked.find((each) => each.path === "/services/s1/update")?.body;
    assert.deepEqual(body, { ...job, Schedule: wanted });
  }
  const { err } = await runCommand(["service", "update", "--schedule-history=3", "web"], answers);
  assert.match(err, /need --schedule/);
});

test("lists are added to, replaced in and removed from", async () => {
  const {
    TaskTemplate: task,
    Labels: labels,
    EndpointSpec: endpoint,
  } = await updated(
    ...[
      "--env-add",
      "C=3",
      "--env-add",
      "B=4",
      "--env-rm",
      "A",
      "--label-add",
      "b=2",
      "--label-rm",
      "a",
    ],
    ...[
      "--publish-add",
      "81:81",
      "--publish-rm",
      "80",
      "--mount-rm",
      "/d",
      "--mount-add",
      "source=e,target=/e",
    ],
    ...["--constraint-add", "node.id!=x", "--constraint-rm", "node.role==worker"],
    ...["--network-add", "name=front,alias=w", "--network-rm", "back"],
  );
  assert.deepEqual(labels, { b: "2" });
  assert.deepEqual(task.ContainerSpec.Env, ["C=3", "B=4"]);
  assert.deepEqual(task.ContainerSpec.Mounts, [{ Type: "volume", Source: "e", Target: "/e" }]);
  assert.deepEqual(task.Placement.Constraints, ["node.id!=x"]);
  assert.deepEqual(task.Networks, [{ Target: "n2", Aliases: ["w"] }]);
  assert.deepEqual(endpoint.Ports, [
    { Name: "", Protocol: "tcp", TargetPort: 81, PublishedPort: 81, PublishMode: "ingress" },
  ]);
});

test("--force counts up, --args and --image replace", async () => {
  const { TaskTemplate: task } = await updated(
    "--force",
    "--args",
    "serve 'two words'",
    "--image",
    "web:2",
  );
  assert.deepEqual(task, {
    ...spec.TaskTemplate,
    ContainerSpec: {
      ...spec.TaskTemplate.ContainerSpec,
      Image: "web:2",
      Args: ["serve", "two words"],
    },
    ForceUpdate: 1,
  });
});

test("--rollback asks for the previous spec", async () => {
  const { asked } = await runCommand(["service", "update", "-d", "--rollback", "web"], answers);
  assert.equal(asked.at(-1)?.query["rollback"], "previous");
});

test("scale writes only the number of replicas and says so", async () => {
  const { asked, out } = await runCommand(["service", "scale", "-d", "web=7"], answers);
  assert.deepEqual(asked.at(-1)?.body, { ...spec, Mode: { Replicated: { Replicas: 7 } } });
  assert.equal(out, "web scaled to 7\n");
});

test("a service that is not there is the daemon's error, and code 1", async () => {
  const { code, err } = await runCommand(
    ["service", "update", "-d", "--replicas", "1", "nothing"],
    answers,
  );
  assert.deepEqual(
    { code, err },
    { code: 1, err: "Error response from daemon: no such thing: /services/nothing\n" },
  );
});
