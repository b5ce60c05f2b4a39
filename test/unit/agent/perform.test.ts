import assert from "node:assert/strict";
import { test } from "node:test";
import type {
  Container,
  ContainerPhase,
  CreateContainer,
} from "../../../agent/engine/container-types.ts";
import { Performer } from "../../../agent/perform.ts";
import { reconcile } from "../../../agent/reconcile/reconcile.ts";
import { codec } from "../../../proto/codec.ts";
import type { Task, TaskStatus } from "../../../proto/gen/types.ts";
import { silentLog } from "../../../proto/kit/log.ts";
import { realWorld } from "../../../proto/kit/world.ts";

const label = "com.docker.swarm.task.id";

function task(id: string, fields: Record<string, unknown> = {}): Task {
  return codec("Task").parse({
    ID: id,
    DesiredState: "running",
    Status: { State: "assigned" },
    Spec: { ContainerSpec: { Image: "web" } },
    NetworksAttachments: [{ Network: { ID: "n1" }, Addresses: ["10.1.0.5/24"] }],
    ...fields,
  });
}

/** An engine and a network in memory; `fail` names the step that throws. */
class Fake {
  readonly done: string[] = [];
  readonly statuses: string[] = [];
  readonly tasks = new Map<string, Task>();
  /** What the managers have sent. */
  readonly files: { readonly Kind: string; readonly ID: string }[] = [];
  readonly provided = new Set<string>();
  fail = "";
  failure = "it broke";
  blockPull = false;
  hasImage = false;
  /** Ends each wait of that length at once. */
  passes = Number.NaN;
  /** What any container has said. */
  said = "";
  performer: Performer | null = null;
  readonly #containers = new Map<string, Container>();
  #looks: Promise<void> = Promise.resolve();

  async open(): Promise<Performer> {
    this.performer = await Performer.open({
      engine: {
        pull: async (reference, _auth, _progress, signal) => {
          if (this.blockPull)
            await new Promise((_, reject) => {
              signal.addEventListener("abort", () => reject(signal.reason), { once: true });
            });
          await new Promise((resolve) => setImmediate(resolve));
          this.#did(`pull ${reference}`);
          return { id: "sha256:1", digest: "sha256:2" };
        },
        inspectImage: async () => {
          if (!this.hasImage) throw new Error("No such image");
          return { Id: "sha256:1" };
        },
        create: async (wanted) => {
          this.#did(`create ${wanted.name} in ${wanted.networkNamespace}`);
          this.#put(wanted, "created");
          return wanted.name;
        },
        start: async (id) => {
          this.#did(`start ${id}`);
          this.set(id, "running");
        },
        stop: async (id, graceMs) => {
          this.#did(`stop ${id} ${graceMs}`);
          this.set(id, "exited", 143);
        },
        remove: async (id) => {
          this.#did(`remove ${id}`);
          this.#containers.delete(id);
        },
        list: () => [...this.#containers.values()],
        logs: (_id, { tail }) => this.#lines(tail),
      },
      network: {
        createSandbox: async (sandbox) => {
          this.#did(`createSandbox ${sandbox.id}`);
          return { namespace: `/netns/${sandbox.id}` };
        },
        removeSandbox: async (id) => this.#did(`removeSandbox ${id}`),
        sandboxes: async () => [],
        drain: async (id) => this.#did(`drain ${id}`),
      },
      files: {
        keys: () => this.files,
        registryAuth: () => null,
        provided: this.provided,
        provide: async ({ ID }) => {
          this.#did(`provide ${ID}`);
          this.provided.add(ID);
        },
        withdraw: async (id) => {
          this.#did(`withdraw ${id}`);
          this.provided.delete(id);
        },
      },
      containerOf: (wanted, { namespace }): CreateContainer => ({
        name: `c-${wanted.ID}`,
        config: { Image: "web", Labels: { [label]: wanted.ID } },
        host: {},
        networkNamespace: namespace,
        networks: {},
      }),
      report: (taskId: string, status: TaskStatus) => {
        const code = status.ContainerStatus?.ExitCode ?? 0;
        this.statuses.push(
          [taskId, status.State, status.Err, code === 0 ? "" : String(code)]
            .filter((part) => part !== "")
            .join(" "),
        );
      },
      changed: () => this.look(),
      world: {
        ...realWorld,
        sleep: (ms, signal) =>
          ms === this.passes ? Promise.resolve() : realWorld.sleep(ms, signal),
      },
      log: silentLog,
    });
    return this.performer;
  }

  /** Reconciles and performs, as the agent's loop does. */
  look(): void {
    this.#looks = this.#looks.then(() => {
      if (this.performer === null) return;
      const plans = reconcile({ tasks: this.tasks, confirmed: true }, this.performer.observe(), {
        now: Date.now(),
        isManaged: true,
        restartNotBefore: 0,
        isNetworkReady: true,
      });
      this.performer.perform(plans, this.tasks);
    });
  }

  async settled(): Promise<void> {
    let before = -1;
    while (before !== this.done.length + this.statuses.length) {
      before = this.done.length + this.statuses.length;
      await this.#looks;
      await this.performer?.idle();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async want(...tasks: readonly Task[]): Promise<void> {
    this.tasks.clear();
    for (const each of tasks) this.tasks.set(each.ID, each);
    this.look();
    await this.settled();
  }

  set(id: string, phase: ContainerPhase, exitCode = 0): void {
    const present = this.#containers.get(id);
    assert.ok(present !== undefined);
    const state = { ...present.state, Status: phase, ExitCode: exitCode, Pid: 7 };
    this.#containers.set(id, { ...present, state });
  }

  async *#lines(tail: number) {
    for (const line of this.said.split("\n").slice(-tail))
      yield [{ stream: "stdout" as const, time: "", data: Buffer.from(line) }];
  }

  #did(what: string): void {
    if (this.fail !== "" && what.startsWith(this.fail)) throw new Error(this.failure);
    this.done.push(what);
  }

  #put(wanted: CreateContainer, phase: ContainerPhase): void {
    const { local: _, ...container } = wanted;
    this.#containers.set(wanted.name, {
      ...container,
      id: wanted.name,
      created: "",
      imageId: "",
      state: {
        Status: phase,
        Pid: 0,
        ExitCode: 0,
        OOMKilled: false,
        Error: "",
        StartedAt: "",
        FinishedAt: "",
      },
    });
  }
}

