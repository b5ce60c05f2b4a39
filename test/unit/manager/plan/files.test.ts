import assert from "node:assert/strict";
import { test } from "node:test";
import {
  createFile,
  generationOf,
  moveServices,
  nextVersion,
  relabelFile,
  removeFile,
} from "../../../../manager/plan/files.ts";
import { codec } from "../../../../proto/codec.ts";
import type { FileKind } from "../../../../proto/file-targets.ts";
import type { Config, Secret, SecretSpec } from "../../../../proto/gen/types.ts";
import { Sim, second } from "./sim.ts";

function fileSpec(Name: string, data: string | number, more: object = {}): SecretSpec {
  const Data = typeof data === "number" ? Buffer.alloc(data, "x") : Buffer.from(data);
  return codec("SecretSpec").parse({ Name, Data, ...more });
}

function add(sim: Sim, kind: FileKind, name: string, data: string, more: object = {}): string {
  const id = sim.newId();
  sim.write(createFile(sim.state, kind, fileSpec(name, data, more), id));
  return id;
}

function named(sim: Sim, kind: FileKind, name: string): Secret | Config {
  return sim.state.table(kind).named(name) ?? assert.fail(`no ${kind} ${name}`);
}

/** Both steps of a rotation, as the door does them; the names of the services it moved. */
function rotate(sim: Sim, kind: FileKind, name: string, data: string): readonly string[] {
  const current = named(sim, kind, name);
  sim.write(nextVersion(sim.state, kind, current, Buffer.from(data), sim.newId()).changes);
  const options = { now: sim.now, countMax: 100, done: new Set<string>() };
  const { changes, moved } = moveServices(sim.state, kind, name, options);
  sim.write(changes);
  return moved.map(({ Name, Err }) => `${Name}${Err}`);
}

function secretOf(sim: Sim, name: string, target = name) {
  const { ID } = named(sim, "secret", name);
  return {
    SecretID: ID,
    SecretName: name,
    File: { Name: target, UID: "0", GID: "0", Mode: 0o444 },
  };
}

function configOf(sim: Sim, name: string, target = name) {
  const { ID } = named(sim, "config", name);
  return {
    ConfigID: ID,
    ConfigName: name,
    File: { Name: target, UID: "0", GID: "0", Mode: 0o444 },
  };
}

function running(
  files: { readonly Secrets?: readonly object[]; readonly Configs?: readonly object[] },
  more: object = {},
): object {
  return {
    TaskTemplate: {
      ContainerSpec: { Image: "web", ...files },
      RestartPolicy: { Delay: second },
    },
    Mode: { Replicated: { Replicas: 2 } },
    ...more,
  };
}

/** What the wanted tasks of a service read from their first secret. */
function contents(sim: Sim, service: string): readonly string[] {
  return sim.wanted(service).map((task) => {
    const spec = sim.state.revision(task.ServiceID, task.SpecVersion)?.Spec;
    const id = spec?.TaskTemplate?.ContainerSpec?.Secrets[0]?.SecretID ?? "";
    const data = sim.state.table("secret").get(id)?.Spec?.Data;
    return data === undefined ? "gone" : Buffer.from(data).toString();
  });
}

const tooLongName = "x".repeat(65);
const badName =
  "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]";
