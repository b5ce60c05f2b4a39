import assert from "node:assert/strict";
import { test } from "node:test";
import { now, runCommand } from "./fake.ts";

const nodes = [
  {
    ID: "n1aaaaaaaaaaaaaaaaaaaaaaa",
    Spec: { Availability: "active", Role: "manager" },
    Description: { Hostname: "h1", Engine: { EngineVersion: "0.1.0" } },
    Status: { State: "ready" },
    ManagerStatus: { Leader: true, Reachability: "reachable" },
  },
  {
    ID: "n2aaaaaaaaaaaaaaaaaaaaaaa",
    Spec: { Availability: "drain", Role: "worker" },
    Description: { Hostname: "h2", Engine: { EngineVersion: "0.1.0" } },
    Status: { State: "down", Message: "no answer over UDP port 4789 from h1" },
  },
];
const services = [
  {
    ID: "s1aaaaaaaaaaaaaaaaaaaaaaa",
    Spec: {
      Name: "web",
      Mode: { Replicated: { Replicas: 3 } },
      TaskTemplate: { ContainerSpec: { Image: `web:1@sha256:${"a".repeat(64)}` } },
    },
    Endpoint: {
      Ports: [{ Protocol: "tcp", TargetPort: 80, PublishedPort: 8080, PublishMode: "ingress" }],
    },
    ServiceStatus: { RunningTasks: 2, DesiredTasks: 3 },
  },
];
function task(ID: string, Slot: number, seconds: number, state: string, rest: object = {}): object {
  const at = new Date(now - seconds * 1000).toISOString();
  return {
    ID,
    Slot,
    CreatedAt: at,
    ServiceID: services[0]?.ID,
    NodeID: nodes[0]?.ID,
    DesiredState: "running",
    Spec: { ContainerSpec: { Image: "web:1" } },
    Status: { State: state, Timestamp: at },
    ...rest,
  };
}
const answers = {
  "GET /nodes": nodes,
  "GET /info": { Swarm: { NodeID: nodes[0]?.ID } },
  "GET /services": services,
  "GET /services/web": services[0],
  "GET /tasks": [
    task("t1", 1, 90, "failed", {
      DesiredState: "shutdown",
      Status: {
        State: "failed",
        Timestamp: new Date(now - 60_000).toISOString(),
        Err: "task: non-zero exit (1) and more of it",
      },
    }),
    task("t10", 10, 30, "running"),
    task("t2", 1, 50, "running"),
  ],
};

test("node ls is laid out as docker lays it out", async () => {
  const { out, err } = await runCommand(["node", "ls"], answers);
  assert.equal(err, "h2: no answer over UDP port 4789 from h1\n");
  assert.equal(
    out,
    [
      "ID                            HOSTNAME   STATUS    AVAILABILITY   MANAGER STATUS   ENGINE VERSION",
      "n1aaaaaaaaaaaaaaaaaaaaaaa *   h1         Ready     Active         Leader           0.1.0",
      "n2aaaaaaaaaaaaaaaaaaaaaaa     h2         Down      Drain                           0.1.0",
      "",
    ].join("\n"),
  );
});

test("service ls shows counts, ports and the image without its digest", async () => {
  const { out } = await runCommand(["service", "ls"], answers);
  assert.equal(
    out,
    [
      "ID             NAME      MODE         REPLICAS   IMAGE     PORTS",
      "s1aaaaaaaaaa   web       replicated   2/3        web:1     *:8080->80/tcp",
      "",
    ].join("\n"),
  );
});

test("service ps hangs a slot's history below its newest task and cuts long errors", async () => {
  const { out } = await runCommand(["service", "ps", "web"], answers);
  assert.equal(
    out,
    [
      "ID        NAME        IMAGE     NODE      DESIRED STATE   CURRENT STATE               ERROR                              PORTS",
      "t2        web.1       web:1     h1        Running         Running 50 seconds ago                                         ",
      't1         \\_ web.1   web:1     h1        Shutdown        Failed about a minute ago   "task: non-zero exit (1) and m…"   ',
      "t10       web.10      web:1     h1        Running         Running 30 seconds ago                                         ",
      "",
    ].join("\n"),
  );
});

