import assert from "node:assert/strict";
import { test } from "node:test";
import { afterFailure, noMemory, reconcile } from "../../../../agent/reconcile/reconcile.ts";
import { restartDelayLeft } from "../../../../agent/reconcile/spec.ts";
import type {
  Circumstances,
  ObservedContainer,
  Plan,
  Step,
  TaskMemory,
} from "../../../../agent/reconcile/types.ts";
import { codec } from "../../../../proto/codec.ts";
import type { Task } from "../../../../proto/gen/types.ts";

const now = 1_700_000_000_000;

function task(fields: Record<string, unknown> = {}): Task {
  return codec("Task").parse({
    ID: "t1",
    DesiredState: "running",
    Status: { State: "assigned" },
    Spec: { ContainerSpec: { Image: "web@sha256:1", StopGracePeriod: 3_000_000_000 } },
    NetworksAttachments: [{ Network: { ID: "n1" }, Addresses: ["10.1.0.5/24"] }],
    Ports: [
      { Protocol: "tcp", TargetPort: 80, PublishedPort: 8080, PublishMode: "host" },
      { Protocol: "tcp", TargetPort: 81, PublishedPort: 8081, PublishMode: "ingress" },
    ],
    ...fields,
  });
}

function container(fields: Partial<ObservedContainer> = {}): ObservedContainer {
  return {
    id: "c1",
    taskId: "t1",
    phase: "running",
    pid: 42,
    exitCode: 0,
    isOutOfMemory: false,
    error: "",
    health: "",
    finishedAt: 0,
    ...fields,
  };
}

interface Row {
  readonly name: string;
  readonly task?: Task | null;
  readonly container?: ObservedContainer;
  readonly hasSandbox?: boolean;
  /** Secrets and configs that have come, as kind/id. */
  readonly files?: readonly string[];
  readonly isProvided?: boolean;
  readonly memory?: Partial<TaskMemory>;
  readonly confirmed?: boolean;
  readonly circumstances?: Partial<Circumstances>;
  readonly does: readonly string[];
  readonly wakeAt?: number;
}

function plansOf(row: Row): readonly Plan[] {
  const wanted = row.task === null ? [] : [row.task ?? task()];
  return reconcile(
    {
      tasks: new Map(wanted.map((each) => [each.ID, each])),
      confirmed: row.confirmed ?? true,
    },
    {
      containers: new Map(row.container === undefined ? [] : [["t1", row.container]]),
      sandboxes: new Set(row.hasSandbox === true ? ["t1"] : []),
      files: new Set(row.files),
      provided: new Set(row.isProvided === true ? ["t1"] : []),
      memory: new Map([["t1", { ...noMemory, ...row.memory }]]),
    },
    {
      now,
      isManaged: true,
      restartNotBefore: 0,
      isNetworkReady: true,
      ...row.circumstances,
    },
  );
}

/** A step as one readable word or two. */
function brief(step: Step): string {
  if (step.do === "report")
    return `report ${step.report.state}${step.report.error === "" ? "" : `: ${step.report.error}`}`;
  if (step.do === "stop") return `stop ${step.graceMs}`;
  if (step.do === "createSandbox" && step.sandbox.isClosed) return "createSandbox closed";
  return step.do;
}

const reported = { reported: "running", reportedPid: 42, wired: "open", hasRun: true } as const;
const exited = { phase: "exited", finishedAt: now - 1_000 } as const;
const alone = { isManaged: false };
const ending = task({ DesiredState: "shutdown" });

const withFiles = {
  Spec: {
    ContainerSpec: {
      Image: "web@sha256:1",
      Secrets: [{ SecretID: "s1", SecretName: "db", File: { Name: "db" } }],
      Configs: [{ ConfigID: "c1", ConfigName: "conf", File: { Name: "/etc/conf" } }],
    },
  },
};