const created: readonly (readonly [FileKind, SecretSpec, string])[] = [
  ["secret", fileSpec("db", "x"), ""],
  ["secret", fileSpec("a.b-c_D1", "x"), ""],
  ["secret", fileSpec("x".repeat(64), "x"), ""],
  ["secret", fileSpec("", "x"), "name must be provided"],
  ["secret", fileSpec(tooLongName, "x"), badName],
  ["secret", fileSpec("-db", "x"), badName],
  ["secret", fileSpec("db.", "x"), badName],
  ["secret", fileSpec("d/b", "x"), badName],
  ["secret", fileSpec("db\n", "x"), badName],
  ["secret", fileSpec("db", ""), "secret data must be larger than 0 and less than 512000 bytes"],
  ["secret", fileSpec("db", 511_999), ""],
  [
    "secret",
    fileSpec("db", 512_000),
    "secret data must be larger than 0 and less than 512000 bytes",
  ],
  ["config", fileSpec("c", 1_023_999), ""],
  [
    "config",
    fileSpec("c", 1_024_000),
    "config data must be larger than 0 and less than 1024000 bytes",
  ],
  ["secret", fileSpec("taken", "x"), "secret taken already exists"],
  ["config", fileSpec("taken", "x"), ""],
  [
    "secret",
    fileSpec("db", "x", { Driver: { Name: "vault" } }),
    "secret db: secret drivers are not supported: give what the secret holds itself",
  ],
  ["config", fileSpec("c", "{{ .Task.Slot }}", { Templating: { Name: "golang" } }), ""],
  [
    "config",
    fileSpec("c", "x", { Templating: { Name: "jinja" } }),
    'config c: unrecognized template type "jinja": golang is expected',
  ],
  [
    "config",
    fileSpec("c", "{{ if }", { Templating: { Name: "golang" } }),
    "config c: template parsing error: unclosed action",
  ],
  [
    "secret",
    fileSpec("db", "{{ hunter2 }}", { Templating: { Name: "golang" } }),
    "secret db: its template cannot be expanded (what in it, is not told)",
  ],
];
for (const [kind, spec, message] of created)
  test(`a ${kind} ${JSON.stringify(spec.Name)} of ${spec.Data.length} bytes: ${message || "is created"}`, () => {
    const sim = new Sim(0);
    add(sim, "secret", "taken", "x");
    const create = () => sim.write(createFile(sim.state, kind, spec, "new"));
    if (message !== "") assert.throws(create, { message });
    else {
      create();
      assert.equal(sim.state.table(kind).named(spec.Name)?.ID, "new");
    }
  });

test("labels alone can be changed", () => {
  const sim = new Sim(0);
  add(sim, "secret", "db", "one");
  const refused = { code: "invalid", message: "only updates to Labels are allowed" };
  const now = () => named(sim, "secret", "db");
  assert.throws(() => relabelFile("secret", now(), fileSpec("db", "two")), refused);
  assert.throws(() => relabelFile("secret", now(), fileSpec("other", "one")), refused);
  for (const data of ["one", ""])
    sim.write(relabelFile("secret", now(), fileSpec("db", data, { Labels: { a: `b${data}` } })));
  assert.deepEqual(now().Spec?.Labels, { a: "b" });
  assert.equal(Buffer.from(now().Spec?.Data ?? []).toString(), "one");
});