const formats: readonly (readonly [readonly string[], string])[] = [
  [["service", "ls", "--format", "{{.Name}}: {{upper .Mode}}"], "web: REPLICATED\n"],
  [
    ["service", "ls", "--format", "table {{.Name}}\\t{{.Replicas}}"],
    "NAME      REPLICAS\nweb       2/3\n",
  ],
  [["service", "ls", "-q"], "s1aaaaaaaaaa\n"],
  [["node", "ls", "-q"], "n1aaaaaaaaaaaaaaaaaaaaaaa\nn2aaaaaaaaaaaaaaaaaaaaaaa\n"],
  [["service", "ps", "-q", "web"], "t2\nt1\nt10\n"],
  [
    ["service", "inspect", "-f", "{{.Spec.Name}} {{json .Endpoint.Ports}}", "web"],
    'web [{"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,"PublishMode":"ingress"}]\n',
  ],
  [
    [
      "service",
      "inspect",
      "--format",
      "{{range .Endpoint.Ports}}{{.PublishedPort}} {{end}}{{.ServiceStatus.DesiredTasks}}",
      "web",
    ],
    "8080 3\n",
  ],
  [["service", "inspect", "--format={{if .Spec.Labels}}yes{{else}}no{{end}}", "web"], "no\n"],
];
for (const [line, wanted] of formats)
  test(line.join(" "), async () => {
    assert.equal((await runCommand(line, answers)).out, wanted);
  });

test("--format json prints one object a line", async () => {
  const { out } = await runCommand(["service", "ls", "--format", "json"], answers);
  assert.equal(JSON.parse(out).Replicas, "2/3");
});

test("filters go to the daemon as it expects them", async () => {
  const { asked } = await runCommand(
    ["service", "ls", "-f", "name=web", "--filter", "label=a=b"],
    answers,
  );
  assert.deepEqual(JSON.parse(asked[0]?.query["filters"] ?? ""), { name: ["web"], label: ["a=b"] });
});

test("what is not found is said, the rest printed, and the code is 1", async () => {
  const { code, out, err } = await runCommand(
    ["service", "inspect", "-f", "{{.Spec.Name}}", "nothing", "web"],
    answers,
  );
  assert.deepEqual({ code, out }, { code: 1, out: "web\n" });
  assert.equal(err, "Error: no such service: nothing\n");
});

test("service ps -q gives whole ids, and says which service there is not", async () => {
  const id = "t1aaaaaaaaaaaaaaaaaaaaaaa";
  const { code, out, err } = await runCommand(["service", "ps", "-q", "web", "nothing"], {
    ...answers,
    "GET /tasks": [task(id, 1, 30, "running")],
  });
  assert.deepEqual(
    { code, out, err },
    { code: 1, out: `${id}\n`, err: "no such service: nothing\n" },
  );
});

test("a node that is what it should become is left alone", async () => {
  const { out } = await runCommand(["node", "promote", "h1"], {
    "GET /nodes/h1": nodes[0],
  });
  assert.equal(out, "Node n1aaaaaaaaaaaaaaaaaaaaaaa is already a manager.\n");
});

test("flags take =true and =false as docker's do", async () => {
  assert.equal(
    (await runCommand(["node", "ls", "--quiet=true"], answers)).out.includes("HOSTNAME"),
    false,
  );
  assert.equal(
    (await runCommand(["node", "ls", "-q=false"], answers)).out.includes("HOSTNAME"),
    true,
  );
});

test("completion knows every command and its flags", async () => {
  const { out } = await runCommand(["completion", "bash"]);
  assert.match(out, /"service create"\) words=".*--replicas.*"/);
  assert.match(out, /""\) words=".*\bservice\b.*"/);
});