const rows: readonly Row[] = [
  {
    name: "a task whose secrets have not all come waits for them",
    task: task(withFiles),
    files: ["secret/s1"],
    does: ["report accepted"],
  },
  {
    name: "a task gets its secrets and configs before its container is made",
    task: task({ ...withFiles, DesiredState: "ready" }),
    files: ["secret/s1", "config/c1", "secret/other"],
    memory: { reported: "accepted" },
    does: [
      "report preparing",
      "pull",
      "createSandbox closed",
      "provideFiles",
      "create",
      "report ready",
    ],
  },
  {
    name: "files that are in place are not made again, though they are held no more",
    task: task(withFiles),
    isProvided: true,
    memory: { reported: "preparing" },
    does: ["pull", "createSandbox closed", "create", "report starting", "start"],
  },
  {
    name: "after a reboot a container that was made gets its files again, once they have come",
    task: task(withFiles),
    container: container({ phase: "created", pid: 0 }),
    files: ["secret/s1", "config/c1"],
    memory: { reported: "ready" },
    does: ["createSandbox closed", "provideFiles", "report starting", "start"],
  },
  {
    name: "and is not started without them",
    task: task(withFiles),
    container: container({ phase: "created", pid: 0 }),
    memory: { reported: "ready" },
    does: [],
  },
  {
    name: "a running task needs nothing but what is in place",
    task: task(withFiles),
    container: container(),
    hasSandbox: true,
    isProvided: true,
    memory: reported,
    does: [],
  },
  {
    name: "with the last of a task go its files",
    task: task({ ...withFiles, DesiredState: "shutdown" }),
    container: container({ phase: "exited", pid: 0 }),
    hasSandbox: true,
    isProvided: true,
    memory: reported,
    does: ["removeSandbox", "removeFiles", "report shutdown"],
  },
  {
    name: "files of a task that is no longer known are removed",
    task: null,
    isProvided: true,
    does: ["removeFiles"],
  },
  {
    name: "a new task is brought up, its states reported on the way",
    does: [
      "report accepted",
      "report preparing",
      "pull",
      "createSandbox closed",
      "create",
      "report starting",
      "start",
    ],
  },
  {
    name: "a task that shall only be ready is prepared and not started",
    task: task({ DesiredState: "ready" }),
    does: [
      "report accepted",
      "report preparing",
      "pull",
      "createSandbox closed",
      "create",
      "report ready",
    ],
  },
  {
    name: "a prepared task that shall run is started",
    container: container({ phase: "created", pid: 0 }),
    hasSandbox: true,
    memory: { reported: "ready" },
    does: ["createSandbox closed", "report starting", "start"],
  },
  {
    name: "a prepared task that shall only be ready is left alone",
    task: task({ DesiredState: "ready" }),
    container: container({ phase: "created", pid: 0 }),
    hasSandbox: true,
    memory: { reported: "ready" },
    does: [],
  },
  {
    name: "nothing new starts before it is confirmed",
    confirmed: false,
    does: ["report accepted"],
  },
  {
    name: "nothing new starts before the network is there",
    circumstances: { isNetworkReady: false },
    memory: { reported: "accepted" },
    does: [],
  },
  {
    name: "a started container is reported running with its process, once its own ports lead to it",
    container: container(),
    hasSandbox: true,
    memory: { reported: "starting", wired: "closed" },
    does: ["createSandbox", "report running"],
  },
  {
    name: "what is reported is not reported again",
    container: container(),
    hasSandbox: true,
    memory: reported,
    does: [],
  },
  {
    name: "a restarted agent adopts a running task: wires its sandbox and says that it runs",
    task: task({ Status: { State: "running" } }),
    container: container(),
    hasSandbox: true,
    does: ["createSandbox", "report running"],
  },
  {
    name: "a running task goes on while nothing is confirmed",
    container: container(),
    confirmed: false,
    hasSandbox: true,
    memory: reported,
    does: [],
  },
  {
    name: "a container whose health is not known yet is starting",
    container: container({ health: "starting" }),
    hasSandbox: true,
    memory: { reported: "starting", wired: "closed" },
    does: ["report starting"],
  },
  {
    name: "a healthy one runs, and its own ports lead to it",
    container: container({ health: "healthy" }),
    hasSandbox: true,
    memory: { reported: "starting", reportedPid: 42, wired: "closed" },
    does: ["createSandbox", "report running"],
  },
  {
    name: "without ports of its own the network has nothing to hear when it is healthy",
    task: task({ Ports: [] }),
    container: container({ health: "healthy" }),
    hasSandbox: true,
    memory: { reported: "starting", reportedPid: 42, wired: "open" },
    does: ["report running"],
  },
  {
    name: "a restarted agent opens no port to a container whose health is not known yet",
    container: container({ health: "starting" }),
    hasSandbox: true,
    does: ["createSandbox closed", "report starting"],
  },
  {
    name: "an unhealthy one is stopped and has failed",
    container: container({ health: "unhealthy" }),
    hasSandbox: true,
    memory: reported,
    does: ["drain", "stop 3000", "removeSandbox", "report failed: task: unhealthy container"],
  },
  {
    name: "a task that exits with 0 is complete",
    container: container({ ...exited }),
    hasSandbox: true,
    memory: reported,
    does: ["removeSandbox", "report complete"],
  },
  {
    name: "a task that exits otherwise has failed, with its code",
    container: container({ ...exited, exitCode: 3 }),
    hasSandbox: true,
    memory: reported,
    does: ["removeSandbox", "report failed: task: non-zero exit (3)"],
  },
  {
    name: "a task that was killed for want of memory says so",
    container: container({ ...exited, exitCode: 137, isOutOfMemory: true }),
    memory: reported,
    does: ["report failed: task: non-zero exit (137): out of memory"],
  },
  {
    name: "an ended task is left alone, its container kept for its logs",
    task: task({ Status: { State: "failed" } }),
    container: container({ ...exited, exitCode: 3 }),
    does: [],
  },
  {
    name: "a started task whose container is gone has failed; it is not made again",
    task: task({ Status: { State: "running" } }),
    hasSandbox: true,
    does: ["removeSandbox", "report failed: task: its container is gone"],
  },
  {
    name: "with no manager an ended container is started again after its delay",
    container: container({ ...exited, exitCode: 1, finishedAt: now - 5_000 }),
    hasSandbox: true,
    memory: reported,
    circumstances: alone,
    does: ["createSandbox closed", "restart"],
  },
  {
    name: "and not before",
    container: container({ ...exited, exitCode: 1, finishedAt: now - 4_000 }),
    hasSandbox: true,
    memory: reported,
    circumstances: alone,
    does: [],
    wakeAt: now + 1_000,
  },
  {
    name: "and not while a manager may be back in a moment",
    container: container({ ...exited, exitCode: 1, finishedAt: now - 5_000 }),
    hasSandbox: true,
    memory: reported,
    circumstances: { ...alone, restartNotBefore: now + 2_000 },
    does: [],
    wakeAt: now + 2_000,
  },
  {
    name: "with no manager a policy that forbids restarts is kept",
    task: task({ Spec: { RestartPolicy: { Condition: "on-failure" } } }),
    container: container({ ...exited }),
    hasSandbox: true,
    memory: reported,
    circumstances: alone,
    does: ["removeSandbox", "report complete"],
  },
  {
    name: "with no manager as many attempts as the policy allows",
    task: task({ Spec: { RestartPolicy: { MaxAttempts: 2, Delay: 0 } } }),
    container: container({ ...exited, exitCode: 1 }),
    memory: { ...reported, restarts: 2 },
    circumstances: alone,
    does: ["report failed: task: non-zero exit (1)"],
  },
  {
    name: "after a boot nothing is restarted in place, for it did not run in this one",
    container: container({ ...exited, exitCode: 255 }),
    circumstances: alone,
    confirmed: false,
    does: ["report failed: task: non-zero exit (255)"],
  },
  {
    name: "a task that shall end is drained, stopped, unwired, then reported",
    task: ending,
    container: container(),
    hasSandbox: true,
    memory: reported,
    does: ["drain", "stop 3000", "removeSandbox", "report shutdown"],
  },
  {
    name: "a task without a network of the swarm is drained when a port of the node leads to it",
    task: task({ DesiredState: "shutdown", NetworksAttachments: [] }),
    container: container(),
    hasSandbox: true,
    memory: reported,
    does: ["drain", "stop 3000", "removeSandbox", "report shutdown"],
  },
  {
    name: "nothing is drained where nothing leads",
    task: task({ DesiredState: "shutdown", NetworksAttachments: [], Ports: [] }),
    container: container(),
    hasSandbox: true,
    memory: reported,
    does: ["stop 3000", "removeSandbox", "report shutdown"],
  },
  {
    name: "a task that shall end and has not begun is over",
    task: ending,
    does: ["report shutdown"],
  },
  {
    name: "a task that had ended by itself keeps its state when it shall end",
    task: task({ DesiredState: "shutdown", Status: { State: "failed" } }),
    container: container({ ...exited, exitCode: 1 }),
    hasSandbox: true,
    does: ["removeSandbox"],
  },
  {
    name: "a stopped task stays for its logs",
    task: ending,
    container: container({ ...exited, exitCode: 143 }),
    memory: { reported: "shutdown" },
    does: [],
  },
  {
    name: "a task to be removed is stopped like one that shall end",
    task: task({ DesiredState: "remove" }),
    container: container(),
    hasSandbox: true,
    memory: reported,
    does: ["drain", "stop 3000", "removeSandbox", "report shutdown"],
  },
  {
    name: "nothing stays of a task that the managers have forgotten",
    task: null,
    container: container(),
    hasSandbox: true,
    does: ["stop 10000", "removeSandbox", "remove"],
  },
  {
    name: "nothing of unknown tasks is touched before it is confirmed",
    task: null,
    container: container(),
    hasSandbox: true,
    confirmed: false,
    does: [],
  },
];