const target = (Name: string, more: object = {}) => ({ Name, UID: "0", GID: "0", ...more });
const references: readonly {
  readonly name: string;
  readonly spec: object;
  readonly why: string;
}[] = [
  {
    name: "no id",
    spec: { Secrets: [{ SecretName: "a", File: target("a") }] },
    why: "malformed secret reference",
  },
  {
    name: "no name",
    spec: { Configs: [{ ConfigID: "c", File: target("a") }] },
    why: "malformed config reference",
  },
  {
    name: "no target",
    spec: { Secrets: [{ SecretID: "s", SecretName: "a" }] },
    why: "malformed secret reference, no target provided",
  },
  {
    name: "an empty target",
    spec: { Secrets: [{ SecretID: "s", SecretName: "a", File: target("") }] },
    why: "malformed file secret reference, invalid target file name provided",
  },
  ...["..", "a/../../etc/x", "a/", ".", "/", "a\0b"].map((path) => ({
    name: `the target ${JSON.stringify(path)}`,
    spec: { Secrets: [{ SecretID: "s", SecretName: "a", File: target(path) }] },
    why: `malformed file secret reference, invalid target file name provided: ${JSON.stringify(path)}`,
  })),
  {
    name: "an owner by name",
    spec: { Secrets: [{ SecretID: "s", SecretName: "a", File: target("a", { UID: "root" }) }] },
    why: `secret 'a': UID "root" is no number from 0 to 4294967294`,
  },
  {
    name: "a group too high",
    spec: {
      Configs: [{ ConfigID: "c", ConfigName: "a", File: target("a", { GID: "4294967295" }) }],
    },
    why: `config 'a': GID "4294967295" is no number from 0 to 4294967294`,
  },
  {
    name: "a mode of more than permissions",
    spec: { Secrets: [{ SecretID: "s", SecretName: "a", File: target("a", { Mode: 0o100644 }) }] },
    why: "secret 'a': mode 0100644 is not between 0 and 07777",
  },
  {
    name: "two secrets at one target",
    spec: {
      Secrets: [
        { SecretID: "s", SecretName: "a", File: target("x") },
        { SecretID: "t", SecretName: "b", File: target("x") },
      ],
    },
    why: "secret references 'a' and 'b' have a conflicting target: 'x'",
  },
  {
    name: "a config over a secret",
    spec: {
      Secrets: [{ SecretID: "s", SecretName: "a", File: target("x") }],
      Configs: [{ ConfigID: "c", ConfigName: "b", File: target("/run//secrets/x") }],
    },
    why: "secret reference 'a' and config reference 'b' have a conflicting target: '/run/secrets/x'",
  },
  {
    name: "a config over a mount",
    spec: {
      Mounts: [{ Type: "tmpfs", Target: "/etc/conf" }],
      Configs: [{ ConfigID: "c", ConfigName: "b", File: target("/etc/conf") }],
    },
    why: "config 'b' has the target of a mount: '/etc/conf'",
  },
  {
    name: "a credential spec",
    spec: { Configs: [{ ConfigID: "c", ConfigName: "b", Runtime: {} }] },
    why: "config b has a runtime target: credential specs are for Windows only",
  },
  {
    name: "secrets that are not there",
    spec: {
      Secrets: [
        { SecretID: "s", SecretName: "a", File: target("a") },
        { SecretID: "t", SecretName: "b", File: target("b") },
      ],
    },
    why: "secrets not found: a, b",
  },
  {
    name: "a config that is not there",
    spec: { Configs: [{ ConfigID: "c", ConfigName: "b", File: target("b") }] },
    why: "config not found: b",
  },
];
for (const { name, spec, why } of references)
  test(`a service that names ${name} is refused: ${why}`, () => {
    assert.throws(() => new Sim(0).service("web", running(spec)), { message: why });
  });

test("an id and a name that do not belong together are refused", () => {
  const sim = new Sim(0);
  add(sim, "secret", "one", "1");
  add(sim, "secret", "two", "2");
  const mixed = { ...secretOf(sim, "one"), SecretName: "two" };
  assert.throws(() => sim.service("web", running({ Secrets: [mixed] })), {
    message: "secret not found: two",
  });
});

test("one secret may have several targets, and a mode of nothing is a mode", () => {
  const sim = new Sim(0);
  add(sim, "secret", "db", "1");
  const service = sim.service(
    "web",
    running({
      Secrets: [
        { ...secretOf(sim, "db"), File: target("a", { Mode: 0 }) },
        { ...secretOf(sim, "db"), File: target("/b") },
      ],
    }),
  );
  const secrets = service.Spec?.TaskTemplate?.ContainerSpec?.Secrets;
  assert.deepEqual(
    secrets?.map(({ File }) => File?.Mode),
    [0, 0o444],
  );
});