test("a task goes through all its states, up and down, and leaves nothing", async () => {
  const fake = new Fake();
  const performer = await fake.open();
  await fake.want(task("t1"));
  await fake.want(task("t1", { DesiredState: "shutdown" }));
  await fake.want();
  assert.deepEqual(fake.done, [
    "pull web",
    "createSandbox t1",
    "create c-t1 in /netns/t1",
    "start c-t1",
    "drain t1",
    "stop c-t1 10000",
    "removeSandbox t1",
    "remove c-t1",
  ]);
  assert.deepEqual(fake.statuses, [
    "t1 accepted",
    "t1 preparing",
    "t1 starting",
    "t1 running",
    "t1 shutdown 143",
  ]);
  await performer.close();
});

test("a container that exits is reported with its code and its last words and not started again", async () => {
  const fake = new Fake();
  const performer = await fake.open();
  await fake.want(task("t1"));
  fake.said = "one\ntwo\n\u001b[31mthree\tdone\r\n\nfour\nfive\nsix";
  fake.set("c-t1", "exited", 3);
  fake.look();
  await fake.settled();
  assert.equal(
    fake.statuses.at(-1),
    "t1 failed task: non-zero exit (3): two | three done | four | five | six 3",
  );
  assert.equal(fake.done.at(-1), "removeSandbox t1");
  await performer.close();
});

const failures = [
  { step: "pull", state: "rejected" },
  { step: "createSandbox", state: "rejected" },
  { step: "create c-", state: "rejected" },
  { step: "start", state: "failed" },
];
for (const row of failures)
  test(`a task whose ${row.step} fails is ${row.state} with the reason, its address given back`, async () => {
    const fake = new Fake();
    const performer = await fake.open();
    fake.fail = row.step;
    fake.failure = "No such image: web:latest";
    await fake.want(task("t1"), task("t2", { DesiredState: "shutdown" }));
    assert.ok(fake.statuses.includes(`t1 ${row.state} No such image: web:latest`));
    assert.ok(fake.done.includes("removeSandbox t1"));
    assert.ok(fake.statuses.includes("t2 shutdown"));
    await performer.close();
  });