for (const row of rows)
  test(row.name, () => {
    const [plan, ...others] = plansOf(row);
    assert.deepEqual((plan?.steps ?? []).map(brief), row.does);
    assert.equal(plan?.wakeAt ?? undefined, row.wakeAt);
    assert.equal(others.length, 0);
  });

test("a task on the node's own network gets no sandbox, one without a network an empty one", () => {
  const steps = (target: string) => {
    const Spec = { ContainerSpec: { Image: "web" }, Networks: [{ Target: target }] };
    const asked = task({ Spec, NetworksAttachments: [], Ports: [] });
    return plansOf({ name: "", task: asked, does: [] }).flatMap((plan) => plan.steps);
  };
  assert.deepEqual(steps("host").map(brief), [
    ...["report accepted", "report preparing", "pull", "create", "report starting", "start"],
  ]);
  const made = steps("none").find((step) => step.do === "createSandbox");
  assert.equal(made?.sandbox.isolated, true);
  const found = steps("bridge").find((step) => step.do === "createSandbox");
  assert.equal(found?.sandbox.isolated, undefined);
});

test("a sandbox holds the task's addresses without mask, its host ports and its own name servers", () => {
  const dns = { Nameservers: ["192.0.2.1"], Search: ["example.com"] };
  const asked = task({ Spec: { ContainerSpec: { DNSConfig: dns } } });
  const step = plansOf({ name: "", task: asked, does: [] })[0]?.steps.find(
    (each) => each.do === "createSandbox",
  );
  assert.deepEqual(step, {
    do: "createSandbox",
    sandbox: {
      id: "t1",
      attachments: [{ networkId: "n1", addresses: ["10.1.0.5"] }],
      ports: [{ protocol: "tcp", targetPort: 80, publishedPort: 8080 }],
      isClosed: true,
      upstreamNameServers: ["192.0.2.1:53"],
      searchDomains: ["example.com"],
    },
  });
});

test("the rest of a restart delay is never longer than the delay itself, whatever the clocks say", () => {
  const notBefore = (ms: number) => task({ NotBefore: new Date(now + ms).toISOString() });
  assert.equal(restartDelayLeft(notBefore(3_000), now), 3_000);
  assert.equal(restartDelayLeft(notBefore(60_000), now), 5_000);
  assert.equal(restartDelayLeft(notBefore(-1), now), 0);
  assert.equal(restartDelayLeft(task(), now), 0);
});

test("a failed pull rejects the task, a failed start fails it, a failed stop is tried again", () => {
  const pull = afterFailure({ do: "pull", image: "x" }, false, "No such image: x");
  assert.deepEqual([pull?.state, pull?.error], ["rejected", "No such image: x"]);
  assert.equal(afterFailure({ do: "start" }, false, "no")?.state, "failed");
  assert.equal(afterFailure({ do: "stop", containerId: "c1", graceMs: 1 }, true, "no"), null);
});