test("what a service uses cannot be removed, and who uses it is said", () => {
  const sim = new Sim();
  add(sim, "secret", "db", "1");
  for (const name of ["web", "api"]) sim.service(name, running({ Secrets: [secretOf(sim, "db")] }));
  const remove = () => sim.write(removeFile(sim.state, "secret", named(sim, "secret", "db")));
  assert.throws(remove, {
    code: "invalid",
    message: "secret 'db' is in use by the following services: api, web",
  });
  sim.removeService("api");
  assert.throws(remove, { message: "secret 'db' is in use by the following service: web" });
  sim.removeService("web");
  remove();
  assert.equal(sim.state.table("secret").size, 0);
});

test("a task whose secret is gone waits and says so", () => {
  const sim = new Sim();
  const id = add(sim, "secret", "db", "1");
  sim.service("web", running({ Secrets: [secretOf(sim, "db")] }));
  const version = named(sim, "secret", "db").Version?.Index ?? 0;
  sim.write([{ op: "delete", kind: "secret", id, base: version }]);
  sim.settle();
  const why = `secret db (${id}) is gone: update the service to name another`;
  assert.deepEqual(
    sim.wanted("web").map(({ Status }) => [Status?.State, Status?.Err]),
    [
      ["pending", why],
      ["pending", why],
    ],
  );
  sim.service("web", running({}));
  sim.settle();
  assert.equal(sim.running("web").length, 2);
});

test("a rotation rolls through the services that use it, each by its own policy", () => {
  const sim = new Sim();
  add(sim, "secret", "db", "old", { Labels: { a: "b" } });
  add(sim, "secret", "other", "x");
  sim.service("web", running({ Secrets: [secretOf(sim, "db")] }));
  sim.service(
    "all",
    running({ Secrets: [secretOf(sim, "db")] }, { UpdateConfig: { Parallelism: 0 } }),
  );
  sim.service("not", running({ Secrets: [secretOf(sim, "other")] }));
  sim.settle();
  const untouched = sim.tasks("not");
  assert.deepEqual(rotate(sim, "secret", "db", "new"), ["all", "web"]);
  const now = named(sim, "secret", "db");
  assert.equal(generationOf(now), 2);
  assert.deepEqual(now.Spec?.Labels, { a: "b" });
  sim.plan();
  assert.deepEqual(contents(sim, "web").toSorted(), ["new", "old"], "one at a time");
  assert.deepEqual(contents(sim, "all"), ["new", "new"], "all at once");
  sim.pass(20_000);
  assert.deepEqual(contents(sim, "web"), ["new", "new"]);
  assert.equal(sim.named("web").UpdateStatus?.State, "completed");
  assert.deepEqual(sim.tasks("not"), untouched);
});

test("a rotation that fails is rolled back to the version before, by the service's policy", () => {
  const sim = new Sim();
  add(sim, "secret", "db", "old");
  const policy = { UpdateConfig: { FailureAction: "rollback" } };
  sim.service("web", running({ Secrets: [secretOf(sim, "db")] }, policy));
  sim.settle();
  rotate(sim, "secret", "db", "wrong");
  sim.plan();
  for (let round = 0; round < 10; round++) {
    sim.act();
    sim.plan();
    for (const task of sim.running("web"))
      if (task.SpecVersion === 2) sim.report(task, "failed", "it cannot log in");
  }
  sim.pass(60_000);
  assert.equal(sim.named("web").UpdateStatus?.State, "rollback_completed");
  assert.deepEqual(contents(sim, "web"), ["old", "old"]);
  const { ID } = named(sim, "secret", "db");
  assert.equal(
    Buffer.from(sim.state.table("secret").get(ID)?.Spec?.Data ?? []).toString(),
    "wrong",
  );
  assert.deepEqual(
    rotate(sim, "secret", "db", "wrong"),
    ["web"],
    "asked for again, it is tried again",
  );
  assert.equal(generationOf(named(sim, "secret", "db")), 2, "without another version");
});