test("a task that cannot even be prepared in its restart delay is rejected when the delay is over", async () => {
  const fake = new Fake();
  const performer = await fake.open();
  fake.fail = "pull";
  const NotBefore = new Date(Date.now() + 200).toISOString();
  const began = performance.now();
  await fake.want(task("t1", { DesiredState: "ready", NotBefore }));
  assert.equal(fake.statuses.at(-1), "t1 rejected it broke");
  assert.ok(performance.now() - began > 150);
  await performer.close();
});

test("tasks of one image that come together pull it once", async () => {
  const fake = new Fake();
  const performer = await fake.open();
  await fake.want(task("t1"), task("t2"), task("t3"));
  assert.equal(fake.done.filter((what) => what === "pull web").length, 1);
  await performer.close();
});

test("a registry that does not answer in 3 s keeps no task waiting whose image is there", async () => {
  const fake = new Fake();
  const performer = await fake.open();
  fake.blockPull = true;
  fake.hasImage = true;
  fake.passes = 3_000;
  await fake.want(task("t1"));
  assert.equal(fake.statuses.at(-1), "t1 running");
  await performer.close();
});

test("a task that is no longer wanted while its image is pulled is let go", async () => {
  const fake = new Fake();
  const performer = await fake.open();
  fake.blockPull = true;
  fake.tasks.set("t1", task("t1"));
  fake.look();
  await new Promise((resolve) => setImmediate(resolve));
  await fake.want(task("t1", { DesiredState: "shutdown" }));
  assert.deepEqual(fake.done, []);
  assert.deepEqual(fake.statuses, ["t1 accepted", "t1 preparing", "t1 shutdown"]);
  await performer.close();
});

test("a stop that fails is tried again later, and nothing is reported until it is done", async () => {
  const fake = new Fake();
  const performer = await fake.open();
  await fake.want(task("t1"));
  fake.fail = "stop";
  await fake.want(task("t1", { DesiredState: "shutdown" }));
  assert.equal(fake.statuses.at(-1), "t1 running");
  await performer.close();
});

const withSecret = {
  Spec: {
    ContainerSpec: {
      Image: "web",
      Secrets: [{ SecretID: "s1", SecretName: "db", File: { Name: "db" } }],
    },
  },
};

test("a task with a secret waits for it, has it before its container, and leaves nothing of it", async () => {
  const fake = new Fake();
  const performer = await fake.open();
  const wanted = task("t1", withSecret);
  await fake.want(wanted);
  assert.deepEqual([fake.done, fake.statuses], [[], ["t1 accepted"]]);
  fake.files.push({ Kind: "secret", ID: "s1" });
  await fake.want(wanted);
  const made = fake.done.filter((what) => !what.includes("andbox"));
  assert.deepEqual(made, ["pull web", "provide t1", "create c-t1 in /netns/t1", "start c-t1"]);
  fake.files.length = 0;
  await fake.want(task("t1", { ...withSecret, DesiredState: "shutdown" }));
  assert.equal(fake.statuses.at(-1), "t1 shutdown 143");
  assert.deepEqual(
    fake.done.filter((what) => /^(stop|withdraw)/.test(what)),
    ["stop c-t1 10000", "withdraw t1"],
  );
  await performer.close();
});

test("a task whose secret is gone is rejected with that reason, and its files are withdrawn", async () => {
  const fake = new Fake();
  const performer = await fake.open();
  fake.files.push({ Kind: "secret", ID: "s1" });
  fake.fail = "create c-";
  fake.failure = "no room";
  await fake.want(task("t1", withSecret));
  assert.equal(fake.statuses.at(-1), "t1 rejected no room");
  assert.deepEqual([...fake.provided], []);
  fake.fail = "provide";
  fake.failure = "secret db (s1) is gone from the swarm";
  await fake.want(task("t2", withSecret));
  assert.equal(fake.statuses.at(-1), "t2 rejected secret db (s1) is gone from the swarm");
  await performer.close();
});