test("what holds the same is not restarted", () => {
  const sim = new Sim();
  add(sim, "config", "conf", "one");
  sim.service("web", running({ Configs: [configOf(sim, "conf")] }));
  sim.settle();
  const before = sim.tasks("web");
  assert.deepEqual(rotate(sim, "config", "conf", "one"), []);
  assert.equal(sim.state.table("config").size, 1);
  const former = configOf(sim, "conf");
  rotate(sim, "config", "conf", "two");
  sim.service("web", running({ Configs: [former] }));
  rotate(sim, "config", "conf", "one");
  assert.equal(generationOf(named(sim, "config", "conf")), 3);
  sim.settle();
  assert.deepEqual(sim.running("web"), before, "it has never run anything else");
});

test("several references to one secret move together, and to others not at all", () => {
  const sim = new Sim();
  add(sim, "secret", "db", "old");
  add(sim, "secret", "key", "k");
  sim.service(
    "web",
    running({ Secrets: [secretOf(sim, "db"), secretOf(sim, "key"), secretOf(sim, "db", "again")] }),
  );
  rotate(sim, "secret", "db", "new");
  const [db, key] = [named(sim, "secret", "db").ID, named(sim, "secret", "key").ID];
  const secrets = sim.named("web").Spec?.TaskTemplate?.ContainerSpec?.Secrets;
  assert.deepEqual(
    secrets?.map(({ SecretID }) => SecretID),
    [db, key, db],
  );
});

test("former versions stay as long as a task or a way back needs them", () => {
  const sim = new Sim();
  add(sim, "secret", "db", "1");
  sim.service("web", running({ Secrets: [secretOf(sim, "db")] }));
  sim.pass(10_000);
  const held = () =>
    [...sim.state.table("secret").values()]
      .map(({ Spec }) => Buffer.from(Spec?.Data ?? []).toString())
      .sort()
      .join(" ");
  for (const [data, left] of [
    ["2", "1 2"],
    ["3", "1 2 3"],
  ] as const) {
    rotate(sim, "secret", "db", data);
    sim.pass(20_000);
    assert.equal(held(), left);
  }
  for (let n = 4; n < 12; n++) {
    rotate(sim, "secret", "db", String(n));
    sim.pass(20_000);
  }
  // Of each slot five tasks are kept as history, with what they were made from.
  assert.equal(held().split(" ").length <= 6, true, held());
  assert.ok(held().includes("11") && !held().split(" ").includes("1"), held());
  sim.removeService("web");
  sim.pass(20_000);
  assert.equal(held(), "11");
});

test("more versions than may be kept at once are refused", () => {
  const sim = new Sim(0);
  add(sim, "secret", "db", "0");
  sim.service("web", running({ Secrets: [secretOf(sim, "db")] }));
  // Nothing is planned, so nothing is cleaned.
  for (let n = 1; n < 16; n++) rotate(sim, "secret", "db", String(n));
  assert.throws(() => rotate(sim, "secret", "db", "one more"), { code: "exhausted" });
  assert.deepEqual(rotate(sim, "secret", "db", "15"), [], "the same data is no version");
});

test("a removed secret takes its former versions along", () => {
  const sim = new Sim();
  add(sim, "secret", "db", "1");
  sim.service("web", running({ Secrets: [secretOf(sim, "db")] }));
  rotate(sim, "secret", "db", "2");
  assert.equal(sim.state.table("secret").size, 2);
  sim.service("web", running({}));
  sim.write(removeFile(sim.state, "secret", named(sim, "secret", "db")));
  assert.equal(sim.state.table("secret").size, 0);
  assert.equal(sim.state.table("secret").named("db"), undefined);
  add(sim, "secret", "db", "anew");
});

test("no manager that knows no versions gets to see one", () => {
  const sim = new Sim(0);
  add(sim, "secret", "db", "1");
  const cluster = sim.state.cluster ?? assert.fail();
  sim.write([{ op: "put", kind: "cluster", object: { ...cluster, FeatureLevel: 1 } }]);
  assert.throws(() => rotate(sim, "secret", "db", "2"), { code: "unsupported" });
});
